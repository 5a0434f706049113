"""Let one process at a time read, compare and write a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def taking_turns(path: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block; a crash lets the next one in.

    Args:
        path: of a folder, or of the file that is written within. A file gets a guard,
            ``.NAME.guard``, beside it; so does a folder, within, on Windows, where folders
            cannot be locked.

    Raises:
        OSError: the guard cannot be made, or there is no such folder.
    """
    if path.is_dir() and os.name != "nt":
        descriptor = os.open(path, os.O_RDONLY)
    else:
        guard = path / ".guard" if path.is_dir() else path.with_name(f".{path.name}.guard")
        descriptor = os.open(guard, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)  # lets the next one in


def _wait_for(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
