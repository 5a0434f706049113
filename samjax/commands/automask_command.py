"""Declare ``samjax automask``; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samjax.automatic.options import AutomaticOptions
from samjax.commands.automatic_options import with_automatic_options
from samjax.commands.options import (
    Base,
    Dtype,
    ImagesAtOnce,
    ImageSize,
    Lock,
    LoraLayers,
    Model,
    Precision,
    Preset,
)


@with_automatic_options
def automask(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images, folders (searched to any depth) and quoted patterns such as "
            "'photos/**/*.jpg'.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write.", show_default=False),
    ],
    options: AutomaticOptions,
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
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw the masks of each image.")
    ] = False,
    model: Model = "embedded",
    base: Base = None,
    preprocess: Preset = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    lock: Lock = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="cpu, gpu (all of them), gpu:0,gpu:2, tpu.",
            show_default="all devices of JAX's first kind",
        ),
    ] = None,
    images_at_once: ImagesAtOnce = None,
    dtype: Dtype = "auto",
    precision: Precision = "highest",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do part I of N only: several machines may write to the same DIR.",
            show_default="all",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N images.", show_default="all"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop the results of an earlier run first.")
    ] = False,
) -> None:
    """Find all masks of many images and write a data set.

    Run it again after an interruption, of whatever kind, with the same options: it goes on where
    it was, and ends with the same bytes (on GPUs with XLA_FLAGS=--xla_gpu_deterministic_ops=true;
    without it XLA may choose kernels that round differently). Images that cannot be read are
    listed at the end, and tried again next time.

    Writes annotations.json (COCO); labels/ and data.yaml (YOLO); label_maps/ (png); npz/;
    overlays/; records/, one JSON an image, by which it knows what is done; run.json (settings).
    Folders below PATH are kept.
    """
    from samjax.commands.automask import FolderJob, run_automask
    from samjax.commands.checkpoints import parse_lora_layers
    from samjax.engine.spec import ModelSpec

    job = FolderJob(
        paths=tuple(paths),
        out=out,
        model=ModelSpec(
            model,
            dtype=dtype,
            precision=precision,
            preprocess=preprocess,
            base=base,
            lora_layers=parse_lora_layers(lora_layers),
            image_size=image_size,
            lock=lock,
        ),
        device=device,
        options=options,
        formats=tuple(formats or ["coco"]),
        overlay=overlay,
        shard=shard,
        limit=limit,
        overwrite=overwrite,
        images_at_once=images_at_once,
    )
    raise typer.Exit(run_automask(job))
