"""How the suites write their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samjax.files import replacing


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all; NaN has no place in it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
