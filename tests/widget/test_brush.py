"""Strokes of the brush on masks."""

from __future__ import annotations

import numpy as np

from samjax.widget.brush import paint
from samjax.widget.state import Stroke


def test_paint_covers_the_pixels_within_the_radius():
    strokes = [Stroke(((5.0, 4.0), (20.0, 12.0)), 3.0)]
    painted = paint(np.zeros((24, 30), bool), strokes)
    y, x = np.mgrid[:24, :30].astype(float)
    a, b = np.array([5.0, 4.0]), np.array([20.0, 12.0])
    t = np.clip(((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / ((b - a) @ (b - a)), 0, 1)
    distance = np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1])
    np.testing.assert_array_equal(painted, distance <= 3)


def test_paint_adds_and_erases_in_order_and_leaves_the_mask_alone():
    mask = np.zeros((20, 20), bool)
    dab, off = Stroke(((10.0, 10.0),), 5.0), Stroke(((10.0, 10.0),), 2.0, False)
    painted = paint(mask, [dab, off])
    assert painted[10, 6]
    assert not painted[10, 10]
    assert paint(mask, [off, dab])[10, 10]
    assert not mask.any()


def test_strokes_may_leave_the_image():
    assert paint(np.zeros((8, 9), bool), [Stroke(((-50.0, -50.0), (-40.0, 3.0)), 2.0)]).sum() == 0
    assert paint(np.zeros((8, 9), bool), [Stroke(((-5.0, 4.0), (50.0, 4.0)), 1.0)])[4].all()


def test_paint_on_a_smaller_copy():
    strokes = [Stroke(((20.0, 20.0), (60.0, 30.0)), 10.0)]
    large = paint(np.zeros((80, 100), bool), strokes)
    small = paint(np.zeros((40, 50), bool), strokes, (0.5, 0.5))
    assert (large[::2, ::2] != small).mean() < 0.02
