"""Files of a cache that several people and processes may share: unfinished ones, and markers.

A marker is a small file beside a verified one, so that it is not hashed each time.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from samjax.files import replacing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ENDING = ".partial"
_ABANDONED_SECONDS = 24 * 3600  # where no lock tells whether the process still lives


@contextmanager
def staging(folder: Path, name: str) -> Iterator[Path]:
    """Yield a private folder for a download, on the same disk; removed at the end.

    Folders that killed processes left behind for the same name are removed first: a living one
    holds a lock on its folder, which the system lets go when the process ends.
    """
    for left in folder.glob(f".{name}.*{_ENDING}"):
        _remove_if_abandoned(left)
    while True:
        place = folder / f".{name}.{uuid4().hex}{_ENDING}"
        place.mkdir()
        lock = _lock(place)
        if place.is_dir():  # another process may have found it before it was locked
            break
        _unlock(lock)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _unlock(lock)


def _lock(place: Path) -> int | None:
    """Lock a folder for this process; None if it is locked already, or cannot be."""
    if fcntl is None:
        return None
    try:
        opened = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove_if_abandoned(place: Path) -> None:
    lock = _lock(place)
    with suppress(OSError):
        old = time.time() - place.lstat().st_mtime > _ABANDONED_SECONDS
        if lock is not None or (fcntl is None and old):
            shutil.rmtree(place, ignore_errors=True)
    _unlock(lock)


def marker_of(path: Path) -> Path:
    """Return the path of a file's marker."""
    return path.with_name(path.name + ".verified")


def write_marker(path: Path, text: str) -> None:
    """Mark a file as verified; an earlier marker, or a link in its place, is replaced."""
    with replacing(marker_of(path)) as temporary:
        temporary.write_text(text)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.chmod(mode & ~(stat.S_IWGRP | stat.S_IWOTH))  # see _only_ours_to_write


def is_marked(path: Path, text: str) -> bool:
    """Return whether a file has the marker ``text``, and nobody else could have forged it.

    Both files must belong to this user or to root, and nobody else may write the marker: whoever
    owns a file can give it any time of modification.
    """
    marker = marker_of(path)
    with suppress(OSError, UnicodeDecodeError):
        if _only_ours_to_write(marker.lstat()) and _is_ours(path.stat()):
            return marker.read_text() == text
    return False


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid in (os.getuid(), 0)


def _only_ours_to_write(found: os.stat_result) -> bool:
    others = 0 if os.name == "nt" else found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(found.st_mode) and not others and _is_ours(found)
