"""Test the statistics, order, checks and names of the speed suite."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.flops import encoder_flops
from benchmarks.speed import cli
from benchmarks.speed.check import compare
from benchmarks.speed.competitors import COMPETITORS, PRODUCTS, Competitor, choose
from benchmarks.speed.machine import commit, cpu_name, versions
from benchmarks.speed.paired import Ratio, interval, paired_ratio, summary
from benchmarks.speed.pool import Memory, Pool, to_close
from benchmarks.speed.report import busy, of_peak
from benchmarks.speed.runner import Entry, Plan, rotated, visits
from benchmarks.speed.task import Outputs
from samjax.model.config import ImageEncoderConfig, SamConfig
from tests.support.benchmarks.fake_models import Fakes, fakes

__all__ = ["fakes"]

PLAN = Plan(("encoder", "click"), rounds=3, slow=60, slow_rounds=1, starts=1)


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("count", "ranks"),
    # 1 - 2 (1 + n + ...) / 2^n: 6: .969; 8: .992, .930 without the ends; 9: .961; 12: .961
    [(1, None), (5, None), (6, (0, 5)), (7, (0, 6)), (8, (0, 7)), (9, (1, 7)), (12, (2, 9))],
)
def test_ranks_of_the_median_s_interval(count, ranks):
    assert interval(count) == ranks


def test_the_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.exponential(size=(4000, 9)), 1)
    inside = (drawn[:, 1] <= np.log(2)) & (np.log(2) <= drawn[:, 7])
    assert inside.mean() == pytest.approx(1 - 2 * (1 + 9) / 2**9, abs=0.012)


def test_ratios_are_taken_round_by_round():
    ours = {0: 1.0, 1: 2.0, 2: 4.0, 5: 1.0}
    theirs = {0: 3.0, 1: 4.0, 2: 20.0, 4: 100.0}
    # 3, 2, 5; a ratio of medians would be 12 / 1.5
    assert paired_ratio(ours, theirs) == Ratio(3.0, 2.0, 5.0, 3, sure=False)
    assert paired_ratio(ours, {7: 1.0}) is None


def test_seven_rounds_have_an_interval():
    assert summary([7, 1, 6, 2, 5, 3, 4]) == Ratio(4, 1, 7, 7, sure=True)


# ---------------------------------------------------------------- order


def test_the_order_rotates():
    names = ["a", "b", "c"]
    assert [rotated(names, turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_everybody_does_a_job_before_the_next_job_where_all_are_loaded():
    pairs = visits(["a", "b"], ["x", "y"], 1, by_job=True)
    assert pairs == [("b", "x"), ("a", "x"), ("b", "y"), ("a", "y")]
    pairs = visits(["a", "b"], ["x", "y"], 1, by_job=False)
    assert pairs == [("b", "x"), ("b", "y"), ("a", "x"), ("a", "y")]


def test_who_is_needed_last_leaves_the_memory():
    known = {n: Memory(peak=6.0, rest=2.0) for n in "abcd"}
    assert to_close("d", known, ["d", "c", "a", "b"], budget=12) == []
    assert to_close("d", known, ["d", "c", "a", "b"], budget=11) == ["b"]
    assert to_close("d", known, ["d", "c", "b"], budget=9) == ["a", "b"]
    assert to_close("d", known, ["d", "c", "b"], budget=1) == ["a", "b", "c"]


def test_who_takes_long_to_start_stays():
    known = {
        "now": Memory(6.0, 2.0),
        "compiled": Memory(6.0, 2.0, start=90.0),
        "large": Memory(12.0, 10.0, start=9.0),
        "small": Memory(6.0, 2.0, start=9.0),
        "done": Memory(6.0, 2.0, start=90.0),
    }
    upcoming = ["now", "large", "small", "compiled"]
    assert to_close("now", known, upcoming, budget=20) == ["done"]
    assert to_close("now", known, upcoming, budget=19) == ["done", "large"]
    assert to_close("now", known, upcoming, budget=9) == ["done", "large", "small"]
    assert to_close("large", known, ["large", "now", "compiled"], budget=16) == ["done", "small"]


def test_the_pool_starts_again_who_had_to_leave():
    class Loaded:
        def __init__(self, name):
            self.name = name

        def close(self):
            events.append(f"-{self.name}")

    def start(name):
        events.append(f"+{name}")
        return Loaded(name), Memory(8.0, 2.0)

    def free():  # of 12, 2 for each that is loaded; 0.85 of it all is 10.2
        return 12.0 - 2 * (len(events) - 2 * sum(e[0] == "-" for e in events))

    events: list[str] = []
    pool = Pool(start, guess=20.0, free=free)
    for name in "abab":
        pool.worker(name)
    # b is unknown and may take 20: a leaves; then one may run while the other rests
    assert events == ["+a", "-a", "+b", "+a"]
    assert pool.all_fit
    pool.close_all()
    assert sorted(events[4:]) == ["-a", "-b"]


def test_slow_jobs_run_in_fewer_rounds():
    entry = Entry(COMPETITORS[0], jobs=("encoder",), seconds={"encoder": [61.0, None, None]})
    assert not entry.takes_part("encoder", 1, PLAN)
    assert entry.takes_part("encoder", 1, replace(PLAN, slow_rounds=2))
    assert entry.takes_part("encoder", 1, replace(PLAN, slow=70))
    assert not entry.takes_part("click", 1, PLAN)
    entry.drop("failed", "")
    assert not entry.takes_part("encoder", 1, replace(PLAN, slow=70))


# ---------------------------------------------------------------- outputs, operations, machine


def outputs(error: float = 0.0) -> Outputs:
    rng = np.random.default_rng(0)
    low_res = rng.standard_normal((2, 3, 16, 16), np.float32)
    embedding = np.tile(np.float32([[[2, -2]]]), (4, 2, 1))  # std 2
    embedding[0, 0, 0] += error
    return Outputs(embedding, low_res, np.zeros((2, 3), np.float32), np.zeros((3, 5, 5), bool))


def test_equal_outputs_are_right():
    errors = compare(outputs(), outputs(), "float32")
    assert errors.pop("wrong") == ""
    assert errors.pop("pixels") == 1
    assert set(errors.values()) == {0.0}


def test_errors_are_relative():
    reference = outputs()
    found = replace(reference, low_res=reference.low_res + 0.05 * reference.low_res.std())
    errors = compare(replace(found, embedding=outputs(0.4).embedding), reference, "bfloat16")
    # One of 16 values of +-2 is off by 0.4
    assert errors["embedding"] == pytest.approx(0.2, rel=1e-4)
    assert errors["embedding rms"] == pytest.approx(0.4 / 4 / 2, rel=1e-4)
    assert errors["logits"] == pytest.approx(0.05, rel=1e-4)
    assert errors["logits rms"] == pytest.approx(0.05, rel=1e-4)
    assert not errors["wrong"]
    assert "logits off by 0.05 of its std" in compare(found, reference, "float32")["wrong"]


@pytest.mark.parametrize("error", [0.2, np.nan, np.inf])
def test_wrong_outputs_are_named(error):
    errors = compare(outputs(error), outputs(), "float32")
    assert errors["wrong"].startswith("embedding off by")
    assert all(np.isfinite(v) for k, v in errors.items() if k != "wrong")


def test_outputs_of_another_shape_are_wrong():
    found = replace(outputs(), masks=np.zeros((3, 5, 4), bool))
    assert compare(found, outputs(), "float32") == {
        "wrong": "masks of shape (3, 5, 4), not (3, 5, 5)"
    }


def test_operations_of_one_block_by_hand():
    # 4 x 4 patches of width 8, one window of 2 x 2 and one global block
    encoder = ImageEncoderConfig(
        image_size=16,
        patch_size=4,
        width=8,
        depth=2,
        num_heads=2,
        mlp_dim=16,
        out_dim=4,
        window_size=2,
        global_blocks=(1,),
    )
    patches = 2 * 16 * (4 * 4 * 3) * 8
    layers = 2 * (2 * 16 * (8 * 24 + 8 * 8 + 2 * 8 * 16))
    neck = 2 * 16 * (8 * 4 + 9 * 4 * 4)
    products = 2 * 2 * 16 * 4 * 8 + 2 * 2 * 16 * 16 * 8
    positions = 2 * 2 * 16 * 2 * 8 + 2 * 2 * 16 * 4 * 8
    config = SamConfig(encoder)
    assert encoder_flops(config, attention=False) == patches + layers + neck
    assert encoder_flops(config) == patches + layers + neck + products + positions


def test_the_fraction_of_the_matrix_product_is_paired():
    model = {
        "encoder flops": {"with attention": 4 * 2.0 * 4096 * 768 * 3072},
        "competitors": {
            "product-float32": {
                "dtype": "float32",
                "state": "measured",
                "seconds": {"product": [1.0, 2.0, None]},
            }
        },
    }
    entry = {"dtype": "float32", "state": "measured", "seconds": {"encoder": [8.0, 10.0, 3.0]}}
    # Four products' work in 8 and in 5 products' time
    assert of_peak(model, entry, "with attention") == Ratio(0.65, 0.5, 0.8, 2, sure=False)
    assert of_peak(model, entry | {"dtype": "bfloat16"}, "with attention") is None


def test_a_busy_machine_is_named():
    machine = {"cores used": 4, "load average before": [1.01, 0, 0]}
    assert "load 1.01" in busy(machine)
    assert not busy(machine | {"load average before": [0.9, 9, 9]})
    assert not busy(machine | {"load average before": None})


def test_the_machine_is_named():
    assert cpu_name()
    assert {"samjax", "python", "jax", "numpy"} <= versions().keys()
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", commit() or "0000000")


# ---------------------------------------------------------------- who takes part


def test_names_and_their_beginnings():
    def names(only):
        return [c.name for c in choose(COMPETITORS, only, ("float32", "bfloat16"))]

    assert names(["openvino"]) == ["openvino-float32", "openvino-bfloat16"]
    assert names(["official-float32"]) == ["official-float32"]
    assert "official-float32-compile" in names(["official"])
    assert "samjax-float16" not in names(None)


def test_reasons_to_be_missing():
    lacking = Competitor("x", "X", "x", "float32", needs=("no_such_module",), install="pip it")
    assert lacking.missing("cpu") == "no_such_module not installed (pip it)"
    assert lacking.missing("tpu") == "runs on cpu and gpu only"
    assert replace(lacking, needs=(), barred=lambda: "its licence").missing("cpu") == "its licence"
    assert replace(lacking, needs=()).missing("gpu") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "encode"], "--jobs encode: use encoder"),
        (["--only", "tinygrad"], "--only tinygrad: no competitor of that name"),
        (["--dtypes", "int8"], "--dtypes int8: use float32"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--slow-rounds", "0"], "--slow-rounds 0: at least 1"),
        (["--device", "npu"], "no device 'npu' here"),
        (["--model", "vit_x-random", "--only", "samjax"], "--model vit_x-random: use vit_b-random"),
        (["--model", "nowhere.pth", "--only", "samjax"], "nowhere.pth: no such file"),
        (["--image", "nowhere.jpg"], "nowhere.jpg"),
        (["--quick", "--model", "vit_b", "--rounds", "3"], "leave out --model, --rounds"),
        (["--device", "gpu:1"], "every competitor takes the first one"),
        (["--model", "no_such.pth"], "no such file or folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.command(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_cpu_s_table_needs_its_competitors(fakes: Fakes, monkeypatch, capsys):
    gone = fakes("onnxruntime-float32", needs=("no_such_module",), install="pip install it",
                 mandatory=True)  # fmt: skip
    monkeypatch.setattr(cli, "COMPETITORS", (gone,))
    with pytest.raises(SystemExit) as stopped:
        cli.command(["--device", "cpu"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "missing: onnxruntime-float32; install them (pip install it)" in error
    assert "--allow-missing" in error


def test_products_are_of_every_dtype():
    assert [p.dtype for p in PRODUCTS] == ["float32", "bfloat16", "float16"]
