"""Edits of finished masks, as stamps: grown, shrunk, split into parts, reshaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from samjax.errors import PromptError
from samjax.masks.polygons import polygons_to_mask
from samjax.masks.rle import to_coco_rle
from samjax.widget.state import Stamp

MAX_GROWTH = 1000  # pixels that an object grows or shrinks at once
MAX_PARTS = 100  # objects that a split makes at most

Rings = Sequence[Sequence[Sequence[float]]]


def stamp(pixels: Bool[np.ndarray, "H W"], add: bool) -> Stamp:
    """Return the stamp of a mask of the image's size."""
    return Stamp(to_coco_rle(pixels)["counts"], (pixels.shape[0], pixels.shape[1]), add)


def difference(
    before: Bool[np.ndarray, "H W"], after: Bool[np.ndarray, "H W"]
) -> tuple[Stamp, ...]:
    """Return the stamps that turn one mask into another: at most one adds and one erases.

    Raises:
        PromptError: nothing would be left.
    """
    if not after.any():
        raise PromptError("nothing would be left of the object: delete it instead")
    changes = ((after & ~before, True), (before & ~after, False))
    return tuple(stamp(pixels, add) for pixels, add in changes if pixels.any())


def grown(mask: Bool[np.ndarray, "H W"], pixels: int) -> Bool[np.ndarray, "H W"]:
    """Grow a mask by so many pixels on all sides, or shrink it if negative.

    A step reaches the four neighbours. The image's border does not shrink a mask.
    """
    if pixels >= 0:
        return mask if pixels == 0 else ndimage.binary_dilation(mask, iterations=pixels)
    return ndimage.binary_erosion(mask, iterations=-pixels, border_value=1)


def parts(mask: Bool[np.ndarray, "H W"]) -> list[Bool[np.ndarray, "H W"]]:
    """Split a mask into its connected parts, the largest first; corners connect.

    Raises:
        PromptError: it is in one part already, or in too many.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), int))
    if count < 2:
        raise PromptError("the object is in one part: there is nothing to split")
    if count > MAX_PARTS:
        raise PromptError(f"the object has {count} parts: erase specks first ({MAX_PARTS} at most)")
    areas = np.bincount(labels.ravel())[1:]
    return [labels == 1 + i for i in np.argsort(-areas, kind="stable")]


def reshaped(mask: Bool[np.ndarray, "H W"], before: Rings, after: Rings) -> Bool[np.ndarray, "H W"]:
    """Return a mask whose outline was moved from one set of rings to another.

    Pixels on which both sets agree stay as they are, so that rings may be coarser than the mask.

    Args:
        mask: of the object.
        before, after: rings of vertices (x, y); whole numbers are pixel centres. Rings inside of
            others are holes.
    """
    size = (mask.shape[0], mask.shape[1])
    old, new = _filled(before, size), _filled(after, size)
    return (mask | (new & ~old)) & ~(old & ~new)


def _filled(rings: Rings, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    filled = np.zeros(size, bool)
    for ring in rings:
        filled ^= polygons_to_mask([np.array(ring, float) + 0.5], size)
    return filled
