"""Make the results of a run: masks.csv, summary.json and report.md."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.miou.protocol import Method, Row, means
from benchmarks.miou.runner import Measured
from benchmarks.miou.samples import Dataset
from samjax.files import replacing


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one line per row: image, target, area, category and every measure."""
    names = list(dict.fromkeys(name for r in rows for name in r["values"]))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "target", "area", "category", *names])
        for r in rows:
            category = "" if r["category"] is None else r["category"]
            values = [_number(r["values"].get(name)) for name in names]
            writer.writerow([r["image"], r["target"], f"{r['area']:g}", category, *values])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def summarise(
    method: Method, measured: Measured, dataset: Dataset, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Summarise rows: means with intervals, counts, and the entries that the protocol adds."""
    summary: dict[str, Any] = {
        "asked": dict(asked),
        "images": measured.images,
        "images without a target": measured.empty,
        **({} if method.rows_are == "images" else {method.rows_are: len(measured.rows)}),
        "means": means(measured.rows, list(method.columns)),
    }
    if method.summarise:
        summary |= method.summarise(measured.rows, dataset)
    return summary


def share(value: float) -> str:
    """Format a share without its leading zero, such as .613."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def cell(entry: Mapping[str, float] | None) -> str:
    """Format a mean with its interval."""
    if entry is None:
        return ""
    return f"{share(entry['mean'])} [{share(entry['low'])}, {share(entry['high'])}]"


def _measured(summary: Mapping[str, Any], name: str) -> str:
    """Format a mean, or a score of the whole data set."""
    score = summary.get("scores", {}).get(name)
    return share(score) if score is not None else cell(summary["means"].get(name))


def table(method: Method, summary: Mapping[str, Any], label: str) -> str:
    """Tabulate the measured beside the published numbers, with their sources."""
    shown = [
        name
        for name in method.columns
        if name in summary["means"] or any(name in p.values for p in method.published)
    ]
    lines = [
        "| | data | " + " | ".join(method.columns[n] for n in shown) + " | source |",
        "|---|---|" + "---|" * (len(shown) + 1),
    ]
    values = " | ".join(_measured(summary, n) for n in shown)
    data = f"{summary['asked']['data']}, {summary['images']} images"
    if method.rows_are != "images":
        data += f", {summary[method.rows_are]} {method.rows_are}"
    lines.append(f"| **{label}** | {data} | {values} | measured |")
    for p in method.published:
        values = " | ".join(share(p.values[n]) if n in p.values else "" for n in shown)
        lines.append(f"| {p.model} | {p.data} | {values} | {p.source} |")
    return "\n".join(lines)


def markdown(method: Method, summary: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Make the whole report; it has no time or date, so that equal runs give equal files."""
    asked = summary["asked"]
    parts = [
        f"# {method.name}: {method.about}",
        table(method, summary, asked["model"]),
        "In brackets: 95% interval of the mean, by drawing images with replacement (2000 times).",
        method.notes,
    ]
    parts += [extra_table(name, summary[name]) for name in EXTRA if name in summary]
    if summary["images without a target"]:
        parts.append(f"Images with nothing to measure: {summary['images without a target']}.")
    asked_lines = [f"- {key}: {value}" for key, value in asked.items() if value not in (None, "")]
    parts.append("Settings:\n\n" + "\n".join(asked_lines))
    if pictures:
        parts.append("Best and worst cases (green: ground truth; orange: prediction):")
        parts += [f"{text}\n\n![{name}](pictures/{name})" for name, text in pictures.items()]
    return "\n\n".join(parts) + "\n"


EXTRA = {
    "spearman": "Spearman correlation of predicted and true IoU",
    "sample": "All methods on the same random sample of masks",
    "counts": "Counts",
    "scores": "Scores",
}


def extra_table(name: str, content: Mapping[str, Any]) -> str:
    """Tabulate an entry that the protocol adds, with intervals and counts if it has them."""
    lines = [f"{EXTRA[name]}:", "", "| | value | of |", "|---|---|---|"]
    for key, entry in content.items():
        if isinstance(entry, Mapping) and "mean" in entry:
            lines.append(f"| {key} | {cell(entry)} | {entry['count']} masks |")
        elif isinstance(entry, Mapping):
            value, count = entry["value"], entry["masks"]
            lines.append(f"| {key} | {'' if value is None else share(value)} | {count} masks |")
        else:
            shown = share(entry) if isinstance(entry, float) else "" if entry is None else entry
            lines.append(f"| {key} | {shown} | |")
    return "\n".join(lines)
