"""Declare the options that several commands share; nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="M",
        help="embedded (small, offline); vit_b, vit_l or vit_h (official weights, downloaded "
        "once); another name of samjax models; hf://owner/name; or the path of a checkpoint.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="For a file that holds a part only (LoRA, encoder or decoder alone): the SAM it was "
        "trained on, a name or path as for --model.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="NAME",
        help="How images are prepared: sam, medsam, microsam, samed or sammed2d.",
        show_default="what the checkpoint says, else sam",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the network's input; positions are resized.",
        show_default="the checkpoint's",
    ),
]
LoraLayers = Annotated[
    str | None,
    typer.Option(
        metavar="I,J,...",
        help="The blocks of a LoRA file that has pairs for some blocks only, from 0.",
        show_default="all",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Beginning of SAM's keys in a file of several models, such as 'student.'; otherwise "
        "they are found.",
        show_default="found",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A weight that is not SAM's, or a pattern such as '*.my_head.*'. Repeat for more.",
    ),
]
Lock = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A lock file of samjax lock: other models, and other content, are refused.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, gpu, gpu:1 or tpu.", show_default="JAX's first"),
]
ImagesAtOnce = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Images that a device encodes together.",
        show_default="up to 8 on accelerators, 1 on CPUs",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Of the products: auto (by device), float32, bfloat16 or float16."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of float32 products on GPU and TPU: highest (the official numbers), high or default "
        "(TF32).",
    ),
]

RecordedThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="T",
        help="Record both thresholds as the defaults of automatic masks.",
        show_default="IN's own",
    ),
]
