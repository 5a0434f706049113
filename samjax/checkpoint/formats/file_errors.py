"""Errors about a file begin with its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samjax.errors import CheckpointError


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Put the file's name before a CheckpointError's text; turn OSError into a CheckpointError."""
    try:
        yield
    except CheckpointError as error:
        text = str(error)
        # A shard's error, inside the folder's, already begins with a longer path.
        named = text if text.startswith((f"{path}:", f"{path}{os.sep}")) else f"{path}: {text}"
        raise type(error)(named) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({why}): check the path") from None
