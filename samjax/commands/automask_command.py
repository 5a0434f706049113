"""The options of ``samjax automask``. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samjax.commands.options import Base, Dtype, ImageSize, LoraLayers, Model, Precision, Preset


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
    points_per_side: Annotated[
        int, typer.Option(min=1, metavar="N", help="The grid of clicks has N x N points.")
    ] = 32,
    points_per_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Clicks decoded at once: memory, not results.")
    ] = 64,
    pred_iou_thresh: Annotated[
        float, typer.Option(min=0, max=1, metavar="T", help="Least score of a mask.")
    ] = 0.88,
    stability_thresh: Annotated[
        float, typer.Option(min=0, max=1, metavar="T", help="Least stability of a mask.")
    ] = 0.95,
    nms_thresh: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="T", help="Masks whose boxes overlap more are one."),
    ] = 0.7,
    crop_layers: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also look at 4, 16, ... crops, for small things."),
    ] = 0,
    min_region_area: Annotated[
        int, typer.Option(min=0, metavar="PIXELS", help="Fill smaller holes, drop smaller islands.")
    ] = 0,
    min_area: Annotated[
        int, typer.Option(min=0, metavar="PIXELS", help="Leave out smaller masks.")
    ] = 0,
    max_area: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PIXELS", help="Leave out larger masks.", show_default="no limit"
        ),
    ] = None,
    tile_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Look at tiles of this size: for very large images.",
            show_default="whole images",
        ),
    ] = None,
    tile_halo: Annotated[
        int, typer.Option(min=0, metavar="PIXELS", help="What tiles see beyond their edges.")
    ] = 64,
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
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="cpu, gpu (all of them), gpu:0,gpu:2, tpu.",
            show_default="all devices of JAX's first kind",
        ),
    ] = None,
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
    from samjax.commands.automask import Job, Settings, run_automask
    from samjax.commands.loading import About

    settings = Settings(
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_thresh=stability_thresh,
        nms_thresh=nms_thresh,
        crop_layers=crop_layers,
        min_region_area=min_region_area,
        min_area=min_area,
        max_area=max_area,
        tile_size=tile_size,
        tile_halo=tile_halo,
    )
    job = Job(
        paths=tuple(paths),
        out=out,
        settings=settings,
        points_per_batch=points_per_batch,
        formats=tuple(formats or ["coco"]),
        overlay=overlay,
        model=model,
        device=device,
        dtype=dtype,
        precision=precision,
        shard=shard,
        limit=limit,
        overwrite=overwrite,
        about=About(base, preprocess, image_size, lora_layers),
    )
    raise typer.Exit(run_automask(job))
