"""Take the masks that a user gives: arrays, logits, pictures, lists, run lengths or records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike
from PIL import Image

from samjax.annotations.records import segmentation_of
from samjax.arguments import shown
from samjax.errors import AnnotationError
from samjax.masks.rle import Record, Segmentation, to_mask
from samjax.prediction import Prediction

Masks: TypeAlias = ArrayLike | Image.Image | Prediction | Record | Sequence[Segmentation | Record]


def listed(masks: Masks) -> list[Any]:
    """Return one mask, a stack, a prediction or a sequence as a list of masks.

    Raises:
        AnnotationError: an array that has no rows and columns.
    """
    if isinstance(masks, Prediction):
        return listed(masks.masks)
    if isinstance(masks, dict | Image.Image):
        return [masks]
    if isinstance(masks, list | tuple):
        flat: list[Any] = []
        for each in masks:
            flat += each if isinstance(each, list | tuple) and not _is_rows(each) else [each]
        return flat
    array = np.asarray(masks)
    if array.ndim < 2:
        raise AnnotationError(
            f"masks are {type(masks).__name__} of shape {array.shape}: pass an H x W array, "
            "a stack, or a list of masks, run lengths or records"
        )
    if 0 in array.shape[-2:]:
        raise AnnotationError(f"masks have shape {array.shape}: pass masks of the image's size")
    return list(array.reshape(-1, *array.shape[-2:]))


def _is_rows(given: Sequence[Any]) -> bool:
    return bool(given) and isinstance(given[0], list | tuple)


def mask_of(given: Any, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Return the mask of an array, a PIL image, run lengths or a record.

    Raises:
        AnnotationError: it cannot be used, or is not of the image's size (H, W).
    """
    record = (
        given if isinstance(given, dict) and "segmentation" in given else {"segmentation": given}
    )
    segmentation = record["segmentation"]
    if not isinstance(segmentation, dict):
        record = {**record, "segmentation": _bool_mask(segmentation)}
    return to_mask(segmentation_of(record, size))


def _bool_mask(given: Any) -> Any:
    """Return logits above 0, and numbers that are 0 or one other value, as a bool array."""
    if isinstance(given, Image.Image) and given.mode == "1":
        given = given.convert("L")  # as an array its true pixels are bytes of 255, no bools
    array = np.asarray(given)
    if array.dtype == np.bool_ or array.ndim != 2 or array.dtype.kind not in "iuf":
        return array if array.dtype == np.bool_ else given
    lowest, highest = (array.min(), array.max()) if array.size else (0, 0)
    if np.isnan(lowest):
        raise AnnotationError("mask holds NaN: pass bool masks, or logits that are numbers")
    if lowest < 0:
        return array > 0  # SAM's mask_threshold
    if not ((array == 0) | (array == highest)).all():
        raise AnnotationError(
            f"mask holds numbers from {lowest} to {highest}, which may be probabilities or a label "
            "map: pass bool masks, such as probabilities > 0.5 or labels == 1, or logits"
        )
    return array > 0


def check_count(masks: Sequence[Any], **given: Any) -> None:
    """Refuse lists that do not have one entry for each mask.

    Raises:
        AnnotationError: a list of another length.
    """
    for name, values in given.items():
        if values is None:
            continue
        alone = isinstance(values, (str, bytes, dict)) or getattr(values, "ndim", 1) == 0
        if alone or not hasattr(values, "__len__"):
            raise AnnotationError(f"{name} is {shown(values)}: pass a list, one for each mask")
        if len(values) != len(masks):
            raise AnnotationError(f"{len(masks)} masks but {len(values)} {name}: pass one per mask")
