"""Draw the figures of the numbers page from the saved results of the benchmark suites."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.miou.methods import METHODS
from benchmarks.speed.paired import paired_ratio
from benchmarks.speed.report import rounds, shown
from benchmarks.tables import COLUMNS, RESULTS

INK = {"light": "#3a3a3a", "dark": "#cfd0d0"}
OURS, OTHERS = "#e8590c", "#4c7fb8"
DATA_COLOURS = ("#e8590c", "#2f9e8f")
DATA_MARKERS = ("o", "s")


def draw_all(folder: Path, results: Path = RESULTS) -> list[Path]:
    """Draw every figure for light and for dark pages; return the files."""
    folder.mkdir(exist_ok=True)
    saved = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*.json"))]
    drawn = []
    for scheme, ink in INK.items():
        with rc_context(_style(ink)):
            for name, figure in _figures(saved):
                path = folder / f"{name}-{scheme}.svg"
                FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
                drawn.append(path)
    return drawn


def _style(ink: str) -> dict[str, Any]:
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(colours, ink),
        "font.size": 9,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "svg.hashsalt": "samjax",
    }


def _figures(saved: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Figure]]:
    for results in saved:
        if results.get("machine", {}).get("device") == "cpu" and not results.get("note"):
            for name, model in results["models"].items():
                yield f"speed-{name.replace('-random', '')}", speed_figure(model)
    overviews = [one for one in saved if one.get("asked", {}).get("protocol") == "overview"]
    yield "miou-overview", miou_figure(overviews)


def speed_figure(model: Mapping[str, Any]) -> Figure:
    """Plot each library's time relative to samjax in float32, with intervals, for each job."""
    jobs = [job for job in COLUMNS if job in model["jobs"]]
    entries = {n: e for n, e in shown(model).items() if e["state"] == "measured"}
    ours = model["competitors"]["samjax-float32"]
    figure = Figure(
        figsize=(1.9 + 1.75 * len(jobs), 0.9 + 0.24 * len(entries)), layout="constrained"
    )
    panels = figure.subplots(1, len(jobs), sharey=True)
    for axes, job in zip(panels, jobs, strict=True):
        axes.axvline(1, color=OURS, linewidth=1, alpha=0.6)
        for place, (name, entry) in enumerate(entries.items()):
            if (ratio := paired_ratio(rounds(ours, job), rounds(entry, job))) is None:
                continue
            colour = OURS if name.startswith("samjax") else OTHERS
            axes.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=1.6)
            axes.plot(ratio.median, place, "o", color=colour, markersize=4.5)
        axes.set_xscale("log", base=2)
        axes.set_xlim(0.33, 8)
        axes.set_xticks([0.5, 1, 2, 4], ["½", "1", "2", "4"])
        axes.minorticks_off()
        axes.set_title(COLUMNS[job].partition(",")[0], fontsize=9)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    names = [f"{e['label']}, {e['dtype']}" for e in entries.values()]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel("time relative to samjax in float32: left of 1 is faster", fontsize=9)
    return figure


def miou_figure(overviews: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the mean IoU of each kind of prompt, with 95% intervals over images."""
    columns = METHODS["overview"].columns
    figure = Figure(figsize=(6.4, 0.9 + 0.34 * len(columns)), layout="constrained")
    axes = figure.subplots()
    for shift, (one, colour, marker) in enumerate(
        zip(overviews, DATA_COLOURS, DATA_MARKERS, strict=False)
    ):
        for place, key in enumerate(columns):
            mean = one["means"][key]
            height = place + 0.22 * shift - 0.11
            axes.plot([mean["low"], mean["high"]], [height, height], color=colour, linewidth=1.6)
            axes.plot(
                mean["mean"], height, marker, color=colour, markersize=4.5,
                label=f"{one['asked']['data']}, {one['masks']} masks" if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(columns)), list(columns.values()))
    axes.set_ylim(len(columns) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean IoU, 95% interval over images")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    return figure


if __name__ == "__main__":
    print(*draw_all(Path(__file__).parent / "_figures"), sep="\n")
