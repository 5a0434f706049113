"""Damaged and hostile files: refused in one line, or loaded; never worse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def damaged(folder: Path, count: int, seed: int) -> dict:
    command = [sys.executable, "-m", "tests.families.mutations", str(folder), str(count), str(seed)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_2000_damaged_files(tmp_path: Path):
    found = damaged(tmp_path, 2000, 1)
    assert found["faults"] == []
    assert found["refused"] + found["loaded"] == 2000
    assert found["refused"] > 1000
