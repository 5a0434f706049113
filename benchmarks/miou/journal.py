"""Keep the results so far, one image per line, so that a killed run resumes where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samjax.errors import SamjaxError
from samjax.files import replacing


class Journal:
    """Stores results by image in ``path``, after a first line with the settings of the run.

    Raises:
        SamjaxError: the file belongs to another run.
    """

    def __init__(self, path: Path, asked: dict[str, Any]):
        self._path = path
        self.results: dict[str, dict[str, Any]] = {}
        header = json.dumps(asked, sort_keys=True)
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(header + "\n", encoding="utf-8")
        self._read(header)

    def _read(self, header: str) -> None:
        content = self._path.read_bytes()
        whole = content.rpartition(b"\n")[0]  # a kill may have torn the last line
        first, *lines = whole.decode("utf-8").split("\n")
        if first != header:
            raise SamjaxError(
                f"{self._path}: belongs to a run with another {_difference(first, header)}: "
                "choose another folder, or remove this file"
            )
        for line in lines:
            result = json.loads(line)
            self.results[result["image"]] = result
        if len(whole) + 1 < len(content):
            with self._path.open("r+b") as file:
                file.truncate(len(whole) + 1)

    def add(self, result: dict[str, Any]) -> None:
        """Keep the result of one image."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, allow_nan=False) + "\n")
        self.results[result["image"]] = result


def _difference(have: str, want: str) -> str:
    try:
        old, new = json.loads(have), json.loads(want)
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        return ", ".join(f"{k} ({old.get(k)}, now {new.get(k)})" for k in keys)
    except (ValueError, AttributeError):
        return "content: its first line is not one of this program"
