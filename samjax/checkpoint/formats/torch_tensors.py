"""Make arrays of the tensors in a PyTorch pickle, from their storages.

torch saves a tensor as a call: ``_rebuild_tensor_v2(storage, offset, size, stride, ...)``. The
storage is named by a persistent id. Source: torch/_utils.py and torch/serialization.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

import ml_dtypes
import numpy as np

from samjax.checkpoint.formats.pickle_machine import Stub
from samjax.errors import CheckpointError

MAX_DIMENSIONS = 32  # axes of a tensor; NumPy's own limit is 64
_TOO_LARGE = 2**48  # elements, or bytes of a file
MAX_KEY = 100  # torch names storages by number

_DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}

# torch's class name of a storage -> dtype. torch.cuda.FloatStorage and others are the same.
STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_STORAGE_DTYPES = {
    f"{module}.{name}": _DTYPES[dtype]
    for name, dtype in STORAGE_TYPES.items()
    for module in ("torch", "torch.cuda")
} | {
    # Bytes whose tensors name their dtype themselves (_rebuild_tensor_v3)
    "torch.storage.UntypedStorage": _DTYPES["uint8"],
    "torch.UntypedStorage": _DTYPES["uint8"],
}


@dataclass(frozen=True)
class Storage:
    """A storage is a 1-D array that tensors share; ``values`` is None until it can be read."""

    name: str
    values: np.ndarray | None


@dataclass(frozen=True)
class StorageId:
    """A persistent id gives a storage's key, dtype and number of elements."""

    key: str
    type_name: str
    dtype: np.dtype | None
    count: int
    view: tuple[int, int] | None = None  # (first element, count), streams before PyTorch 0.4


# Storages


def read_storage_id(value: object) -> StorageId:
    """Read ("storage", type, key, device, count) with, in old streams, (view key, first, count)."""
    if not isinstance(value, tuple) or len(value) not in (5, 6):
        raise TypeError("not a storage")
    if not isinstance(value[0], str) or value[0] != "storage":
        raise TypeError("not a storage")
    kind, key, _device, count = value[1:5]
    if not isinstance(kind, Stub) or not isinstance(key, str) or not _is_size(count):
        raise TypeError("not a storage")
    if len(key) > MAX_KEY:
        raise ValueError("a long storage key")
    view = None
    if len(value) == 6 and value[5] is not None:
        _view_key, first, view_count = value[5]
        if not _is_size(first) or not _is_size(view_count):
            raise TypeError("not a view")
        view = (first, view_count)
    return StorageId(key, kind.name, _STORAGE_DTYPES.get(kind.name), count, view)


def view_of(storage: Storage, asked: StorageId) -> Storage:
    if asked.view is None or storage.values is None:
        return storage
    first, count = asked.view
    if not 0 <= first <= first + count <= len(storage.values):
        raise CheckpointError(
            f"a view past the end of storage {asked.key!r}: truncated or malicious"
        )
    return Storage(storage.name, storage.values[first : first + count])


def check_same_type(storage: Storage, asked: StorageId) -> Storage:
    """Check that tensors which share a storage agree on its type and size."""
    count = asked.count if storage.values is None else len(storage.values)
    if storage.name != asked.type_name or count != asked.count:
        raise CheckpointError(
            f"storage {asked.key!r}: tensors disagree on its type or size: truncated or malicious"
        )
    return storage


def check_length(wanted: StorageId, dtype: np.dtype, size: int) -> None:
    if wanted.count * dtype.itemsize != size:
        raise CheckpointError(
            f"storage {wanted.key!r}: {size} bytes for {wanted.count} x {dtype.name}: "
            "truncated or malicious"
        )


def typed(data: np.ndarray, start: int, count: int, dtype: np.dtype) -> np.ndarray:
    """Return ``count`` elements from byte ``start`` of the file as a view, shape (count,)."""
    values = data[start : start + count * dtype.itemsize]
    if start % dtype.itemsize:
        # Not every consumer takes unaligned arrays; torch.save aligns, so this is rare.
        values = values.copy()
        values.flags.writeable = False
    return values.view(dtype)


# Functions that the pickle calls


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object,
                    *_unused: object) -> object:  # fmt: skip
    """Stand in for torch._utils._rebuild_tensor and _rebuild_tensor_v2.

    The latter's gradient flag, hooks and metadata are not used.
    """
    if not isinstance(storage, Storage):
        raise TypeError("not a storage")
    if storage.values is None:
        return Stub(storage.name)
    return _strided(storage.values, offset, size, stride)


def _rebuild_tensor_v3(storage: object, offset: object, size: object, stride: object,
                       _gradient: object, _hooks: object, dtype: object,
                       *_unused: object) -> object:  # fmt: skip
    """Stand in for torch._utils._rebuild_tensor_v3: an untyped storage and a dtype."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Stub):
        raise TypeError("not a storage")
    known = _DTYPES.get(dtype.name.removeprefix("torch."))
    if storage.values is None or known is None:
        return Stub(dtype.name)
    return _strided(storage.values.view(known), offset, size, stride)


def _rebuild_parameter(tensor: object, *_unused: object) -> object:
    return tensor


def _rebuild_from_type(function: object, _kind: object, arguments: object,
                       *_state: object) -> object:  # fmt: skip
    """Stand in for torch._tensor._rebuild_from_type_v2, without the Tensor's Python attributes."""
    if not isinstance(function, Stub) or not isinstance(arguments, tuple):
        raise TypeError("not a tensor")
    known = _TENSOR_FUNCTIONS.get(function.name)
    return Stub(function.name) if known is None else known(*arguments)


_TENSOR_FUNCTIONS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
}
FUNCTIONS: dict[str, Callable[..., object]] = {
    **_TENSOR_FUNCTIONS,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
}


def _strided(values: np.ndarray, offset: object, size: object, stride: object) -> object:
    """Return the tensor of shape ``size`` in a storage; offset and stride count elements.

    A tensor whose elements overlap (torch's expand()) becomes a stub: copies of it would need
    unbounded memory.
    """
    if not (
        _is_size(offset)
        and isinstance(size, tuple)
        and isinstance(stride, tuple)
        and len(size) == len(stride) <= MAX_DIMENSIONS
        and all(map(_is_size, size + stride))
    ):
        raise TypeError("not a tensor's shape")
    count = prod(size)
    check_shape(size)
    last = (
        offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
    )
    if last >= len(values) and count:
        raise CheckpointError(
            f"a tensor of shape {size} reaches past its storage of {len(values)} elements: "
            "truncated or malicious"
        )
    if count > len(values):
        return Stub(f"an expanded tensor of shape {size}")
    if not count:
        return values[:0].reshape(size)
    if stride == _contiguous(size):
        return values[offset : offset + count].reshape(size)
    steps = tuple(step * values.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(values[offset:], size, steps, writeable=False)


def check_shape(size: tuple[int, ...]) -> None:
    """Refuse a shape without values that NumPy could not hold either.

    Raises:
        CheckpointError: its axes, those of no length left out, count more than any file holds.
    """
    if not prod(size) and prod(n for n in size if n) >= _TOO_LARGE:
        raise CheckpointError(f"a tensor of shape {size} is too large: damaged or malicious")


def _contiguous(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(size[axis + 1 :]) for axis in range(len(size)))


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _TOO_LARGE
