"""The command line: each function in a process of its own, then a table; 1 if anything is wrong."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.gpu_compile.cards import CARDS
from benchmarks.gpu_compile.cases import CASES
from benchmarks.gpu_compile.table import markdown
from benchmarks.models import SIZES
from benchmarks.speed.machine import commit, versions
from benchmarks.speed.process import ROOT
from samjax.engine.devices import ATTENTIONS, DTYPES
from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing

# JAX on the CPU, without looking for cards, and without a cache that would hide compilations
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
}
WHEELS = {
    "cuda": (
        "jax_plugins.xla_cuda12",
        "pip install --no-deps jax-cuda12-plugin=={0} jax-cuda12-pjrt=={0} nvidia-cuda-nvcc-cu12",
    ),
    "tpu": ("libtpu", "pip install 'jax[tpu]=={0}'"),
}


class Task(NamedTuple):
    """A function to compile: names of card, case, model, dtype and attention."""

    card: str
    case: str
    model: str
    dtype: str
    attention: str = "auto"

    @property
    def title(self) -> str:
        """Its names; how attention is done only where that is not as usual."""
        return " ".join(self if self.attention != "auto" else self[:-1])


def plan(
    cards: Sequence[str],
    cases: Sequence[str],
    models: Sequence[str],
    dtype: str | None,
    attention: str = "auto",
) -> Iterator[Task]:
    """Every function once: the decoder is the same in all models."""
    for card in cards:
        for case in cases:
            for model in models if CASES[case].of_encoder else models[:1]:
                yield Task(card, case, model, dtype or CARDS[card].dtype, attention)


def require_compilers(cards: Sequence[str]) -> None:
    """Look for the wheels that the cards' compilers come in.

    Raises:
        SamjaxError: one is missing.
    """
    for platform in sorted({CARDS[card].platform for card in cards}):
        module, command = WHEELS[platform]
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise SamjaxError(
                f"the compiler for {platform} is not installed: "
                f"{command.format(jax.__version__)}, or choose other cards with --card"
            )


def compile_apart(task: Task, timeout: float, hlo: Path | None) -> dict[str, Any]:
    """The record of a task, made in a process of its own; failures are records, too."""
    command = [sys.executable, "-m", "benchmarks.gpu_compile.worker", *task]
    if hlo is not None:
        command.append(str(hlo / f"{'-'.join(task)}.hlo"))
    environment = os.environ | ENVIRONMENT
    try:
        run = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return task._asdict() | {"problems": [f"not compiled after {timeout:g} s"]}
    lines = run.stdout.strip().splitlines()
    if run.returncode or not lines:
        said = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        return task._asdict() | {"problems": [f"not compiled: {said[-1][:300]}"]}
    return json.loads(lines[-1])


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of an earlier run.

    Raises:
        SamjaxError: not its file.
    """
    try:
        return json.loads(path.read_text("utf-8"))["functions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamjaxError(
            f"--before {path}: not an account of benchmarks.gpu_compile ({error}): give the .json "
            "file that --out wrote"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Compile everything asked for; 0, or 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_compile",
        description="Compile samjax for cards that are not here, and check what XLA made of it.",
    )
    parser.add_argument("--card", nargs="+", choices=CARDS, default=[*CARDS])
    parser.add_argument("--case", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--model", nargs="+", choices=SIZES, default=["vit_b"])
    parser.add_argument("--dtype", choices=DTYPES, help="instead of each card's own")
    parser.add_argument("--attention", choices=ATTENTIONS, default="auto", help="as of samjax.load")
    parser.add_argument("--out", type=Path, help="write FILE.json, and the table as FILE.md")
    parser.add_argument("--before", type=Path, help="an earlier FILE.json to stand beside")
    parser.add_argument("--hlo", type=Path, help="folder for the optimized programs")
    parser.add_argument("--timeout", type=float, default=400, help="seconds for one function")
    given = parser.parse_args(arguments)
    if given.timeout <= 0:
        raise SamjaxError(f"--timeout {given.timeout:g}: give a positive number of seconds")
    if given.out is not None and given.out.suffix != ".json":
        raise SamjaxError(f"--out {given.out}: the file's name must end in .json")
    before = read_records(given.before) if given.before else []
    require_compilers(given.card)
    hlo = made_folder(given.hlo).resolve() if given.hlo else None
    if given.out is not None:
        made_folder(given.out.parent)
    tasks = list(plan(given.card, given.case, given.model, given.dtype, given.attention))
    records = []
    with tqdm(tasks, unit="function", disable=None) as bar:
        for task in bar:
            bar.set_postfix_str(task.title)
            records.append(compile_apart(task, given.timeout, hlo))
            for problem in records[-1]["problems"]:
                tqdm.write(f"{task.title}: {problem}", file=sys.stderr)
    text = markdown(records, before)
    print(text)
    if given.out is not None:
        about = {"date": date.today().isoformat(), "commit": commit(), "versions": versions()}
        write_json(given.out, about | {"functions": records})
        with replacing(given.out.with_suffix(".md")) as temporary:
            temporary.write_text(text, "utf-8")
    wrong = sum(bool(r["problems"]) for r in records)
    print(f"{len(records) - wrong} of {len(records)} functions as they must be")
    return 1 if wrong else 0


def command() -> None:
    """Run from a shell: 0 fine, 1 something wrong with a function, 2 wrong use."""
    exit_code(lambda: sys.exit(main()))
