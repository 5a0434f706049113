"""Options that several commands share. Nothing heavy is imported here."""

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
        "once); or the path of a checkpoint.",
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
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, gpu, gpu:1 or tpu.", show_default="JAX's first"),
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
