"""The benchmarks that act as a person run, and their tasks end as they should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_review_corrects_five_masks_and_leaves_fifteen_byte_for_byte(tmp_path: Path) -> None:
    out = tmp_path / "review.json"
    command = [sys.executable, "-m", "benchmarks.widget_review", "--out", str(out)]
    # A browser of its own: playwright runs once a process.
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert (found["masks"], found["unchanged"]) == (20, 15)
    assert len(found["iou before and after"]) == 5
    for before, after in found["iou before and after"].values():
        assert after > before
