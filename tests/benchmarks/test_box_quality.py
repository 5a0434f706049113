"""Test which objects and boxes the benchmark of boxes draws."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import box_quality
from samjax.annotations import write_label_png
from samjax.errors import AnnotationError


@pytest.fixture
def source(tmp_path):
    """Write three images of a large, a middle and a small object."""
    labels = np.zeros((100, 160), np.uint8)
    labels[10:60, 20:100] = 1
    labels[70:95, 100:150] = 2
    labels[80:85, 10:15] = 3
    for i in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (160, 100), (40 * i, 90, 30)).save(tmp_path / "images" / f"{i}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        write_label_png(tmp_path / "labels" / f"{i}.png", labels)
    return tmp_path


def test_objects_are_large_and_drawn_by_the_seed(source):
    found = box_quality.samples(source, 5, seed=1)
    assert [each.mask.sum() for each in found].count(4000) in (2, 3)
    assert all(each.mask.sum() >= box_quality.LEAST for each in found)
    assert len(found) == 5
    again = box_quality.samples(source, 5, seed=1)
    assert [each[2:] for each in found] == [each[2:] for each in again]


def test_boxes_are_at_the_edges_and_move_by_a_tenth(source):
    for each in box_quality.samples(source, 6, seed=0):
        x0, y0, x1, y1 = each.box
        assert (x1 - x0) * (y1 - y0) == each.mask.sum()
        a, b, c, d = each.moved
        assert {abs(a - x0), abs(c - x1)} == {0.1 * (x1 - x0)}
        assert max(abs(b - y0), abs(d - y1)) == pytest.approx(0.1 * (y1 - y0))


def test_wrong_folders_are_told(tmp_path, source):
    with pytest.raises(AnnotationError, match=r"no labels/\*\.png"):
        box_quality.samples(tmp_path / "images", 3, 0)
    (source / "images" / "1.jpg").unlink()
    with pytest.raises(AnnotationError, match="its image is not in images/"):
        box_quality.samples(source, 6, 0)
