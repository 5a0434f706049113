"""The GPU compile check, as far as it goes without the compilers of cards."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import pytest

from benchmarks.gpu_compile import cases, cli, hlo
from benchmarks.gpu_compile.account import Account, estimate, floor, problems
from benchmarks.gpu_compile.cards import CARDS
from benchmarks.gpu_compile.table import markdown
from samjax.errors import SamjaxError
from samjax.model.config import SamConfig

MODULE = """HloModule jit_f, is_scheduled=true

%slicing (a: f32[64,100], i: s32[]) -> f32[8,100] {
  %a = f32[64,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %ds = f32[8,100]{1,0} dynamic-slice(%a, %i), dynamic_slice_sizes={8,100}
}

%writing (o: f32[64,100], p: f32[8,100], j: s32[]) -> f32[64,100] {
  %o = f32[64,100]{1,0} parameter(0)
  %p = f32[8,100]{1,0} parameter(1)
  %j = s32[] parameter(2)
  ROOT %u = f32[64,100]{1,0} dynamic-update-slice(%o, %p, %j)
}

%body (t: (s32[], f32[64,100])) -> (s32[], f32[64,100]) {
  %t = (s32[], f32[64,100]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %x = f32[64,100]{1,0} get-tuple-element(%t), index=1
  %slice = f32[8,100]{1,0} fusion(%x, %n), kind=kLoop, calls=%slicing
  %write = f32[64,100]{1,0} fusion(%x, %slice, %n), kind=kLoop, calls=%writing
  ROOT %r = (s32[], f32[64,100]{1,0}) tuple(%n, %write)
}

%condition (t2: (s32[], f32[64,100])) -> pred[] {
  %t2 = (s32[], f32[64,100]{1,0}) parameter(0)
  %limit = s32[] constant(8)
  %n2 = s32[] get-tuple-element(%t2), index=0
  ROOT %less = pred[] compare(%n2, %limit), direction=LT
}

ENTRY %main (q: bf16[2,16,3,96], w: bf16[128,64], y: bf16[32,128], s: (s32[], f32[64,100])) -> f32[32,64] {
  %q = bf16[2,16,3,96]{3,2,1,0} parameter(0)
  %z = bf16[2,3,16,64]{3,2,1,0} parameter(4)
  %w = bf16[128,64]{1,0} parameter(1)
  %y = bf16[32,128]{1,0} parameter(2)
  %s = (s32[], f32[64,100]{1,0}) parameter(3)
  %loop = (s32[], f32[64,100]{1,0}) while(%s), condition=%condition, body=%body
  %fmha = (bf16[2,3,16,96]{3,1,2,0}, u8[0]{0}) custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(f)/attention/dot_product_attention_fwd"}
  %triton = bf16[2,3,16,64]{3,2,1,0} custom-call(%z, %z, %z), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(f)/attention/relative_attention/pallas_call"}
  %gemm = (f32[32,64]{1,0}, s8[4194304]{0}) custom-call(%y, %w), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %out = f32[32,64]{1,0} get-tuple-element(%gemm), index=0
}
"""  # noqa: E501


def found(**changes) -> Account:
    good = Account(
        card="h100", case="encode", model="vit_b", dtype="bfloat16", attention="auto",
        compile_s=4.0, arguments_mb=189.0, results_mb=4.0, temporary_mb=107.0,
        memory_mb=80000.0, kernels=228,
        fused=12, expected_fused=12, gflop={"bf16": 712.0}, half_share=1.0, gb_moved=7.5,
        largest_mb=50.0, attention_ms=1.4, products_ms=1.3, rest_ms=1.4, floor_ms=1.2,
    )  # fmt: skip
    return replace(good, **changes)


# ---------------------------------------------------------------- programs


def test_kernels_of_a_program_by_hand():
    kernels = {k.name: k for k in hlo.kernels(MODULE)}
    assert list(kernels) == ["slice", "write", "fmha", "triton", "gemm"]
    assert [k.times for k in kernels.values()] == [8, 8, 1, 1, 1]
    # Of what a loop slices or updates in place, the slices: read and written; an int32 index each
    assert kernels["slice"].bytes == 2 * 4 * 800 + 4
    assert kernels["write"].bytes == 2 * 4 * 800 + 4
    assert kernels["fmha"].flops == {hlo.FUSED: 2 * 2 * 3 * 16 * 16 * (96 + 96)}
    assert kernels["fmha"].fused_attention
    assert kernels["triton"].flops == {hlo.FUSED: 2 * 2 * 2 * 3 * 16 * 16 * 64}
    assert kernels["triton"].fused_attention
    assert kernels["gemm"].flops == {"bf16": 2 * 32 * 128 * 64}
    # cuBLAS's scratch memory is not traffic
    assert kernels["gemm"].bytes == 2 * (32 * 128 + 128 * 64) + 4 * 32 * 64


def test_not_a_program():
    with pytest.raises(ValueError, match="no HLO module"):
        hlo.kernels("nothing")


@pytest.mark.parametrize(
    ("inputs", "window", "outputs", "stride", "low", "spread", "pairs"),
    [
        (64, 1, 64, 1, 0, 1, 64),
        (8, 3, 8, 1, 1, 1, 22),  # the window hangs over both ends once
        (12, 12, 12, 11, 0, 12, 12),  # a batch of 12, as a TPU writes it
    ],
)
def test_valid_positions(inputs, window, outputs, stride, low, spread, pairs):
    assert hlo.valid_positions(inputs, window, outputs, stride, low, spread, 1) == pairs


def test_a_tpus_batched_product_is_a_convolution():
    rest = "%a, %b), window={size=12 stride=11 lhs_dilate=12}, dim_labels=0bf_0io->0bf"
    left, right, out = (
        hlo.Shape("bf16", dims) for dims in [(12, 100, 64), (12, 64, 50), (12, 100, 50)]
    )
    assert hlo.convolution_flops(rest, left, right, out) == 2 * 12 * 100 * 64 * 50


def test_arrays_on_the_chip_are_no_traffic():
    (near, far) = hlo.shapes("(bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, f32[8]{0:T(128)})")
    assert (near.bytes, far.bytes) == (0, 32)


def test_the_estimate_is_compute_or_traffic_or_launch():
    card = CARDS["h100"]
    wide = hlo.Kernel("a", "jit(f)/attention/dot", {"bf16": 650e12}, 0, times=2)
    slow = hlo.Kernel("b", "jit(f)/mlp/dot", {"bf16": 1}, int(2.8e12))
    tiny = hlo.Kernel("c", "jit(f)/add", {}, 8)
    spent = estimate([wide, slow, tiny], card)
    assert spent == pytest.approx({"attention": 2.0, "products": 1.0, "rest": 2e-6})


def test_the_floor_of_an_encoder():
    case = cases.CASES["encode"]
    assert floor(CARDS["h100"], case, "bfloat16", 937.6e9, 0) == pytest.approx(1.185e-3, rel=1e-3)


# ---------------------------------------------------------------- what must hold


def test_nothing_is_wrong():
    assert problems(found()) == []
    assert problems(found(case="measure", half_share=0.0, fused=0, expected_fused=0)) == []
    assert problems(found(dtype="float32", half_share=0.0, fused=0, expected_fused=0)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"compile_s": 61.0}, "61 CPU s to compile, limit 60"),
        ({"fused": 11}, "11 fused attentions, expected 12"),
        ({"half_share": 0.979}, "97.9% of the FLOPs in bfloat16"),
        ({"temporary_mb": 79900.0}, "80093 MB do not fit into 80000 MB"),
    ],
)
def test_what_is_wrong_is_said(change, said):
    assert problems(found(**change)) == [said]


@pytest.mark.parametrize(
    ("card", "model", "count"),
    [("t4", "vit_b", 0), ("a100", "vit_b", 8), ("a100", "vit_h", 28), ("l4", "vit_l", 20),
     ("h100", "vit_b", 12), ("b200", "vit_h", 32), ("v5e", "vit_b", 0)],
)  # fmt: skip
def test_attentions_that_must_be_fused(card, model, count):
    config = getattr(SamConfig, model)()
    assert cases.expected_fused(CARDS[card], config, CARDS[card].dtype) == count
    assert cases.expected_fused(CARDS[card], config, "float32") == 0


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize(
    ("card", "attention", "count", "written"),
    [("t4", "auto", 0, 0), ("a100", "auto", 8, 0), ("h100", "auto", 12, 0),
     ("t4", "pallas", 0, 0), ("a100", "pallas", 8, 4), ("h100", "pallas", 8, 4)],
)  # fmt: skip
def test_what_jax_lowers_for_a_card(card, attention, count, written):
    """Lowered without the card's compiler: JAX asks its questions, the kernels' calls are there."""
    one, case, config = CARDS[card], cases.CASES["encode"], SamConfig.vit_b()
    device = jax.devices("cpu")[0]
    chunks = cases.chunks_of(one, one.dtype, attention)
    with cases.pretending(one):
        function, arguments = cases.traceable(case, config, one.dtype, device, chunks)
        text = function.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("custom_call @__cudnn$fmhaSoftmax(") == count
    assert text.count("xla.gpu.triton") == written
    assert cases.expected_fused(one, config, one.dtype, attention) == count + written


# ---------------------------------------------------------------- the command


def test_the_decoder_is_compiled_once_for_all_models():
    tasks = list(cli.plan(["t4", "h100"], ["encode", "click"], ["vit_b", "vit_h"], None))
    assert [t[:3] for t in tasks[:3]] == [
        ("t4", "encode", "vit_b"),
        ("t4", "encode", "vit_h"),
        ("t4", "click", "vit_b"),
    ]
    assert len(tasks) == 6
    assert {t.card: t.dtype for t in tasks} == {"t4": "float16", "h100": "bfloat16"}


def test_missing_compilers_are_named(monkeypatch):
    monkeypatch.setattr(cli, "WHEELS", {"cuda": ("no_such_module.at_all", "pip install x=={0}")})
    with pytest.raises(SamjaxError, match=f"not installed: pip install x=={jax.__version__}"):
        cli.main(["--card", "t4"])


@pytest.fixture
def compiled(monkeypatch):
    """Records instead of compilations."""
    records = {}

    def compile_apart(task, timeout, folder):  # noqa: ARG001
        return records.get(task.case) or found(**task._asdict()).record()

    monkeypatch.setattr(cli, "compile_apart", compile_apart)
    monkeypatch.setattr(cli, "require_compilers", lambda _: None)
    return records


def test_a_run_and_a_run_beside_it(compiled, tmp_path, capsys):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    chosen = ["--card", "h100", "--case", "encode", "click"]
    assert cli.main([*chosen, "--out", str(first)]) == 0
    kept = json.loads(first.read_text())
    assert [r["case"] for r in kept["functions"]] == ["encode", "click"]
    assert kept["versions"]["jax"] == jax.__version__

    compiled["encode"] = found(rest_ms=0.4).record()
    compiled["click"] = {"card": "h100", "case": "click", "model": "vit_b", "dtype": "bfloat16",
                         "problems": ["not compiled: no"]}  # fmt: skip
    assert cli.main([*chosen, "--out", str(second), "--before", str(first)]) == 1
    captured = capsys.readouterr()
    assert "click vit_b bfloat16: not compiled: no" in captured.err
    assert "1 of 2 functions as they must be" in captured.out
    text = second.with_suffix(".md").read_text()
    assert "| 3.1 [4.1] |" in text
    assert "1.4 + 1.3 + 0.4 [1.4 + 1.3 + 1.4]" in text
    assert "ESTIMATE" in text
    assert "**not compiled: no**" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "table.md"], "must end in .json"),
        (["--before", "missing.json"], "not an account"),
        (["--timeout", "0"], "positive"),
    ],
)
def test_wrong_use(arguments, said, compiled):  # noqa: ARG001
    with pytest.raises(SamjaxError, match=said):
        cli.main(arguments)


def test_the_table_says_what_failed():
    text = markdown([found(fused=3).record()])
    assert "**3 fused attentions, expected 12**" in text
