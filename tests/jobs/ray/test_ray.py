"""On a Ray cluster of two nodes a job loses nothing: a worker, a node, then the driver is killed.

Run with ``python -m pytest -m ray``; SAMJAX_RAY_IMAGES sets the number of images (default 24).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from samjax.errors import SamjaxError
from samjax.jobs import AutomaskJob, read_results
from tests.support.job_images import draw_folder, make_job, result_bytes

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

IMAGES = int(os.environ.get("SAMJAX_RAY_IMAGES", "24"))
_SHARD = 4
_DRIVER = """
import sys, ray
from tests.support.job_images import make_job
if __name__ == "__main__":
    ray.init(address=sys.argv[3], log_to_driver=False)
    make_job(sys.argv[1], sys.argv[2], 4).run("ray", workers=2, progress=False)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("ray") / "photos", IMAGES)


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("single")
    job = make_job(photos, out, _SHARD)
    job.run(workers=1, progress=False)
    return result_bytes(out)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start two nodes with a place for one worker each."""
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(Path.cwd()), *sys.path)))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    made.second = made.add_node(num_cpus=1, num_gpus=0)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def _when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """Act in a thread as soon as the condition holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def _shards(out: Path) -> int:
    return len(list(out.glob("results/*.parquet")))


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _workers() -> list[int]:
    """Return the processes of this cluster's actors."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_actor = (entry / "cmdline").read_text().startswith("ray::_Worker")
            if is_actor and os.getpid() in _ancestors(int(entry.name)):
                found.append(int(entry.name))
    return found


def test_worker_and_node_are_lost_and_nothing_else(
    photos: Path, expected: dict[str, bytes], tmp_path: Path, cluster: Any
):
    out = tmp_path / "out"
    events: list[str] = []

    def kill() -> None:
        os.kill(_workers()[0], signal.SIGKILL)
        events.append("worker")

    def remove() -> None:
        cluster.remove_node(cluster.second, allow_graceful=False)
        events.append("node")

    first = _when(lambda: _shards(out) >= 1, kill)
    second = _when(lambda: bool(events) and _shards(out) >= 3, remove)
    job = make_job(photos, out, _SHARD)
    report = job.run("ray", workers=2, progress=False)
    first.join(10)
    second.join(10)
    assert events == ["worker", "node"]
    # A shard whose worker died after it was written is found, not made again.
    assert report.images + report.skipped == IMAGES
    assert report.failed == 0
    assert result_bytes(out) == expected
    names = [image.file_name for image in read_results(out)]
    assert len(names) == len(set(names)) == IMAGES


def test_driver_is_killed_and_started_again(
    photos: Path, expected: dict[str, bytes], tmp_path: Path, cluster: Any
):
    out = tmp_path / "out"
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    command = [sys.executable, str(script), str(photos), str(out), cluster.address]
    with subprocess.Popen(command) as driver:
        while _shards(out) < 1:
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
    before = _shards(out)
    assert 1 <= before < len(expected)
    report = AutomaskJob.open(out).run("ray", workers=2, progress=False)
    assert report.skipped >= _SHARD
    assert report.images + report.skipped == IMAGES
    assert result_bytes(out) == expected


def test_error_of_a_worker_is_the_drivers(photos: Path, tmp_path: Path, cluster: Any):
    job = make_job(photos, tmp_path / "out", _SHARD)
    job.plan().run["weights"] = "0" * 32
    with pytest.raises(SamjaxError, match=r"^embedded: weights, thresholds or dtype"):
        job.run("ray", workers=1, progress=False)
    assert cluster.second in cluster.worker_nodes
