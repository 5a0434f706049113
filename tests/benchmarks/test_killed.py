"""Kill runs in processes of their own, and run on several devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import samjax
from benchmarks.miou.datasets import open_dataset
from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from tests.support.benchmarks import killed
from tests.support.benchmarks.drawn import (
    OBJECTS,
    contents,
    draw_coco,
    draw_folder,
    knowing,
    label_map,
    options,
)
from tests.support.models import PLAIN

ROOT = Path(__file__).parents[2]

# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def start(arguments: list[str], **environment: str) -> subprocess.Popen:
    """Start ``python -m ARGUMENTS`` in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_after(process: subprocess.Popen, journal: Path, images: int) -> None:
    """Send SIGKILL once so many images are in the journal."""
    end = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") <= images:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def draw_trimaps(root: Path) -> Path:
    return draw_folder(root, "data_GT", "boundary_GT", lambda own: [label_map(own) * 100 + 55], "")


def draw_labels(root: Path) -> Path:
    return draw_folder(root, "images", "labels", lambda own: [label_map(own)], "")


def check_killed(name: str, data: Path, folder: Path) -> None:
    """Check that a run that was killed and restarted equals an uninterrupted one."""
    dataset, out = open_dataset(data), folder / "out"
    given = options(name, dataset, killed.ANSWER)
    killed.run(name, dataset, knowing(name, dataset, killed.ANSWER), given, folder / "whole")
    process = start(["tests.support.benchmarks.killed", name, str(data), str(out)])
    kill_after(process, out / "journal.jsonl", killed.MEASURED)
    assert not (out / "summary.json").exists()
    again = knowing(name, dataset, killed.ANSWER)
    killed.run(name, dataset, again, given, out)
    assert again.images == len(dataset) - killed.MEASURED
    assert contents(out) == contents(folder / "whole")


@pytest.mark.parametrize(
    ("name", "draw"),
    [("noc", draw_trimaps), ("boxes", draw_coco), ("med", draw_labels), ("proposals", draw_coco)],
)
def test_killed_and_started_again_a_run_ends_with_identical_files(name, draw, tmp_path):
    check_killed(name, draw(tmp_path / "data"), tmp_path)


def test_the_command_killed_and_started_again_on_two_devices(tmp_path):
    """The whole run is on one device: neither the kill nor the devices change a byte."""
    sam = samjax.load(PLAIN)
    checkpoint = Checkpoint(sam.parameters(), sam.config, "random", sam.preset.name)
    save_orbax_folder(tmp_path / "sam", checkpoint)
    data = draw_coco(tmp_path / "coco", OBJECTS[1:2] * 40)
    command = ["benchmarks.miou", "fast-coco", "--data", str(data), "--model"]
    command += [str(tmp_path / "sam"), "--pictures", "1", "--out"]
    flags = "--xla_backend_optimization_level=0"  # compiling is what takes the time
    environment = {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    finish(start([*command, str(tmp_path / "whole")], **environment))
    out = tmp_path / "out"
    kill_after(start([*command, str(out)], **environment), out / "journal.jsonl", 1)
    assert (out / "journal.jsonl").read_bytes().count(b"\n") - 1 < 40
    environment["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
    finish(start([*command, str(out), "--devices", "2"], **environment))
    assert contents(out) == contents(tmp_path / "whole")


def finish(process: subprocess.Popen) -> None:
    """Wait for the end of a run that succeeds."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
