"""Write the results of the suites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samjax.files import replacing


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN and infinity raise ValueError."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
