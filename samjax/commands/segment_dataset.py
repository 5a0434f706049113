"""Declare ``samjax segment-dataset``; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samjax.commands.options import Base, Device, Dtype, ImageSize, LoraLayers, Model, Precision
from samjax.commands.options import Preset as Preprocess


def segment_dataset(
    boxes: Annotated[
        Path,
        typer.Argument(
            metavar="BOXES",
            help="A COCO JSON file (bbox, keypoints) or list of results, a YOLO data set with "
            "labels/ and data.yaml, or a CSV table with the columns image and "
            "x0,y0,x1,y1 (or x0,y0,w,h, or x,y,point_label).",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path,
        typer.Option("--images", metavar="DIR", help="Folder of the images.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write.", show_default=False),
    ],
    normalised: Annotated[
        bool,
        typer.Option(
            "--normalised", help="Boxes of COCO or CSV are fractions of the images' sides."
        ),
    ] = False,
    images_json: Annotated[
        Path | None,
        typer.Option(
            "--images-json",
            metavar="FILE",
            help="COCO file with images and categories, where BOXES is a detector's list of "
            "results.",
            show_default=False,
        ),
    ] = None,
    review_below: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            min=0,
            max=1,
            help="List objects with a lower predicted IoU or stability in review.json.",
            show_default="the model's thresholds of automatic masks",
        ),
    ] = None,
    model: Model = "embedded",
    base: Base = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    device: Device = None,
    dtype: Dtype = "auto",
    precision: Precision = "highest",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Segment part I of N of the images; several machines share OUT, and the last one "
            "writes the data set.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results made with other settings.")
    ] = False,
) -> None:
    """Turn the boxes and points of a data set into masks.

    Ids, categories, crowds, attributes and scores are kept. Run it again after an interruption:
    it goes on where it was, and ends with the same bytes.

    Writes annotations.json (COCO, with predicted_iou and stability_score of each mask);
    review.json, the objects with low scores; problems.json, all that was left out or mended
    (boxes outside, reversed, normalised, without area; missing images; unknown ids); records/,
    one JSON an image, by which it knows what is done.

    Exit code 0 if every object has a mask; else 2.
    """
    import sys

    from tqdm import tqdm

    from samjax.annotations.segment_dataset import report_rows
    from samjax.annotations.segment_dataset import segment_dataset as run
    from samjax.commands.checkpoints import parse_lora_layers
    from samjax.engine.spec import ModelSpec
    from samjax.errors import printable
    from samjax.files import protecting
    from samjax.jobs.part import parse_shard
    from samjax.words import counted

    part = parse_shard(shard)
    layers = parse_lora_layers(lora_layers)
    spec = ModelSpec(model, dtype, precision, device, preprocess, base, layers, image_size)
    spec.check()
    with protecting(spec.files()):
        report = run(
            boxes,
            images,
            out,
            sam=spec,
            normalised=normalised,
            images_json=images_json,
            review_below=review_below,
            overwrite=overwrite,
            shard=part,
            progress=lambda each: tqdm(each, unit=" images", disable=not sys.stderr.isatty()),
        )
    if not report.joined:
        print(f"part {shard} is done; the data set is written when all parts are")
        raise typer.Exit(0)
    for line in report_rows(report):
        print(f"samjax: {printable(line)}", file=sys.stderr)
    earlier = f" ({report.earlier} done before)" if report.earlier else ""
    print(
        printable(
            f"{counted(report.masks, 'mask')} in {counted(report.images, 'image')}{earlier}, "
            f"{len(report.review)} to review -> {report.path}"
        )
    )
    raise typer.Exit(0 if report.complete else 2)
