"""Run the accuracy suite from the command line."""

from __future__ import annotations

import argparse
import hashlib
import platform
import resource
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np

import samjax
from benchmarks.commands import RESUMES, exit_code
from benchmarks.files import write_json
from benchmarks.miou import classical
from benchmarks.miou.boxes import read_detections
from benchmarks.miou.datasets import add_data_arguments, asked_dataset
from benchmarks.miou.journal import Journal
from benchmarks.miou.methods import METHODS
from benchmarks.miou.pictures import write_pictures
from benchmarks.miou.protocol import Method, Options
from benchmarks.miou.report import markdown, summarise, write_csv
from benchmarks.miou.runner import Measured, measure_dataset
from benchmarks.miou.samples import Dataset, Filters, draw
from benchmarks.models import source
from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line and check it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.miou",
        description="Accuracy of a checkpoint under published protocols.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="protocols:\n" + "\n".join(f"  {m.name:10s} {m.about}" for m in METHODS.values()),
    )
    parser.add_argument("protocol", choices=METHODS, metavar="PROTOCOL", help="see below")
    add_data_arguments(parser)
    parser.add_argument("--model", default="embedded", help="embedded, vit_b, ..., or a checkpoint")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", help="cpu, gpu, gpu:1, tpu")
    parser.add_argument("--devices", type=int, default=1, help="images at a time, one a device")
    parser.add_argument("--out", required=True, help="folder; run again to go on where it stopped")
    parser.add_argument("--min-area", type=float, help="of masks, in pixels")
    parser.add_argument("--min-fraction", type=float, help="of masks, as a part of the image")
    parser.add_argument("--pictures", type=int, default=4, help="of best and of worst cases")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument(
        "--classical", type=int, default=100, help="overview: masks for classical methods"
    )
    parser.add_argument("--detections", help="boxes: a detector's COCO results (JSON)")
    parser.add_argument("--refine", action="store_true", help="boxes: a second pass")
    given = parser.parse_args(arguments)
    if (given.protocol == "boxes") != bool(given.detections):
        raise SamjaxError("--detections RESULTS.json belongs to the protocol boxes, which needs it")
    if given.refine and given.protocol != "boxes":
        raise SamjaxError("--refine belongs to the protocol boxes")
    for name, least in (("devices", 1), ("pictures", 0), ("classical", 0)):
        if getattr(given, name) < least:
            raise SamjaxError(f"--{name} {getattr(given, name)}: at least {least}")
    return given


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run a protocol as the arguments ask, write and print its report, and return the summary."""
    given = parse(arguments)
    out = made_folder(given.out)
    method = METHODS[given.protocol]
    dataset = asked_dataset(given)
    filters = chosen_filters(method, dataset, given)
    options = chosen_options(method, dataset, filters, given)
    models = load_models(given)
    predictors = [samjax.SamPredictor(sam) for sam in models]
    asked = settings(method, dataset, filters, given, models[0])
    return run(method, dataset, predictors, filters, options, asked, out, given.pictures)


def run(
    method: Method,
    dataset: Dataset,
    predictors: list[Any],
    filters: Filters,
    options: Options,
    asked: dict[str, Any],
    out: Path,
    pictures: int = 4,
) -> dict[str, Any]:
    """Measure, write everything to ``out``, print the report, and return the summary."""
    journal = Journal(out / "journal.jsonl", asked)
    measured = measure_dataset(method, dataset, predictors, filters, options, journal)
    summary = summarise(method, measured, dataset, asked)
    write_csv(out / "masks.csv", measured.rows)
    write_json(out / "summary.json", summary)
    captions = write_pictures(out / "pictures", dataset, measured.rows, method.main, pictures)
    text = markdown(method, summary, captions)
    with replacing(out / "report.md") as temporary:
        temporary.write_text(text, "utf-8")
    write_json(out / "machine.json", machine(measured))
    print(text)
    return summary


def chosen_filters(method: Method, dataset: Dataset, given: argparse.Namespace) -> Filters:
    """Combine the filters of the protocol, of the data set and of the user."""
    filters = method.filters
    # Annotators outlined tiny segments too; edges are measured on all segments.
    if dataset.kind.startswith("bsds") and method.name != "edges":
        filters = replace(filters, min_fraction=0.01)
    if given.min_area is not None:
        filters = replace(filters, min_area=given.min_area)
    if given.min_fraction is not None:
        filters = replace(filters, min_fraction=given.min_fraction)
    return filters


def chosen_options(
    method: Method, dataset: Dataset, filters: Filters, given: argparse.Namespace
) -> Options:
    """Make the options that the protocol needs beyond data and model."""
    sample: frozenset[str] = frozenset()
    if method.name == "overview" and given.classical:
        classical.require()
        keys = [f"{e.id}/{t.id}" for e in dataset.entries for t in e.targets(filters)]
        sample = draw(keys, given.classical, given.seed)
    detections = (
        read_detections(Path(given.detections).expanduser(), dataset) if given.detections else {}
    )
    return Options(given.seed, sample, detections, given.refine)


def load_models(given: argparse.Namespace) -> list[samjax.Segmenter]:
    """Load the model once for each device."""

    def load(device: str | jax.Device | None) -> samjax.Segmenter:
        return samjax.load(source(given.model), dtype=given.dtype, device=device)

    first = load(given.device)
    others = [d for d in jax.devices(first.device.platform) if d != first.device]
    if given.devices > 1 + len(others):
        raise SamjaxError(
            f"--devices {given.devices}: JAX sees {1 + len(others)} of them: ask for fewer"
        )
    return [first, *map(load, others[: given.devices - 1])]


def settings(
    method: Method,
    dataset: Dataset,
    filters: Filters,
    given: argparse.Namespace,
    sam: samjax.Segmenter,
) -> dict[str, Any]:
    """List everything that the results depend on; a run resumes only if all of it is equal."""
    return {
        "protocol": method.name,
        "data": dataset.name,
        "images": len(dataset),
        "fingerprint of the data": dataset.fingerprint,
        "layout": dataset.kind,
        "note": dataset.note,
        "crowds": filters.crowd,
        "least area, px": filters.min_area,
        "least part of the image": filters.min_fraction,
        "first annotator only": given.first_annotator,
        "model": given.model,
        "weights": sam.fingerprint,
        "dtype": given.dtype,
        "precision": sam.precision,
        "device": sam.device.device_kind,
        "seed": given.seed,
        "classical sample": given.classical if method.name == "overview" else None,
        "detections": _digest(given.detections),
        "refined": given.refine if given.detections else None,
        "versions": versions(),
    }


def _digest(path: str | None) -> str | None:
    """Return a file's name and the start of its SHA-256."""
    if path is None:
        return None
    file = Path(path).expanduser()
    return f"{file.name} ({hashlib.sha256(file.read_bytes()).hexdigest()[:12]})"


def versions() -> str:
    """Return the versions of samjax, JAX, NumPy and Python."""
    return (
        f"samjax {samjax.__version__}, jax {jax.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}"
    )


def commit() -> str | None:
    """Return the commit of the checkout that holds this file, if it is one."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine(measured: Measured) -> dict[str, Any]:
    """Describe the machine and the speed, which may differ between runs of equal results.

    Seconds per image are the model's (encoding, decoding, masks at full size), averaged over the
    images that had something to measure; they include compilation, but neither reading files nor
    scoring.
    """
    seconds, count = sum(measured.seconds), len(measured.seconds)
    return {
        "date": str(date.today()),
        "commit": commit(),
        "machine": platform.machine(),
        "images measured": count,
        "seconds in the model": round(seconds, 2),
        "images a second": round(count / seconds, 3) if seconds else None,
        "images a second, by the median image": (
            round(1 / float(np.median(measured.seconds)), 3) if seconds else None
        ),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def command(arguments: list[str] | None = None) -> None:
    """Run ``main`` as a command."""
    exit_code(lambda: main(arguments), RESUMES)
