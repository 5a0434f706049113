"""Test that damaged and hostile files are refused in one line, or load, and do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def damaged(folder: Path, count: int, seed: int, *kind: str) -> dict:
    command = [sys.executable, "-m", "tests.support.mutations", str(folder), str(count), str(seed)]
    command += kind
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1800)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_2000_damaged_files(tmp_path: Path):
    found = damaged(tmp_path, 2000, 1)
    assert found["faults"] == []
    assert found["refused"] + found["loaded"] + found["changed"] == 2000
    assert found["refused"] > 1000


def test_1000_damaged_folders_of_samjax(tmp_path: Path):
    """Five times as many: python -m tests.support.mutations FOLDER 5000 SEED own."""
    found = damaged(tmp_path, 1000, 2, "own")
    assert found["faults"] == []
    assert found.get("changed", 0) == 0  # it has hashes: nothing loads and differs silently
    assert found["refused"] + found.get("loaded", 0) == 1000
    assert found["refused"] > 950  # each file has a hash; the others were not changed
