"""Correct masks that were opened: clicks change the part that they lie in, and nothing else.

The network is asked with the clicks, the old mask as its mask prompt and the box of both. Its
answer redraws the whole object, which is often worse where nobody complained; so of all that it
would change, only the connected region under each click is taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from samjax.engine.segmenter import Segmenter
from samjax.masks.regions import mask_box
from samjax.masks.rle import rle_to_mask
from samjax.masks.upscale import mask_to_logits
from samjax.widget.state import Prompt, Stamp


def base_mask(base: Stamp | None) -> Bool[np.ndarray, "H W"] | None:
    """Return the mask that an object was opened with; None for one without."""
    if base is None:
        return None
    return rle_to_mask({"size": list(base.size), "counts": base.counts})


def correction_of(prompt: Prompt, base: Stamp | None) -> Bool[np.ndarray, "H W"] | None:
    """Return the mask that a prompt corrects; None where it makes a mask of its own.

    A box makes a mask of its own: it says where the object is, whatever was there.
    """
    if base is None or not prompt.points or prompt.box is not None:
        return None
    mask = base_mask(base)
    return mask if mask is not None and mask.any() else None


def predict_arguments(
    prompt: Prompt, base: Stamp | None, model: Segmenter
) -> dict[str, Any] | None:
    """Return the arguments of ``SamPredictor.predict``; None if nothing is asked.

    Corrections have the old mask as ``mask_input``, beside the box of the mask and of all clicks
    on the object: SAM answers a mask prompt without a box or point with nearly anything.
    """
    arguments, old = prompt.arguments(), correction_of(prompt, base)
    if arguments is None or old is None:
        return arguments
    x0, y0, x1, y1 = mask_box(old)
    inside = [(x, y) for x, y, label in prompt.points if label]
    xs, ys = [x0, x1, *(x for x, _ in inside)], [y0, y1, *(y for _, y in inside)]
    size, stretch = model.config.low_res_size, model.preset.stretches
    arguments["box"] = [float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))]
    arguments["mask_input"] = mask_to_logits(old, size, stretch=stretch)
    return arguments


def correct(
    base: Bool[np.ndarray, "H W"],
    predicted: Bool[np.ndarray, "H W"],
    points: Sequence[tuple[float, float, int]],
) -> Bool[np.ndarray, "H W"]:
    """Return an old mask with those changes of a predicted one that clicks ask for.

    A click on the object adds the 8-connected region of new pixels under it, a click beside it
    removes the region of dropped pixels under it; all else stays as it was.

    Args:
        base: the old mask.
        predicted: the mask of the network, of the same size.
        points: (x, y, label) in pixels of both; label 1 is on the object, 0 beside it.
    """
    regions = {
        1: ndimage.label(predicted & ~base, np.ones((3, 3)))[0],
        0: ndimage.label(base & ~predicted, np.ones((3, 3)))[0],
    }
    corrected = base.copy()
    for x, y, label in points:
        number = regions[label][_place(x, y, base)]
        if number:
            corrected[regions[label] == number] = bool(label)
    return corrected


def followed(mask: Bool[np.ndarray, "H W"], points: Sequence[tuple[float, float, int]]) -> int:
    """Count the clicks, (x, y, label), that lie inside of a mask for label 1 and outside for 0."""
    return sum(bool(mask[_place(x, y, mask)]) == bool(label) for x, y, label in points)


def _place(x: float, y: float, mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """Return the row and column of a pixel, the nearest one inside."""
    height, width = mask.shape
    return min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)
