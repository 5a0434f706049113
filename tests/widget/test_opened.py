"""Test that annotations are opened, corrected, reviewed and exported with all that they say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.annotations import write_coco
from samjax.errors import AnnotationError, AnnotationWarning, PromptError
from samjax.masks.rle import to_coco_rle, to_mask, to_rle
from samjax.widget import correct, paint
from tests.support.drawn_sets import drawn_set
from tests.support.models import drawn_image

SIZE = (48, 70)


def disc(x: float, y: float, radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a disc."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def ring(x: float, y: float, radius: float) -> list[float]:
    """Draw a polygon of twelve corners that lie on no pixel."""
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], 1).ravel().tolist()


def coco(categories: int = 3) -> dict:
    """Make a data set as other programs write it: polygons, a crowd, a box alone, extra keys."""
    runs, crowd = to_coco_rle(disc(20, 20, 8)), to_rle(disc(55, 12, 6))
    common = {"iscrowd": 0, "area": 101.25}
    return {
        "info": {"year": 2026, "description": "drawn"},
        "licenses": [{"id": 4, "name": "CC0"}],
        "images": [
            {"id": 31, "file_name": "a.png", "height": 48, "width": 70, "coco_url": "https://example.org/a"},
            {"id": 7, "file_name": "b.png", "height": 48, "width": 70, "license": 4},
        ],
        "categories": [
            {"id": 10 * i + 5, "name": f"kind {i}", "supercategory": "thing"}
            for i in range(categories)
        ],
        "annotations": [
            {"id": 900, "image_id": 31, "category_id": 5, "bbox": [12, 12, 16, 16], **common,
             "segmentation": runs, "predicted_iou": 0.9},
            {"id": 12, "image_id": 7, "category_id": 25, "bbox": [1, 2, 3, 4], **common,
             "segmentation": [ring(30.2, 20.3, 9), ring(50.6, 30.1, 5)], "score": 0.4,
             "attributes": {"occluded": True, "größe": [1, 2]}, "track": 9},
            {"id": 13, "image_id": 7, "category_id": 15, "bbox": [8, 30, 12.5, 10], **common},
            {"id": 900100000001, "image_id": 31, "category_id": 15, "iscrowd": 1, "area": 99,
             "bbox": [50, 7, 11, 11], "segmentation": crowd},
            {"id": 14, "image_id": 7, "category_id": 5, "bbox": [60, 5, 6, 6], **common,
             "segmentation": {"size": [48, 70], "counts": [48 * 60 + 5, 6, 48 * 10 - 11]},
             "predicted_iou": 0.7, "stability_score": 0.6},
            {"id": 15, "image_id": 31, "category_id": 5, "iscrowd": 0, "segmentation": [[1, 2]]},
        ],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two images and their COCO file."""
    for name in ("a.png", "b.png"):
        Image.fromarray(drawn_image(*SIZE, seed=ord(name[0]))).save(tmp_path / name)
    (tmp_path / "coco.json").write_text(json.dumps(coco()))
    return tmp_path


@pytest.fixture
def annotator(small, folder) -> samjax.Annotator:
    """Open the COCO file on its images."""
    images = [folder / "a.png", folder / "b.png"]
    return samjax.Annotator(small, images, annotations=folder / "coco.json", path=folder / "work")


def exported(annotator: samjax.Annotator, path: Path, **options) -> dict:
    """Export as COCO and read the file."""
    return json.loads(annotator.export("coco", path, **options).read_text())


def by_id(dataset: dict) -> dict:
    """Return the annotations by their ids."""
    return {each["id"]: each for each in dataset["annotations"]}


def object_of(annotator: samjax.Annotator, source_id: int) -> int:
    """Return the number of the object that an annotation became."""
    return next(e["id"] for e in annotator.prompts if e["source_id"] == source_id)


def test_what_nobody_touched_is_exported_as_it_was(annotator, folder):
    assert annotator.labels == ["kind 0", "kind 1"]
    assert annotator.classes == ["kind 0", "kind 1", "kind 2"]
    np.testing.assert_array_equal(annotator.masks[1], disc(55, 12, 6))
    found, given = exported(annotator, folder / "out.json"), coco()
    made = by_id(found)[13]  # a box becomes a mask; everything else stays, the order, too
    assert made["segmentation"]["size"] == list(SIZE)
    assert made["category_id"] == 15
    place = [each["id"] for each in found["annotations"]].index(13)
    assert place == 2
    found["annotations"][place] = given["annotations"][place]
    assert found == given
    assert json.loads((folder / "coco.json").read_text()) == given


def test_a_click_corrects_one_object_and_no_other(annotator, folder, small):
    annotator.go(1)
    annotator.wait()
    chosen = object_of(annotator, 12)
    annotator.select(chosen)
    before = annotator.masks[0]
    annotator.click(30, 20, 0)
    (entry,) = (e for e in annotator.prompts if e["id"] == chosen)
    predictor = samjax.SamPredictor(small)
    predictor.set_image(folder / "b.png")
    predictor.mask_threshold = entry["mask_threshold"]
    np.testing.assert_array_equal(entry["base"], before)
    mask = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
    expected = correct(entry["base"], mask, entry["clicks"])
    np.testing.assert_array_equal(annotator.masks[0], paint(expected, entry["strokes"]))
    assert not annotator.masks[0][20, 30]
    annotator.commit()
    after, given = by_id(exported(annotator, folder / "out.json")), by_id(coco())
    changed = after.pop(12)
    np.testing.assert_array_equal(to_mask(changed["segmentation"]), annotator.masks[0])
    for key in ("category_id", "image_id", "attributes", "track", "score"):
        assert changed[key] == given[12][key]
    assert changed["area"] == annotator.masks[0].sum()
    assert changed["point_labels"] == [0]
    assert {k: v for k, v in after.items() if k != 13} == {
        k: v for k, v in given.items() if k not in (12, 13)
    }


def test_undo_brings_back_what_was_opened(annotator, folder):
    annotator.select(1)
    annotator.brush([(20, 20)], 15)
    annotator.delete(2)
    annotator.undo()
    annotator.undo()
    found = by_id(exported(annotator, folder / "out.json"))
    assert found[900] == by_id(coco())[900]
    assert 900100000001 in found
    with pytest.raises(PromptError, match="nothing to undo"):
        annotator.undo()


def test_corrections_stay_where_the_click_was():
    base, predicted = disc(20, 20, 8), disc(24, 20, 8) | disc(60, 10, 5)
    grown = correct(base, predicted, [(30.2, 20.0, 1)])
    np.testing.assert_array_equal(grown, base | disc(24, 20, 8))
    cut = correct(base, predicted, [(13.0, 20.0, 0)])
    np.testing.assert_array_equal(cut, base & predicted)
    both = correct(base, predicted, [(13.0, 20.0, 0), (60.0, 10.0, 1)])
    np.testing.assert_array_equal(both, (base & predicted) | disc(60, 10, 5))
    np.testing.assert_array_equal(correct(base, predicted, [(5.0, 40.0, 1), (69.0, 47.0, 0)]), base)


def test_a_box_replaces_the_mask(annotator):
    annotator.select(1)
    annotator.box(30, 10, 60, 40)
    entry = annotator.prompts[0]
    assert "mask_input" not in entry["predict"]
    assert entry["predict"]["box"] == [30, 10, 60, 40]


def test_review_goes_by_falling_doubt_from_image_to_image(annotator, folder):
    shown = []
    for _ in range(6):
        annotator.next_review()
        active = annotator._controller.state.current
        shown.append((annotator.image_index, active.id))
    # Scores 0.9 and none; then 0.4, 0.6 and none; then from the top
    assert shown == [(0, 1), (0, 2), (1, 1), (1, 3), (1, 2), (0, 1)]
    assert annotator.review == (0, 5)
    annotator.accept()
    assert annotator._controller.state.active == 2
    annotator.reject()
    assert (annotator.image_index, annotator.review) == (1, (2, 5))
    annotator.label("kind 1")
    annotator.accept()
    annotator.next_review()
    assert annotator.review == (3, 5)
    found = by_id(exported(annotator, folder / "reviewed.json", reviewed=True))
    assert sorted(found) == [12, 900]
    assert found[900] == by_id(coco())[900]
    assert found[12] == {**by_id(coco())[12], "category_id": 15}
    every = by_id(exported(annotator, folder / "all.json"))
    assert sorted(every) == [12, 13, 14, 15, 900]  # the crowd was rejected
    annotator.undo()
    assert annotator.review == (2, 5)
    annotator.go(0)
    annotator.undo()
    assert annotator.review == (1, 5)
    assert annotator.labels == ["kind 0", "kind 1"]


def test_the_last_one_is_the_end_of_the_review(annotator):
    for _ in range(5):
        annotator.next_review()
        annotator.accept()
    assert annotator.review == (5, 5)
    assert "nothing is left to review" in annotator.status
    annotator.next_review()
    assert "nothing is left to review" in annotator.status
    with pytest.raises(PromptError, match="no object is active"):
        annotator.accept()


def test_an_unfinished_correction_is_left_out_as_it_was(annotator, folder):
    annotator.select(1)
    annotator.click(20, 20)
    annotator.click(60, 40)  # not committed
    found = by_id(exported(annotator, folder / "out.json", unfinished=False))
    assert found[900] == by_id(coco())[900]


def test_new_objects_get_numbers_of_their_own(annotator, folder):
    annotator.new_object()
    annotator.label("new kind")
    annotator.box(20, 20, 40, 40)
    annotator.commit()
    found = exported(annotator, folder / "out.json")
    (new,) = (a for i, a in by_id(found).items() if i not in by_id(coco()))
    assert found["categories"][-1] == {"id": 26, "name": "new kind", "supercategory": ""}
    assert (new["category_id"], new["image_id"]) == (26, 31)
    copied = annotator._controller.state
    annotator.select(1)
    annotator.duplicate()
    ids = [each["id"] for each in exported(annotator, folder / "out.json")["annotations"]]
    assert len(set(ids)) == len(ids) == len(found["annotations"]) + 1, copied


@pytest.mark.parametrize("again", [True, False])
def test_work_is_saved_and_restored(small, annotator, folder, again):
    annotator.next_review()
    annotator.accept()
    annotator.brush([(50, 12)], 4)
    annotator.commit()
    annotator.close()
    images = [folder / "a.png", folder / "b.png"]
    given = folder / "coco.json" if again else None
    restored = samjax.Annotator(small, images, annotations=given, path=folder / "work")
    assert restored._controller.state == annotator._controller.state
    np.testing.assert_array_equal(restored.masks[0], annotator.masks[0])
    restored._controller.images._thread.submit(int).result()  # the list was read
    assert restored.review == ((2, 5) if again else (2, 2))
    found = by_id(exported(restored, folder / "out.json"))
    if again:
        assert found[900] == by_id(coco())[900]
        assert len(found) == len(coco()["annotations"])
    else:  # numbers of images and categories are in the file only
        assert sorted(found) == [900, 900100000001]
        assert found[900]["segmentation"] == by_id(coco())[900]["segmentation"]
    assert found[900100000001]["iscrowd"] == 1


def test_earlier_work_and_annotations_come_together(small, folder):
    images, work = [folder / "a.png", folder / "b.png"], folder / "work"
    first = samjax.Annotator(small, images, path=work)
    first.box(20, 20, 40, 40)
    first.commit()
    first.close()
    second = samjax.Annotator(small, images, path=work, annotations=folder / "coco.json")
    assert [e["source_id"] for e in second.prompts] == [None, 900, 900100000001]
    second.select(2)
    second.brush([(3, 3)], 2)
    third = samjax.Annotator(small, images, path=work, annotations=folder / "coco.json")
    third.wait()
    assert [e["source_id"] for e in third.prompts] == [None, 900, 900100000001]
    changed = coco()
    changed["annotations"][0]["category_id"] = 25
    (folder / "coco.json").write_text(json.dumps(changed))
    fourth = samjax.Annotator(small, images, path=work, annotations=folder / "coco.json")
    fourth.wait()
    assert "says something else than when its objects were saved" in fourth.status
    assert fourth.labels == third.labels


def test_two_annotators_open_the_same_annotations_once(small, folder):
    images, options = [folder / "a.png"], {"path": folder / "work"}
    with pytest.warns(AnnotationWarning, match="1 image of it not among these"):
        one, two = (
            samjax.Annotator(small, images, annotations=folder / "coco.json", **options)
            for _ in range(2)
        )
    one.select(1)
    one.accept()
    two.reject(2)
    assert [e["source_id"] for e in two.prompts] == [900]
    assert two.review == (2, 2)
    assert two.prompts[0]["reviewed"]


def test_the_source_is_never_replaced(small, annotator, folder):
    before = (folder / "coco.json").read_bytes()
    annotator.select(1)
    annotator.brush([(3, 3)], 2)
    for path in (folder / "coco.json", folder / "work" / ".." / "coco.json"):
        with pytest.raises(AnnotationError, match="is an input"):
            annotator.export("coco", path)
    (folder / "a.png.json").write_bytes(before)  # where the state of a.png would go
    with pytest.raises(AnnotationError, match="is an input"):
        samjax.Annotator(
            small,
            [folder / "a.png", folder / "b.png"],
            annotations=folder / "a.png.json",
            path=folder,
        )
    assert (folder / "coco.json").read_bytes() == (folder / "a.png.json").read_bytes() == before


@pytest.mark.parametrize("content", ['{"cells": []}', "a text", "[]"])
def test_a_file_that_is_no_export_is_never_replaced(annotator, folder, content):
    notebook = folder / "work.ipynb"
    notebook.write_text(content)
    with pytest.raises(AnnotationError, match="was not written by samjax"):
        annotator.export("coco", notebook)
    assert notebook.read_text() == content
    path = annotator.export("coco", folder / "out.json")
    assert annotator.export("coco", path) == path  # an earlier export is


def test_a_data_set_comes_through_unchanged(small, tmp_path):
    """Open a whole COCO data set and export it; COCO_FOLDER names another than the drawn one.

    It is the folder of ``annotations/instances_val2017.json`` and of ``val2017/``.
    """
    folder = Path(os.environ.get("COCO_FOLDER", tmp_path))
    path, images = folder / "annotations" / "instances_val2017.json", folder / "val2017"
    if folder == tmp_path:
        for name, (height, width), _ in drawn_set():
            picture = Image.fromarray(drawn_image(height, width, seed=height))
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(images / name)
        write_coco(path, drawn_set(), {f"kind {i}": 3 * i + 2 for i in range(4)}, shapes="polygons")
    annotator = samjax.Annotator(small, images, annotations=path)
    assert exported(annotator, tmp_path / "out.json") == json.loads(path.read_text())
