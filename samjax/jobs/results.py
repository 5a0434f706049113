"""Write and read the results of a job: Parquet, a row an image."""

from __future__ import annotations

import io
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from samjax.annotations.records import AnnotatedImage, convert_records
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.jobs.plan import RESULTS
from samjax.jobs.storage import (
    absolute,
    is_local,
    join,
    list_objects,
    local_path,
    need,
    read_bytes,
)
from samjax.masks.rle import Record
from samjax.words import counted

_KEY = b"samjax.shard"
_NAMED = 3  # failed images that a warning names


class ShardAbout(NamedTuple):
    """Hold what the footer of a shard's file tells."""

    shard: int
    run: str
    images: int
    masks: int
    failed: int


@cache
def schema() -> Any:
    """Return the columns of the results, as pyarrow's schema."""
    pa = need("pyarrow")
    mask = pa.struct(
        [
            ("counts", pa.string()),
            ("size", pa.list_(pa.int32(), 2)),
            ("area", pa.int64()),
            ("bbox", pa.list_(pa.int32(), 4)),
            ("predicted_iou", pa.float32()),
            ("stability_score", pa.float32()),
            ("point", pa.list_(pa.float64(), 2)),
            ("crop_box", pa.list_(pa.int32(), 4)),
        ]
    )
    return pa.schema(
        [
            ("name", pa.string()),
            ("path", pa.string()),
            ("bytes", pa.int64()),
            ("etag", pa.string()),
            ("hash", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("run", pa.string()),
            ("error", pa.string()),
            ("masks", pa.list_(mask)),
        ]
    )


def to_masks(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return records with COCO run lengths as rows of the column ``masks``."""
    return [
        {
            "counts": record["segmentation"]["counts"],
            "size": record["segmentation"]["size"],
            "area": record["area"],
            "bbox": record["bbox"],
            "predicted_iou": record["predicted_iou"],
            "stability_score": record["stability_score"],
            "point": record["point_coords"][0],
            "crop_box": record["crop_box"],
        }
        for record in records
    ]


def to_records(masks: Sequence[dict[str, Any]]) -> list[Record]:
    """Return the official records of the column ``masks``."""
    return [
        {
            "segmentation": {"size": mask["size"], "counts": mask["counts"]},
            "area": mask["area"],
            "bbox": mask["bbox"],
            "predicted_iou": mask["predicted_iou"],
            "point_coords": [mask["point"]],
            "stability_score": mask["stability_score"],
            "crop_box": mask["crop_box"],
        }
        for mask in masks
    ]


def encode_shard(rows: Sequence[dict[str, Any]], shard: int, run: str) -> bytes:
    """Return the file of a shard; the same rows give the same bytes."""
    pa, parquet = need("pyarrow"), need("pyarrow.parquet")
    about = ShardAbout(
        shard,
        run,
        len(rows),
        sum(len(row["masks"] or ()) for row in rows),
        sum(row["error"] is not None for row in rows),
    )
    kept = schema().with_metadata({_KEY: json.dumps(about._asdict()).encode()})
    file = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(list(rows), schema=kept),
        file,
        compression="zstd",
        compression_level=9,
    )
    return file.getvalue()


def decode_about(data: bytes) -> ShardAbout | None:
    """Return what a shard's file tells of itself; None if it is cut short or something else."""
    parquet = need("pyarrow.parquet")
    try:
        found = parquet.read_metadata(io.BytesIO(data))
        about = ShardAbout(**json.loads(found.metadata[_KEY]))
    except Exception:  # broken in any way
        return None
    return about if about.images == found.num_rows else None


def decode_rows(data: bytes, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a shard's file."""
    parquet = need("pyarrow.parquet")
    return parquet.read_table(io.BytesIO(data), columns=columns).to_pylist()


def read_results(
    path: str | Path,
    *,
    where: Callable[[str], bool] | None = None,
    output_mode: str = "coco_rle",
) -> Iterator[AnnotatedImage]:
    """Yield the images of a job's results, with their records, in the order of their names.

    A shard at a time is in memory. Failed images have no records: they are left out with an
    AnnotationWarning at the end; `read_failures` tells the reasons.

    Args:
        path: the destination of a job, or one of its Parquet files; a path or an address.
        where: function of an image's name; images for which it is false are left out.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".

    Raises:
        AnnotationError: there are no results, or a file is damaged.
    """
    failed: list[str] = []
    for row in _rows(path, ["name", "height", "width", "error", "masks"]):
        if where is not None and not where(row["name"]):
            continue
        if row["error"] is not None:
            failed.append(row["name"])
            continue
        records = to_records(row["masks"])
        if output_mode != "coco_rle":
            records = convert_records(records, output_mode)
        yield AnnotatedImage(row["name"], (row["height"], row["width"]), records)
    if failed:
        names = ", ".join(failed[:_NAMED]) + ", ..." * (len(failed) > _NAMED)
        warnings.warn(
            f"{path}: {counted(len(failed), 'image')} failed and left out: {names}; "
            "samjax.jobs.read_failures tells why",
            AnnotationWarning,
            stacklevel=2,
        )


def read_failures(path: str | Path) -> dict[str, str]:
    """Return the names of failed images, each with the reason.

    Raises:
        AnnotationError: there are no results, or a file is damaged.
    """
    rows = _rows(path, ["name", "error"])
    return {row["name"]: row["error"] for row in rows if row["error"] is not None}


def local_files(path: str | Path) -> Iterator[Path]:
    """Yield the files of this machine that results are of: their own, and those of the images.

    Raises:
        AnnotationError: there are no results, or a file is damaged.
    """
    images = (row["path"] for row in _rows(path, ["path"]))
    for address in itertools.chain(_files(path), images):
        if is_local(address):
            yield local_path(address)


def _files(path: str | Path) -> list[str]:
    address = absolute(str(path))
    if address.endswith(".parquet"):
        return [address]
    folder = join(address, RESULTS)
    names = sorted(name for name in list_objects(folder) if name.endswith(".parquet"))
    return [join(folder, name) for name in names]


def _rows(path: str | Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    if not (files := _files(path)):
        raise AnnotationError(f"{path}: has no results: run the job first, or check the address")
    for file in files:
        data = read_bytes(file)
        if decode_about(data) is None:
            raise AnnotationError(f"{file}: is no file of results, or damaged: run the job again")
        yield from decode_rows(data, columns)
