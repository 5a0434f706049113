"""Declare ``samjax export``; nothing heavy is imported before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from samjax.commands.options import Base, ImageSize, Lock, LoraLayers, Preset
from samjax.errors import ExportError, printable


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="embedded, vit_b or another name of samjax models, hf://owner/name, or the path "
            "of a checkpoint.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="NAME.onnx, or NAME.jaxexport (StableHLO for CPU, CUDA and TPU).",
            show_default=False,
        ),
    ],
    part: Annotated[
        str,
        typer.Option(
            metavar="PART",
            help="decoder, encoder, or both: NAME.encoder.onnx and NAME.decoder.onnx.",
        ),
    ] = "decoder",
    batch: Annotated[
        str, typer.Option(metavar="N", help="Prompts, or images, of a call: a number, or any.")
    ] = "1",
    points: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Points of a prompt, corners of a box included: a number, or any. Fill up with "
            "label -2, which changes nothing.",
        ),
    ] = "any",
    masks: Annotated[
        str,
        typer.Option(
            metavar="M",
            help="all (the single mask, then the others), or best (the official "
            "--return-single-mask).",
        ),
    ] = "all",
    weights: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Weights in .onnx: float32, float16 (half as large), uint8."
        ),
    ] = "float32",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of the products in .jaxexport: float32, bfloat16 or float16."
        ),
    ] = "float32",
    preprocess: Preset = None,
    base: Base = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    lock: Lock = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Write a model for programs without samjax or without Python.

    The decoder of an .onnx has the names and layout of the official export script, so that pages
    written for onnxruntime-web run with it; the encoder takes an RGB image (1, height, width, 3)
    whose longer side is the network's. A .jaxexport needs jax alone.
    """
    from samjax.export.layout import ExportOptions
    from samjax.export.write import check_target

    numbers = _number(batch, "--batch"), _number(points, "--points")
    options = ExportOptions(*numbers, masks=masks, weights=weights)
    if out.suffix == ".onnx" and dtype != "float32":
        raise ExportError(
            f"--dtype {dtype} is for .jaxexport; ONNX files compute in float32: --weights chooses "
            "how weights are stored"
        )
    check_target(out, part, options, overwrite=overwrite)

    from samjax.checkpoint.describe import megabytes
    from samjax.commands.checkpoints import parse_lora_layers
    from samjax.engine.spec import ModelSpec
    from samjax.export.write import export_model
    from samjax.files import protecting

    layers = parse_lora_layers(lora_layers)
    spec = ModelSpec(model, dtype, "highest", "cpu", preprocess, base, layers, image_size)
    spec = replace(spec, lock=lock)
    spec.check()
    with protecting(spec.files(), ExportError):
        check_target(out, part, options, overwrite=overwrite)
        written = export_model(
            spec.load(),
            out,
            part=part,
            batch=options.batch,
            points=options.points,
            masks=options.masks,
            weights=options.weights,
            overwrite=overwrite,
        )
    for each in written:
        print(printable(f"{each.path}: {each.part}, {megabytes(each.size)}"))


def _number(text: str, option: str) -> int | None:
    if text == "any":
        return None
    try:
        return int(text)
    except ValueError:
        raise ExportError(f"{option} {text!r}: give a number, or any") from None
