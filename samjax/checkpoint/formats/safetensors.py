"""Read and write .safetensors files: a JSON header, then plain little-endian arrays.

Layout: 8 bytes with the header's length, the header {name: {dtype, shape, data_offsets}}, the
data; github.com/huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from samjax.checkpoint.formats.torch_tensors import MAX_DIMENSIONS, check_shape, typed
from samjax.errors import CheckpointError
from samjax.files import replacing

MAX_HEADER_BYTES = 32 * 2**20  # a ViT-H needs 0.1 MB
_DAMAGED = "truncated or damaged: download it again"

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def is_safetensors(data: np.ndarray) -> bool:
    """Return whether bytes begin like safetensors: with a header's length, then ``{``."""
    return len(data) > 8 and 2 <= _header_length(data) < 2**40 and bool(data[8] == ord("{"))


def read_safetensors(data: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (arrays by name, read-only views; metadata) of a file's bytes.

    Raises:
        CheckpointError: a damaged file, or a dtype that is not supported.
    """
    length = _header_length(data)
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise CheckpointError(f"a safetensors header of {length} bytes, {_DAMAGED}")
    header = parse_json_object(data[8 : 8 + length].tobytes(), "the safetensors header")
    metadata = header.pop("__metadata__", {})
    start = 8 + length
    ends: list[tuple[int, int]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        dtype, shape, first, last = _read_entry(name, entry)
        if last > len(data) - start:
            raise CheckpointError(f"tensor {name!r:.200} reaches past the file, {_DAMAGED}")
        ends.append((first, last))
        arrays[name] = typed(data, start + first, prod(shape), dtype).reshape(shape)
    _check_cover(ends, len(data) - start)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return arrays, {key: value for key, value in texts if isinstance(value, str)}


def _header_length(data: np.ndarray) -> int:
    return int.from_bytes(data[:8].tobytes(), "little")


def _read_entry(name: str, entry: object) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Return dtype, shape and the first and last byte of one tensor."""
    bad = CheckpointError(f"tensor {name!r:.200} has a broken safetensors entry, {_DAMAGED}")
    if not isinstance(entry, dict):
        raise bad
    code: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise bad
    if len(shape) > MAX_DIMENSIONS or not isinstance(code, str):
        raise bad
    if code not in _DTYPES:
        raise CheckpointError(
            f"tensor {name!r:.200} has dtype {code!r:.20}, not supported: save it as F32"
        )
    dtype = _DTYPES[code]
    check_shape(tuple(shape))
    first, last = offsets
    if last - first != prod(shape) * dtype.itemsize:
        raise CheckpointError(
            f"tensor {name!r:.200}: {last - first} bytes for {prod(shape)} x {dtype.name}: "
            "truncated or malicious"
        )
    return dtype, tuple(shape), first, last


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )


def _check_cover(ends: list[tuple[int, int]], size: int) -> None:
    """Check that the tensors lie one behind the other and fill the file: none shared or hidden."""
    position = 0
    for first, last in sorted(ends):
        if first != position:
            raise CheckpointError(f"its tensors overlap or leave gaps, malicious or {_DAMAGED}")
        position = last
    if position != size:
        raise CheckpointError(f"{size - position} bytes behind the last tensor, {_DAMAGED}")


def parse_json_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object without duplicate keys; ``what`` names it in errors."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not JSON ({error!s:.80}), {_DAMAGED}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} is not a JSON object, {_DAMAGED}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a .safetensors file, one tensor in memory at a time, atomically.

    Raises:
        CheckpointError: a tensor of another dtype than floating point.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata or {})}
    position = 0
    for name, array in tensors.items():
        if array.dtype.name not in _CODES:
            raise CheckpointError(
                f"{name} is {array.dtype.name}: convert it to {', '.join(_CODES)}"
            )
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
