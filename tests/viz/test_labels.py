"""Test the position and colour of labels beside objects."""

from __future__ import annotations

import numpy as np
import pytest

from samjax.viz.labels import draw_labels
from samjax.viz.overlay import PALETTE

BLACK = np.zeros((300, 400, 3), np.uint8)


def places(picture: np.ndarray, index: int) -> np.ndarray:
    """Find rows and columns of the pixels in the colour of an object."""
    return np.argwhere((picture == PALETTE[index]).all(axis=2))


def test_a_tag_stands_above_its_box():
    picture = draw_labels(BLACK, np.array([[100.0, 80, 200, 180]]), ["a dog"])
    (top, left), (bottom, right) = places(picture, 0).min(0), places(picture, 0).max(0)
    assert 60 < top < bottom <= 80
    assert 99 <= left < right < 200
    assert BLACK.max() == 0  # a copy


def test_longer_words_make_wider_tags():
    def wide(label: str) -> int:
        tag = places(draw_labels(BLACK, np.array([[0.0, 80, 200, 180]]), [label]), 0)
        return int(np.ptp(tag[:, 1]))

    assert wide("a dog") < wide("a brown dog") < wide("a" * 500) < 400


@pytest.mark.parametrize(
    "box", [(0, 0, 400, 300), (380, 290, 400, 300), (390, 0, 400, 5)], ids=["all", "corner", "top"]
)
def test_tags_stay_inside(box):
    full = draw_labels(BLACK, np.array([[100.0, 80, 200, 180]]), ["a dog 0.50"])
    tag = places(draw_labels(BLACK, np.array([box], float), ["a dog 0.50"]), 0)
    assert abs(len(tag) - len(places(full, 0))) < 0.1 * len(tag)  # nothing cut off


def test_tags_make_room_for_each_other():
    boxes = np.array([[100.0, 80, 200, 180], [100, 80, 200, 180], [101, 79, 200, 180]])
    picture = draw_labels(BLACK, boxes, ["a dog"] * 3)
    counts = [len(places(picture, i)) for i in range(3)]
    assert min(counts) > 0.9 * max(counts)


def test_nothing_to_draw():
    np.testing.assert_array_equal(draw_labels(BLACK + 7, np.zeros((0, 4)), []), BLACK + 7)


def test_own_colours():
    picture = draw_labels(BLACK, np.array([[9.0, 99, 99, 199]]), ["x"], colors=[(1, 2, 3)])
    assert (picture == (1, 2, 3)).all(axis=2).any()
    assert draw_labels(np.zeros((1, 1, 3), np.uint8), np.ones((1, 4)), ["a"]).shape == (1, 1, 3)
