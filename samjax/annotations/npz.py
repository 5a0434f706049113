"""Write and read the records of one image as NPZ: lossless, small, without pickle."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samjax.annotations.records import (
    Size,
    checked_records,
    checked_size,
    new_record,
    reading,
    segmentation_of,
)
from samjax.errors import AnnotationError
from samjax.files import (
    check_foreign,
    given_path,
    replacing,
)
from samjax.masks.rle import Record, to_rle

_FORMAT = 1
_FIELDS = ("bbox", "predicted_iou", "stability_score", "score", "crop_box", "label")


def write_npz(path: str | os.PathLike[str], size: Size, records: Sequence[Record]) -> Path:
    """Write the records of one image atomically, and return the path; equal records, equal bytes.

    The file holds these arrays for N records: ``size`` [h, w]; ``counts``, the concatenated run
    lengths of all masks (uint32, column-major, zeros first), and ``runs`` (N), the number of runs
    of each; of the keys that occur ``bbox`` (N x 4), ``predicted_iou``, ``stability_score``,
    ``score``, ``crop_box`` (N x 4), ``label`` (str); ``point_coords`` (P x 2), ``point_labels``
    (P) and ``points`` (N), the number of points of each. Where only some records have a key,
    ``KEY_known`` (N, bool) marks them.

    Args:
        path: file to write.
        size: (h, w) of the image in pixels.
        records: records with masks of that size.

    Raises:
        AnnotationError: records are unusable, values are not numbers of the expected shape, or
            another program's file is there, which is never replaced.
    """
    size, records = checked_size(size), checked_records(records)
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
        arrays |= _point_labels(records, points)
    # NumPy gets a file object, since it would add its own suffix to a name.
    path = given_path(path, AnnotationError)
    check_foreign([path], _is_ours, AnnotationError)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def _is_ours(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"format.npy", "counts.npy", "runs.npy"} <= set(archive.namelist())


def read_npz(
    path: str | os.PathLike[str], output_mode: str = "binary_mask"
) -> tuple[tuple[int, int], list[Record]]:
    """Read the (h, w) and the records that `write_npz` wrote, bit for bit.

    Raises:
        AnnotationError: the file is missing, damaged, or not written by `write_npz`.
    """
    # The file is opened here, because NumPy would leave a damaged file open.
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
            if "point_labels" in npz:
                columns["point_labels"] = [
                    each.tolist() for each in np.split(npz["point_labels"], last)
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


def _point_labels(records: Sequence[Record], points: list[np.ndarray]) -> dict[str, np.ndarray]:
    known = np.array(["point_labels" in record for record in records], bool)
    if not known.any():
        return {}
    labels = [
        np.reshape(record.get("point_labels", np.ones(len(each))), -1).astype(np.int64)
        for record, each in zip(records, points, strict=True)
    ]
    for given, each in zip(labels, points, strict=True):
        if len(given) != len(each):
            raise AnnotationError(
                f"{len(each)} point_coords but {len(given)} point_labels: pass one a point"
            )
    arrays = {"point_labels": np.concatenate(labels)}
    return arrays if known.all() else arrays | {"point_labels_known": known}


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
