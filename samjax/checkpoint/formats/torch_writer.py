"""Write a .pth that torch.load(weights_only=True) reads, without torch.

The layout is that of torch/serialization.py ``_save`` (PyTorch 1.6 and later): a zip of plain
entries, ``data.pkl`` with an OrderedDict of tensors, ``data/<i>`` with the i-th tensor's bytes.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samjax.checkpoint.formats.torch_tensors import STORAGE_TYPES
from samjax.errors import CheckpointError
from samjax.files import replacing, writing

_ROOT = "archive"
_ALIGNMENT = 64
_DATE = (1980, 1, 1, 0, 0, 0)  # fixed: equal weights give equal files
_PADDING_FIELD = 0x4246  # "FB", the zip extra field with which torch aligns storages
_ZIP64_BYTES = 2**30  # larger entries get 64-bit sizes
_STORAGES = {dtype: storage for storage, dtype in STORAGE_TYPES.items()}


def write_torch_file(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` as a state dict, atomically: a failure leaves no partial file.

    Arrays of any shape; float64/32/16, bfloat16, int64/32/16/8, uint8, bool or complex.

    Raises:
        CheckpointError: other dtypes, or a folder that cannot be written.
    """
    path = Path(path)
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _STORAGES:
            raise CheckpointError(
                f"{path}: {name!r} is {array.dtype.name}, which PyTorch files do not hold: "
                "convert it to float32"
            )
    advice = "check the folder, its permissions and the space"
    with writing(path, CheckpointError, advice), replacing(path) as temporary:
        _write_zip(temporary, arrays)


def _write_zip(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", memoryview(_state_dict_pickle(arrays)))
        _add(archive, "byteorder", memoryview(b"little"))
        for index, array in enumerate(arrays.values()):
            # One tensor at a time in memory: contiguous, little-endian.
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _add(archive, f"data/{index}", little.reshape(-1).view(np.uint8).data)
        _add(archive, "version", memoryview(b"3\n"))


def _add(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    """Append an entry whose data begin at a multiple of 64 bytes."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", _DATE)
    wide = content.nbytes >= _ZIP64_BYTES
    assert archive.fp is not None
    header = archive.fp.tell() + 30 + len(info.filename) + (20 if wide else 0) + 4
    padding = -header % _ALIGNMENT
    info.extra = struct.pack("<2H", _PADDING_FIELD, padding) + bytes(padding)
    info.file_size = content.nbytes
    with archive.open(info, "w", force_zip64=wide) as entry:
        entry.write(content)


# The pickle: opcodes of protocol 2, as in the standard library's pickletools

_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def _state_dict_pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    items = [
        _text(name) + _tensor(index, array) for index, (name, array) in enumerate(arrays.items())
    ]
    return b"\x80\x02" + _ORDERED_DICT + b"(" + b"".join(items) + b"u."


def _tensor(index: int, array: np.ndarray) -> bytes:
    """Pickle a call of torch._utils._rebuild_tensor_v2.

    Its arguments are storage, offset, size, stride, gradient flag and hooks.
    """
    storage_type = f"ctorch\n{_STORAGES[array.dtype.name]}\n".encode()
    storage = _text("storage") + storage_type + _text(str(index)) + _text("cpu")
    storage += _integer(array.size)
    size = b"".join(map(_integer, array.shape))
    steps = np.cumprod([1, *array.shape[:0:-1]], dtype=np.int64)[::-1][: array.ndim]
    stride = b"".join(_integer(int(step)) for step in steps)
    parts = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        *(b"(", storage, b"tQ"),
        _integer(0),
        *(b"(", size, b"t"),
        *(b"(", stride, b"t"),
        *(b"\x89", _ORDERED_DICT),
        b"tR",
    )
    return b"".join(parts)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded
