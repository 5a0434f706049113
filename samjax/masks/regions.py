"""Holes and islands of masks (NumPy, SciPy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage


def mask_box(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """First and last pixels (x0, y0, x1, y1); zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def remove_small_regions(
    mask: Bool[np.ndarray, "H W"], min_area: int, mode: str
) -> tuple[Bool[np.ndarray, "H W"], bool]:
    """Fill small "holes" or remove small "islands", 8-connected; and whether any was found.

    If all islands are small, the largest stays (official remove_small_regions).
    """
    holes = mode == "holes"
    regions, _ = ndimage.label(mask ^ holes, np.ones((3, 3)))
    sizes = np.bincount(regions.reshape(-1))
    sizes[0] = min_area  # what lies between the regions is none of them
    small = sizes < min_area
    if not small.any():
        return mask, False
    if holes:
        return mask | small[regions], True
    large = ~small
    large[0] = False
    if not large.any():
        sizes[0] = -1
        large[np.argmax(sizes)] = True
    return large[regions], True
