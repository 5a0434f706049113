"""Open a checkpoint file or folder; its first bytes tell the format, never its name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.formats.pickle_machine import RESAVE
from samjax.checkpoint.formats.safetensors import (
    is_safetensors,
    parse_json_object,
    read_safetensors,
)
from samjax.checkpoint.formats.torch_file import LEGACY_START, map_file, read_legacy, read_zip
from samjax.errors import CheckpointError

MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True)
class TensorFile:
    """A tensor file holds the content of a checkpoint, as stored.

    ``content`` is a dict of arrays, or whatever object a .pth holds; arrays are read-only views
    of memory maps. ``config``, ``preprocessor`` and ``adapter`` are JSON files of a Hugging Face
    or PEFT folder, ``metadata`` the free text of a safetensors header.
    """

    container: str
    content: object
    config: dict[str, Any] | None = None
    preprocessor: dict[str, Any] | None = None
    adapter: dict[str, Any] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def open_tensor_file(path: str | Path) -> TensorFile:
    """Open a .pth (zip or legacy), a .safetensors or a Hugging Face folder.

    Raises:
        CheckpointError: unreadable, damaged, unsafe or unsupported files; the text begins with
            the path.
    """
    path = Path(path)
    with errors_name(path):
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise CheckpointError("no such file or folder: check the path")
        opened = _open_file(path)
        if path.stem == "adapter_model":
            return replace(opened, adapter=_read_json(path.with_name(_ADAPTER)))
        return opened


def _open_file(path: Path) -> TensorFile:
    data = map_file(path)
    start = data[:512].tobytes()
    if start.startswith(b"PK\x03\x04"):
        return TensorFile("zip .pth", read_zip(data))
    if start.startswith(LEGACY_START):
        return TensorFile("legacy .pth", read_legacy(data))
    if is_safetensors(data):
        arrays, metadata = read_safetensors(data)
        return TensorFile("safetensors", arrays, metadata=metadata)
    raise CheckpointError(_what_it_is(start))


# Files that are something else

_LFS = (
    "not a checkpoint: a Git LFS pointer, the weights were not fetched: "
    "run git lfs pull, or download the file itself"
)
_HTML = (
    "not a checkpoint: an HTML or XML page, a login or an error instead of the file: "
    "download it again from the direct link"
)
_COMPRESSED = "a {} archive, not a checkpoint: unpack it and name the file inside"
_OTHER = "a {}, not supported: get the PyTorch weights (.pth or .safetensors)"
_PICTURE = "a {} picture, not a checkpoint: name the weights' file"

_MAGICS: tuple[tuple[int, bytes, str], ...] = (  # (offset, bytes, message)
    (0, b"version https://git-lfs", _LFS),
    (0, b"\x1f\x8b", _COMPRESSED.format("gzip")),
    (0, b"BZh", _COMPRESSED.format("bzip2")),
    (0, b"\xfd7zXZ\x00", _COMPRESSED.format("xz")),
    (0, b"\x28\xb5\x2f\xfd", _COMPRESSED.format("zstd")),
    (0, b"7z\xbc\xaf\x27\x1c", _COMPRESSED.format("7z")),
    (0, b"Rar!", _COMPRESSED.format("rar")),
    (257, b"ustar", _COMPRESSED.format("tar")),
    (0, b"PK\x05\x06", "an empty zip archive: download or copy it again"),
    (0, b"\x89HDF\r\n\x1a\n", _OTHER.format("HDF5 file of Keras (tf_model.h5)")),
    (4, b"TFL3", _OTHER.format("TFLite model")),
    (0, b"GGUF", _OTHER.format("GGUF model")),
    (0, b"\x93NUMPY", _OTHER.format(".npy array of NumPy")),
    (0, b"\x89PNG", _PICTURE.format("PNG")),
    (0, b"\xff\xd8\xff", _PICTURE.format("JPEG")),
    (0, b"\x80", f"a plain pickle, not a file of torch.save, no code was run: {RESAVE}"),
)


def _what_it_is(start: bytes) -> str:
    """Say why a file that begins with these bytes is no checkpoint, and what to do."""
    for offset, magic, text in _MAGICS:
        if start[offset : offset + len(magic)] == magic:
            return text
    words = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if words.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return _HTML
    # An ONNX file is a protobuf that begins with its version and its producer's name.
    if len(start) > 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in (0x12, 0x1A, 0x3A):
        return _OTHER.format("ONNX model")
    if words.startswith((b"{", b"[")):
        return (
            "not a checkpoint: JSON text, a configuration, an index or an error message: "
            "name the folder it lies in, or the weights' file"
        )
    if not start.strip(b"\x00"):
        return "not a checkpoint: it begins with zeros, an interrupted download: download it again"
    return (
        f"not a checkpoint, it begins with {start[:8]!r}: "
        "name a .pth or .safetensors file, or a Hugging Face folder"
    )


# Hugging Face folders

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ADAPTER, _ADAPTER_WEIGHTS = (
    "adapter_config.json",
    ("adapter_model.safetensors", "adapter_model.bin"),
)
_UNSUPPORTED = {
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights of transformers",
    "model.onnx": "an ONNX model",
}


def _open_folder(folder: Path) -> TensorFile:
    if (folder / _ADAPTER).is_file():
        return _open_adapter(folder)
    content, metadata, shards = _read_weights(folder)
    kind = f"{shards} shards" if shards else "one file"
    return TensorFile(
        f"Hugging Face folder, {kind}",
        content,
        config=_read_json(folder / "config.json"),
        preprocessor=_read_preprocessor(folder),
        metadata=metadata,
    )


def _open_adapter(folder: Path) -> TensorFile:
    """Open a folder that PEFT's save_pretrained wrote."""
    for name in _ADAPTER_WEIGHTS:
        if (folder / name).is_file():
            opened = open_tensor_file(folder / name)
            return replace(opened, container=f"PEFT folder, {opened.container}")
    raise CheckpointError(
        f"a PEFT adapter without its weights ({' or '.join(_ADAPTER_WEIGHTS)}): download it again"
    )


def _read_weights(folder: Path) -> tuple[object, dict[str, str], int]:
    """Return (content, metadata, number of shards or 0) of the first weights in the folder."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            with errors_name(folder / name):
                opened = _open_file(folder / name)
            return opened.content, opened.metadata, 0
        index = folder / f"{name}.index.json"
        if index.is_file():
            arrays, shards = _read_shards(folder, index)
            return arrays, {}, shards
    raise CheckpointError(_why_no_weights(folder))


def _why_no_weights(folder: Path) -> str:
    for name, what in _UNSUPPORTED.items():
        if (folder / name).is_file():
            return f"only {what} ({name}), not supported: get model.safetensors beside it"
    if (folder / "snapshots").is_dir():
        return "a folder of the Hugging Face cache: name the folder below its snapshots/"
    inside = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in (".pth", ".pt", ".ckpt", ".safetensors", ".bin")
    )
    if inside:
        return f"a folder without model.safetensors: name a file in it, such as {inside[0]}"
    return (
        "a folder without weights: a Hugging Face folder has config.json and model.safetensors, "
        "model.safetensors.index.json or pytorch_model.bin"
    )


def _read_shards(folder: Path, index: Path) -> tuple[dict[str, Any], int]:
    """Read the tensors of all shards, exactly those that the index lists, and count the shards."""
    with errors_name(index):
        listed = (_read_json(index) or {}).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise CheckpointError("the index has no weight_map: download it again")
        names = sorted({_plain_name(name) for name in listed.values()})
    found: dict[str, Any] = {}
    for name in names:
        with errors_name(folder / name):
            if not (folder / name).is_file():
                raise CheckpointError("this shard is missing: download it into the folder")
            content = _open_file(folder / name).content
            if not isinstance(content, dict):
                raise CheckpointError(f"not a dictionary of weights: {RESAVE}")
            for key, value in content.items():
                if listed.get(key) != name:
                    raise CheckpointError(
                        f"{key!r:.200} lies in this shard, the index says {listed.get(key)!r:.200}:"
                        " shards of different downloads, download the folder again"
                    )
                found[key] = value
    if missing := sorted(set(listed) - set(found)):
        raise CheckpointError(
            f"{index}: {len(missing)} of its tensors are in no shard, such as {missing[0]!r:.200}: "
            "download the folder again"
        )
    return found, len(names)


def _plain_name(name: object) -> str:
    """Return a shard's name if it lies in the folder itself: no index may reach other files."""
    if (
        not isinstance(name, str)
        or not name
        or name.startswith(".")
        or any(letter in name for letter in "/\\:\0")
    ):
        raise CheckpointError(
            f"the shard name {name!r:.200} is not a plain file name, malicious or damaged: "
            "download the folder again"
        )
    return name


def _read_preprocessor(folder: Path) -> dict[str, Any] | None:
    """Read preprocessor_config.json, or the image_processor of processor_config.json (newer)."""
    direct = _read_json(folder / "preprocessor_config.json")
    if direct is not None:
        return direct
    nested = (_read_json(folder / "processor_config.json") or {}).get("image_processor")
    return nested if isinstance(nested, dict) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with errors_name(path):
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"larger than {MAX_JSON_BYTES >> 20} MiB: download it again")
        return parse_json_object(np.asarray(map_file(path)).tobytes(), "this file")
