"""Writing files so that nobody ever sees half of one, and the folders they go to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from samjax.errors import SamjaxError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it at the end if nothing was raised.

    Missing parent folders are made. After an error nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def made_folder(path: str | os.PathLike, error: type[SamjaxError] = SamjaxError) -> Path:
    """The folder, made where it is missing: asked for before long work begins.

    Raises:
        error: it cannot be made or written to.
    """
    try:
        folder = Path(path).expanduser()
    except RuntimeError as problem:  # ~ and the name of somebody unknown
        raise error(f"{path}: {problem}") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        why = problem.strerror or problem
        raise error(f"{folder}: cannot be made ({why}): choose another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"{folder}: no permission to write: choose another folder")
    return folder
