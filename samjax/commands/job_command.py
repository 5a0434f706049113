"""Declare ``samjax job``: plan, run, status, export; nothing heavy is imported before it runs."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import Annotated

import typer

from samjax.automatic.options import AutomaticOptions
from samjax.commands.automatic_options import with_automatic_options
from samjax.commands.options import (
    Base,
    Device,
    Dtype,
    ImagesAtOnce,
    ImageSize,
    LoraLayers,
    Model,
    Precision,
    Preset,
)
from samjax.errors import printable
from samjax.words import counted

job = typer.Typer(
    help="Masks of very many images: planned once, run by many workers, kept as Parquet.",
    no_args_is_help=True,
)

_NAMED = 5  # failed or changed images that are named
Destination = Annotated[
    str,
    typer.Argument(metavar="DEST", help="Folder of the job: a path or address, such as s3://b/m."),
]
Check = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Notice images that changed: by size, etag and time (listing), by reading all of "
        "them again (content), or not at all (none).",
    ),
]


@with_automatic_options
def plan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, pattern or .tar, by path or address (s3://, gs://, https://); or a "
            "list of paths and addresses: .txt, .csv or .parquet.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="DEST", help="Folder to write.", show_default=False),
    ],
    options: AutomaticOptions,
    model: Model = "embedded",
    base: Base = None,
    preprocess: Preset = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    device: Device = None,
    dtype: Dtype = "auto",
    precision: Precision = "highest",
    images_per_shard: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images whose results become one file.")
    ] = 512,
) -> None:
    """List the images, and freeze them with model and options in DEST/plan.parquet.

    The same command again changes nothing; another model, options or source are refused.
    """
    from samjax.commands.checkpoints import parse_lora_layers
    from samjax.engine.spec import ModelSpec
    from samjax.jobs.automask import AutomaskJob

    spec = ModelSpec(
        model,
        dtype=dtype,
        precision=precision,
        device=device,
        preprocess=preprocess,
        base=base,
        lora_layers=parse_lora_layers(lora_layers),
        image_size=image_size,
    )
    given = options.as_record() | {"points_per_batch": options.points_per_batch}
    planned = AutomaskJob(spec, source, out, images_per_shard, **given).plan()
    print(f"{_images(planned.images)} in {_shards(planned.shards)} -> {out}")


job.command()(plan)


@job.command()
def run(
    destination: Destination,
    engine: Annotated[
        str,
        typer.Option(metavar="NAME", help="process (this machine) or ray (a cluster)."),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Worker processes.", show_default="one for each GPU, else 1"
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Share of a GPU for each, such as 0.5.", show_default="a whole GPU"
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do part I of N of the shards: for an array of Slurm.",
            show_default="all",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed images of finished shards again.")
    ] = False,
    check: Check = "listing",
    images_at_once: ImagesAtOnce = None,
) -> None:
    """Make the masks of all planned shards that are not there yet, and of images that changed.

    Run it again after an interruption, of whatever kind: it goes on with the shards that are
    missing. Failed images are rows with the reason; they are listed, and the exit code is 2.
    """
    from samjax.jobs.automask import AutomaskJob
    from samjax.jobs.results import read_failures

    report = AutomaskJob.open(destination).run(
        engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        shard=shard,
        retry_failed=retry_failed,
        check=check,
        images_at_once=images_at_once,
    )
    if report.failed:
        _name(list(read_failures(destination).values()), "failed")
    rate = report.images / report.seconds if report.seconds else 0.0
    print(
        f"{_images(report.images)}, {counted(report.masks, 'mask')} in {report.seconds:.1f} s "
        f"({rate:.2g} images/s), {report.skipped} skipped, {report.failed} failed -> {destination}"
    )
    raise typer.Exit(2 if report.failed else 0)


@job.command()
def status(destination: Destination, check: Check = "listing") -> None:
    """Show how far a job is, and which images changed: ``run`` makes them again."""
    from samjax.jobs.automask import AutomaskJob

    found = AutomaskJob.open(destination).status(check)
    changed = len(found.changed)
    print(
        f"{found.images_done} of {_images(found.images)} ({found.shards_done} of "
        f"{_shards(found.shards)}), {counted(found.masks, 'mask')}, {found.failed} failed"
        + f", {changed} changed"
        * (changed > 0)
    )
    _name([f"{name}: changed since its masks were made" for name in found.changed], "changed")


@job.command()
def export(
    destination: Destination,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write.", show_default=False),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="F",
            help="coco, yolo, png (label maps), npz; several with commas.",
            show_default="coco",
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Only images with such names: 'street/*'.", show_default="all"
        ),
    ] = None,
) -> None:
    """Write COCO, YOLO, label maps or NPZ files of the results, or of a part of them."""
    from samjax.jobs.export import export_results

    wanted = [name.strip() for text in formats or ["coco"] for name in text.split(",")]
    where = None if match is None else (lambda name: fnmatch.fnmatchcase(name, match))
    found = export_results(destination, out, wanted, where=where)
    print(f"{_images(found.images)}, {counted(found.masks, 'mask')} -> {out}")


def _name(lines: list[str], what: str) -> None:
    """Print the first lines on stderr, and the number of the others."""
    for line in lines[:_NAMED]:
        print(f"samjax: {printable(line)}", file=sys.stderr)
    if (more := len(lines) - _NAMED) > 0:
        print(f"samjax: {counted(more, 'more image')} {what}", file=sys.stderr)


def _images(count: int) -> str:
    return counted(count, "image")


def _shards(count: int) -> str:
    return counted(count, "shard")
