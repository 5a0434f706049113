"""Simulate the clicks of a user who corrects a mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Mask = Bool[np.ndarray, "H W"]


class Click(NamedTuple):
    """Holds a pixel and its label, 1 for foreground or 0 for background."""

    x: int
    y: int
    label: int


def depth(region: Mask) -> Float[np.ndarray, "H W"]:
    """Compute each pixel's distance to the nearest pixel outside the region or the image.

    The distance is Euclidean, in pixels, between pixel centres: 1 at the edge of the region.
    """
    result = np.zeros(region.shape)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not rows.size:
        return result
    # Only the region's box is transformed, since everything around it is outside.
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    result[box] = ndimage.distance_transform_edt(np.pad(region[box], 1))[1:-1, 1:-1]
    return result


def deepest(distances: Float[np.ndarray, "H W"]) -> tuple[int, int]:
    """Return the (x, y) of the largest distance, the first one in row-major order."""
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return int(x), int(y)


def centre_click(mask: Mask) -> Click:
    """Click the pixel farthest from the mask's edge (SAM paper, appendix D.1)."""
    return Click(*deepest(depth(mask)), 1)


def sam_click(mask: Mask, predicted: Mask, ignore: Mask | None = None) -> Click | None:
    """Click the pixel farthest from the edge of the error region (SAM paper, appendix D.1).

    Returns None if there is no error.
    """
    error = mask ^ predicted
    if ignore is not None:
        error &= ~ignore
    if not error.any():
        return None
    x, y = deepest(depth(error))
    return Click(x, y, int(mask[y, x]))


def ritm_click(
    mask: Mask, predicted: Mask, clicked: Mask, ignore: Mask | None = None
) -> Click | None:
    """Choose the next click of RITM's Clicker, which published NoC numbers use.

    False negatives and false positives are two regions; pixels clicked before do not count; the
    click is positive only if the false-negative region is strictly deeper. ``clicked`` is not
    changed. Returns None if there is no error left to click.
    """
    counted = ~clicked if ignore is None else ~clicked & ~ignore
    valid = True if ignore is None else ~ignore
    missing = depth(mask & ~predicted & valid) * counted
    extra = depth(~mask & predicted & valid) * counted
    positive = bool(missing.max() > extra.max())
    chosen = missing if positive else extra
    if chosen.max() == 0:
        return None
    return Click(*deepest(chosen), int(positive))
