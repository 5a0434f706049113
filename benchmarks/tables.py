"""Fill the tables of README.md and of the numbers page from saved results of the suites.

    python -m benchmarks.tables                     # from benchmarks/results/*.json
    python -m benchmarks.tables OUT OUT...          # first adds the results in these --out folders

A folder or file is an output of benchmarks.speed (results.json), benchmarks.miou (summary.json) or
benchmarks.embedded (table.json). Tables go between ``<!-- speed -->`` and ``<!-- /speed -->``, and
likewise ``miou`` and ``summary``; the rest of a file is left unchanged.
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
PAGES = (ROOT / "README.md", ROOT / "docs" / "numbers.md")
FILES = ("results.json", "summary.json", "table.json")
COLUMNS = {
    "encoder": "encoder, ms",
    "click": "click, ms",
    "points": "64 points, ms",
    "automatic": "automatic masks, ms",
}
SUMMARY = (  # rows of the short table: model, job, its words
    ("vit_b-random", "encoder", "encode an image, ViT-B"),
    ("vit_b-random", "click", "a click after that, ViT-B"),
    ("vit_b-random", "points", "64 points at once, ViT-B"),
    ("vit_b-random", "first", "first image and click of a process, ViT-B"),
    ("embedded", "automatic", "automatic masks, embedded checkpoint"),
)


# ---------------------------------------------------------------- saved results


def read(path: Path) -> Record:
    """Read a JSON file that holds an object.

    Raises:
        SamjaxError: the file cannot be read or holds something else.
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
    """Yield the name and content of every result in a folder or file.

    Raises:
        SamjaxError: there is no result.
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
    """Save a result, unless the saved one was measured on more images.

    Raises:
        SamjaxError: the saved result has more images.
    """
    before = read(path).get("images", 0) if path.exists() else 0
    if "asked" in content and before > content["images"]:
        raise SamjaxError(
            f"{path}: was measured on {before} images, the new result on {content['images']}: "
            "measure all images, or delete the file"
        )
    write_json(path, content)


def plain(name: str) -> str:
    """Turn a name, or the last part of a path, into a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", Path(name).name).strip("_")


# ---------------------------------------------------------------- tables


def speed_tables(results: Record) -> Iterator[str]:
    """Yield a table for each model of one run, then a paragraph on machine and method."""
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
        f"medians of up to {count} interleaved rounds. In brackets: time relative to samjax in "
        "float32, paired round by round, with the 95% interval in square brackets, or the range in "
        "round brackets for fewer than six rounds. Share of peak: throughput relative to a large "
        "JAX matmul, in the same dtype and rounds. First calls: image and click after loading, "
        "with an empty / filled compilation cache. Memory: VmHWM after them.)"
    )
    yield from (text for text in (results.get("note"), busy(machine)) if text)


def model_table(name: str, model: Record) -> str:
    """Tabulate the jobs, first calls and memory of all competitors on one model."""
    jobs = [job for job in COLUMNS if job in model["jobs"]]
    flops = model["encoder flops"]["with attention"] / 1e9
    head = [f"{name}: encoder {flops:.4g} GFLOP", "dtype", *(COLUMNS[job] for job in jobs)]
    head += ["share of peak", "first calls, s", "memory, MB"]
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
    """Format the median, and the paired ratio to samjax in float32."""
    if not theirs:
        return ""
    median = milliseconds(summary(list(theirs.values())).median)
    return f"{median} ({times(paired_ratio(ours, theirs))})" if ours else median


def start_cells(starts: Sequence[Record]) -> list[str]:
    """Format the first calls with an empty and with a filled cache, and the peak memory."""
    by_cache = {c: [s for s in starts if s["cache"] == c] for c in ("empty", "filled")}
    first = [f"{middle(sum(s['first'].values()) for s in x):.1f}" for x in by_cache.values() if x]
    return [" / ".join(first), memory(by_cache["empty"]) if by_cache["empty"] else ""]


def summary_table(saved: Sequence[Record]) -> str:
    """Tabulate samjax beside official PyTorch, in float32 on a CPU, in a few rows."""
    models: dict[str, Record] = {}
    for results in saved:
        if results["machine"]["device"] == "cpu" and not results.get("note"):
            models |= results["models"]
    lines = []
    for name, job, words in SUMMARY:
        ours, theirs = (
            models.get(name, {"competitors": {}})["competitors"].get(f"{who}-float32")
            for who in ("samjax", "official")
        )
        if ours is None or theirs is None:
            continue
        if job == "first":
            cells = [f"{start_cells(one['starts'])[0]} s" for one in (ours, theirs)]
            lines.append([words, *cells, ""])
        elif rounds(ours, job) and rounds(theirs, job):
            both = [summary(list(rounds(one, job).values())).median for one in (ours, theirs)]
            ratio = times(paired_ratio(rounds(ours, job), rounds(theirs, job)))
            lines.append([words, *map(duration, both), ratio])
    return table(["", "samjax", "official PyTorch", "ratio"], lines) if lines else ""


def duration(seconds: float) -> str:
    """Format a time with two digits, in seconds or milliseconds."""
    value, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{float(f'{value:.2g}'):g} {unit}"  # 120, not 1.2e+02


def miou_table(summaries: Sequence[Record]) -> str:
    """Tabulate the scores, one row for each protocol, data set and model."""
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
    """Yield the restrictions of a run that did not measure all masks."""
    if (least := asked.get("least area, px") or 0) > 1:
        yield f"of at least {least:g} px"
    if least := asked.get("least part of the image"):
        yield f"of at least {100 * least:g}% of the image"
    if asked.get("first annotator only"):
        yield "first annotator only"


def blocks(saved: Sequence[Record]) -> dict[str, str]:
    """Make the Markdown of each marker from saved results."""
    speed = [part for s in saved if "models" in s for part in speed_tables(s)]
    summaries = [s for s in saved if "asked" in s]
    return {
        "speed": "\n\n".join(speed),
        "miou": miou_table(summaries) if summaries else "",
        "summary": summary_table([s for s in saved if "models" in s]),
    }


# ---------------------------------------------------------------- pages


def fill(text: str, made: Mapping[str, str]) -> str:
    """Replace the content between the markers of a page; markers without content stay empty."""
    for name, content in made.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pieces = re.split(rf"{start}.*?{end}", text, flags=re.DOTALL)
        lines = [start, content, end] if content else [start, end]
        text = "\n".join(lines).join(pieces)
    return text


def fill_page(path: Path, made: Mapping[str, str]) -> None:
    """Fill README or the Markdown cells of a notebook in place."""
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
    """Add results, then write the pages."""
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
