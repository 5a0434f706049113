"""Convert records to label maps, whose pixels number the objects, and read and write them as PNG.

The PNG files are indexed, or 16-bit greyscale for more than 255 objects.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from samjax.annotations.records import (
    Size,
    checked_numbers,
    checked_records,
    new_record,
    reading,
    segmentation_of,
)
from samjax.arguments import shown
from samjax.errors import AnnotationError
from samjax.files import check_foreign, given_path, replacing
from samjax.masks.rle import Record, crop, segmentation_area, segmentation_size
from samjax.palette import PALETTE

ORDERS = ("area", "score", "given")
_MODES = ("P", "L", "1", "I", "I;16")  # of pictures whose pixels may be numbers of objects


def to_label_map(
    records: Sequence[Record], size: Size | None = None, *, order: str = "area"
) -> Integer[np.ndarray, "H W"]:
    """Rasterize records to a label map: records[i] becomes i + 1, the background 0.

    A pixel has one number only: where masks overlap, the lower one is lost.

    Args:
        records: at most 65535 records.
        size: (H, W) in pixels; needed only if there are no records.
        order: which mask lies on top. "area": the smaller mask, so that a mask inside another one
            is never hidden by it; "score": the higher score (``score``, else ``predicted_iou``);
            "given": the later record.

    Returns:
        Label map, uint8, or uint16 for more than 255 records.

    Raises:
        AnnotationError: there are too many records, masks differ in size, or scores are missing.
    """
    if order not in ORDERS:
        raise AnnotationError(f"order is {order!r}: use one of {', '.join(ORDERS)}")
    records = checked_records(records)
    if len(records) > np.iinfo(np.uint16).max:
        raise AnnotationError(f"{len(records)} records: a label map holds at most 65535")
    if size is None:
        if not records:
            raise AnnotationError("no records: pass the size (height, width) of the label map")
        size = segmentation_size(segmentation_of(records[0]))
    masks = [segmentation_of(record, size) for record in records]
    keys = np.zeros(len(records))  # rising: from the bottom to the top
    if order == "area":
        keys[:] = [-segmentation_area(mask) for mask in masks]
    elif order == "score":
        keys[:] = [_score(record) for record in records]
    labels = np.zeros(size, np.uint8 if len(records) <= 255 else np.uint16)
    for i in np.argsort(keys, kind="stable").tolist():
        part = crop(masks[i])
        labels[part.window][part.pixels] = i + 1
    return labels


def label_map_to_records(
    labels: Integer[np.ndarray, "H W"],
    output_mode: str = "binary_mask",
    *,
    label: str | None = None,
) -> list[Record]:
    """Make a record for each number above 0 that occurs, in ascending order.

    Args:
        labels: label map; 0 is the background.
        output_mode: form of the segmentations.
        label: category of all records.

    Raises:
        AnnotationError: the label map has negative numbers.
    """
    from scipy import ndimage

    if checked_numbers(labels).min(initial=0) < 0:
        raise AnnotationError("label map with negative numbers: objects are 1, 2, ...")
    values, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape).astype(np.int32) + (values[0] != 0)
    extra = {} if label is None else {"label": label}
    records = []
    for i, window in enumerate(ndimage.find_objects(dense), 1):
        mask = np.zeros(labels.shape, bool)
        mask[window] = dense[window] == i
        records.append(new_record(mask, output_mode, extra))
    return records


def write_label_png(
    path: str | os.PathLike[str], labels: Integer[np.ndarray, "H W"], *, wide: bool = False
) -> Path:
    """Write a label map as PNG atomically, and return its path.

    Numbers up to 255 give an indexed PNG in colours; larger ones a 16-bit greyscale PNG, which
    viewers show almost black; ``wide`` gives it always.

    Raises:
        AnnotationError: numbers are below 0 or above 65535, there are no pixels, or the file is
            there and is no label map, such as a photograph: it is never replaced.
    """
    if isinstance(labels, (list, tuple)):
        raise AnnotationError(
            f"labels are {shown(labels)}: pass the label map of one image, to_label_map(records, "
            "size), with a path of its own for each image"
        )
    if (
        not checked_numbers(labels).size
        or labels.min() < 0
        or labels.max() > np.iinfo(np.uint16).max
    ):
        raise AnnotationError("label map: pass H x W numbers from 0 to 65535")
    if labels.max() <= 255 and not wide:
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette(png_palette().tobytes())
    else:
        picture = Image.fromarray(labels.astype(np.uint16))
    path = given_path(path, AnnotationError)
    check_foreign([path], _is_label_map, AnnotationError)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


def read_label_png(path: str | os.PathLike[str]) -> Integer[np.ndarray, "H W"]:
    """Read a label map (uint8 or uint16) from an indexed, greyscale, 16-bit or bilevel PNG.

    Raises:
        AnnotationError: the file is missing or damaged, or is an RGB picture.
    """
    with reading(path, "a PNG label map") as file, Image.open(file, formats=["PNG"]) as picture:
        if picture.mode not in _MODES:
            raise AnnotationError(
                f"is a picture in {picture.mode}, not a label map, whose pixels number objects: "
                "pass an indexed or greyscale PNG"
            )
        array = np.array(picture)
        return array.astype(np.uint16 if picture.mode.startswith("I") else np.uint8)


def _is_label_map(path: Path) -> bool:
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.mode in _MODES


def _score(record: Record) -> float:
    score = record.get("score", record.get("predicted_iou"))
    if score is None:
        raise AnnotationError('record without "score" or "predicted_iou": use order="area"')
    return float(score)


def png_palette() -> UInt8[np.ndarray, "256 3"]:
    """Build a PNG palette: black, then `PALETTE`, then darker and lighter shades of it in turn."""
    colours = np.array(PALETTE, float)
    rounds = -(-255 // len(colours))
    shades = [colours]
    for i in range(1, rounds):
        share = 0.25 + 0.55 * i / rounds
        shades.append(colours * (1 - share) + (0 if i % 2 else 255) * share)
    return np.concatenate([np.zeros((1, 3)), *shades])[:256].round().astype(np.uint8)
