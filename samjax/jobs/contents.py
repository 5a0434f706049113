"""Tell one content of an image's file from another, by its length and hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from samjax.errors import ImageError
from samjax.files import check_regular


class FileState(NamedTuple):
    """Tells one content of a file from another: its length in bytes and its hash."""

    bytes: int
    hash: str


def file_state(path: Path) -> FileState:
    """Return the state of a regular file.

    Raises:
        OSError: the file cannot be read.
        ImageError: the path is a pipe or device.
    """
    check_regular(path, ImageError)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return FileState(path.stat().st_size, found)


def bytes_state(data: bytes) -> FileState:
    """Return the state of a file with this content."""
    return FileState(len(data), hashlib.blake2b(data, digest_size=16).hexdigest())


def has_state(path: Path, state: FileState) -> bool:
    """Tell whether a file has this content; one of another length is not read.

    Raises:
        OSError: the file cannot be read.
    """
    return path.stat().st_size == state.bytes and file_state(path) == state


def hash_values(values: Mapping[str, Any], digest_size: int) -> str:
    """Return the hash of plain JSON values, such as the options of a run, whatever their order."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=digest_size).hexdigest()
