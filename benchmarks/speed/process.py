"""Start worker processes, send them requests and close them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speed.competitors import Competitor
from benchmarks.speed.task import Task

ROOT = Path(__file__).resolve().parents[2]


class WorkerError(Exception):
    """Reports that a worker died, with the last line of its log."""


def environment(cache: Path) -> dict[str, str]:
    """Return a worker's environment: this checkout first, and its own compilation cache."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return os.environ | {
        "PYTHONPATH": path,
        "SAMJAX_COMPILATION_CACHE": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        # Several processes share an accelerator: none takes all its memory in advance.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def last_words(log: Path, code: int) -> str:
    """Return the last line that a dead process logged, and its exit code or signal."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{next((line for line in reversed(lines) if line), 'no message')} ({ended})"


class WorkerProcess:
    """Runs one competitor's model in a process of its own."""

    def __init__(self, competitor: Competitor, task: Task, cache: Path):
        cache.mkdir(parents=True, exist_ok=True)
        self._log = task.folder / f"{competitor.name}.log"
        own = replace(task, dtype=competitor.dtype, compiled=competitor.compiled)
        path = task.folder / f"{competitor.name}.task"
        path.write_bytes(pickle.dumps(own))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.worker", competitor.module, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(cache),
            )

    def ask(self, do: str, **arguments: Any) -> Mapping[str, Any]:
        """Send one request and return its answer.

        Raises:
            WorkerError: the process died before it answered.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            self.close()
            raise WorkerError(last_words(self._log, code))
        return json.loads(answer)

    def close(self) -> None:
        """End the process and wait for it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a request that a dead process did not read
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def export(module: str, task: Task) -> None:
    """Run a module's ``prepare`` in a process of its own, to export files for its competitors.

    Raises:
        WorkerError: the export failed.
    """
    path, log = task.folder / f"{module}.task", task.folder / f"{module}.log"
    path.write_bytes(pickle.dumps(task))
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.worker", module, str(path), "prepare"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment(task.folder / "cache" / module),
            check=False,
        )
    if done.returncode:
        raise WorkerError(last_words(log, done.returncode))
