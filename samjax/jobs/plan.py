"""Freeze the work of a job: which images, in which shards, with which model and options."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samjax.errors import SamjaxError, StorageError
from samjax.jobs.contents import hash_values
from samjax.jobs.sources import SourceImage
from samjax.jobs.storage import join, need, open_store, read_bytes, retried

PLAN = "plan.parquet"
RESULTS = "results"
MOST_SHARDS = 100_000
_KEY = b"samjax.plan"


@dataclass(frozen=True)
class Plan:
    """Hold the settings of a planned job; its images stay in the file, shard by shard.

    Attributes:
        settings: what was asked for: source, model, options, images_per_shard.
        run: what decides about the masks: hash of the weights, options with the model's own
            thresholds, dtype, precision, preset.
        images: number of all images.
        shards: number of shards.
    """

    settings: dict[str, Any]
    run: dict[str, Any]
    images: int
    shards: int

    @property
    def digest(self) -> str:
        """Return the hash of ``run``, which every row of the results repeats."""
        return hash_values(self.run, 16)

    def shard_name(self, index: int) -> str:
        """Return the name of a shard's object below the destination."""
        return f"{RESULTS}/shard-{index:05}-of-{self.shards:05}.parquet"

    def shard_size(self, index: int) -> int:
        """Return the number of images in a shard."""
        step = self.settings["images_per_shard"]
        return min(step, self.images - index * step)


def encode_plan(
    images: Sequence[SourceImage], settings: dict[str, Any], run: dict[str, Any]
) -> bytes:
    """Return the file of a plan: a row an image, a row group a shard.

    Raises:
        SamjaxError: far too many shards.
    """
    pa, parquet = need("pyarrow"), need("pyarrow.parquet")
    step = settings["images_per_shard"]
    shards = -(-len(images) // step)
    if shards > MOST_SHARDS:
        least = -(-len(images) // MOST_SHARDS)
        raise SamjaxError(
            f"{len(images)} images in shards of {step} are {shards} shards, above the limit of "
            f"{MOST_SHARDS}: set images_per_shard to {least} or more"
        )
    kinds = {
        "name": pa.string(),
        "location": pa.string(),
        "start": pa.int64(),
        "size": pa.int64(),
        "etag": pa.string(),
    }
    columns = zip(*images, strict=True)
    table = pa.table(
        {
            name: pa.array(column, kind)
            for (name, kind), column in zip(kinds.items(), columns, strict=True)
        }
    )
    about = json.dumps({"settings": settings, "run": run}, sort_keys=True)
    file = io.BytesIO()
    parquet.write_table(
        table.replace_schema_metadata({_KEY: about.encode()}),
        file,
        row_group_size=step,
        compression="zstd",
        write_statistics=False,
    )
    return file.getvalue()


def read_plan(destination: str) -> Plan | None:
    """Return the plan of a destination; None if there is none yet.

    Raises:
        SamjaxError: the file is none of samjax's, or damaged.
    """
    address = join(destination, PLAN)
    parquet = need("pyarrow.parquet")
    try:
        data = read_bytes(address)
    except StorageError as error:
        if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            return None
        raise
    try:
        found = parquet.read_metadata(io.BytesIO(data))
        about = json.loads(found.metadata[_KEY])
        return Plan(about["settings"], about["run"], found.num_rows, found.num_row_groups)
    except Exception:
        raise SamjaxError(
            f"{address}: is not the plan of a job, or is damaged: choose another destination"
        ) from None


def read_shard_images(destination: str, index: int) -> list[SourceImage]:
    """Return the images of one shard; only that part of the plan is read.

    Raises:
        StorageError: the plan cannot be read.
    """
    address = join(destination, PLAN)
    parquet = need("pyarrow.parquet")
    store, path = open_store(address)

    def read() -> list[SourceImage]:
        with store.open(path, "rb") as file:
            columns = parquet.ParquetFile(file).read_row_group(index).to_pydict()
        return [SourceImage(*row) for row in zip(*columns.values(), strict=True)]

    return retried(address, read)
