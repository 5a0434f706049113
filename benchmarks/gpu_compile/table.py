"""The table of a run, beside an earlier one where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.gpu_compile.cards import CARDS
from benchmarks.gpu_compile.cases import CASES
from benchmarks.speed.report import table

Record = Mapping[str, Any]
HEAD = [
    "card", "function", "compile, CPU s", "memory, MB (of the card)", "temporary, MB",
    "fused attentions", "half-precision FLOPs", "kernels", "GB moved",
    "estimate, ms", "of which attention + products + rest", "floor / estimate", "",
]  # fmt: skip
NOTE = (
    "Nothing ran on these cards. Compile seconds, memory, fused attentions, FLOPs and kernels are "
    "the compiler's account; GB moved are read from its program. Every ms is an ESTIMATE, for all "
    "images or prompts of the function together: for each kernel the larger of its operations at "
    "the card's usual rate and its bytes at the usual bandwidth, perhaps 30% off (rates: "
    "benchmarks/gpu_compile/cards.py). Floor: the function's operations at 0.8 of the nominal "
    "rate, or its arguments and results at the usual bandwidth. Matrix products were not "
    "autotuned, which needs the card and takes seconds more there. The decoder and the "
    "measurements are the same for all models."
)


def key(record: Record) -> tuple[str, ...]:
    """What a record is about."""
    return tuple(record[name] for name in ("card", "case", "model", "dtype"))


def markdown(records: Sequence[Record], before: Sequence[Record] = ()) -> str:
    """The table; numbers of ``before`` follow in brackets."""
    earlier = {key(r): r for r in before}
    lines = [line(r, earlier.get(key(r))) for r in records]
    note = NOTE + (" In brackets: before." if before else "")
    return table(HEAD, lines) + f"\n\n({note})\n"


def line(record: Record, earlier: Record | None) -> list[str]:
    """One function on one card."""
    card, case = CARDS[record["card"]], CASES[record["case"]]
    model = f"{record['model']} " if case.of_encoder else ""
    start = [card.title, f"{model}{case.title}, {record['dtype']}"]
    wrong = "; ".join(record["problems"])
    if "compile_s" not in record:
        return [*start, *[""] * (len(HEAD) - 3), f"**{wrong}**"]
    columns: list[Callable[[Record], str]] = [
        lambda r: f"{r['compile_s']:.1f}",
        lambda r: f"{total_mb(r):.0f} ({100 * total_mb(r) / r['memory_mb']:.1f}%)",
        lambda r: f"{r['temporary_mb']:.0f}",
        fused,
        lambda r: f"{100 * r['half_share']:.1f}%" if case.of_network else "",
        lambda r: f"{r['kernels']}",
        lambda r: f"{r['gb_moved']:.3g}",
        lambda r: f"{total_ms(r):.3g}",
        parts,
        lambda r: f"{r['floor_ms'] / total_ms(r):.2f}",
    ]
    cells = [beside(record, earlier, column) for column in columns]
    return [*start, *cells, f"**{wrong}**" if wrong else "ok"]


def beside(record: Record, earlier: Record | None, cell: Callable[[Record], str]) -> str:
    """A cell, and what it was before where that is something else."""
    now = cell(record)
    if earlier is None or "compile_s" not in earlier or cell(earlier) == now:
        return now
    return f"{now} [{cell(earlier)}]"


def total_mb(record: Record) -> float:
    """Device memory of a call."""
    return sum(record[f"{part}_mb"] for part in ("arguments", "results", "temporary"))


def total_ms(record: Record) -> float:
    """The estimate."""
    return sum(record[f"{part}_ms"] for part in ("attention", "products", "rest"))


def parts(record: Record) -> str:
    """The estimate's three terms."""
    return " + ".join(f"{record[f'{part}_ms']:.3g}" for part in ("attention", "products", "rest"))


def fused(record: Record) -> str:
    """Found of expected."""
    return f"{record['fused']} of {record['expected_fused']}" if record["expected_fused"] else ""
