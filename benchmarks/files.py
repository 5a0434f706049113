"""What the suites write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from samjax.errors import SamjaxError
from samjax.files import replacing


def made_folder(path: str | os.PathLike) -> Path:
    """The folder of ``--out``, made before the work begins.

    Raises:
        SamjaxError: it cannot be made or written to.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SamjaxError(
            f"--out {path}: no folder can be made there ({error.strerror}): choose another"
        ) from None
    if not os.access(folder, os.W_OK):
        raise SamjaxError(f"--out {path}: not writable: choose another folder")
    return folder


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all; NaN has no place in it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
