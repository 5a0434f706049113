"""Simulated clicks: where a user who sees the error would click next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Mask = Bool[np.ndarray, "H W"]


class Click(NamedTuple):
    """A pixel, and 1 for the object or 0 for what is not part of it."""

    x: int
    y: int
    label: int


def depth(region: Mask) -> Float[np.ndarray, "H W"]:
    """Distance of each pixel to the nearest one outside the region; the image's rim is outside.

    L2, in pixels, between pixel centres: 1 at the edge of the region.
    """
    result = np.zeros(region.shape)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not rows.size:
        return result
    # Only the region's box is transformed: all around it is outside in any case.
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    result[box] = ndimage.distance_transform_edt(np.pad(region[box], 1))[1:-1, 1:-1]
    return result


def deepest(distances: Float[np.ndarray, "H W"]) -> tuple[int, int]:
    """(x, y) of the largest distance, the first one row by row."""
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return int(x), int(y)


def centre_click(mask: Mask) -> Click:
    """The pixel farthest from the mask's edge (SAM paper, appendix D.1)."""
    return Click(*deepest(depth(mask)), 1)


def sam_click(mask: Mask, predicted: Mask, ignore: Mask | None = None) -> Click | None:
    """The pixel farthest from the edge of the error region (SAM paper, appendix D.1).

    None where there is no error.
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
    """The next click of RITM's Clicker, from which published NoC numbers come.

    Missing and superfluous pixels are two regions; pixels clicked before do not count; positive
    only if the missing region is strictly deeper. ``clicked`` is not changed. None where there
    is no error left to click.
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
