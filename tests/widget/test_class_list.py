"""Test that the classes keep their names, order and ids: after a restart, and after an undo."""

from __future__ import annotations

import json

import pytest

import samjax
from tests.support.models import drawn_image


@pytest.fixture
def begin(small, tmp_path):
    """Return a function that begins an annotator of two images on one folder."""

    def start(labels=("coin", "other"), **options):
        images = [drawn_image(48, 70, seed=1), drawn_image(61, 40, seed=2)]
        return samjax.Annotator(small, images, labels=labels, path=tmp_path / "work", **options)

    return start


def ids(annotator: samjax.Annotator) -> dict[str, int]:
    """Export and return the ids of the classes."""
    written = json.loads(annotator.export("coco").read_text())
    return {each["name"]: each["id"] for each in written["categories"]}


def test_a_renamed_class_is_back_after_a_restart(begin):
    first = begin()
    first.next_image()  # the objects are in an image that is not the first
    first.click(20, 30)
    first.commit()
    first.rename_class("coin", "denarius")
    first.label("stone")
    assert ids(first) == {"denarius": 1, "other": 2, "stone": 3}
    first.close()
    again = begin()
    assert again.classes == ["denarius", "other", "stone"]
    assert ids(again) == {"denarius": 1, "other": 2, "stone": 3}
    again.close()
    assert begin(None).classes == ["denarius", "other", "stone"]
    assert begin(["new", "other"]).classes == ["denarius", "other", "stone", "new"]


def test_a_merged_class_stays_merged_and_an_undo_puts_it_back_at_its_place(begin):
    first = begin(("a", "b", "c"))
    first.click(30, 20)
    first.rename_class("a", "c")
    assert first.classes == ["b", "c"]
    again = begin(("a", "b", "c"))
    assert again.classes == ["b", "c"]
    again.close()
    first.undo()
    assert first.classes == ["a", "b", "c"]
    assert first.labels == ["a"]
    assert begin(("x",)).classes == ["a", "b", "c", "x"]


def test_an_undo_of_a_rename_keeps_the_ids(begin):
    annotator = begin()
    annotator.click(30, 20)
    annotator.rename_class("coin", "denarius")
    annotator.undo()
    assert annotator.classes == ["coin", "other"]
    annotator.redo()
    assert annotator.classes == ["denarius", "other"]


def test_a_damaged_file_of_classes_is_kept_and_told(begin, tmp_path):
    begin().close()
    (tmp_path / "work" / ".classes").write_text("{")
    annotator = begin()
    assert annotator.classes == ["coin", "other"]
    assert ".classes was not used" in annotator._controller.status.text
    assert (tmp_path / "work" / ".classes.damaged").read_text() == "{"
