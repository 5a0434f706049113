"""Write parts of a loaded model as files: checks, names, and everything or nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from samjax import __version__
from samjax.arguments import flag
from samjax.engine.registry import as_segmenter
from samjax.engine.segmenter import Segmenter
from samjax.errors import ExportError
from samjax.export.layout import ExportOptions
from samjax.files import (
    check_outputs,
    given_path,
    refuse_address,
    replacing,
    writing,
)

_ONNX, _JAX = ".onnx", ".jaxexport"


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: the file.
        part: "decoder" or "encoder".
        size: bytes.
    """

    path: Path
    part: str
    size: int


def export_model(
    sam: Segmenter,
    target: str | os.PathLike[str],
    *,
    part: str = "decoder",
    batch: int | None = 1,
    points: int | None = None,
    masks: str = "all",
    weights: str = "float32",
    overwrite: bool = False,
) -> list[Exported]:
    """Write the decoder, the image encoder or both for programs without samjax.

    An ``.onnx`` has the names and layout of the official ``export_onnx_model.py``. A
    ``.jaxexport`` is StableHLO, which ``jax.export`` runs on CPU, CUDA and TPU; its decoder takes
    the same arrays but ``orig_im_size`` and returns ``(iou_predictions, low_res_masks)``. Weights
    are inside.

    Args:
        sam: a loaded model; load it with ``dtype="float32"`` for ONNX. A ``.jaxexport`` computes
            in the model's dtype.
        target: NAME.onnx or NAME.jaxexport; "both" writes NAME.encoder.onnx and
            NAME.decoder.onnx.
        part: "decoder", "encoder" or "both".
        batch: number of prompts, and of images, of a call; None: any number.
        points: number of points of each prompt; None: any number. A file of a fixed number serves
            fewer points: fill up with label -2, which is masked out.
        masks: "all" masks of a prompt, the single one first, or the "best" one.
        weights: dtype of the weights in an ONNX file, "float32", "float16" or "uint8".
        overwrite: replace existing files.

    Returns:
        The files.

    Raises:
        ExportError: options or names that mean nothing, a missing package, or a file that exists
            or cannot be written. Nothing is written then.
    """
    sam = as_segmenter(sam)
    options = ExportOptions(batch, points, masks, weights)
    paths = check_target(target, part, options, overwrite=overwrite)
    contents = [_content(sam, name, path.suffix, options) for name, path in paths]
    with writing(target, ExportError), ExitStack() as stack:
        for (_, path), content in zip(paths, contents, strict=True):
            stack.enter_context(replacing(path)).write_bytes(content)
    return [
        Exported(path, name, len(content))
        for (name, path), content in zip(paths, contents, strict=True)
    ]


def check_target(
    target: str | os.PathLike[str], part: str, options: ExportOptions, *, overwrite: bool
) -> list[tuple[str, Path]]:
    """Return the parts with their paths, before anything is loaded.

    Raises:
        ExportError: options or names that mean nothing, a missing package, or an existing file.
    """
    refuse_address(target, ExportError)
    if part not in ("decoder", "encoder", "both"):
        raise ExportError(f"part is {part!r}: use decoder, encoder or both")
    options.check()
    path = given_path(target, ExportError)
    flag(overwrite, "overwrite", ExportError)
    if path.suffix not in (_ONNX, _JAX):
        raise ExportError(f"{target}: unknown ending {path.suffix!r}: use .onnx or .jaxexport")
    if path.suffix == _JAX and options.weights != "float32":
        raise ExportError(
            f"{target}: {options.weights} weights are for .onnx; a .jaxexport has the model's "
            'dtype: load it with dtype="bfloat16" (--dtype bfloat16)'
        )
    _check_packages(path.suffix)
    parts: Sequence[str] = ("encoder", "decoder") if part == "both" else (part,)
    named = [
        (name, path.with_suffix(f".{name}{path.suffix}") if part == "both" else path)
        for name in parts
    ]
    check_outputs(each for _, each in named)
    for _, each in named:
        if os.path.lexists(each) and not overwrite:
            raise ExportError(f"{each} exists: choose another name, or pass --overwrite")
        if each.is_dir():
            raise ExportError(f"{each} is a folder: choose another name")
    return named


def _check_packages(suffix: str) -> None:
    if suffix == _ONNX:
        from samjax.export.graph import import_onnx

        import_onnx()
    else:
        from samjax.export.stablehlo import check_serialises

        check_serialises()


def _content(sam: Segmenter, part: str, suffix: str, options: ExportOptions) -> bytes:
    """Return one part as the bytes of its file."""
    model, config, preset = sam.model, sam.config, sam.preset
    if suffix == _JAX:
        from samjax.export.stablehlo import export_decoder, export_encoder

        if part == "decoder":
            return export_decoder(model.decoder, config, options, sam.precision)
        return export_encoder(model, preset, options, sam.precision)
    from samjax.export.onnx_decoder import decoder_graph
    from samjax.export.onnx_encoder import encoder_graph

    if part == "decoder":
        graph = decoder_graph(model.decoder, config, options, stretches=preset.stretches)
    else:
        graph = encoder_graph(model.image_encoder, config, options, preset)
    made = graph.model(f"samjax_{part}", _about(sam, part))
    return bytes(made.SerializeToString())


def _about(sam: Segmenter, part: str) -> dict[str, str]:
    """Return the metadata of an ONNX file."""
    return {
        "samjax": __version__,
        "part": part,
        "source": Path(sam.source).name,
        "family": sam.family,
        "preset": sam.preset.name,
        "image_size": str(sam.config.image_size),
        "mask_threshold": str(sam.mask_threshold),
    }
