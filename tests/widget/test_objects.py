"""Many objects: boxes of their own, copies, merging, splitting, classes, and their export."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax import annotations
from samjax.errors import PromptError
from samjax.widget.project_export import Choice, packed
from tests.support.models import drawn_image


@pytest.fixture
def annotator(small) -> samjax.Annotator:
    """Return an annotator of two drawn images."""
    images = [drawn_image(48, 70, seed=1), drawn_image(61, 40, seed=2)]
    return samjax.Annotator(small, images, labels=("disc", "bar"))


def test_each_box_is_a_new_object_in_one_step(annotator):
    for i in range(3):
        annotator.box(5 + 20 * i, 5, 20 + 20 * i, 30, new=True)
    assert [entry["committed"] for entry in annotator.prompts] == [True, True, True]
    annotator.choose(1)  # the last one is still active
    assert annotator.prompts[2]["committed"] is False
    annotator.box(30, 30, 60, 45, new=True)
    assert [entry["committed"] for entry in annotator.prompts] == [True] * 4
    for count in (3, 3, 2, 1, 0):  # the choice is a step of its own
        annotator.undo()
        assert annotator.object_count == count


def test_a_copy_is_the_same_mask_and_an_object_of_its_own(annotator):
    annotator.click(30, 20)
    annotator.label("bar")
    annotator.duplicate()
    first, second = annotator.masks
    np.testing.assert_array_equal(first, second)
    annotator.brush([(60, 40)], 5)
    assert annotator.masks[1].sum() > annotator.masks[0].sum()
    assert annotator.labels == ["bar", "bar"]


def test_merge_split_and_subtract(annotator):
    annotator.brush([(15, 20)], 6)
    annotator.commit()
    annotator.brush([(50, 20)], 4)
    annotator.commit()
    first, second = annotator.masks
    annotator.merge([1, 2])
    (both,) = annotator.masks
    np.testing.assert_array_equal(both, first | second)
    annotator.split()
    np.testing.assert_array_equal(annotator.masks[0], first)
    np.testing.assert_array_equal(annotator.masks[1], second)
    with pytest.raises(PromptError, match="one part"):
        annotator.split()
    annotator.commit()
    annotator.brush([(15, 20)], 2)
    hole = annotator.masks[2]
    annotator.subtract([1, 4])
    np.testing.assert_array_equal(annotator.masks[0], first & ~hole)
    assert annotator.object_count == 3
    with pytest.raises(PromptError, match="two objects are needed"):
        annotator.merge([1, 1])


def test_grow_and_shrink_stay_when_the_prompts_change(annotator):
    annotator.click(30, 20)
    before = annotator.masks[0]
    annotator.grow(2)
    grown = annotator.masks[0]
    assert grown.sum() > before.sum()
    assert grown[before].all()
    annotator.click(12, 40)
    assert annotator.masks[0][grown & ~before].all()  # kept as paint over the network's mask


def test_edits_come_back_from_their_file(small, tmp_path):
    image = drawn_image(48, 70, seed=1)
    first = samjax.Annotator(small, image, path=tmp_path)
    first.click(30, 20)
    first.grow(1)
    first.commit()
    second = samjax.Annotator(small, image, path=tmp_path)
    np.testing.assert_array_equal(second.masks[0], first.masks[0])
    predictor = samjax.SamPredictor(small)
    predictor.set_image(image)
    (entry,) = second.prompts
    mask = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
    np.testing.assert_array_equal(samjax.widget.paint(mask, entry["strokes"]), second.masks[0])


def test_a_class_gets_another_name_in_all_images(annotator):
    annotator.click(30, 20)
    annotator.next_image()
    annotator.click(20, 30)
    annotator.label("bar")
    annotator.rename_class("disc", "coin")
    assert annotator.classes == ["coin", "bar"]
    annotator.previous_image()
    assert annotator.labels == ["coin"]
    annotator.rename_class("bar", "coin")
    assert annotator.classes == ["coin"]
    annotator.next_image()
    assert annotator.labels == ["coin"]
    annotator.undo()
    assert annotator.labels == ["bar"]
    assert annotator.classes == ["coin", "bar"]
    with pytest.raises(PromptError, match="no class 'dog': there are coin, bar"):
        annotator.rename_class("dog", "cat")


def test_unfinished_objects_are_left_out_on_demand(annotator, tmp_path):
    annotator.click(30, 20)
    annotator.commit()
    annotator.click(50, 30)
    for unfinished, count in ((True, 2), (False, 1)):
        path = annotator.export("coco", tmp_path / f"{count}.json", unfinished=unfinished)
        (image,) = annotations.read_coco(path)
        assert len(image.records) == count


@pytest.mark.parametrize("kind", ["coco", "yolo", "png", "npz"])
def test_downloads_are_whole_files(annotator, kind):
    annotator.click(30, 20)
    annotator.commit()
    name, content = packed(annotator._controller, kind, Choice(unfinished=False))
    if kind == "coco":
        assert name == "annotations.json"
        assert b'"annotations"' in content
    else:
        assert name == f"annotations_{kind}.zip"
        with zipfile.ZipFile(BytesIO(content)) as archive:
            assert archive.testzip() is None
            assert archive.namelist()


def test_the_progress_of_images_that_were_not_opened(small, tmp_path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(drawn_image(20, 24, seed=i)).save(paths[-1])
    first = samjax.Annotator(small, paths, path=tmp_path / "states")
    first.brush([(5, 5)], 3)
    first.commit()
    first.next_image()
    first.brush([(5, 5)], 3)
    second = samjax.Annotator(small, paths, path=tmp_path / "states")
    images = second._controller.images
    images._thread.shutdown(wait=True)
    assert [images.counts(i) for i in range(3)] == [(1, 1), (1, 0), (0, 0)]
    assert images.done() == 1
