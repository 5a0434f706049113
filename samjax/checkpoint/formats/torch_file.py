"""Read a PyTorch file (.pth, .pt, .ckpt, .bin) without torch and without running its code.

A file of torch.save is a pickle of dicts and of tensors; a tensor names its storage, which lies
outside the pickle: in a zip since PyTorch 1.6 (``<root>/data.pkl``, ``<root>/data/<key>``), behind
the pickle in the older ("legacy") streams. Both are memory-mapped: the arrays are read-only views.
Formats: torch/serialization.py, ``_save`` and ``_legacy_save``.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.formats.pickle_machine import MALFORMED, MAX_PICKLE_BYTES, RESAVE, Stub
from samjax.checkpoint.formats.restricted_pickle import load_pickle
from samjax.checkpoint.formats.torch_tensors import (
    FUNCTIONS,
    Storage,
    StorageId,
    check_length,
    check_same_type,
    read_storage_id,
    typed,
    view_of,
)
from samjax.checkpoint.formats.zip_records import TRUNCATED, ZipEntry, zip_records
from samjax.errors import CheckpointError

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # 0x1950a86a20f9469cfc6c, pickled
_LEGACY_PROTOCOL = 1001


def read_torch_file(path: str | Path) -> object:
    """Return the object in a file of torch.save, with read-only NumPy views for tensors.

    Dicts, lists, tuples, sets, text, numbers and None are kept, Parameters are unwrapped, all
    other objects are ``Stub``s. The views keep the memory map alive: copy arrays that must
    outlive the file.

    Raises:
        CheckpointError: unreadable, damaged or unsafe files, and other kinds of files.
    """
    path = Path(path)
    with errors_name(path):
        data = map_file(path)
        start = bytes(data[:4])
        if start == b"PK\x03\x04":
            return read_zip(data)
        if start[:1] == b"\x80":
            return read_legacy(data)
        raise CheckpointError(f"not a file of torch.save, it begins with {start!r}: {RESAVE}")


def map_file(path: Path) -> np.ndarray:
    """Map the bytes of a file into memory, read-only; shape (size,), uint8."""
    if path.stat().st_size == 0:
        raise CheckpointError("empty file: download or copy it again")
    return np.asarray(np.memmap(path, np.uint8, mode="r"))


# Zip files


def read_zip(data: np.ndarray) -> object:
    """Return the object in a zip .pth; ``data`` are the file's bytes."""
    records = zip_records(data.data)
    _refuse_other_zips(records)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(
            f"a zip with {len(pickles)} pickles named <root>/data.pkl, ambiguous or malicious: "
            f"{RESAVE}"
        )
    root = pickles[0].removesuffix("data.pkl")
    byteorder = records.get(f"{root}byteorder")
    if byteorder and _bytes(data, byteorder) == b"big":
        raise CheckpointError(f"written on a big-endian machine, not supported: {RESAVE}")
    if records[pickles[0]].size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"its pickle is larger than {MAX_PICKLE_BYTES >> 20} MiB: {RESAVE}")

    storages: dict[str, Storage] = {}

    def persistent(value: object) -> object:
        wanted = read_storage_id(value)
        if wanted.key not in storages:
            record = records.get(f"{root}data/{wanted.key}")
            if record is None:
                raise CheckpointError(f"storage {wanted.key!r} is not in the zip, {TRUNCATED}")
            storages[wanted.key] = _zip_storage(data, wanted, record)
        return check_same_type(storages[wanted.key], wanted)

    pickle = data[records[pickles[0]].start :][: records[pickles[0]].size]
    content, _ = load_pickle(pickle.data, FUNCTIONS, persistent)
    return content


def _refuse_other_zips(records: dict[str, ZipEntry]) -> None:
    names = list(records)
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            "a TorchScript archive, its code is not run: "
            "save the original model's weights with torch.save(model.state_dict(), ...)"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"an .npz archive of NumPy, not a checkpoint: {RESAVE}")
    inside = [name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))]
    if inside:
        raise CheckpointError(
            f"a zip that contains {inside[0]!r:.200}: unpack it and name that file"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"a zip without <root>/data.pkl, not a file of torch.save: {RESAVE}")
    for name, record in records.items():
        if record.compressed:
            raise CheckpointError(
                f"zip entry {name!r:.200} is compressed, torch.save never does that and it is not "
                f"unpacked here: unpack the zip and pack it without compression, or {RESAVE}"
            )


def _bytes(data: np.ndarray, record: ZipEntry) -> bytes:
    return data[record.start : record.start + min(record.size, 64)].tobytes()


def _zip_storage(data: np.ndarray, wanted: StorageId, record: ZipEntry) -> Storage:
    if wanted.dtype is None:
        return Storage(wanted.type_name, None)
    check_length(wanted, wanted.dtype, record.size)
    return Storage(wanted.type_name, typed(data, record.start, wanted.count, wanted.dtype))


# Legacy streams


def read_legacy(data: np.ndarray) -> object:
    """Return the object in a stream of PyTorch before 1.6; ``data`` are the file's bytes.

    Five pickles (magic number, protocol, system, the object, the storages' keys), then each
    storage: its number of elements as int64, its elements.
    """
    if data[: len(LEGACY_START)].tobytes() != LEGACY_START:
        raise CheckpointError(
            f"a plain pickle, not a file of torch.save, no code was run: {RESAVE}"
        )
    view = data.data
    at = len(LEGACY_START)
    protocol, at = _plain_pickle(view, at)
    system, at = _plain_pickle(view, at)
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise CheckpointError(f"unknown legacy protocol, {MALFORMED}")
    if system.get("little_endian") is not True:
        raise CheckpointError(f"written on a big-endian machine, not supported: {RESAVE}")

    # The storages lie behind the pickle that uses them: read it once to learn which storages
    # there are and where it ends, and again with the storages at hand.
    wanted: dict[str, StorageId] = {}

    def collect(value: object) -> object:
        if source := _module_source(value):
            return source
        storage = read_storage_id(value)
        wanted.setdefault(storage.key, storage)
        return Storage(storage.type_name, None)

    _, length = load_pickle(view[at:], FUNCTIONS, collect)
    keys, storages_at = _plain_pickle(view, at + length)
    storages = _legacy_storages(data, storages_at, keys, wanted)

    def resolve(value: object) -> object:
        if source := _module_source(value):
            return source
        asked = read_storage_id(value)
        if asked.key not in storages:
            raise CheckpointError(f"storage {asked.key!r} is not in the file, {TRUNCATED}")
        return view_of(check_same_type(storages[asked.key], asked), asked)

    content, _ = load_pickle(view[at:], FUNCTIONS, resolve)
    return content


def _plain_pickle(view: memoryview, at: int) -> tuple[object, int]:
    """Return the object of the pickle at byte ``at``, without tensors, and the byte behind it."""

    def refuse(_value: object) -> object:
        raise CheckpointError(f"a tensor in a legacy header, {MALFORMED}")

    value, length = load_pickle(view[at:], {}, refuse)
    return value, at + length


def _legacy_storages(
    data: np.ndarray, at: int, keys: object, wanted: dict[str, StorageId]
) -> dict[str, Storage]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(f"a legacy stream without its list of storages, {MALFORMED}")
    storages: dict[str, Storage] = {}
    for key in keys:
        storage = wanted.get(key)
        if storage is None or storage.dtype is None or key in storages:
            raise CheckpointError(f"storage {key!r:.80} has no known size or is listed twice: "
                                  f"{RESAVE}")  # fmt: skip
        if at + 8 > len(data):
            raise CheckpointError(f"storage {key!r:.80} lies past the end, {TRUNCATED}")
        (count,) = struct.unpack_from("<q", data.data, at)
        at += 8
        if count != storage.count:
            raise CheckpointError(
                f"storage {key!r:.80}: {count} elements, its tensors say {storage.count}: "
                "truncated or malicious"
            )
        size = storage.count * storage.dtype.itemsize
        check_length(storage, storage.dtype, min(size, len(data) - at))
        storages[key] = Storage(storage.type_name, typed(data, at, storage.count, storage.dtype))
        at += size
    return storages


def _module_source(value: object) -> Stub | None:
    """Return the class of ("module", class, file, source), as legacy files keep a module's code."""
    if not isinstance(value, tuple) or len(value) != 4:
        return None
    return value[1] if isinstance(value[1], Stub) else Stub("a module's source code")
