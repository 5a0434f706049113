"""Make the records of results.json, and the tables from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.speed.competitors.sizes import PRODUCT, PRODUCT_FLOPS
from benchmarks.speed.paired import Ratio, paired_ratio, summary
from benchmarks.speed.runner import Entry, Plan, Run
from benchmarks.speed.task import FILES, JOBS, POINTS

Record = Mapping[str, Any]
OURS = ("samjax-float32", "samjax-bfloat16")
TITLES = {
    "encoder": "Image encoder",
    "set_image": "Preprocessing and image encoder",
    "files": f"{FILES} files: reading and preprocessing, without the encoder",
    "click": "One click: decoder and three full-size masks",
    "points": f"{POINTS} points in one call: decoder and three full-size masks each",
    "automatic": "Automatic masks, end to end",
}


def model_record(
    name: str, fingerprint: str, flops: Mapping[str, float], plan: Plan, run: Run
) -> dict[str, Any]:
    """Make one model's part of results.json, with all measured seconds."""
    return {
        "model": name,
        "weights": fingerprint,
        "encoder flops": dict(flops),
        "jobs": list(plan.jobs),
        "rounds": plan.rounds,
        "reference": run.reference_name,
        "competitors": {n: entry_record(e) for n, e in run.entries.items()},
    }


def entry_record(entry: Entry) -> dict[str, Any]:
    """Make one competitor's part of results.json."""
    return {
        "label": entry.competitor.label,
        "dtype": entry.competitor.dtype,
        "precision": entry.precision,
        "state": entry.state,
        "reason": entry.reason,
        "check": entry.check,
        "starts": entry.starts,
        "peak_mb": entry.peak_mb,
        "seconds": entry.seconds,
    }


# ---------------------------------------------------------------- reading a record


def rounds(entry: Record, job: str) -> dict[int, float]:
    """Return the seconds by round in which the job ran; empty if the competitor failed."""
    if entry["state"] != "measured":
        return {}
    return {i: s for i, s in enumerate(entry["seconds"].get(job, [])) if s is not None}


def of_peak(model: Record, entry: Record, convention: str) -> Ratio | None:
    """Compute the encoder's throughput relative to the matrix product of its dtype."""
    product = model["competitors"].get(f"product-{entry['dtype']}")
    if product is None:
        return None
    share = model["encoder flops"][convention] / PRODUCT_FLOPS
    ratio = paired_ratio(rounds(entry, "encoder"), rounds(product, "product"))
    return ratio and Ratio(
        ratio.median * share, ratio.low * share, ratio.high * share, ratio.pairs, ratio.sure
    )


def milliseconds(value: float) -> str:
    """Format seconds as milliseconds with three digits, or whole ones from 100 on."""
    ms = 1e3 * value
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def times(ratio: Ratio | None) -> str:
    """Format a ratio of times with its interval; a range stands in round brackets."""
    if ratio is None:
        return ""
    left, right = "[]" if ratio.sure else "()"
    return f"{ratio.median:.2f}x {left}{ratio.low:.2f}, {ratio.high:.2f}{right}"


# ---------------------------------------------------------------- tables


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def shown(model: Record) -> dict[str, Record]:
    """Return the competitors in order, without the matrix products."""
    return {n: e for n, e in model["competitors"].items() if not n.startswith("product-")}


def job_table(model: Record, job: str) -> str:
    """Tabulate the median times of a job and their ratios to samjax's."""
    ours = [n for n in OURS if rounds(model["competitors"].get(n, {"state": ""}), job)]
    extra = {
        "encoder": ["share of peak", "without attention", "embedding error (rms)"],
        "files": ["images/s", "one image's share of its encoder"],
    }
    decoder = ["logits error (rms)", "equal pixels"]
    more = extra.get(job, decoder if job in ("click", "points") else [])
    head = ["", "dtype", "products", "ms", *(f"{n} = 1" for n in ours), *more, "rounds"]
    lines = []
    for entry in shown(model).values():
        taken = rounds(entry, job)
        if entry["state"] != "measured":
            cells = [f"**{entry['state']}**: {entry['reason']}"]
        elif not taken:
            continue
        else:
            cells = [
                milliseconds(summary(list(taken.values())).median),
                *(times(paired_ratio(rounds(model["competitors"][n], job), taken)) for n in ours),
                *extras(model, entry, job),
                str(len(taken)),
            ]
        row = [entry["label"], entry["dtype"], entry["precision"], *cells]
        lines.append(row + [""] * (len(head) - len(row)))
    return table(head, lines)


def extras(model: Record, entry: Record, job: str) -> list[str]:
    """Format the cells of the columns that only one kind of job has."""
    check = entry["check"]
    if job == "encoder":
        shares = [of_peak(model, entry, c) for c in ("with attention", "without attention")]
        error = f"{check['embedding']:.1e} ({check['embedding rms']:.0e})" if check else ""
        return [*(f"{share.median:.2f}" if share else "" for share in shares), error]
    if job == "files":
        one = {turn: s / FILES for turn, s in rounds(entry, job).items()}
        share = paired_ratio(rounds(entry, "encoder"), one)
        return [f"{1 / middle(one.values()):.0f}", f"{share.median:.1%}" if share else ""]
    if job in ("click", "points"):
        if not check:
            return ["", ""]
        return [f"{check['logits']:.1e} ({check['logits rms']:.0e})", f"{check['pixels']:.3%}"]
    return []


def starts_table(model: Record) -> str:
    """Tabulate loading, first calls and memory as medians over fresh processes."""
    head = [
        "",
        "dtype",
        "import, s",
        "load, s",
        "first encode + click, s",
        "again, from its cache, s",
        "same two calls warm, s",
        "peak memory, MB",
        "starts",
    ]
    lines = []
    for entry in shown(model).values():
        if entry["state"] != "measured" or not entry["starts"]:
            continue
        by_cache = {c: [s for s in entry["starts"] if s["cache"] == c] for c in ("empty", "filled")}
        cold, cached = by_cache["empty"], by_cache["filled"]
        warm = [rounds(entry, job) for job in ("encoder", "click")]
        medians = [summary(list(taken.values())).median for taken in warm if taken]
        lines.append(
            [
                entry["label"],
                entry["dtype"],
                f"{middle(s['import'] for s in cold):.2f}",
                f"{middle(s['load'] for s in cold):.2f}",
                f"{middle(sum(s['first'].values()) for s in cold):.2f}",
                f"{middle(sum(s['first'].values()) for s in cached):.2f}" if cached else "",
                f"{sum(medians):.2f}" if len(medians) == 2 else "",
                memory(cold),
                f"{len(cold)} + {len(cached)}",
            ]
        )
    return table(head, lines)


def middle(values: Any) -> float:
    """Return the median of values."""
    return summary(list(values)).median


def memory(starts: Sequence[Record]) -> str:
    """Format the peak memory of the process, and of the accelerator if there is one."""
    own = f"{middle(s['peak_mb'] for s in starts):.0f}"
    device = [s["device_peak_mb"] for s in starts if s["device_peak_mb"] is not None]
    return f"{own}, {middle(device):.0f} on the device" if device else own


def product_line(model: Record) -> str:
    """State the throughput of the matrix products."""
    rates = []
    for name, entry in model["competitors"].items():
        taken = rounds(entry, "product")
        if name.startswith("product-") and taken:
            rate = PRODUCT_FLOPS / summary(list(taken.values())).median / 1e9
            rates.append(f"{entry['dtype']} {rate:.0f} GFLOP/s ({entry['precision']})")
    sizes = " x ".join(map(str, PRODUCT))
    return f"Matrix product {sizes} in JAX, in the same rounds: " + ", ".join(rates) + "."


def markdown(results: Record) -> str:
    """Make the whole report in Markdown."""
    machine, versions = results["machine"], results["versions"]
    parts = [
        "# Speed",
        (
            f"{results['date']}, commit {results['commit'] or 'unknown'}, {machine['cpu']}, "
            f"{machine['cores used']} cores, {machine['memory, GB']} GB, device "
            f"{machine['device']}, {machine['os']}; load average before: "
            f"{machine['load average before']}."
        ),
        ", ".join(f"{k} {v}" for k, v in versions.items()) + f". Image: {results['image']}.",
        busy(machine),
        results["note"],
        NOTES,
    ]
    for name, model in results["models"].items():
        flops = [f"{model['encoder flops'][c] / 1e9:.4g}" for c in model["encoder flops"]]
        parts += [
            f"## {name}",
            (
                f"Encoder: {flops[0]} GFLOP with attention, {flops[1]} without its products and "
                "relative positions, as published GMACs count (a multiply-add is two; windows "
                f"unpadded). {product_line(model)} Errors are against {model['reference']}."
            ),
        ]
        for job in model["jobs"]:
            about = f" ({JOBS[job]})"
            parts += [f"### {TITLES[job]}", f"{job}{about}.", job_table(model, job)]
        parts += ["### Starts and memory", starts_table(model)]
    return "\n\n".join(part for part in parts if part) + "\n"


def busy(machine: Record) -> str:
    """Warn if other programs kept the machine busy when the run began, else return ""."""
    load = machine["load average before"]
    if not load or load[0] < 0.25 * machine["cores used"]:
        return ""
    return (
        f"**The machine was busy (load {load[0]}): do not quote these figures.** Other programs "
        "slow competitors very unequally, PyTorch's threads most: they wait for each other after "
        "every operation."
    )


NOTES = (
    "Every competitor runs in a process of its own with all cores, while the others are blocked; "
    "the order rotates every round. Its outputs are checked first: times of wrong outputs are not "
    "shown. A round's time is one call, or the median of the calls in half a second. ms: median "
    "over rounds. Ratios are paired round by round: the median, in square brackets its exact 95% "
    "interval (order statistics); in round brackets the range, where fewer than six rounds allow "
    "no such interval. Share of peak: throughput relative to a large JAX matmul, in the same "
    "dtype and rounds. First calls: a process that has loaded the model encodes an image and "
    "decodes a click for the first time, with an empty and with a filled compilation cache; peak "
    "memory is VmHWM of this process after these two calls, nothing subtracted."
)
