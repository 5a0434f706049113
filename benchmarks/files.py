"""Write the results of the suites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN and infinity raise ValueError."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def check_json(path: Path | None) -> None:
    """Make the folder of a JSON file that is to be written; None is none.

    Raises:
        SamjaxError: a folder has its name.
    """
    if path is None:
        return
    if path.is_dir():
        raise SamjaxError(f"--out {path}: a folder: name a JSON file")
    made_folder(path.parent)
