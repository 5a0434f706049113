"""From any supported checkpoint to any format that samjax writes, in the stored dtype."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from samjax.checkpoint import store
from samjax.checkpoint.families import PREPROCESS_KEY, Options
from samjax.checkpoint.loading import to_official
from samjax.checkpoint.torch_writer import write_torch_file
from samjax.errors import CheckpointError
from samjax.files import replacing

_TORCH, _SAFETENSORS = (".pth", ".pt"), (".safetensors",)
_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}


def write_safetensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a .safetensors file, one tensor in memory at a time, atomically.

    Raises:
        CheckpointError: a tensor that is not of floating point.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata or {})}
    position = 0
    for name, array in tensors.items():
        if array.dtype.name not in _CODES:
            raise CheckpointError(f"{name} is {array.dtype.name}: only {', '.join(_CODES)} here")
        end = position + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    dtype: np.dtype | None = None,
    preprocess: str | None = None,
    overwrite: bool = False,
    options: Options | None = None,
) -> store.Checkpoint:
    """Read ``source``, write ``target``; returns what was read.

    Args:
        source: any file or folder that samjax loads.
        target: ``.pth``/``.pt`` or ``.safetensors`` for the official layout, which the official
            PyTorch classes load; any other name for samjax's Orbax folder.
        dtype: of all tensors; None keeps the stored ones.
        preprocess: preset to record; None: what the source says.
        overwrite: replace an existing target.
        options: what the source does not say about itself, such as the base of a LoRA.

    Raises:
        CheckpointError: unusable source; target exists, or cannot be written.
    """
    path = Path(target).expanduser()
    if path.exists() and not overwrite:
        raise CheckpointError(f"{target} exists: choose another name, or pass --overwrite")
    if path.resolve() == Path(source).expanduser().resolve():
        raise CheckpointError(f"{target} is the source itself: choose another name")
    found = store.read(source, options=options)
    parameters = {
        name: np.asarray(value) if dtype is None else np.asarray(value).astype(dtype)
        for name, value in found.parameters.items()
    }
    said = preprocess or found.preprocess
    found = replace(
        found, parameters=parameters, preprocess=said, doubt="" if said else found.doubt
    )
    try:
        if path.suffix in _TORCH:
            write_torch_file(path, to_official(parameters, found.config))
        elif path.suffix in _SAFETENSORS:
            metadata = {PREPROCESS_KEY: said} if said else None
            write_safetensors(path, to_official(parameters, found.config), metadata)
        elif path.suffix:
            raise CheckpointError(
                f"{target}: unknown ending {path.suffix!r}: use .pth, .safetensors, or a name "
                "without an ending for samjax's own folder"
            )
        else:
            store.save(path, found, overwrite=overwrite)
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error.strerror or error}); check folder and disk"
        ) from None
    return found
