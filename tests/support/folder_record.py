"""The record of samjax's own folder, rewritten as damage, a hostile hand or an early version do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORD = Path("metadata") / "metadata"


def sign(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the checksum that fits it."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    text = json.dumps(rest, sort_keys=True).encode()
    return rest | {"checksum": hashlib.sha256(text).hexdigest()}


def without_hashes(record: dict[str, Any]) -> dict[str, Any]:
    """The record as the first version of the format had it."""
    hashes = ("sha256", "checksum", "files")
    rest = {name: value for name, value in record.items() if name not in hashes}
    return rest | {"format": "samjax/1"}


def rewrite(
    folder: Path,
    change: Callable[[dict[str, Any]], Any],
    finish: Callable[[dict[str, Any]], dict[str, Any]] = sign,
) -> None:
    """Change the record in place and write it; what ``change`` returns, if anything, instead."""
    path = folder / RECORD
    record = json.loads(path.read_text())
    changed = change(record)
    if changed is None:
        changed = finish(record)
    path.write_text(json.dumps(changed))
