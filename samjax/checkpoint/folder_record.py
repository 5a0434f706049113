"""Write the record of samjax's own folder with hashes, and check everything that it says.

The record is a JSON object: format, family, preset, configuration, notes, a sha256 of each array
and of each other file of the folder, and a sha256 of the record itself. Folders of the first format
have no hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from samjax.checkpoint.config_json import config_from_dict, describe_config
from samjax.checkpoint.formats.safetensors import parse_json_object
from samjax.checkpoint.layout import official_layout
from samjax.checkpoint.parameters import describe_misfits
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.errors import CheckpointError
from samjax.model.config import SamConfig

FORMAT = "samjax/2"
_WITHOUT_HASHES = "samjax/1"
RECORD = Path("metadata") / "metadata"
_MAX_RECORD_BYTES = 16 * 2**20
_FIELDS = {"format", "family", "preprocess", "config", "notes"}
_HASHES = {"sha256", "files", "checksum"}
_THRESHOLDS = "automatic"  # a field that a record may have
_DTYPES = ("float64", "float32", "bfloat16", "float16")
# Weights are hardly compressible: a folder that unpacks to more than this is hostile or damaged
_MOST_UNPACKED, _ALWAYS_ALLOWED = 100, 2**28
_AGAIN = "convert it again"


@dataclass(frozen=True)
class FolderRecord:
    """What a folder says about itself; ``sha256`` by array is None in folders without hashes."""

    family: str
    preprocess: str | None
    config: SamConfig
    notes: tuple[str, ...]
    sha256: Mapping[str, str] | None
    thresholds: AutomaticThresholds | None = None


def hash_array(array: np.ndarray) -> str:
    """Return the sha256 of an array's dtype, shape and values, hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    flat = np.ascontiguousarray(array).reshape(-1)
    digest.update(flat.view(np.uint8).data)
    return digest.hexdigest()


def make_record(checkpoint: Any, folder: Path) -> dict[str, Any]:
    """Return the JSON object to be stored with a checkpoint whose arrays ``folder`` holds."""
    record: dict[str, Any] = {
        "format": FORMAT,
        "family": checkpoint.family,
        "preprocess": checkpoint.preprocess,
        "config": describe_config(checkpoint.config),
        "notes": list(checkpoint.notes),
        "sha256": {
            name: hash_array(jax.device_get(value)) for name, value in checkpoint.parameters.items()
        },
        "files": {name: _hash_file(folder / name) for name in _file_names(folder)},
    }
    if checkpoint.thresholds is not None:
        record[_THRESHOLDS] = checkpoint.thresholds.as_dict()
    # As it will be read: tuples become lists
    return record | {"checksum": _checksum(json.loads(json.dumps(record)))}


def _checksum(record: Mapping[str, Any]) -> str:
    """Return the sha256 of a record but for its checksum."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _file_names(folder: Path) -> list[str]:
    """Return the paths of a folder's files but for its record, with ``/``, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in found if name != RECORD)


def listed_files(folder: Path) -> set[str] | None:
    """Return the names of the files that a folder was written with; None if its record has none.

    Nothing is checked: a damaged folder is replaced, too.
    """
    try:
        files = parse_json_object((folder / RECORD).read_bytes(), "its record").get("files")
    except (OSError, CheckpointError):
        return None
    return {*files, RECORD.as_posix()} if isinstance(files, dict) else None


def _hash_file(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path) -> int:
    """Refuse links, pipes and devices inside a folder; return the bytes of its files.

    Raises:
        CheckpointError: something inside is neither a file nor a folder.
    """
    total = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = os.lstat(os.path.join(place, name))  # noqa: PTH118
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                kind = "a link" if stat.S_ISLNK(found.st_mode) else "no regular file"
                inside = Path(place, name).relative_to(folder)
                raise CheckpointError(
                    f"{str(inside)!r} in it is {kind}, which is not followed: copy the folder "
                    "with the files themselves (cp -RL)"
                )
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def read_record(folder: Path) -> FolderRecord:
    """Read and check the record of a folder.

    Raises:
        CheckpointError: another format, or a record that is damaged or does not fit its checksum.
    """
    path = folder / RECORD
    if path.stat().st_size > _MAX_RECORD_BYTES:
        raise CheckpointError(f"its record is larger than {_MAX_RECORD_BYTES >> 20} MiB: {_AGAIN}")
    record = parse_json_object(path.read_bytes(), "its record")
    found = record.get("format")
    if found not in (FORMAT, _WITHOUT_HASHES):
        raise CheckpointError(
            f"an Orbax folder of format {found!r:.80}, not {FORMAT!r}: "
            f"written by another version of samjax; {_AGAIN}"
        )
    expected = _FIELDS | (_HASHES if found == FORMAT else set())
    if odd := sorted((set(record) ^ expected) - {_THRESHOLDS}):
        raise CheckpointError(f"its record lacks or has too much: {odd!r:.200}; {_AGAIN}")
    if found == FORMAT and record["checksum"] != _checksum(record):
        raise CheckpointError(f"its record was changed, the checksum does not fit; {_AGAIN}")
    _check_file_hashes(folder, record.get("files", {}))
    family, preset, notes = record["family"], record["preprocess"], record["notes"]
    if not isinstance(family, str) or not isinstance(preset, str | None):
        raise CheckpointError(
            f"family {family!r:.80} or preset {preset!r:.80} is no text: {_AGAIN}"
        )
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise CheckpointError(f"its notes are {notes!r:.80}, no list of texts: {_AGAIN}")
    hashes = record.get("sha256")
    if hashes is not None and not isinstance(hashes, dict):
        raise CheckpointError(f"its hashes are {hashes!r:.80}, no object: {_AGAIN}")
    config, own = config_from_dict(record["config"]), record.get(_THRESHOLDS)
    thresholds = None if own is None else AutomaticThresholds.from_dict(own)
    return FolderRecord(family, preset, config, tuple(notes), hashes, thresholds)


def _check_file_hashes(folder: Path, files: Any) -> None:
    """Compare a folder's files with their hashes, before any other code reads them.

    TensorStore has been seen to wait for ever for arrays of damaged files.
    """
    if not isinstance(files, dict):
        raise CheckpointError(f"its files are {files!r:.80}, no object: {_AGAIN}")
    found = {name: _hash_file(folder / name) for name in _file_names(folder) if name in files}
    if changed := [name for name, sha256 in files.items() if found.get(name) != sha256]:
        differs = "is not the one that was written (the sha256 differs)"
        raise CheckpointError(
            f"damaged or incomplete Orbax folder: {changed[0]!r:.80} in it "
            f"{differs if changed[0] in found else 'is missing'}; {_AGAIN}, or copy it again"
        )


def check_arrays(
    record: FolderRecord, arrays: Mapping[str, jax.ShapeDtypeStruct], size: int
) -> None:
    """Compare the names, shapes and dtypes of a folder's arrays with its configuration.

    ``size`` is that of the folder on disk in bytes.

    Raises:
        CheckpointError: every missing, unexpected and mis-shaped array in one error; a dtype that
            is no floating point; more values than the files can hold.
    """
    wanted = {e.path: e.parameter_shape for e in official_layout(record.config).values()}
    problems = describe_misfits({k: tuple(v.shape) for k, v in arrays.items()}, wanted)
    if problems:
        raise CheckpointError(f"does not fit its own configuration; {problems}")
    if odd := [k for k, v in arrays.items() if v.dtype.name not in _DTYPES]:
        name = arrays[odd[0]].dtype.name
        raise CheckpointError(f"{odd[0]!r} is {name}, no floating-point dtype: {_AGAIN}")
    if record.sha256 is not None and set(record.sha256) != set(arrays):
        raise CheckpointError(f"its hashes are not those of its arrays: {_AGAIN}")
    unpacked = sum(v.size * v.dtype.itemsize for v in arrays.values())
    if unpacked > _ALWAYS_ALLOWED + _MOST_UNPACKED * size:
        raise CheckpointError(
            f"{unpacked:,} bytes of weights in files of {size:,} bytes: truncated or malicious"
        )


def check_hashes(record: FolderRecord, arrays: Mapping[str, np.ndarray | jax.Array]) -> None:
    """Compare the values that were read with the hashes of the record, if it has any.

    Raises:
        CheckpointError: the arrays that differ.
    """
    if record.sha256 is None:
        return
    changed = [k for k, v in arrays.items() if hash_array(jax.device_get(v)) != record.sha256[k]]
    if changed:
        raise CheckpointError(
            f"{len(changed)} of its {len(arrays)} arrays are not the ones that were written (the "
            f"sha256 differs), such as {changed[0]!r}: a damaged copy, copy or convert it again"
        )
