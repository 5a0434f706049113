"""Find boxes, holes and islands of masks (NumPy, SciPy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from samjax.errors import PromptError


def mask_box(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """Return the first and last pixels (x0, y0, x1, y1) of a mask; zeros for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def mask_prompts(
    mask: Bool[np.ndarray, "H W"],
) -> tuple[tuple[float, float], tuple[float, float, float, float]]:
    """Return the point (x, y) that lies deepest inside a mask, and its box (x0, y0, x1, y1).

    Raises:
        PromptError: the mask is empty.
    """
    if not mask.any():
        raise PromptError("the mask is empty: give one with the object's pixels above 0")
    x0, y0, x1, y1 = mask_box(mask)
    part = np.pad(mask[y0 : y1 + 1, x0 : x1 + 1], 1)  # beyond the image is outside, too
    depth = ndimage.distance_transform_edt(part)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(depth), depth.shape)
    return (float(x0 + x), float(y0 + y)), (float(x0), float(y0), float(x1), float(y1))


def remove_small_regions(
    mask: Bool[np.ndarray, "H W"], min_area: int, mode: str
) -> tuple[Bool[np.ndarray, "H W"], bool]:
    """Fill small "holes" or remove small "islands", 8-connected, and tell if any was found.

    If all islands are small, the largest stays (official remove_small_regions).
    """
    holes = mode == "holes"
    regions, _ = ndimage.label(mask ^ holes, np.ones((3, 3)))
    sizes = np.bincount(regions.reshape(-1))
    sizes[0] = min_area  # the background is no region
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
