"""Edits of masks: grown, split, reshaped, and the stamps that keep them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samjax.errors import PromptError
from samjax.widget.brush import paint
from samjax.widget.editing import difference, grown, parts, reshaped, stamp
from samjax.widget.state import Stroke


def blob(seed: int, size: tuple[int, int] = (12, 17)) -> np.ndarray:
    """Draw a random mask."""
    return np.random.default_rng(seed).random(size) < 0.4


def square(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return a ring along the outer edges of the pixels from (left, top) to (right, bottom)."""
    a, b, c, d = left - 0.5, top - 0.5, right + 0.5, bottom + 0.5
    return [(a, b), (c, b), (c, d), (a, d)]


@given(st.integers(0, 999), st.integers(0, 999))
def test_stamps_turn_one_mask_into_the_other(first: int, second: int):
    before, after = blob(first), blob(second)
    stamps = difference(before, after)
    assert len(stamps) <= 2
    np.testing.assert_array_equal(paint(before, stamps), after)


def test_stamps_and_strokes_are_painted_in_order():
    mask = np.zeros((20, 20), bool)
    disc = Stroke(((10.0, 10.0),), 4.0)
    hole = stamp(np.pad(np.ones((3, 3), bool), ((9, 8), (9, 8))), False)
    assert not paint(mask, [disc, hole])[10, 10]
    assert paint(mask, [hole, disc])[10, 10]
    assert not mask.any()


def test_a_stamp_on_a_smaller_copy():
    large = np.zeros((40, 60), bool)
    large[10:30, 20:50] = True
    small = paint(np.zeros((20, 30), bool), [stamp(large, True)], (0.5, 0.5))
    assert small[5:15, 10:25].all()
    assert small.sum() == 150


def test_an_edit_that_leaves_nothing_is_refused():
    with pytest.raises(PromptError, match="nothing would be left"):
        difference(blob(1), np.zeros((12, 17), bool))


def test_grow_and_shrink_by_a_pixel():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    assert grown(mask, 1).sum() == 5
    assert grown(grown(mask, 2), -2).sum() == 1
    full = np.ones((5, 5), bool)
    assert grown(full, -1).all()  # the border of the image is not an edge
    np.testing.assert_array_equal(grown(mask, 0), mask)


def test_parts_are_connected_and_come_by_size():
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = mask[1, 1] = True  # connected by a corner
    mask[5:8, 5:8] = True
    large, small = parts(mask)
    assert (large.sum(), small.sum()) == (9, 2)
    np.testing.assert_array_equal(large | small, mask)
    with pytest.raises(PromptError, match="nothing to split"):
        parts(large)


def test_reshape_moves_an_edge_and_keeps_what_the_rings_agree_on():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    mask[15, 15] = True  # of no ring
    after = reshaped(mask, [square(5, 5, 9, 9)], [square(5, 5, 12, 9)])
    assert after[5:10, 5:13].all()
    assert after.sum() == 5 * 8 + 1
    assert after[15, 15]
    back = reshaped(after, [square(5, 5, 12, 9)], [square(5, 5, 9, 9)])
    np.testing.assert_array_equal(back, mask)


def test_reshape_of_a_hole():
    mask = np.zeros((20, 20), bool)
    mask[2:18, 2:18] = True
    mask[8:12, 8:12] = False
    outer = square(2, 2, 17, 17)
    after = reshaped(mask, [outer, square(8, 8, 11, 11)], [outer, square(8, 8, 14, 11)])
    assert not after[8:12, 8:15].any()
    assert after.sum() == mask.sum() - 12
