"""Plot the seconds of each competitor as bars, with intervals of the median."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.speed.paired import summary
from benchmarks.speed.report import TITLES, rounds, shown

COLOURS = {"samjax": "#d95f02", "float32": "#8da0cb", "bfloat16": "#66c2a5", "float16": "#e7c95f"}
SHORT = {name: title.partition(":")[0] for name, title in TITLES.items()}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw a PNG with a row for each model and a column for each job."""
    models = results["models"]
    columns = max(len(m["jobs"]) for m in models.values())
    tallest = [len(shown(m)) for m in models.values()]
    figure = Figure(
        figsize=(1.9 + 3.4 * columns, 0.7 + sum(0.9 + 0.27 * n for n in tallest)),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(models), columns, squeeze=False, height_ratios=[3 + n for n in tallest]
    )
    for row, (name, model) in zip(grid, models.items(), strict=True):
        for place, axes in enumerate(row):
            if place < len(model["jobs"]):
                panel(axes, model, model["jobs"][place], f"{name}: ", labelled=place == 0)
            else:
                axes.set_axis_off()
    machine = results["machine"]
    figure.supxlabel(
        f"{results['date']}, {machine['cpu'].partition(' (')[0]}, {machine['cores used']} cores, "
        f"{machine['device']}; bars: median, whiskers: its 95% interval (range below 6 rounds)",
        fontsize=8,
    )
    figure.savefig(path, dpi=130, format="png")


def panel(axes: Any, model: Mapping[str, Any], job: str, prefix: str, *, labelled: bool) -> None:
    """Draw one job with a bar for each competitor, in seconds or milliseconds."""
    entries = shown(model)
    known = {n: summary(list(t.values())) for n, e in entries.items() if (t := rounds(e, job))}
    unit, scale = ("s", 1.0) if max((k.median for k in known.values()), default=0) > 1 else (
        "ms", 1e3)  # fmt: skip
    most = max((k.high for k in known.values()), default=1) * scale
    for place, (name, entry) in enumerate(entries.items()):
        if name not in known:
            reason = entry["state"] if entry["state"] != "measured" else "not of this library"
            axes.text(0.01 * most, place, reason, va="center", fontsize=7, color="0.45")
            continue
        middle, low, high = (
            scale * x for x in (known[name].median, known[name].low, known[name].high)
        )
        ours = name.startswith("samjax")
        axes.barh(
            place,
            middle,
            xerr=[[middle - low], [high - middle]],
            color=COLOURS["samjax" if ours else entry["dtype"]],
            alpha=0.65 if ours and entry["dtype"] != "float32" else 1,
            error_kw={"elinewidth": 1, "capsize": 2},
        )
        axes.text(high + 0.015 * most, place, f"{middle:.3g}", va="center", fontsize=7)
    names = [f"{e['label']} {e['dtype']}" for e in entries.values()]
    axes.set_yticks(range(len(names)), names if labelled else [""] * len(names), fontsize=8)
    axes.set_title(f"{prefix if labelled else ''}{SHORT[job]}, {unit}", fontsize=9)
    axes.set_xlim(0, 1.13 * most)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)
