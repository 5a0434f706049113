"""Run the speed suite from the command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.flops import encoder_flops
from benchmarks.models import SIZES, source
from benchmarks.speed.competitors import (
    COMPETITORS,
    DTYPES,
    PRODUCTS,
    Competitor,
    choose,
    require_mandatory,
)
from benchmarks.speed.machine import commit, machine, versions
from benchmarks.speed.model import Model, write_model
from benchmarks.speed.plot import draw
from benchmarks.speed.report import markdown, model_record
from benchmarks.speed.runner import Entry, Plan, Run
from benchmarks.speed.task import JOBS, POINTS
from samjax.engine.devices import choose_device
from samjax.engine.load import locate
from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing

DEFAULTS: dict[str, Any] = {
    "jobs": ["encoder", "click", "points"],
    "dtypes": ["float32", "bfloat16"],
    "points_per_side": 32,
    "rounds": 7,
    "starts": 3,
}
FEW_POINTS = 4  # enough to check the decoder when "points" is not measured
QUICK_SMALL_S, QUICK_LARGE_S = 25, 150  # seconds after which no round begins
QUICK_SMALL = ("samjax-float32", "official-float32")
QUICK_LARGE = (
    "samjax-float32",
    "official-float32",
    "huggingface-bfloat16",
    "onnxruntime-float32",
    "openvino-float32",
)
QUICK_NOTE = (
    "Quick run (--quick), for orientation only: few competitors on the embedded checkpoint; on "
    "ViT-B with random weights the mandatory competitors of a CPU, in one dtype each, the encoder "
    "alone. It runs as many rounds as fit into three minutes, with one start each and none from a "
    "filled cache."
)


@dataclass(frozen=True)
class Part:
    """Holds one model with its plan and competitors."""

    model: str
    plan: Plan
    chosen: tuple[Competitor, ...]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line and check it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Speed and memory of samjax beside other implementations of SAM.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="jobs:\n"
        + "\n".join(f"  {name:10s} {about}" for name, about in JOBS.items())
        + "\n\ncompetitors:\n"
        + "\n".join(f"  {c.name}" for c in COMPETITORS),
    )
    add = parser.add_argument
    add("--model", action="append", help="embedded (default), vit_b, vit_l, vit_h, vit_b-random, "
        "..., or a checkpoint; may be given several times")  # fmt: skip
    add("--only", nargs="+", metavar="NAME", help="competitors, or the beginnings of their names")
    add("--jobs", nargs="+", metavar="JOB", help="see below (default: encoder click points)")
    add("--dtypes", nargs="+", metavar="DTYPE", help="(default: float32 bfloat16)")
    add("--device", help="cpu, gpu or tpu (default: JAX's first)")
    add("--image", help="a photograph (default: matplotlib's grace_hopper.jpg)")
    add("--points-per-side", type=int, help="of automatic masks (default: 32)")
    add("--rounds", type=int, help="(default: 7)")
    add("--slow", type=float, default=60, metavar="S",
        help="jobs that take longer than S seconds run in --slow-rounds rounds")  # fmt: skip
    add("--slow-rounds", type=int, default=3)
    add("--starts", type=int, help="fresh processes with an empty compilation cache, and as many "
        "with a filled one (default: 3)")  # fmt: skip
    add("--out", type=Path, help="folder for results.json, table.md and plot.png")
    add("--quick", action="store_true", help="three minutes on two cores: few of everything")
    add("--allow-missing", action="store_true", help="go on without what must be compared")
    given = parser.parse_args(arguments)
    chosen = [name for name in ("model", "only", *DEFAULTS) if getattr(given, name) is not None]
    if given.quick and chosen:
        options = ", ".join("--" + name.replace("_", "-") for name in chosen)
        raise SamjaxError(f"--quick chooses everything itself: leave out {options}")
    for name, value in DEFAULTS.items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.device and ":" in given.device:
        raise SamjaxError(
            f"--device {given.device}: every competitor takes the first one: give cpu, gpu or "
            "tpu, and hide the others (CUDA_VISIBLE_DEVICES)"
        )
    for name in given.jobs:
        if name not in JOBS:
            raise SamjaxError(f"--jobs {name}: use {', '.join(JOBS)}")
    for name in ("rounds", "slow_rounds", "starts", "points_per_side"):
        if getattr(given, name) < 1:
            option = name.replace("_", "-")
            raise SamjaxError(f"--{option} {getattr(given, name)}: at least 1")
    for model in given.model or ():
        wanted = source(model)
        if isinstance(wanted, str) and wanted not in SIZES:
            locate(wanted)
    return given


def parts(given: argparse.Namespace, began: float) -> list[Part]:
    """List the models to measure, with plan and competitors, from the arguments."""
    if given.quick:
        small, large = (
            tuple(choose(COMPETITORS, names, DTYPES[:2])) for names in (QUICK_SMALL, QUICK_LARGE)
        )
        plan = Plan(
            ("encoder", "click"), 7, given.slow, given.slow_rounds, 0, began + QUICK_SMALL_S
        )
        once = replace(plan, jobs=("encoder",), rounds=3, deadline=began + QUICK_LARGE_S)
        return [Part("embedded", plan, small), Part("vit_b-random", once, large)]
    plan = Plan(
        tuple(name for name in JOBS if name in given.jobs),
        given.rounds,
        given.slow,
        given.slow_rounds,
        given.starts,
    )
    chosen = tuple(choose(COMPETITORS, given.only, given.dtypes))
    models = dict.fromkeys(given.model or ["embedded"])
    return [Part(name, plan, chosen) for name in models]


def entries(part: Part, kind: str, *, allow_missing: bool) -> list[Entry]:
    """Make an entry for each competitor, available or not, and for each matrix product.

    Raises:
        SamjaxError: a mandatory competitor is missing.
    """
    made = [Entry(c) for c in part.chosen]
    for entry in made:
        if (reason := entry.competitor.missing(kind)) is not None:
            entry.drop("missing", reason)
    if not allow_missing:
        lacking = [(e.competitor, e.reason) for e in made if e.state == "missing"]
        require_mandatory(lacking, kind)
    dtypes = {c.dtype for c in part.chosen}
    return made + [Entry(p) for p in PRODUCTS if p.dtype in dtypes]


def measure(
    part: Part, made: Sequence[Entry], image: UInt8[np.ndarray, "H W 3"], kind: str, side: int
) -> dict[str, Any]:
    """Measure one model and return its record for results.json."""
    points = POINTS if "points" in part.plan.jobs else FEW_POINTS
    running = sum(e.runs for e in made)
    jobs = len(part.plan.jobs) + 1
    total = running * (1 + part.plan.starts + jobs * part.plan.rounds)
    with (
        tempfile.TemporaryDirectory(prefix="samjax-speed-") as folder,
        tqdm(total=total, unit="job", disable=not sys.stderr.isatty()) as bar,
    ):
        bar.set_description(f"{part.model}: reading")
        model, task = write_model(part.model, image, Path(folder), kind, points, side)
        run = Run(made, task, part.plan, bar)
        run.measure()
    return record(model, part, run)


def record(model: Model, part: Part, run: Run) -> dict[str, Any]:
    """Make the record of one model, with its FLOPs in both conventions."""
    flops = {
        "with attention": encoder_flops(model.config),
        "without attention": encoder_flops(model.config, attention=False),
    }
    return model_record(model.name, model.fingerprint, flops, part.plan, run)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and write everything; return the content of results.json."""
    began = time.perf_counter()
    # Before JAX starts: workers need the accelerator's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    given = parse(arguments)
    device = choose_device(given.device)
    kind = {"cuda": "gpu", "rocm": "gpu"}.get(device.platform, device.platform)
    path = given.image or matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = samjax.read_image(path)
    todo = [
        (part, entries(part, kind, allow_missing=given.allow_missing))
        for part in parts(given, began)
    ]
    out = given.out and made_folder(given.out)
    results: dict[str, Any] = {
        "date": str(date.today()),
        "commit": commit(),
        "machine": machine(device),
        "versions": versions(),
        "arguments": {
            name: value for name, value in vars(given).items() if name not in ("out", "image")
        },
        "image": f"{Path(path).name}, {image.shape[1]} x {image.shape[0]}",
        "note": QUICK_NOTE if given.quick else "",
        "models": {},
    }
    for part, made in todo:
        results["models"][part.model] = measure(part, made, image, kind, given.points_per_side)
        results["seconds"] = round(time.perf_counter() - began)
        if out:
            save(results, out)
    print(markdown(results))
    return results


def save(results: dict[str, Any], out: Path) -> None:
    """Write results.json, table.md and plot.png, each atomically."""
    write_json(out / "results.json", results)
    with replacing(out / "table.md") as temporary:
        temporary.write_text(markdown(results), "utf-8")
    with replacing(out / "plot.png") as temporary:
        draw(results, temporary)


def command(arguments: list[str] | None = None) -> None:
    """Run ``main`` as a command; SIGTERM ends its workers too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    exit_code(lambda: main(arguments))
