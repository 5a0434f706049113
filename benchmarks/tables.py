"""The tables in README.md and in notebook 05, from saved results of the suites.

    python -m benchmarks.tables                     # from benchmarks/results/*.json
    python -m benchmarks.tables OUT OUT...          # adds what these --out folders hold before

A folder or file is an output of benchmarks.speed (results.json), benchmarks.miou (summary.json) or
benchmarks.embedded (table.json). Tables stand between ``<!-- speed -->`` and ``<!-- /speed -->``,
and likewise ``miou``; the rest of a file is left as it is.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.miou.methods import METHODS
from benchmarks.miou.report import cell, share
from benchmarks.speed.paired import paired_ratio, summary
from benchmarks.speed.report import (
    Record,
    busy,
    memory,
    middle,
    milliseconds,
    of_peak,
    rounds,
    shown,
    table,
    times,
)
from samjax.errors import SamjaxError
from samjax.files import replacing

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "notebooks" / "05_speed_and_miou.ipynb")
FILES = ("results.json", "summary.json", "table.json")
COLUMNS = {
    "encoder": "encoder, ms",
    "click": "click, ms",
    "points": "64 points, ms",
    "automatic": "automatic masks, ms",
}


# ---------------------------------------------------------------- saved results


def read(path: Path) -> Record:
    """A JSON file.

    Raises:
        SamjaxError: not one.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SamjaxError(
            f"{path}: cannot be read ({error}): give a suite's --out folder"
        ) from None
    if not isinstance(content, dict):
        raise SamjaxError(f"{path}: not a result of a suite: give a suite's --out folder")
    return content


def results_in(path: Path) -> Iterator[tuple[str, Record]]:
    """Name and content of every result that a folder or file holds.

    Raises:
        SamjaxError: none.
    """
    files = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
    if not files:
        raise SamjaxError(f"{path}: holds none of {', '.join(FILES)}: give a suite's --out folder")
    for file in files:
        content = read(file)
        if "models" in content and "machine" in content:
            device = content["machine"]["device"]
            names = [*content["models"], *([] if device == "cpu" else [device])]
            names += ["quick"] if content.get("note") else []
            yield "-".join(["speed", *map(plain, names)]), content
            continue
        summaries = [content] if "asked" in content else list(content.values())
        if not summaries or not all(isinstance(s, dict) and "asked" in s for s in summaries):
            raise SamjaxError(f"{file}: not a result of a suite: give a suite's --out folder")
        for one in summaries:
            asked = one["asked"]
            names = ("miou", *(asked[k] for k in ("protocol", "data", "model", "dtype")))
            yield "-".join(map(plain, [*names, *restrictions(asked)])), one


def keep(path: Path, content: Record) -> None:
    """Save a result, unless what is saved saw more images.

    Raises:
        SamjaxError: it did.
    """
    before = read(path).get("images", 0) if path.exists() else 0
    if "asked" in content and before > content["images"]:
        raise SamjaxError(
            f"{path}: holds {before} images, the new result {content['images']}: measure all, or "
            "delete the file"
        )
    write_json(path, content)


def plain(name: str) -> str:
    """Part of a file's name: of a path its last part."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", Path(name).name).strip("_")


# ---------------------------------------------------------------- tables


def speed_tables(results: Record) -> Iterator[str]:
    """One run: a table a model, with what it was measured on."""
    for name, model in results["models"].items():
        yield model_table(name, model)
    machine, versions = results["machine"], results["versions"]
    libraries = ", ".join(
        f"{k} {versions[k]}"
        for k in ("jax", "torch", "transformers", "onnxruntime", "openvino", "keras-hub")
        if k in versions
    )
    count = max(model["rounds"] for model in results["models"].values())
    yield (
        f"({results['date']}, commit {results['commit'] or 'unknown'}, {machine['cores used']} "
        f"cores of {machine['cpu']}, {machine['device']}; {libraries}; image {results['image']}; "
        f"medians of up to {count} interleaved rounds. In brackets: how many times as long as "
        "samjax in float32, paired round by round, with the 95% interval in square brackets, or in "
        "round ones the range of fewer than six rounds. Of product: of one large matrix product in "
        "JAX, in the same dtype and rounds. First calls: image and click after loading, with an "
        "empty / filled compilation cache. Memory: VmHWM after them.)"
    )
    yield from (text for text in (results.get("note"), busy(machine)) if text)


def model_table(name: str, model: Record) -> str:
    """Everybody's jobs, first calls and memory."""
    jobs = [job for job in COLUMNS if job in model["jobs"]]
    flops = model["encoder flops"]["with attention"] / 1e9
    head = [f"{name}: encoder {flops:.4g} GFLOP", "dtype", *(COLUMNS[job] for job in jobs)]
    head += ["of product", "first calls, s", "memory, MB"]
    ours = model["competitors"].get("samjax-float32", {"state": ""})
    lines = []
    for entry in shown(model).values():
        row = [entry["label"], entry["dtype"]]
        if entry["state"] != "measured":
            row.append(f"{entry['state']}: {entry['reason']}")
        else:
            row += [job_cell(rounds(ours, job), rounds(entry, job)) for job in jobs]
            fraction = of_peak(model, entry, "with attention")
            row += [f"{fraction.median:.2f}" if fraction else "", *start_cells(entry["starts"])]
        lines.append(row + [""] * (len(head) - len(row)))
    return table(head, lines)


def job_cell(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """Median, and the paired ratio to samjax in float32."""
    if not theirs:
        return ""
    median = milliseconds(summary(list(theirs.values())).median)
    return f"{median} ({times(paired_ratio(ours, theirs))})" if ours else median


def start_cells(starts: Sequence[Record]) -> list[str]:
    """First calls with an empty and with a filled cache, and peak memory."""
    by_cache = {c: [s for s in starts if s["cache"] == c] for c in ("empty", "filled")}
    first = [f"{middle(sum(s['first'].values()) for s in x):.1f}" for x in by_cache.values() if x]
    return [" / ".join(first), memory(by_cache["empty"]) if by_cache["empty"] else ""]


def miou_table(summaries: Sequence[Record]) -> str:
    """A row for each protocol, data set and model."""
    lines = []
    for one in summaries:
        asked, method = one["asked"], METHODS[one["asked"]["protocol"]]
        values = [
            f"{title} {cell(one['means'][key])}"
            for key, title in method.columns.items()
            if one["means"].get(key) is not None
        ]
        scores = one.get("scores", {})
        values += [
            f"{method.columns.get(k, k)} {share(v)}" for k, v in scores.items() if v is not None
        ]
        count = f"{one['images']} images, {one['masks']} masks"
        lines.append(
            [asked["protocol"], asked["data"], ", ".join([count, *restrictions(asked)]),
             plain(asked["model"]), asked["dtype"], "; ".join(values)]
        )  # fmt: skip
    return table(["protocol", "data", "", "model", "dtype", "mean [95% interval]"], lines)


def restrictions(asked: Record) -> Iterator[str]:
    """Which masks were measured, where not all were."""
    if (least := asked.get("least area, px") or 0) > 1:
        yield f"of at least {least:g} px"
    if least := asked.get("least part of the image"):
        yield f"of at least {100 * least:g}% of the image"
    if asked.get("first annotator only"):
        yield "first annotator only"


def blocks(saved: Sequence[Record]) -> dict[str, str]:
    """Markdown by marker."""
    speed = [part for s in saved if "models" in s for part in speed_tables(s)]
    summaries = [s for s in saved if "asked" in s]
    return {
        "speed": "\n\n".join(speed),
        "miou": miou_table(summaries) if summaries else "",
    }


# ---------------------------------------------------------------- pages


def fill(text: str, made: Mapping[str, str]) -> str:
    """A page with the content between its markers replaced; markers without content stay empty."""
    for name, content in made.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pieces = re.split(rf"{start}.*?{end}", text, flags=re.DOTALL)
        lines = [start, content, end] if content else [start, end]
        text = "\n".join(lines).join(pieces)
    return text


def fill_page(path: Path, made: Mapping[str, str]) -> None:
    """README or the Markdown cells of a notebook, in place."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        notebook = json.loads(text)
        for one in notebook["cells"]:
            if one["cell_type"] == "markdown":
                one["source"] = fill("".join(one["source"]), made).splitlines(keepends=True)
        filled = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    else:
        filled = fill(text, made)
    if filled != text:
        with replacing(path) as temporary:
            temporary.write_text(filled, "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Add results, and write the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("out", nargs="*", type=Path, help="--out folders whose results to add")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept")
    parser.add_argument("--pages", nargs="+", type=Path, default=PAGES, help="to be filled in")
    given = parser.parse_args(arguments)
    if lacking := [str(page) for page in given.pages if not page.is_file()]:
        raise SamjaxError(f"--pages {' '.join(lacking)}: no such file")
    for path in given.out:
        for name, content in results_in(path.expanduser()):
            keep(given.results / f"{name}.json", content)
    files = sorted(given.results.glob("*.json"))
    if not files:
        raise SamjaxError(f"{given.results}: no results yet: give a suite's --out folder")
    made = blocks([read(file) for file in files])
    for page in given.pages:
        fill_page(page, made)
    print(*(f"{name}: {len(text.splitlines())} lines" for name, text in made.items()), sep="\n")


if __name__ == "__main__":
    exit_code(main)
