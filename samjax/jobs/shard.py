"""Run one shard of a plan: read its images, make their masks, write one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from samjax.automatic.options import AutomaticOptions
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import SamjaxError, StorageError
from samjax.image.stored import StoredImage
from samjax.jobs.changes import STATE, find_changed
from samjax.jobs.contents import bytes_state
from samjax.jobs.masking import Fetched, Loaded, make_masks, reason
from samjax.jobs.plan import Plan, read_shard_images
from samjax.jobs.results import ShardAbout, decode_about, decode_rows, encode_shard, to_masks
from samjax.jobs.sources import SourceImage, Stamp, stamp_of
from samjax.jobs.storage import exists, is_local, join, read_bytes, write_bytes
from samjax.masks.rle import Record

_NONE: Mapping[str, Stamp] = MappingProxyType({})


class StoppedError(SamjaxError):
    """Reports that a shard was stopped before its end; nothing of it was written."""


class ShardReport(NamedTuple):
    """Hold what became of a shard; ``skipped``: images of it that were there already."""

    shard: int
    images: int
    masks: int
    failed: int
    skipped: int


def settings_spec(settings: dict[str, Any]) -> ModelSpec:
    """Return the model of a plan's settings."""
    listed = ("lora_layers", "ignore")
    found: dict[str, Any] = {
        key: tuple(value) if key in listed and value is not None else value
        for key, value in settings["model"].items()
    }
    return ModelSpec(**found)


def settings_options(settings: dict[str, Any]) -> AutomaticOptions:
    """Return the options of a plan's settings."""
    return AutomaticOptions(**settings["options"], output_mode="coco_rle")


def describe_run(sam: Segmenter, spec: ModelSpec, options: AutomaticOptions) -> dict[str, Any]:
    """Return what decides about the masks: two runs with equal values make equal masks."""
    resolved = options.resolved(sam.automatic_thresholds).as_record()
    return {"weights": sam.fingerprint, "precision": spec.precision, **resolved}


@lru_cache(maxsize=1)
def load_once(spec: ModelSpec) -> Segmenter:
    """Return the model of a spec, loaded once in each process."""
    return spec.load(progress=False)


def run_shard(
    plan: Plan,
    destination: str,
    index: int,
    *,
    suspects: Mapping[str, Stamp] | None = _NONE,
    device: str | None = None,
    retry_failed: bool = False,
    images_at_once: int | None = None,
    told: Callable[[int], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> ShardReport:
    """Make the masks of a shard's images and write them as one object; see AutomaskJob.run_shard.

    Args:
        plan: the plan of the destination.
        destination: folder of the results.
        index: number of the shard, from 0.
        suspects: images of a finished shard that may have changed; see changes.find_suspects.
        device: name of the device for this process; None: that of the plan's model.
        retry_failed: try the failed images of a finished shard again.
        images_at_once: images that the device encodes together; see make_masks.
        told: function called with the number of the shard's images that are done.
        check: function called often; what it raises stops the shard.
    """
    if not 0 <= index < plan.shards:
        raise SamjaxError(f"shard {index}: the plan has shards 0 to {plan.shards - 1}")
    address = join(destination, plan.shard_name(index))
    images = read_shard_images(destination, index)
    known: dict[str, dict[str, Any]] = {}
    changed: dict[str, SourceImage] = {}
    if (found := _finished(address, plan, index)) is not None:
        about, data = found
        if suspects is None or suspects:
            changed = find_changed(images, _by_name(decode_rows(data, STATE)), suspects)
        retried = retry_failed and about.failed > 0
        if not changed and not retried:
            told(about.images)
            return ShardReport(index, about.images, about.masks, about.failed, about.images)
        known = {
            name: row
            for name, row in _by_name(decode_rows(data)).items()
            if name not in changed and not (retried and row["error"] is not None)
        }
    todo = [changed.get(image.name, image) for image in images if image.name not in known]
    # Where an image is in a tar that was made anew, nobody knows.
    lost = {image.name: image for image in changed.values() if image.start is not None}
    rows = known | {name: _lost_row(image, plan.digest) for name, image in lost.items()}
    todo = [image for image in todo if image.name not in lost]
    rows |= _make_rows(plan, todo, device, images_at_once, len(rows), told, check)
    data = encode_shard([rows[image.name] for image in images], index, plan.digest)
    write_bytes(address, data)
    written = decode_about(data)
    assert written is not None
    return ShardReport(index, written.images, written.masks, written.failed, len(known))


def _by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def _finished(address: str, plan: Plan, index: int) -> tuple[ShardAbout, bytes] | None:
    """Return a shard's file if it is whole; None if it is missing or half-written.

    Raises:
        SamjaxError: it belongs to another plan.
    """
    if not exists(address):
        return None
    data = read_bytes(address)
    about = decode_about(data)
    if about is None or about.images != plan.shard_size(index):
        return None
    if about.run != plan.digest or about.shard != index:
        raise SamjaxError(
            f"{address}: is of another model or other options than the plan: choose another "
            "destination, or remove it"
        )
    return about, data


def _make_rows(
    plan: Plan,
    images: list[SourceImage],
    device: str | None,
    images_at_once: int | None,
    done: int,
    told: Callable[[int], None],
    check: Callable[[], None],
) -> dict[str, dict[str, Any]]:
    """Read ahead in threads, generate in one, and return a row for each image by its name."""
    spec, options = settings_spec(plan.settings), settings_options(plan.settings)
    if device is not None:
        spec = replace(spec, device=device)
    sam = load_once(spec)
    if describe_run(sam, spec, options) != plan.run:
        raise SamjaxError(
            f"{spec.source}: weights, thresholds or dtype ({sam.dtype.name}) are not those of the "
            "plan: use the same file, and name the dtype when you plan"
        )

    def write(image: SourceImage, loaded: Loaded, records: list[Record]) -> dict[str, Any]:
        return _row(image, plan.digest) | {
            "bytes": loaded.state.bytes,
            "etag": loaded.etag,
            "hash": loaded.state.hash,
            "height": loaded.size[0],
            "width": loaded.size[1],
            "masks": to_masks(records),
        }

    rows: dict[str, dict[str, Any]] = {}
    made = make_masks(images, _fetch, [lambda: sam], options, write, images_at_once=images_at_once)
    with closing(made) as outcomes:
        for outcome in outcomes:
            check()
            if outcome is None:
                continue
            image = outcome.item
            if outcome.error is not None:
                rows[image.name] = _row(image, plan.digest) | {"error": reason(outcome)}
            else:
                rows[image.name] = outcome.result
            told(done + len(rows))
    return rows


def _row(image: SourceImage, run: str) -> dict[str, Any]:
    return {
        **{"name": image.name, "path": image.location, "bytes": image.size, "etag": image.etag},
        **{"hash": None, "height": None, "width": None, "run": run, "error": None, "masks": None},
    }


def _lost_row(image: SourceImage, run: str) -> dict[str, Any]:
    text = (
        f"{image.location}: changed after it was planned, so that the places of its images are "
        "not known: plan it again for another destination"
    )
    return _row(image, run) | {"error": text}


def _fetch(image: SourceImage) -> Fetched:
    """Read an image's file, as it is now; a part of it is refused."""
    place, etag = image.location, image.etag
    alone = image.start is None
    if alone and is_local(place) and (stamp := stamp_of(place)) is not None:
        etag = stamp.etag
    data = read_bytes(place, image.start, image.size)
    if image.size is not None and len(data) != image.size:
        now = stamp_of(place) if alone else None
        if now is None or now.size not in (None, len(data)):
            raise StorageError(f"{place}: gave {len(data)} of {image.size} bytes: try again")
        etag = now.etag
    name = place if alone else f"{place}: {image.name}"
    return Fetched(StoredImage(data, name), bytes_state(data), etag)
