"""Run the whole speed suite with fake competitors."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed import blocks, cli
from benchmarks.speed.process import WorkerProcess
from samjax.errors import SamjaxError
from tests.support.benchmarks.fake_models import Fakes, fakes
from tests.support.models import PLAIN

__all__ = ["fakes"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def run(fakes: Fakes, monkeypatch, picture, tmp_path):
    """Run the suite with the given competitors into a folder."""
    monkeypatch.setattr("benchmarks.speed.runner.PAUSE", 0.0)
    monkeypatch.setattr("benchmarks.speed.runner.LEAST", 0.0)
    monkeypatch.setattr("benchmarks.speed.model.source", lambda _: PLAIN)
    products = (fakes("product-float32", seconds=0.01, jobs=("product",)),)
    monkeypatch.setattr(cli, "PRODUCTS", products)
    monkeypatch.setattr("benchmarks.speed.runner.PRODUCTS", products)

    def go(competitors, *arguments):
        monkeypatch.setattr(cli, "COMPETITORS", tuple(competitors))
        out = tmp_path / "out"
        cli.main([*arguments, "--image", str(picture), "--device", "cpu", "--out", str(out)])
        results = json.loads((out / "results.json").read_text())
        return results, (out / "table.md").read_text(), out

    return go


def test_a_run_with_everything_that_can_happen(fakes: Fakes, run):
    competitors = [
        fakes("samjax-float32", seconds=0.05),
        fakes("official-float32", seconds=0.15, mandatory=True),
        fakes("cached-float32", seconds=0.05, caches=True),
        fakes("wrong-float32", error=0.5),
        fakes("broken-float32", dies=0),
        fakes("late-float32", dies=5),
        fakes("gone-float32", needs=("no_such_module",), install="pip install it"),
    ]
    results, table, out = run(competitors, "--rounds", "2", "--starts", "2",
                              "--jobs", "encoder", "click")  # fmt: skip
    model = results["models"]["embedded"]
    entries = model["competitors"]
    assert {n: e["state"] for n, e in entries.items()} == {
        "samjax-float32": "measured",
        "official-float32": "measured",
        "cached-float32": "measured",
        "wrong-float32": "wrong",
        "broken-float32": "failed",
        "late-float32": "failed",
        "gone-float32": "missing",
        "product-float32": "measured",
    }
    assert model["reference"] == "official-float32"
    for job, factor in (("encoder", 1), ("click", 2)):
        for name, known in (("samjax-float32", 0.05), ("official-float32", 0.15)):
            taken = entries[name]["seconds"][job]
            assert len(taken) == 2
            assert all(known * factor <= s < known * factor + 0.2 for s in taken)
    starts = {n: [s["cache"] for s in e["starts"]] for n, e in entries.items()}
    assert starts["samjax-float32"] == ["empty", "empty"]
    assert starts["cached-float32"] == ["empty", "empty", "filled", "filled"]
    assert entries["samjax-float32"]["starts"][0]["peak_mb"] > 10
    assert entries["broken-float32"]["reason"] == "the library gives up (exit code 1)"
    assert entries["late-float32"]["reason"] == "out of luck (exit code 1)"
    assert entries["wrong-float32"]["reason"].startswith("embedding off by 0.5 of its std")
    for words in (
        "**failed**: out of luck",
        "**missing**: no_such_module not installed (pip install it)",
        "**wrong**: embedding off by",
    ):
        assert table.count(words) == 2  # in each job's table
    assert "in round brackets the range" in table
    with Image.open(out / "plot.png") as plot:
        assert min(plot.size) > 200
    assert sorted(p.name for p in out.iterdir()) == ["plot.png", "results.json", "table.md"]


def test_ratios_in_the_table(fakes: Fakes, run):
    competitors = [fakes("samjax-float32", seconds=0.1), fakes("official-float32", seconds=0.3)]
    results, table, _ = run(competitors, "--rounds", "6", "--starts", "1", "--jobs", "encoder")
    seconds = {n: e["seconds"] for n, e in results["models"]["embedded"]["competitors"].items()}
    pairs = zip(
        seconds["official-float32"]["encoder"], seconds["samjax-float32"]["encoder"], strict=True
    )
    ratios = sorted(a / b for a, b in pairs)
    middle = (ratios[2] + ratios[3]) / 2
    assert 2 < middle < 4
    row = next(line for line in table.splitlines() if line.startswith("| official"))
    assert f"| {middle:.2f}x [{ratios[0]:.2f}, {ratios[-1]:.2f}] |" in row
    assert row.endswith("| 6 |")


def test_without_memory_everybody_is_started_again(fakes: Fakes, run, monkeypatch):
    class Counted(WorkerProcess):
        def __init__(self, competitor, *given):
            started.append(competitor.name)
            super().__init__(competitor, *given)

    started: list[str] = []
    monkeypatch.setattr("benchmarks.speed.runner.WorkerProcess", Counted)
    monkeypatch.setattr("benchmarks.speed.runner.available_mb", lambda: 0.0)
    competitors = [fakes("samjax-float32"), fakes("official-float32")]
    results, _, _ = run(competitors, "--rounds", "2", "--starts", "1")
    entries = results["models"]["embedded"]["competitors"]
    assert all(None not in s for e in entries.values() for s in e["seconds"].values())
    # Once before the rounds and once a round; the last to start is the first in the rounds
    assert started.count("official-float32") == 3
    assert started.count("samjax-float32") == 2
    assert len(entries["official-float32"]["starts"]) == 1


def test_missing_ones_are_left_out_on_demand(fakes: Fakes, run):
    gone = fakes("openvino-float32", needs=("no_such_module",), install="pip it", mandatory=True)
    results, table, _ = run(
        [fakes("samjax-float32"), gone], "--rounds", "1", "--starts", "1", "--allow-missing"
    )
    assert results["models"]["embedded"]["reference"] == "samjax-float32"
    assert "**missing**: no_such_module not installed (pip it)" in table


def test_slow_jobs_say_their_rounds(fakes: Fakes, run):
    competitors = [fakes("samjax-float32"), fakes("official-float32", seconds=0.2)]
    results, table, _ = run(competitors, "--rounds", "3", "--slow", "0.1", "--slow-rounds", "1",
                            "--jobs", "encoder", "--starts", "1")  # fmt: skip
    entries = results["models"]["embedded"]["competitors"]
    assert entries["official-float32"]["seconds"]["encoder"][1:] == [None, None]
    assert None not in entries["samjax-float32"]["seconds"]["encoder"]
    assert next(x for x in table.splitlines() if x.startswith("| official")).endswith("| 1 |")


def test_a_run_that_is_told_to_end_ends_all_workers(fakes: Fakes, run, monkeypatch):
    """Also the one that is starting, which the others do not know yet."""
    started = []

    class Remembered(WorkerProcess):
        def __init__(self, *given):
            super().__init__(*given)
            started.append(self._process)

    def told(*_):
        raise SystemExit(143)

    monkeypatch.setattr("benchmarks.speed.runner.WorkerProcess", Remembered)
    monkeypatch.setattr("benchmarks.speed.runner.compare", told)
    with pytest.raises(SystemExit):
        run([fakes("official-float32", seconds=0.01)], "--rounds", "1", "--starts", "1")
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_account_of_blocks(tmp_path, capsys):
    blocks.main(["--rounds", "1", "--dtype", "bfloat16", "--out", str(tmp_path)])
    text = (tmp_path / "blocks.md").read_text()
    assert text.strip() in capsys.readouterr().out
    names = ("whole encoder", "4 x windowed: attention", "4 x global: projection, MLP", "neck")
    assert all(f"| {name} |" in text for name in names)
    assert float(re.search(r"sum of the encoder's parts .* ([0-9.]+)% ", text)[1]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "at least 1"),
        (["--dtype", "float32", "int8"], "int8"),
        (["--out", __file__], "cannot be made"),
    ],
)
def test_account_of_wrong_input(arguments, message):
    with pytest.raises(SamjaxError, match=message):
        blocks.main(arguments)
