"""Measure the model card's table: clicks, boxes, quality head, classical methods on data sets.

    python -m benchmarks.embedded --data bsds500/val --data coco/val2017 --out results
    python -m benchmarks.embedded --model new.pth --data ... --out results --classical 0

Each data set runs through the ``overview`` protocol of benchmarks.miou and gets a folder of its
own; ``table.md`` and ``table.json`` hold the tables of all data sets. A run that was killed
resumes where it stopped. ``benchmarks.miou.independent`` takes each of these folders as its
``--run``. Classical methods need ``pip install '.[bench]'``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import RESUMES, exit_code
from benchmarks.files import write_json
from benchmarks.miou import cli
from benchmarks.miou.overview import CLASSICAL, METHOD
from benchmarks.miou.report import cell, share
from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing

Summary = Mapping[str, Any]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--data", required=True, action="append", help="may be given several times")
    parser.add_argument("--model", default="embedded", help="embedded, vit_b, ..., or a checkpoint")
    parser.add_argument("--out", required=True)
    parser.add_argument("--limit", type=int, help="the first images of each data set only")
    parser.add_argument("--min-area", type=float, help="of masks, in pixels")
    parser.add_argument("--classical", type=int, default=100, help="masks for classical methods")
    return parser.parse_args(arguments)


def table(summaries: Mapping[str, Summary]) -> str:
    """Tabulate the mIoU of each prompt and data set, also on the sample for classical methods."""
    names = list(summaries)
    heads = [f"{n} ({s['images']} images, {s['masks']} masks)" for n, s in summaries.items()]
    lines = ["| mIoU | " + " | ".join(heads) + " |", "|---|" + "---|" * len(names)]
    for key, title in METHOD.columns.items():
        cells = [cell(summaries[n]["means"].get(key)) for n in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| Spearman, predicted and true IoU | " + " | ".join(names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for key in next(iter(summaries.values()))["spearman"]:
        cells = [_correlation(summaries[n]["spearman"][key]) for n in names]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    sampled = [n for n in names if "sample" in summaries[n]]
    if sampled:
        lines += ["", *_sample(summaries, sampled)]
    return "\n".join(lines) + "\n"


def _correlation(entry: Mapping[str, Any]) -> str:
    return "" if entry["value"] is None else f"{share(entry['value'])} ({entry['masks']} masks)"


def _sample(summaries: Mapping[str, Summary], names: Sequence[str]) -> list[str]:
    counts = [summaries[n]["sample"]["grabcut"]["count"] for n in names]
    heads = [f"{n}, {c} random masks" for n, c in zip(names, counts, strict=True)]
    lines = ["| the same prompts | " + " | ".join(heads) + " |", "|---|" + "---|" * len(names)]
    for key, title in {**METHOD.columns, **CLASSICAL}.items():
        cells = [cell(summaries[n]["sample"].get(key)) for n in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    failed = [summaries[n]["sample"]["grabcut_failed"] for n in names]
    cells = [str(round(f["mean"] * f["count"])) for f in failed]
    lines.append("| GrabCut failed, filled box used | " + " | ".join(cells) + " |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Measure all data sets, then write and print the table."""
    given = parse(arguments)
    out = made_folder(given.out)
    names = ["-".join(Path(path).expanduser().resolve().parts[-2:]) for path in given.data]
    if len(set(names)) < len(names):
        raise SamjaxError(f"--data {', '.join(given.data)}: give each data set once")
    summaries: dict[str, Summary] = {}
    for path, name in zip(given.data, names, strict=True):
        own = ["overview", "--data", path, "--model", given.model, "--out", str(out / name)]
        own += ["--classical", str(given.classical)]
        for option, value in (("--limit", given.limit), ("--min-area", given.min_area)):
            own += [] if value is None else [option, str(value)]
        summaries[name] = cli.main(own)
    write_json(out / "table.json", summaries)
    masks = "" if given.min_area is None else f", masks of at least {given.min_area:.0f} pixels"
    text = f"{given.model}{masks}\n\n{table(summaries)}\n{METHOD.notes}\n"
    with replacing(out / "table.md") as temporary:
        temporary.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    exit_code(main, RESUMES)
