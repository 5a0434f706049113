"""The records of one image as NPZ: everything, small, read by NumPy alone, without pickle."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samjax.annotations.records import Record, new_record, reading, segmentation_of
from samjax.errors import AnnotationError
from samjax.files import replacing
from samjax.rle import to_rle

_FORMAT = 1
_FIELDS = ("bbox", "predicted_iou", "stability_score", "score", "crop_box", "label")


def write_npz(
    path: str | os.PathLike[str], size: tuple[int, int], records: Sequence[Record]
) -> Path:
    """Write all that the records hold, whole or not at all; equal records give equal bytes.

    Arrays, for N records: ``size`` [h, w]; ``counts``, the run lengths of all masks one after
    another (uint32, column-major, zeros first), and ``runs`` (N), how many belong to each; for
    those fields that occur ``bbox`` (N x 4), ``predicted_iou``, ``stability_score``, ``score``,
    ``crop_box`` (N x 4), ``label`` (str); ``point_coords`` (P x 2) and ``points`` (N), how many
    belong to each. Where only some records have a field, ``FIELD_known`` (N, bool) says which.

    Args:
        path: of the file.
        size: (h, w) of the image in pixels.
        records: each of that size.

    Raises:
        AnnotationError: unusable records, or fields that are no numbers of their usual shape.
    """
    counts = [to_rle(segmentation_of(record, size))["counts"] for record in records]
    arrays: dict[str, Any] = {
        "format": _FORMAT,
        "size": np.array(size, np.int64),
        "counts": np.array([count for each in counts for count in each], np.uint32),
        "runs": np.array([len(each) for each in counts], np.int64),
    }
    for key in _FIELDS:
        known = np.array([key in record for record in records], bool)
        if not known.any():
            continue
        given = [record[key] for record in records if key in record]
        empty = "" if key == "label" else np.zeros_like(given[0]).tolist()
        column = _column(key, [record.get(key, empty) for record in records])
        arrays[key] = column
        if not known.all():
            arrays[f"{key}_known"] = known
    known = np.array(["point_coords" in record for record in records], bool)
    if known.any():
        points = [np.reshape(record.get("point_coords", ()), (-1, 2)) for record in records]
        arrays["point_coords"] = np.concatenate(points)
        arrays["points"] = np.array([len(each) for each in points], np.int64)
        if not known.all():
            arrays["point_coords_known"] = known
    # A file object: given a name, NumPy would add its own suffix.
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return Path(path)


def read_npz(
    path: str | os.PathLike[str], output_mode: str = "binary_mask"
) -> tuple[tuple[int, int], list[Record]]:
    """The (h, w) and the records that `write_npz` wrote, equal to the bit.

    Raises:
        AnnotationError: not such a file.
    """
    # Opened here: NumPy would leave a damaged file open.
    with (
        reading(path, "an NPZ file of masks") as file,
        file.open("rb") as opened,
        np.load(opened, allow_pickle=False) as npz,
    ):
        if npz["format"] > _FORMAT:
            raise AnnotationError("was written by a later samjax: update it")
        height, width = npz["size"].tolist()
        columns = {key: npz[key].tolist() for key in _FIELDS if key in npz}
        if "points" in npz:
            last = np.cumsum(npz["points"])[:-1]
            columns["point_coords"] = [
                each.tolist() for each in np.split(npz["point_coords"], last)
            ]
        known = {key: npz[f"{key}_known"].tolist() for key in columns if f"{key}_known" in npz}
        counts, ends = npz["counts"].tolist(), np.cumsum(npz["runs"]).tolist()
        records = []
        for i, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            rle = {"size": [height, width], "counts": counts[start:end]}
            extra = {
                key: column[i]
                for key, column in columns.items()
                if key not in known or known[key][i]
            }
            records.append(new_record(rle, output_mode, extra))
    return (height, width), records


def _column(key: str, values: list[Any]) -> np.ndarray:
    if key == "label" and not all(isinstance(value, str) for value in values):
        raise AnnotationError("labels must be str: pass the categories' names")
    try:
        column = np.array(values)
    except ValueError:
        column = np.array(None)
    shape = (len(values), 4) if key in ("bbox", "crop_box") else (len(values),)
    if column.dtype == object or column.shape != shape:
        raise AnnotationError(f"{key} of the records is not of shape {shape}: check them")
    return column
