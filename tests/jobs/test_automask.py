"""A job gives the generator's records, once each and in the same bytes, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import samjax
from samjax.errors import AnnotationWarning, SamjaxError
from samjax.jobs import AutomaskJob, read_failures, read_results
from samjax.jobs.plan import read_shard_images
from tests.support.job_images import SIDE, draw_folder, make_job, result_bytes

_SCRIPT = """
import sys
from tests.support.job_images import make_job
if __name__ == "__main__":
    make_job(sys.argv[1], sys.argv[2]).run(workers=int(sys.argv[3]), progress=False)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("jobs") / "photos", 5)


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    report = make_job(photos, out).run(workers=1, progress=False)
    assert (report.images, report.failed, report.skipped) == (5, 0, 0)
    return out


def test_results_are_the_records_of_the_generator(photos: Path, done: Path):
    generator = samjax.SamAutomaticMaskGenerator(samjax.load(), output_mode="coco_rle", **SIDE)
    found = list(samjax.read_results(done))
    assert [image.file_name for image in found] == [
        "a/000.png", "a/002.png", "a/004.png", "b/001.png", "b/003.png",
    ]  # fmt: skip
    for name, size, records in found:
        assert size == samjax.read_image(photos / name).shape[:2]
        assert records == generator.generate(photos / name)
    assert sum(len(records) for _, _, records in found) > 0


def test_tiles_are_the_generators_too(photos: Path, tmp_path: Path):
    tiles = {"tile_size": 40, "tile_halo": 8}
    make_job([photos / "a/000.png"], tmp_path, **tiles).run(workers=1, progress=False)
    generator = samjax.SamAutomaticMaskGenerator(
        samjax.load(), output_mode="coco_rle", **SIDE, **tiles
    )
    (image,) = read_results(tmp_path)
    assert image.records == generator.generate(photos / "a/000.png")


def test_two_processes_write_the_same_bytes(photos: Path, done: Path, tmp_path: Path):
    arguments = [sys.executable, "-c", _SCRIPT, str(photos), str(tmp_path), "2"]
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    arguments[1:3] = [str(script)]
    subprocess.run(arguments, check=True, env=_environment(), timeout=300)
    assert result_bytes(tmp_path) == result_bytes(done)
    assert (tmp_path / "plan.parquet").read_bytes() == (done / "plan.parquet").read_bytes()
    assert not list((tmp_path / "drivers").iterdir())


def test_killed_workers_shards_are_run_again(photos: Path, done: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    arguments = [sys.executable, str(script), str(photos), str(tmp_path), "2"]
    with subprocess.Popen(arguments, env=_environment()) as driver:
        killed = _kill_a_worker(driver.pid)
        assert driver.wait(timeout=300) == 0
    assert killed
    assert result_bytes(tmp_path) == result_bytes(done)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(Path.cwd()), *sys.path))}


def _kill_a_worker(driver: int) -> bool:
    """Kill the first worker that runs the model; the spawn of the plan comes before."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                line = (entry / "cmdline").read_text()
            except OSError:
                continue
            if parent == driver and "spawn_main" in line:
                found.append(int(entry.name))
        if len(found) == 2:
            os.kill(found[0], signal.SIGKILL)
            return True
        time.sleep(0.02)
    return False


def test_goes_on_after_a_loss_with_the_shards_that_are_missing(
    photos: Path, done: Path, tmp_path: Path
):
    job = make_job(photos, tmp_path)
    assert job.run_shard(1) == (1, 2, job.run_shard(1).masks, 0, False)
    assert job.run_shard(1).skipped
    half = tmp_path / "results/shard-00002-of-00003.parquet"
    half.write_bytes(result_bytes(done)[half.name][:-100])  # a disk that was not safe
    assert (job.status().shards_done, job.status().images_done) == (1, 2)
    again = make_job(photos, tmp_path)
    report = again.run(workers=1, progress=False)
    assert (report.images, report.skipped) == (3, 2)
    assert result_bytes(tmp_path) == result_bytes(done)
    assert again.status().images_done == again.status().images == 5


def test_part_of_the_shards(photos: Path, done: Path, tmp_path: Path):
    for part in ("2/2", "1/2"):
        make_job(photos, tmp_path).run(workers=1, shard=part, progress=False)
    assert result_bytes(tmp_path) == result_bytes(done)


def test_failed_images_are_rows_and_can_be_tried_again(tmp_path: Path):
    source = draw_folder(tmp_path / "photos", 3)
    broken = source / "a/000.png"
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    (source / "a/none.jpg").touch()
    out = tmp_path / "out"
    job = make_job(source, out)
    assert job.run(workers=1, progress=False).failed == 2
    reasons = read_failures(out)
    assert list(reasons) == ["a/000.png", "a/none.jpg"]
    assert "damaged" in reasons["a/000.png"]
    assert "is empty" in reasons["a/none.jpg"]
    with pytest.warns(AnnotationWarning, match=r"2 images failed and left out: a/000.png, a/no"):
        assert [image.file_name for image in read_results(out)] == ["a/002.png", "b/001.png"]
    assert job.run(workers=1, progress=False).skipped == 4
    report = job.run(workers=1, retry_failed=True, progress=False)
    assert (report.images, report.skipped, report.failed) == (2, 2, 2)
    broken.write_bytes(good)  # no need to ask for it: it has changed
    report = job.run(workers=1, progress=False)
    assert (report.images, report.skipped, report.failed) == (1, 3, 1)
    assert list(read_failures(out)) == ["a/none.jpg"]


def test_plan_is_frozen_and_of_one_model_and_options(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path)
    plan = job.plan()
    assert (plan.images, plan.shards, plan.shard_size(2)) == (5, 3, 1)
    assert [image.name for image in read_shard_images(job.destination, 1)] == [
        "a/004.png",
        "b/001.png",
    ]
    assert make_job(photos, tmp_path).plan() == plan
    assert AutomaskJob.open(tmp_path).plan() == plan
    with pytest.raises(SamjaxError, match=r"planned with points_per_side 2, not 3: choose"):
        make_job(photos, tmp_path, points_per_side=3).plan()
    with pytest.raises(SamjaxError, match=r"planned with source .*photos', not .*a': choose"):
        make_job(photos / "a", tmp_path).plan()
    with pytest.raises(SamjaxError, match=r"planned with images_per_shard 2, not 3"):
        make_job(photos, tmp_path, 3).plan()


def test_refuses_results_of_another_plan(photos: Path, done: Path, tmp_path: Path):
    job = make_job(photos, tmp_path, points_per_side=3)
    job.plan()
    name = "shard-00000-of-00003.parquet"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / name).write_bytes(result_bytes(done)[name])
    with pytest.raises(SamjaxError, match=r"of another model or other options than the plan"):
        job.run_shard(0)


def test_refuses_other_weights_than_planned(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path)
    job.plan()
    job.plan().run["weights"] = "0" * 32
    with pytest.raises(SamjaxError, match=r"embedded: weights, thresholds or dtype .float32."):
        job.run_shard(0)


def test_second_driver_is_refused_while_the_first_lives(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path)
    folder = tmp_path / "drivers"
    folder.mkdir(parents=True)
    sign: dict[str, Any] = {"host": "node7", "pid": 1, "id": "x", "time": time.time()}
    (folder / "part-1-of-1.json").write_text(json.dumps(sign))
    for shard in (None, "1/2"):
        with pytest.raises(SamjaxError, match=r"process 1 on node7 works on part-1-of-1: wait"):
            job.run(workers=1, shard=shard, progress=False)
    (folder / "part-1-of-1.json").write_text(json.dumps(sign | {"time": time.time() - 200}))
    assert job.run(workers=1, progress=False).images == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, o: make_job(p, o, 0), "images_per_shard is 0: at least 1"),
        (lambda p, o: make_job(p, o, output_mode="coco_rle"), "output_mode: is no option"),
        (lambda _, o: AutomaskJob.open(o), "has no plan.parquet: plan the job first"),
        (lambda p, o: make_job(p, o).run("dask"), "engine 'dask': use process or ray"),
        (lambda p, o: make_job(p, o).run(workers=0), "workers is 0: at least 1"),
        (lambda p, _: make_job(p, "memory://x").run(workers=2), "is of this process alone"),
        (lambda p, _: make_job(p, "nope://x/y").plan(), "no store is known for nope://"),
        (lambda p, o: make_job(p / "none", o).plan(), "no such file or folder"),
        (lambda p, o: make_job(p, o).run_shard(9), "shard 9: the plan has shards 0 to 2"),
        (lambda _, o: list(read_results(o)), "has no results: run the job first"),
    ],
)
def test_wrong_use_is_told_in_one_line(call: Any, message: str, photos: Path, tmp_path: Path):
    with pytest.raises(SamjaxError) as caught:
        call(photos, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_plan_is_not_replaced(photos: Path, tmp_path: Path):
    (tmp_path / "plan.parquet").write_bytes(b"mine")
    with pytest.raises(SamjaxError, match=r"is not the plan of a job, or is damaged: choose"):
        make_job(photos, tmp_path).plan()
    assert (tmp_path / "plan.parquet").read_bytes() == b"mine"


def test_destination_that_takes_nothing(photos: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SamjaxError, match=r"file/out/plan.parquet: NotADirectoryError"):
        make_job(photos, tmp_path / "file/out").plan()
