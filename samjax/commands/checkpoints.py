"""Run the commands that read a checkpoint without using it: ``inspect`` and ``convert``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from samjax.checkpoint.convert import TORCH_SUFFIXES, convert_checkpoint
from samjax.checkpoint.describe import Description, describe, megabytes
from samjax.checkpoint.families.official import ReadOptions
from samjax.checkpoint.origin import Located, with_origin
from samjax.checkpoint.sources import cached_source, check_address
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.engine.devices import choose_dtype
from samjax.engine.load import find_source, read_options
from samjax.engine.spec import ModelSpec
from samjax.errors import CheckpointError, CheckpointWarning
from samjax.files import given_path, protecting


def parse_lora_layers(text: str | None) -> tuple[int, ...] | None:
    """Read --lora-layers as numbers of blocks.

    Raises:
        CheckpointError: not numbers.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise CheckpointError(
            f"--lora-layers {text!r}: give numbers of blocks, such as 0,1,4"
        ) from None


def find_local(model: str) -> Located:
    """Find the file or folder of a name, an address or a path, downloaded if necessary.

    Nobody is asked for what is in the cache.

    Raises:
        SamjaxError: not there, or it cannot be fetched.
    """
    found = cached_source(model) if check_address(model) else None
    return find_source(model) if found is None else found


def run_inspect(spec: ModelSpec) -> Description:
    """Describe the checkpoint of ``spec`` without building the network.

    Raises:
        SamjaxError: unreadable, unsupported or incomplete.
    """
    spec.check()
    located = find_local(spec.source)
    found = with_origin(describe(located.path, _read_options(spec)), located.origin)
    return replace(found, origin=located.origin)


def _read_options(spec: ModelSpec) -> ReadOptions:
    return read_options(spec.base, spec.lora_layers, spec.image_size, spec.prefix, spec.ignore)


def run_convert(
    spec: ModelSpec,
    target: Path,
    *,
    dtype: str | None,
    thresholds: tuple[float | None, float | None] = (None, None),
    overwrite: bool,
) -> str:
    """Convert a checkpoint and say in one line what was written.

    Args:
        spec: the source with its base and preset; its dtype plays no part.
        target: file or folder to write.
        dtype: dtype of all weights; None keeps the stored ones.
        thresholds: predicted IoU and stability to record for automatic masks; both or neither.
        overwrite: replace an existing target.

    Raises:
        SamjaxError: unusable source, target, dtype or preset.
    """
    spec.check()
    if (thresholds[0] is None) != (thresholds[1] is None):
        raise CheckpointError(
            "--pred-iou-thresh and --stability-score-thresh are recorded together: give both"
        )
    if thresholds != (None, None) and target.suffix in TORCH_SUFFIXES:
        raise CheckpointError(
            f"{target}: a PyTorch file holds tensors alone, no thresholds; write .safetensors or "
            "a folder, or leave them out"
        )
    located = find_source(spec.source)
    with protecting(spec.files(), CheckpointError):
        found = convert_checkpoint(
            located.path,
            target,
            dtype=None if dtype is None else choose_dtype(dtype),
            preprocess=spec.preprocess,
            thresholds=_thresholds(*thresholds),
            overwrite=overwrite,
            options=_read_options(spec),
            origin=located.origin,
        )
    if found.doubt:
        warnings.warn(
            f"{spec.source}: no preprocessing recorded, and SAM's own may be wrong: {found.doubt}; "
            "choose with --preprocess",
            CheckpointWarning,
            stacklevel=2,
        )
    if found.ignored:
        warnings.warn(
            f"{spec.source}: {found.ignored}; name them in --ignore if that is right",
            CheckpointWarning,
            stacklevel=2,
        )
    written = describe(given_path(target, CheckpointError))
    lost = found.thresholds is not None and written.thresholds is None
    return (
        f"{written.path}: {written.model or written.family}, "
        f"{written.parameters / 1e6:.1f} M parameters, {', '.join(written.dtypes)}, "
        f"{written.container}, {megabytes(written.size)}"
        + "; thresholds of automatic masks are not in it: it holds tensors alone"
        * lost
    )


def _thresholds(predicted: float | None, stable: float | None) -> AutomaticThresholds | None:
    if predicted is None or stable is None:
        return None
    return AutomaticThresholds(predicted, stable)
