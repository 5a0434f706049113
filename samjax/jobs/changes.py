"""Notice images that changed after they were read: by what the store tells, then by content."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from samjax.errors import SamjaxError, StorageError
from samjax.jobs.contents import bytes_state
from samjax.jobs.plan import PLAN, RESULTS, Plan
from samjax.jobs.sources import SourceImage, Stamp, list_images, stamp_of
from samjax.jobs.storage import is_local, join, list_objects, need, read_bytes

CHECKS = ("listing", "content", "none")
STATE = ["name", "bytes", "etag", "hash", "error"]  # columns of the results that tell of a file
_READERS = 16  # threads that ask a store, or read images

# Of shards with results: images that may have changed, with their stamps as they are now; None:
# all images of the shard, whatever the store tells.
Suspects: TypeAlias = dict[int, Mapping[str, Stamp] | None]


def check_kind(check: str) -> None:
    """Refuse an unknown way to look for changed images.

    Raises:
        SamjaxError: it is none of `CHECKS`.
    """
    if check not in CHECKS:
        raise SamjaxError(f"check {check!r}: use {', '.join(CHECKS[:-1])} or {CHECKS[-1]}")


def find_suspects(plan: Plan, destination: str, shards: Iterable[int], check: str) -> Suspects:
    """Return images that may have changed since they were planned, in shards that have results.

    Args:
        plan: the plan of the destination.
        destination: folder of the results.
        shards: numbers of the shards to look at.
        check: "listing" compares sizes, etags and times with those of the plan: local files are
            looked at one by one, an object store is listed once; "content" suspects all images,
            "none" no image.

    Raises:
        SamjaxError: an unknown check, or a store that does not answer.
    """
    check_kind(check)
    if check == "none":
        return {}
    here = list_objects(join(destination, RESULTS)).keys()
    begun = [i for i in shards if plan.shard_name(i).partition("/")[2] in here]
    if check == "content" or not begun:
        return dict.fromkeys(begun)
    planned = _planned(destination, begun)
    now = _stamps_now(plan, [image for images in planned.values() for image in images])
    found: Suspects = {}
    for index, images in planned.items():
        stamps = {image.name: now.get(_key(image)) for image in images}
        changed = {
            image.name: stamp
            for image in images
            if (stamp := stamps[image.name]) is not None and not _agree(image, stamp)
        }
        if changed:
            found[index] = changed
    return found


def find_changed(
    images: Sequence[SourceImage],
    rows: Mapping[str, Mapping[str, Any]],
    suspects: Mapping[str, Stamp] | None,
) -> dict[str, SourceImage]:
    """Return the images whose content is not that of their row, as they are now, by name.

    Args:
        images: of one shard, as they were planned.
        rows: by name, with ``bytes``, ``etag``, ``hash`` and ``error``.
        suspects: the shard's; images that are not among them are not read.

    Raises:
        StorageError: the store fails. An image that is gone has not changed.
    """

    def compare(image: SourceImage) -> SourceImage | None:
        row, stamp = rows[image.name], None
        if suspects is not None:
            stamp = suspects[image.name]
            size = image.size if image.start is not None else stamp.size
            if (row["bytes"], row["etag"]) == (size, stamp.etag):
                return None
        if row["error"] is not None:  # nothing is known of its content
            return None if stamp is None else _moved(image, stamp)
        try:
            data = read_bytes(image.location, image.start, image.size)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        if bytes_state(data) == (row["bytes"], row["hash"]):
            return None
        return _moved(image, stamp or Stamp(len(data), None))

    todo = [image for image in images if suspects is None or image.name in suspects]
    with ThreadPoolExecutor(_READERS) as pool:
        return {image.name: image for image in pool.map(compare, todo) if image is not None}


def _key(image: SourceImage) -> str:
    """Return the key of `_stamps_now`: a tar has one stamp for all its images."""
    return image.name if image.start is None else image.location


def _moved(image: SourceImage, stamp: Stamp) -> SourceImage:
    """Return an image as it is now; of one in a tar the place may be another."""
    size = image.size if image.start is not None else stamp.size
    return image._replace(size=size, etag=stamp.etag)


def _agree(image: SourceImage, stamp: Stamp) -> bool:
    """Tell whether an image is as it was planned, by all that was told both times."""
    if image.start is not None:  # of a tar
        return image.etag == stamp.etag
    return image.etag == stamp.etag and image.size in (None, stamp.size)


def _planned(destination: str, shards: Sequence[int]) -> dict[int, list[SourceImage]]:
    """Return the images of shards of which a store told anything when they were planned."""
    parquet = need("pyarrow.parquet")
    file = parquet.ParquetFile(io.BytesIO(read_bytes(join(destination, PLAN))))
    found: dict[int, list[SourceImage]] = {}
    for index in shards:
        table = file.read_row_group(index)
        if table["etag"].null_count < table.num_rows:
            rows = zip(*table.to_pydict().values(), strict=True)
            found[index] = [image for image in map(SourceImage._make, rows) if image.etag]
    return found


def _stamps_now(plan: Plan, images: Sequence[SourceImage]) -> dict[str, Stamp]:
    """Return what the store tells now: of images by name, of tars by location."""
    alone = [image for image in images if image.start is None]
    tars = sorted({image.location for image in images if image.start is not None})
    local = [image for image in alone if is_local(image.location)]
    places = [(image.name, image.location) for image in local] + [(tar, tar) for tar in tars]
    with ThreadPoolExecutor(_READERS) as pool:
        stamps = pool.map(stamp_of, [place for _, place in places])
        found = {key: s for (key, _), s in zip(places, stamps, strict=True) if s is not None}
    if len(local) < len(alone):
        found |= {image.name: Stamp(image.size, image.etag) for image in _listed_now(plan)}
    return found


def _listed_now(plan: Plan) -> Iterator[SourceImage]:
    return (image for image in list_images(plan.settings["source"]) if image.start is None)
