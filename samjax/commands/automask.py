"""``samjax automask``: all masks of all images of a folder, on all devices, restartable."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from samjax import __version__
from samjax.automatic import SamAutomaticMaskGenerator
from samjax.commands.dataset import (
    FORMATS,
    ResultFolder,
    check_names,
    check_run,
    is_output,
)
from samjax.commands.folder import Found, absolute_path, find_images, parse_shard
from samjax.commands.loading import About, load_model
from samjax.commands.pipeline import Outcome, process
from samjax.commands.results import check_folder, output_errors
from samjax.commands.segment import check_options
from samjax.commands.staging import staging
from samjax.devices import choose_device
from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.errors import ImageError, PromptError, SamjaxError
from samjax.preprocess import PreparedImage, prepare, read_for

_REPORT_SECONDS = 60.0  # between lines of progress where there is no terminal


@dataclass(frozen=True)
class Settings:
    """What decides about the masks: options of the command, under their names."""

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_thresh: float = 0.95
    nms_thresh: float = 0.7
    crop_layers: int = 0
    min_region_area: int = 0
    min_area: int = 0
    max_area: int | None = None
    tile_size: int | None = None
    tile_halo: int = 64

    def generator(self, model: Segmenter, points_per_batch: int) -> SamAutomaticMaskGenerator:
        """A generator with these settings."""
        return SamAutomaticMaskGenerator(
            model,
            points_per_side=self.points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_thresh,
            box_nms_thresh=self.nms_thresh,
            crop_n_layers=self.crop_layers,
            min_mask_region_area=self.min_region_area,
            output_mode="coco_rle",
            min_area=self.min_area,
            max_area=self.max_area,
            tile_size=self.tile_size,
            tile_halo=self.tile_halo,
        )


@dataclass(frozen=True)
class Job:
    """The options of one run; see ``samjax automask --help``."""

    paths: tuple[str, ...]
    out: Path
    settings: Settings = Settings()
    points_per_batch: int = 64
    formats: tuple[str, ...] = ("coco",)
    overlay: bool = False
    model: str = "embedded"
    device: str | None = None
    dtype: str = "auto"
    precision: str = "highest"
    shard: str | None = None
    limit: int | None = None
    overwrite: bool = False
    about: About = field(default_factory=About)


class Loaded(NamedTuple):
    """An image that was read: pixels only as long as they are needed."""

    file_bytes: int
    size: tuple[int, int]
    pixels: UInt8[np.ndarray, "H W 3"] | None
    prepared: PreparedImage | None


def run_automask(job: Job) -> int:
    """Mask every image that is not done yet; one line on stdout, failed images on stderr.

    Returns:
        The exit code: 0, or 2 if images failed.

    Raises:
        SamjaxError: wrong input, or a disk that takes no more.
    """
    start = time.monotonic()
    formats = _check(job)
    part, parts = parse_shard(job.shard)
    out = absolute_path(job.out)
    root, images = find_images(job.paths, lambda path: is_output(out, path))
    images = images[: job.limit]
    check_names(job.out, images, formats, job.overlay)
    run = {
        "samjax": __version__,
        "model": Path(job.model).name,
        "images": _relative(root, out),
        "dtype": job.dtype,
        "precision": job.precision,
        **asdict(job.settings),
        "format": list(formats),
        "overlay": job.overlay,
    }
    if not job.overwrite:
        check_run(job.out, run, formats, job.overlay)  # before minutes of loading
    sam = _load(job, devices := device_names(job.device))
    run["weights"] = sam.fingerprint
    mine = images[part - 1 :: parts]
    with output_errors(job.out), staging(job.out) as hidden:
        results = ResultFolder(job.out, hidden, run, formats, job.overlay)
        if job.overwrite:
            results.clear([image.name for image in mine] if parts > 1 else None)
        results.start()
        todo = [image for image in mine if not results.is_done(image)]
        skipped = len(mine) - len(todo)
        failed: list[Outcome] = []
        masks = 0
        outcomes = _outcomes(job, sam, devices, results, todo)
        with closing(outcomes):  # stops its threads, whatever happens
            for outcome in _progress(outcomes, len(mine), skipped):
                if outcome.error is None:
                    masks += outcome.result
                else:
                    results.discard(outcome.item.name)  # of an image that was good once
                    failed.append(outcome)
        results.assemble()
    for outcome in sorted(failed, key=lambda outcome: outcome.item.name):
        print(f"samjax: {_reason(outcome)}", file=sys.stderr)
    seconds = time.monotonic() - start
    print(
        f"{_count(len(todo) - len(failed), 'image')}, {_count(masks, 'mask')} in {seconds:.1f} s, "
        f"{skipped} skipped, {len(failed)} failed -> {job.out}"
    )
    return 2 if failed else 0


def _check(job: Job) -> tuple[str, ...]:
    """The formats, each once; refuses what would be refused after loading."""
    wanted = [name.strip() for text in job.formats for name in text.split(",")]
    for name in wanted:
        if name not in FORMATS:
            raise SamjaxError(f"--format {name!r} is not known: use {', '.join(FORMATS)}")
    if job.settings.tile_size is not None and job.settings.crop_layers:
        raise PromptError("--tile-size and --crop-layers do not go together: use one of them")
    for name in device_names(job.device):
        check_options(job.model, name, job.dtype, job.precision)
    job.about.check()
    check_folder(job.out)
    return tuple(name for name in FORMATS if name in wanted)


def device_names(device: str | None) -> tuple[str, ...]:
    """The devices of --device: names with commas, "gpu" for all GPUs; None: all of the default.

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
    """Where the images are, seen from the output: the same on machines that mount both."""
    try:
        return Path(os.path.relpath(root.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return root.resolve().as_posix()


def _load(job: Job, devices: Sequence[str]) -> Segmenter:
    return load_model(
        job.model, dtype=job.dtype, precision=job.precision, device=devices[0], about=job.about
    )


def _outcomes(
    job: Job,
    sam: Segmenter,
    devices: Sequence[str],
    results: ResultFolder,
    todo: Sequence[Found],
) -> Generator[Outcome | None, None, None]:
    """Read ahead, generate on every device, write behind."""
    whole = job.settings.crop_layers == 0 and job.settings.tile_size is None

    def read(image: Found) -> Loaded:
        try:
            file_bytes = image.path.stat().st_size
        except OSError as error:
            raise ImageError(f"{image.path}: {error.strerror}; check the path") from error
        pixels = read_for(sam.preset, image.path)
        size = (pixels.shape[0], pixels.shape[1])
        prepared = prepare(pixels, sam.config.image_size, sam.preset) if whole else None
        return Loaded(file_bytes, size, None if whole and not job.overlay else pixels, prepared)

    def opener(number: int) -> Callable[[Callable[[], None]], Callable]:
        def open_device(check: Callable[[], None]) -> Callable:
            model = sam if number == 0 else _load(job, devices[number:])
            generator = job.settings.generator(model, job.points_per_batch)

            def work(_: Found, image: Loaded) -> tuple[Loaded, list[dict[str, Any]]]:
                embedding = None
                if image.prepared is not None:
                    # Not saved, so that it needs no hash.
                    embedding = ImageEmbedding(
                        model.encode(image.prepared), image.size, image.prepared.input_size, ""
                    )
                records = generator.generate(
                    image.pixels, embedding=embedding, progress=lambda *_: check()
                )
                if not job.overlay:
                    image = image._replace(pixels=None)
                return image._replace(prepared=None), records

            return work

        return open_device

    def write(image: Found, worked: tuple[Loaded, list[dict[str, Any]]]) -> int:
        loaded, records = worked
        results.write(image, loaded.file_bytes, loaded.size, records, loaded.pixels)
        return len(records)

    if todo:
        used = range(min(len(devices), len(todo)))
        yield from process(todo, read, [opener(i) for i in used], write)


def _progress(outcomes: Iterator[Outcome | None], total: int, skipped: int) -> Iterator[Outcome]:
    """The outcomes, with a bar on a terminal, else a line a minute."""
    terminal = sys.stderr.isatty()
    start = told = time.monotonic()
    done = masks = failed = 0
    bar = tqdm(
        total=total, initial=skipped, unit="image", leave=False, smoothing=0.1, disable=not terminal
    )
    with bar:
        for outcome in outcomes:
            now = time.monotonic()
            if outcome is not None:
                done += 1
                failed += outcome.error is not None
                masks += outcome.result or 0
                bar.set_postfix(masks=masks, failed=failed, refresh=False)
                bar.update()
                yield outcome
            else:
                bar.refresh()
            if not terminal and now - told >= _REPORT_SECONDS and done:
                told, rate = now, done / (now - start)
                left = (total - skipped - done) / rate
                print(
                    f"{skipped + done} of {total} images, {rate:.2g} images/s, "
                    f"{tqdm.format_interval(left)} left, {failed} failed",
                    file=sys.stderr,
                    flush=True,
                )


def _reason(outcome: Outcome) -> str:
    """One line: which image, and why."""
    path, error = str(outcome.item.path), outcome.error
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        text = "out of memory; try fewer --points-per-batch, --tile-size or --dtype bfloat16"
    elif isinstance(error, SamjaxError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    return line if line.startswith(path) else f"{path}: {line}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
