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
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, gpu, gpu:1 or tpu.", show_default="JAX's first"),
]
Dtype = Annotated[
    str, typer.Option(metavar="NAME", help="Of the products: float32, bfloat16 or float16.")
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of float32 products on GPU and TPU: highest (the official numbers), high or default "
        "(TF32).",
    ),
]
