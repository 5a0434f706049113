"""Write checkpoint files without torch: pickles opcode by opcode, zips, legacy streams."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samjax.checkpoint.formats.torch_file import LEGACY_START
from samjax.checkpoint.formats.torch_writer import write_torch_file

# Pickle opcodes


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def dict_of(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + tuple_of(*arguments) + b"R"


def storage(key: str, count: int, kind: str = "FloatStorage", *more: bytes) -> bytes:
    parts = (text("storage"), named("torch", kind), text(key), text("cpu"), integer(count), *more)
    return tuple_of(*parts) + b"Q"


def tensor(
    key: str,
    size: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    *,
    count: int | None = None,
    offset: int = 0,
    kind: str = "FloatStorage",
    more: tuple[bytes, ...] = (),
) -> bytes:
    """Write the opcodes of torch._utils._rebuild_tensor_v2; contiguous if no stride is given."""
    if stride is None:
        stride = tuple(int(np.prod(size[axis + 1 :])) for axis in range(len(size)))
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage(key, int(np.prod(size)) if count is None else count, kind, *more),
        integer(offset),
        tuple_of(*map(integer, size)),
        tuple_of(*map(integer, stride)),
        b"\x89",
        call("collections", "OrderedDict"),
    )


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


# Files


def write_zip(
    path: Path,
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    root: str = "archive",
    others: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write a zip .pth whose data.pkl holds ``content`` (opcodes without PROTO and STOP)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickled(content))
        for key, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", data)
        for name, data in (others or {}).items():
            archive.writestr(name, data)
    return path


def legacy_bytes(
    content: bytes,
    storages: Mapping[str, np.ndarray],
    *,
    little_endian: bytes = b"\x88",
    protocol: int = 1001,
) -> bytes:
    """Write a stream in the format of PyTorch before 1.6."""
    system = dict_of({"protocol_version": integer(protocol), "little_endian": little_endian})
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    parts = [
        LEGACY_START,
        pickled(integer(protocol)),
        pickled(system),
        pickled(content),
        pickled(keys),
    ]
    for array in storages.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a .safetensors file of float32 arrays."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header).encode()
    data = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


# Weights

# Enough keys of a SAM for its family to be seen; nothing here needs them all.
FEW_SHAPES = {
    "image_encoder.pos_embed": (1, 2, 2, 4),
    "image_encoder.patch_embed.proj.weight": (4, 3, 16, 16),
    "image_encoder.blocks.0.mlp.lin1.weight": (16, 4),
    "prompt_encoder.no_mask_embed.weight": (1, 8),
    "mask_decoder.iou_token.weight": (1, 8),
}


def few_weights(prefix: str = "") -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        prefix + key: random.standard_normal(shape, np.float32) for key, shape in FEW_SHAPES.items()
    }


def state_dict(weights: Mapping[str, np.ndarray], first: int = 0) -> bytes:
    """Write the opcodes of a dict of tensors with storages "first", "first + 1", ..."""
    return dict_of(
        {
            key: tensor(str(first + index), array.shape)
            for index, (key, array) in enumerate(weights.items())
        }
    )


def storages_of(weights: Mapping[str, np.ndarray], first: int = 0) -> dict[str, bytes]:
    return {str(first + i): array.tobytes() for i, array in enumerate(weights.values())}


def write_few(path: Path, *more: str, prefix: str = "") -> Path:
    """Write a .pth of ``few_weights`` and of further keys, each with one number."""
    weights = few_weights(prefix)
    write_torch_file(path, weights | {key: np.zeros(1, np.float32) for key in more})
    return path
