"""Convert any supported checkpoint to any format that samjax writes, in the stored dtype."""

from __future__ import annotations

import os
from dataclasses import replace

import jax
import numpy as np

from samjax.checkpoint.families.official import PREPROCESS_KEY, SOURCE_KEY, ReadOptions
from samjax.checkpoint.formats.safetensors import write_safetensors
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from samjax.checkpoint.origin import Origin, with_origin
from samjax.checkpoint.parameters import to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.errors import CheckpointError
from samjax.files import check_outputs, content_of, given_path, protecting, writing

TORCH_SUFFIXES, _SAFETENSORS = (".pth", ".pt"), (".safetensors",)


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: np.dtype | None = None,
    preprocess: str | None = None,
    thresholds: AutomaticThresholds | None = None,
    overwrite: bool = False,
    options: ReadOptions | None = None,
    origin: Origin | None = None,
) -> Checkpoint:
    """Read ``source``, write ``target``, and return the checkpoint as written.

    Args:
        source: any file or folder that samjax loads.
        target: ``.pth``/``.pt`` or ``.safetensors`` for the official layout, which the official
            PyTorch classes load; any other name for samjax's Orbax folder.
        dtype: dtype of all tensors; None keeps the stored ones.
        preprocess: preset to record; None: the one that the source records.
        thresholds: thresholds of automatic masks to record; None: those that the source records.
            A .pth holds neither them nor a preset.
        overwrite: replace an existing target.
        options: settings that the source does not record, such as the base of a LoRA.
        origin: address and commit of the source, for the metadata of safetensors and of samjax's
            folder; a .pth of the official layout has no room for it.

    Raises:
        CheckpointError: unusable source; target exists, or cannot be written.
    """
    path = given_path(target, CheckpointError)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{target} exists: choose another name, or pass --overwrite")
    if path.resolve() == given_path(source, CheckpointError).resolve():
        raise CheckpointError(f"{target} is the source itself: choose another name")
    found = with_origin(read_checkpoint(source, options=options), origin, asked=preprocess)
    parameters = {
        name: jax.device_get(value) if dtype is None else jax.device_get(value).astype(dtype)
        for name, value in found.parameters.items()
    }
    said = preprocess or found.preprocess
    found = replace(
        found,
        parameters=parameters,
        preprocess=said,
        doubt="" if said else found.doubt,
        thresholds=thresholds or found.thresholds,
    )
    inputs = content_of([given_path(source, CheckpointError)])
    with writing(target, CheckpointError), protecting(inputs, CheckpointError):
        check_outputs([path])
        if path.suffix in TORCH_SUFFIXES:
            write_torch_file(path, to_official(parameters, found.config))
        elif path.suffix in _SAFETENSORS:
            metadata = {PREPROCESS_KEY: said} if said else {}
            metadata |= found.thresholds.as_metadata() if found.thresholds else {}
            if origin is not None:
                metadata[SOURCE_KEY] = origin.sentence
            write_safetensors(path, to_official(parameters, found.config), metadata or None)
        elif path.suffix:
            raise CheckpointError(
                f"{target}: unknown ending {path.suffix!r}: use .pth, .safetensors, or a name "
                "without an ending for samjax's own folder"
            )
        else:
            save_orbax_folder(path, found, overwrite=overwrite)
    return found
