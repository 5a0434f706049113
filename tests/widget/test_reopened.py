"""Test what is told of opened annotations: scores, progress after a restart, damaged masks."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import samjax
from samjax.annotations import write_coco
from samjax.masks.rle import to_mask
from samjax.widget import image_list
from tests.support.models import drawn_image
from tests.widget.test_opened import SIZE, disc


def record(x: float, y: float, **more) -> dict:
    """Return the record of a disc with both scores."""
    scores = {"predicted_iou": 0.9, "stability_score": 0.8}
    return {"segmentation": disc(x, y, 9), "label": "disc", **scores, **more}


@pytest.fixture
def begin(small, tmp_path):
    """Return a function that opens two discs in each of three images, on one folder."""

    def start(**options):
        images = [drawn_image(*SIZE, seed=i) for i in range(3)]
        records = [[record(20, 20), record(50, 25, predicted_iou=0.5)] for _ in images]
        return samjax.Annotator(
            small, images, annotations=records, path=tmp_path / "work", **options
        )

    return start


def test_the_progress_counts_all_saved_images_at_once(begin, monkeypatch):
    first = begin()
    for index in range(3):
        first.go(index)
        first.accept(1)
    assert first.review == (3, 6)
    first.close()
    read = image_list.read_state
    monkeypatch.setattr(image_list, "read_state", lambda p: (time.sleep(0.3), read(p))[1])
    again = begin()
    assert again.review == (3, 6)


def test_next_review_returns_the_number_of_the_object(begin):
    annotator = begin()
    assert annotator.next_review() == 2
    assert annotator.accept() == 1
    assert annotator.reject() == 2  # of the next image
    assert annotator.image_index == 1


def test_a_corrected_object_has_the_scores_of_its_new_mask(begin):
    annotator = begin()
    annotator.select(1)
    annotator.box(15, 12, 60, 40)
    changed, untouched = annotator.records
    assert 0 <= changed["stability_score"] <= 1
    assert changed["stability_score"] != 0.8
    assert untouched["stability_score"] == 0.8
    assert changed["prompt_box"] == [15.0, 12.0, 60.0, 40.0]
    annotator.commit()
    stability = annotator.records[0]["stability_score"]
    written = json.loads(annotator.export("coco").read_text())["annotations"][0]
    assert written["prompt_box"] == [15.0, 12.0, 60.0, 40.0]
    assert written["stability_score"] == pytest.approx(stability)
    annotator.close()
    assert begin().records[0]["stability_score"] == pytest.approx(stability)


def test_a_click_that_changes_no_pixel_leaves_the_scores(begin):
    annotator = begin()
    annotator.select(1)
    before = annotator.masks[0]
    annotator.click(20, 20)  # on the object, and in its mask
    assert np.array_equal(annotator.masks[0], before)
    found = annotator.records[0]
    assert (found["predicted_iou"], found["stability_score"]) == (0.9, 0.8)


def test_damaged_masks_that_boxes_stand_for_are_told(small, tmp_path):
    path = tmp_path / "set.json"
    write_coco(path, [("a.png", SIZE, [record(20, 20), record(50, 25)])])
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = {"size": list(SIZE), "counts": "?"}
    path.write_text(json.dumps(content))
    annotator = samjax.Annotator(small, drawn_image(*SIZE), annotations=str(path))
    assert "1 damaged mask of set.json" in annotator.status
    assert len(annotator.masks) == 2
    assert to_mask(annotator.records[1]["segmentation"]).any()


def test_a_warning_of_a_later_image_stays(begin, tmp_path):
    first = begin()
    first.go(1)
    first.accept(1)
    first.close()
    (tmp_path / "work" / "image_0001.png.json").write_text("{")
    again = begin()
    again.go(1)
    assert "was not used" in again.status


def test_the_review_goes_from_the_most_doubtful_image_to_the_next(small):
    scores = (0.6, 0.9, 0.2, 0.4)
    images = [drawn_image(*SIZE, seed=i) for i in range(4)]
    records = [[record(20, 20, predicted_iou=score, stability_score=1.0)] for score in scores]
    annotator = samjax.Annotator(small, images, annotations=records)
    annotator.go(2)
    seen = []
    for _ in scores:
        annotator.next_review()
        seen.append(annotator.image_index)
    assert seen == [2, 3, 0, 1]
