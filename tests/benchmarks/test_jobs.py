"""The benchmark of jobs measures every way on the same images, and refuses others in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import jobs
from samjax.errors import SamjaxError
from tests.support.job_images import draw_folder


def test_every_way_is_measured_in_every_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photos, out = draw_folder(tmp_path / "photos", 3), tmp_path / "out"
    arguments = [str(photos), f"--out={out}", "--images=2", "--points-per-side=1", "--rounds=2"]
    jobs.run([*arguments, "--ways", "loop", "process-1", "batch-2"])
    content = json.loads((out / "jobs.json").read_text())
    assert (content["images"], len(content["rounds"])) == (2, 2)
    assert all(seconds > 0 for each in content["rounds"] for seconds in each.values())
    assert content["ways"]["loop"]["time relative to loop"] == 1
    assert [path.name for path in out.iterdir()] == ["jobs.json"]
    order = [line.split()[2] for line in capsys.readouterr().out.splitlines() if "round" in line]
    assert order == ["loop", "process-1", "batch-2", "process-1", "batch-2", "loop"]


def test_ratios_are_those_of_one_round():
    rounds = [{"loop": 10.0, "process-1": 12.0}, {"loop": 20.0, "process-1": 22.0}]
    found = jobs.summarise(rounds, 10)["process-1"]
    assert found["ms an image beyond loop"] == pytest.approx(200)
    assert found["time relative to loop"] == pytest.approx((1.2 + 1.1) / 2)


@pytest.mark.parametrize("way", ["dask-2", "process", "process-0", "loop-2", ""])
def test_unknown_ways(way: str, tmp_path: Path):
    with pytest.raises(SamjaxError, match=r"use loop, process-N, ray-N or batch-N$"):
        jobs.run([str(tmp_path), "--out", str(tmp_path / "out"), "--ways", "loop", way])
    assert not (tmp_path / "out").exists()
