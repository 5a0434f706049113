"""What XLA made of a function: figures from the compiler, an estimate, and what is wrong."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.flops import encoder_flops
from benchmarks.gpu_compile.cards import Card
from benchmarks.gpu_compile.cases import CASES, Case, expected_fused, lowered
from benchmarks.gpu_compile.hlo import FUSED, Kernel, kernels, total_flops
from samjax.model.config import SamConfig

LEAST_HALF_SHARE = 0.98
# Without the card nothing can be autotuned: products are calls of cuBLAS.
OPTIONS = {"cuda": {"xla_gpu_enable_triton_gemm": False}, "tpu": {}}
_SCOPE = "attention"  # samjax.model.image_encoder's named scope


@dataclass(frozen=True)
class Account:
    """Figures of one compiled function.

    From the compiler: ``compile_s`` CPU seconds of this process and of the assembler; megabytes of
    arguments, results and temporaries; number of kernels and of fused attentions, GFLOP by dtype,
    ``half_share`` of them in half precision, GB moved, the largest array in MB.

    Estimates, in milliseconds for all images or prompts of the case: ``attention_ms``,
    ``products_ms`` and ``rest_ms`` of the roofline; ``floor_ms``: the function's own operations at
    0.8 of the nominal rate, or its arguments and results at the usual bandwidth.
    """

    card: str
    case: str
    model: str
    dtype: str
    attention: str
    compile_s: float
    arguments_mb: float
    results_mb: float
    temporary_mb: float
    memory_mb: float
    kernels: int
    fused: int
    expected_fused: int
    gflop: dict[str, float]
    half_share: float
    gb_moved: float
    largest_mb: float
    attention_ms: float
    products_ms: float
    rest_ms: float
    floor_ms: float

    @property
    def estimate_ms(self) -> float:
        """The roofline estimate of the whole."""
        return self.attention_ms + self.products_ms + self.rest_ms

    @property
    def total_mb(self) -> float:
        """Device memory that the call holds at once."""
        return self.arguments_mb + self.results_mb + self.temporary_mb

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"problems": problems(self)}


def problems(found: Account) -> list[str]:
    """What is not as it must be, in words."""
    wrong: list[str] = []
    case = CASES[found.case]
    if found.compile_s > case.limit:
        wrong.append(f"{found.compile_s:.0f} CPU s to compile, limit {case.limit:g}")
    if found.fused < found.expected_fused:
        wrong.append(f"{found.fused} fused attentions, expected {found.expected_fused}")
    half = case.of_network and found.dtype != "float32"
    if half and found.half_share < LEAST_HALF_SHARE:
        wrong.append(f"{100 * found.half_share:.1f}% of the FLOPs in {found.dtype}")
    if found.total_mb > found.memory_mb:
        wrong.append(f"{found.total_mb:.0f} MB do not fit into {found.memory_mb:.0f} MB")
    return wrong


def account(
    name: str, card: Card, case_name: str, model: str, dtype: str, attention: str
) -> tuple[Account, str]:
    """Compile a case for a card: the figures, and the optimized HLO."""
    case, config = CASES[case_name], getattr(SamConfig, model)()
    function = lowered(card, case, model, dtype, attention)
    before = cpu_seconds()
    compiled = function.compile(compiler_options=OPTIONS[card.platform])
    spent, memory, text = cpu_seconds() - before, compiled.memory_analysis(), compiled.as_text()
    found = kernels(text)
    flops = total_flops(found)
    parts = estimate(found, card)
    io = memory.argument_size_in_bytes + memory.output_size_in_bytes
    needed = case.images * encoder_flops(config) if case.images else sum(flops.values())
    half = sum(n for kind, n in flops.items() if kind not in ("f32", "f64"))
    return Account(
        card=name,
        case=case_name,
        model=model,
        dtype=dtype,
        attention=attention,
        compile_s=round(spent, 1),
        arguments_mb=round(memory.argument_size_in_bytes / 1e6, 1),
        results_mb=round(memory.output_size_in_bytes / 1e6, 1),
        temporary_mb=round(memory.temp_size_in_bytes / 1e6, 1),
        memory_mb=round(card.memory / 1e6),
        kernels=sum(k.times for k in found),
        fused=sum(k.times for k in found if k.fused_attention),
        expected_fused=(expected_fused(card, config, dtype, attention) if case.of_encoder else 0),
        gflop={kind: round(n / 1e9, 1) for kind, n in sorted(flops.items())},
        half_share=round(half / max(1, sum(flops.values())), 4),
        gb_moved=round(sum(k.bytes * k.times for k in found) / 1e9, 3),
        largest_mb=round(max(k.largest for k in found) / 1e6, 1),
        floor_ms=round(1e3 * floor(card, case, dtype, needed, io), 4),
        **{f"{part}_ms": round(1e3 * seconds, 4) for part, seconds in parts.items()},
    ), text


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children (ptxas)."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def estimate(found: Sequence[Kernel], card: Card) -> dict[str, float]:
    """Seconds by part: attention (products in its scope), other products, all other kernels."""
    rates, spent = card.rates, {"attention": 0.0, "products": 0.0, "rest": 0.0}
    speeds = {FUSED: rates.fused, "bf16": rates.half, "f16": rates.half}
    for kernel in found:
        compute = sum(n / speeds.get(kind, rates.single) / 1e12 for kind, n in kernel.flops.items())
        moving = kernel.bytes / rates.bandwidth / 1e12
        part = "rest"
        if kernel.flops:
            part = "attention" if _SCOPE in kernel.source or kernel.fused_attention else "products"
        spent[part] += max(compute, moving, rates.launch) * kernel.times
    return spent


def floor(card: Card, case: Case, dtype: str, flops: float, io: int) -> float:
    """Seconds below which the card cannot be: operations or traffic that nothing can save."""
    half = dtype != "float32" and case.of_network
    rate = 0.8 * card.peak if half else card.rates.single
    return max(flops / rate / 1e12, io / card.rates.bandwidth / 1e12)
