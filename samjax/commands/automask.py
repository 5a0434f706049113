"""Run ``samjax automask``: all masks of a folder's images, on all devices, restartable."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax

from samjax import __version__
from samjax.annotations.records import FORMATS
from samjax.automatic.options import AutomaticOptions
from samjax.commands.dataset import (
    ResultFolder,
    check_names,
    is_output,
)
from samjax.commands.results import check_folder, output_errors
from samjax.commands.run_file import check_anew, check_run, lies_in
from samjax.commands.staging import staging
from samjax.engine.devices import choose_device
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import ImageError, SamjaxError, printable
from samjax.files import protecting
from samjax.image.folder import Found, absolute_path, find_images
from samjax.jobs.contents import file_state
from samjax.jobs.masking import Fetched, Loaded, make_masks, reason
from samjax.jobs.part import parse_shard
from samjax.jobs.pipeline import Outcome
from samjax.jobs.progress import Progress
from samjax.masks.rle import Record
from samjax.words import counted

_READERS = 4  # threads that compare files with their records
_THRESHOLDS = ("pred_iou_thresh", "stability_score_thresh")
_NAMED = 5  # images without masks that are named with what would keep some


@dataclass(frozen=True)
class FolderJob:
    """Hold the options of one run; see ``samjax automask --help``.

    ``device`` may name several devices, with commas; the model's own is not used.
    """

    paths: tuple[str, ...]
    out: Path
    model: ModelSpec = field(default_factory=ModelSpec)
    device: str | None = None
    options: AutomaticOptions = field(default_factory=AutomaticOptions)
    formats: tuple[str, ...] = ("coco",)
    overlay: bool = False
    shard: str | None = None
    limit: int | None = None
    overwrite: bool = False
    images_at_once: int | None = None


def run_automask(job: FolderJob) -> int:
    """Mask every image that is not done yet; one line on stdout, failed images on stderr.

    Returns:
        The exit code: 0, or 2 if images failed.

    Raises:
        SamjaxError: wrong input, or a disk that takes no more.
    """
    start = time.monotonic()
    formats = _check(job)
    parse_shard(job.shard)
    out = absolute_path(job.out)
    root, images = find_images(job.paths, lambda path: is_output(out, path))
    images = images[: job.limit]
    inputs = [image.path for image in images] + job.model.files()
    with protecting(inputs):
        return _run(job, formats, root, images, start)


def _run(
    job: FolderJob, formats: tuple[str, ...], root: Path, images: list[Found], start: float
) -> int:
    part, parts = parse_shard(job.shard)
    check_names(job.out, images, formats, job.overlay)
    run = {
        "samjax": __version__,
        "model": Path(job.model.source).name,
        "images": _relative(root, absolute_path(job.out)),
        "dtype": job.model.dtype,
        "precision": job.model.precision,
        **job.options.as_record(),
        "format": list(formats),
        "overlay": job.overlay,
    }
    if not job.overwrite:  # before minutes of loading, which tell the model's own thresholds
        unknown = {name for name in _THRESHOLDS if run[name] is None}
        known = {key: value for key, value in run.items() if key not in unknown}
        check_run(job.out, known, formats, job.overlay)
    else:
        check_anew(job.out, root, formats, job.overlay)
    devices = device_names(job.device)
    sam = replace(job.model, device=devices[0]).load()
    job = replace(job, options=job.options.resolved(sam.automatic_thresholds))
    run |= job.options.as_record() | {"weights": sam.fingerprint}
    if sam.origin is not None:
        run["origin"] = sam.origin.as_dict()
    mine = images[part - 1 :: parts]
    with output_errors(job.out), staging(job.out) as hidden:
        results = ResultFolder(
            job.out,
            hidden,
            run,
            formats,
            job.overlay,
            replaces=lambda path: job.overwrite and not lies_in(path, root),
        )
        if job.overwrite:
            for image in mine:
                results.check_foreign(image.name)
            results.clear([image.name for image in mine] if parts > 1 else None)
        results.start()
        todo, failed, changed = _look(results, mine)
        skipped = len(mine) - len(todo) - len(failed)
        empty: dict[str, str] = {}
        masks = 0
        outcomes = _outcomes(job, sam, devices, results, todo, empty)
        # Closing stops its threads, whatever happens.
        with closing(outcomes), Progress(len(mine), skipped) as progress:
            for outcome in outcomes:
                if outcome is None:
                    progress.show()
                elif outcome.error is None:
                    masks += outcome.result
                    progress.add(1, outcome.result)
                else:
                    failed.append(outcome)
                    progress.add(1, failed=1)
        for outcome in failed:
            results.discard(outcome.item.name)  # of an image that was good once
        results.assemble()
    for outcome in sorted(failed, key=lambda outcome: outcome.item.name):
        print(f"samjax: {printable(reason(outcome))}", file=sys.stderr)
    for line in [*_changed(changed), *_without_masks(empty)]:
        print(f"samjax: {printable(line)}", file=sys.stderr)
    seconds = time.monotonic() - start
    images_done = counted(len(mine) - skipped - len(failed), "image")
    print(
        f"{images_done}, {counted(masks, 'mask')} in {seconds:.1f} s, {skipped} skipped, "
        f"{len(failed)} failed -> {printable(str(job.out))}"
    )
    return 2 if failed else 0


def _look(
    results: ResultFolder, images: Sequence[Found]
) -> tuple[list[Found], list[Outcome], list[Path]]:
    """Compare images and results with the records.

    Returns:
        The images to do, those whose files are in somebody's way, and the files of done images
        that were changed since they were written.
    """

    def look(image: Found) -> bool | list[Path] | Outcome:
        if results.is_done(image):
            return results.foreign(image.name)
        try:
            results.check_foreign(image.name)
        except SamjaxError as error:
            return Outcome(image, error=error)
        return False

    with ThreadPoolExecutor(_READERS) as pool:  # each hashes files
        looks = list(pool.map(look, images))
    todo = [image for image, found in zip(images, looks, strict=True) if found is False]
    blocked = [found for found in looks if isinstance(found, Outcome)]
    return todo, blocked, [path for found in looks if isinstance(found, list) for path in found]


def _without_masks(advice: dict[str, str]) -> list[str]:
    """Return lines on images without a mask; of many, only the first ones are named."""
    lines = [f"{name}: {advice[name]}" for name in sorted(advice)]
    return _first(lines, "image", "without masks")


def _changed(paths: Sequence[Path]) -> list[str]:
    """Return lines on results that are no longer what samjax wrote, as those of a hand."""
    advice = "was changed since samjax wrote it, and is kept: remove it to have it made again"
    return _first([f"{path}: {advice}" for path in sorted(paths)], "file", "changed since")


def _first(lines: list[str], noun: str, what: str) -> list[str]:
    left = len(lines) - _NAMED
    return lines[:_NAMED] + [f"{counted(left, f'more {noun}')} {what}"] * (left > 0)


def _check(job: FolderJob) -> tuple[str, ...]:
    """Return the formats, each once, and refuse bad options before the model is loaded."""
    wanted = [name.strip() for text in job.formats for name in text.split(",")]
    for name in wanted:
        if name not in FORMATS:
            raise SamjaxError(f"--format {name!r} is not known: use {', '.join(FORMATS)}")
    for name in device_names(job.device):
        replace(job.model, device=name).check()
    check_folder(job.out)
    return tuple(name for name in FORMATS if name in wanted)


def device_names(device: str | None) -> tuple[str, ...]:
    """Return the names of --device, split at commas; "gpu" gives all GPUs, None all devices.

    Raises:
        DeviceError: no such device here.
    """
    if device is None:
        choose_device(None)
        local = jax.local_devices()
        return tuple(f"{d.platform}:{jax.devices(d.platform).index(d)}" for d in local)
    names: list[str] = []
    for name in (part.strip() for part in device.split(",")):
        choose_device(name)
        if ":" in name:
            names.append(name)
        else:
            names += [f"{name}:{i}" for i in range(len(jax.devices(name)))]
    return tuple(dict.fromkeys(names))


def _relative(root: Path, out: Path) -> str:
    """Return the images' folder relative to the output's: the same on machines that mount both."""
    try:
        return Path(os.path.relpath(root.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return root.resolve().as_posix()


def _outcomes(
    job: FolderJob,
    sam: Segmenter,
    devices: Sequence[str],
    results: ResultFolder,
    todo: Sequence[Found],
    empty: dict[str, str],
) -> Generator[Outcome | None, None, None]:
    """Make and write the masks of images on every device; ``empty`` takes advice by image."""

    def fetch(image: Found) -> Fetched:
        try:
            return Fetched(image.path, file_state(image.path))
        except OSError as error:
            raise ImageError(f"{image.path}: {error.strerror}; check the path") from error

    def write(image: Found, loaded: Loaded, records: list[Record]) -> int:
        results.write(image, loaded.state, loaded.size, records, loaded.pixels)
        return len(records)

    more = [replace(job.model, device=name).load for name in devices[1:]]
    return make_masks(
        todo,
        fetch,
        [lambda: sam, *more],
        job.options,
        write,
        on_empty=lambda image, advice: empty.__setitem__(str(image.path), advice),
        keep_pixels=job.overlay,
        images_at_once=job.images_at_once,
    )
