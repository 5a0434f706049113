"""Score masks against each other, and compute confidence intervals of means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, stats

Mask = Bool[np.ndarray, "H W"]


def iou(predicted: Mask, mask: Mask, ignore: Mask | None = None) -> float:
    """Compute the intersection over union of two masks; NaN if both are empty."""
    if ignore is not None:
        predicted, mask = predicted & ~ignore, mask & ~ignore
    shared = np.count_nonzero(predicted & mask)
    union = np.count_nonzero(predicted) + np.count_nonzero(mask) - shared
    return shared / union if union else math.nan


def boundary(mask: Mask, dilation: float = 0.02) -> Mask:
    """Select the mask's pixels within ``dilation`` times the image's diagonal of its edge.

    As in the Boundary IoU paper's code, the mask is eroded max(1, round(dilation * diagonal))
    times by a 3 x 3 square, with everything beyond the image border as background.
    """
    width = max(1, round(dilation * math.hypot(*mask.shape)))
    # k erosions by a 3 x 3 square remove the pixels within chessboard distance k of the outside.
    inside = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return mask & (inside <= width)


def boundary_iou(predicted: Mask, mask: Mask, dilation: float = 0.02) -> float:
    """Compute the IoU of two masks' boundary bands (Cheng et al. 2021); NaN if both are empty."""
    return iou(boundary(predicted, dilation), boundary(mask, dilation))


def dice(predicted: Mask, mask: Mask) -> float:
    """Compute the Dice coefficient; NaN if both masks are empty."""
    total = np.count_nonzero(predicted) + np.count_nonzero(mask)
    return 2 * np.count_nonzero(predicted & mask) / total if total else math.nan


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Compute Spearman's rank correlation; NaN for fewer than two different values."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    return float(stats.spearmanr(a, b).statistic)


def mean_interval(
    values: Float[np.ndarray, " n"], groups: Sequence[str], rounds: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Compute a mean and its 95% interval by bootstrap over groups (images).

    NaN values are left out. Whole groups are resampled, because the masks of an image are not
    independent.
    """
    known = ~np.isnan(values)
    if not known.any():
        return math.nan, math.nan, math.nan
    index = np.unique(np.asarray(groups)[known], return_inverse=True)[1]
    sums = np.bincount(index, values[known])
    counts = np.bincount(index).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(rounds)
    for start in range(0, rounds, 100):  # bounded memory with thousands of images
        size = min(100, rounds - start)
        drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=size)
        means[start : start + size] = (drawn @ sums) / (drawn @ counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values[known].mean()), float(low), float(high)


def surface_dice(predicted: Mask, mask: Mask, tolerance: float, slab: bool = False) -> float:
    """Compute the normalised surface distance (Nikolov et al. 2018) of two masks, in pixels.

    It is the share of both outlines that lies within ``tolerance`` pixels of the other one, as
    Google DeepMind's surface-distance defines it: the outline has an element between each four
    pixels, whose length depends on which of the four belong to the mask. With ``slab`` the masks
    are solids one pixel thick, whose flat faces are surface too. It is 0 if one mask is empty, NaN
    if both are.
    """
    if not (predicted.any() and mask.any()):
        return 0.0 if predicted.any() or mask.any() else math.nan
    sizes = _SLAB if slab else _CONTOUR
    ours, theirs = (sizes[_corners(m)] for m in (predicted, mask))
    near_ours = ndimage.distance_transform_edt(ours == 0) <= tolerance
    near_theirs = ndimage.distance_transform_edt(theirs == 0) <= tolerance
    close = ours[near_theirs].sum() + theirs[near_ours].sum()
    return float(close / (ours.sum() + theirs.sum()))


def _corners(mask: Mask) -> Int[np.ndarray, "H+1 W+1"]:
    """Encode as four bits which of the four pixels around each corner belong to the mask."""
    m = np.pad(mask, 1).astype(np.int64)
    return m[:-1, :-1] + 2 * m[:-1, 1:] + 4 * m[1:, :-1] + 8 * m[1:, 1:]


def _sizes(one: float, beside: float, across: float, three: float, four: float) -> np.ndarray:
    """Tabulate the sizes of an outline's elements by those four bits."""
    by_count = (0.0, one, beside, three, four)
    sizes = np.array([by_count[code.bit_count()] for code in range(16)])
    sizes[[0b0110, 0b1001]] = across
    return sizes


# Marching squares give lengths, marching cubes on one face of a slab give areas.
_CONTOUR = _sizes(math.sqrt(2) / 2, 1.0, math.sqrt(2), math.sqrt(2) / 2, 0.0)
_SLAB = _sizes(
    math.sqrt(3) / 8, math.sqrt(2) / 2, math.sqrt(3) / 4, 0.5 + 3 * math.sqrt(3) / 8, 1.0
)
