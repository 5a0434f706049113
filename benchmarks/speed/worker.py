"""Run one competitor in a process: load its model, then answer requests for jobs.

    python -m benchmarks.speed.worker MODULE TASK          # answers requests, one per line
    python -m benchmarks.speed.worker MODULE TASK prepare  # exports files, once per run

Requests arrive on stdin and answers leave on the original stdout, as JSON; the output of libraries
goes to stderr. Between requests the process is blocked on the pipe and uses no core. It ends when
stdin is closed, also when the runner is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.speed.task import Contender, Task

MOST_CALLS = 20  # maximum calls of a fast job in one round


def seconds(job: Callable[[], Any]) -> float:
    """Time one call, in seconds."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def repeated(job: Callable[[], Any], least: float) -> dict[str, float]:
    """Repeat a job for ``least`` seconds and return the median seconds of a call.

    A slow job is called once.
    """
    taken = [seconds(job)]
    while sum(taken) < least and len(taken) < MOST_CALLS:
        taken.append(seconds(job))
    return {"seconds": statistics.median(taken), "calls": len(taken)}


def peak_mb() -> float:
    """Return the peak memory of this process in MB of 10^6 bytes: VmHWM on Linux."""
    unit = 1 if sys.platform == "darwin" else 1024
    return status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def status_mb(field: str) -> float | None:
    """Read a size from Linux's /proc/self/status, in MB; None on other systems."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


class Worker:
    """Answers requests with one competitor's model."""

    def __init__(self, module: str, task: Task):
        self._module, self._task = module, task
        self._contender: Contender | None = None

    @property
    def contender(self) -> Contender:
        assert self._contender is not None, "load must be called first"
        return self._contender

    def load(self) -> dict[str, Any]:
        """Import the libraries and load the weights, timed separately."""
        start = time.perf_counter()
        module = importlib.import_module(self._module)
        imported = time.perf_counter()
        self._contender = module.load(self._task)
        return {
            "import": imported - start,
            "load": time.perf_counter() - imported,
            "precision": self.contender.precision,
            "jobs": list(self.contender.jobs),
        }

    def first(self, jobs: list[str]) -> dict[str, Any]:
        """Time the first call of each job, and return the peak memory so far."""
        taken = {name: seconds(self.contender.jobs[name]) for name in jobs}
        device = self.contender.device_peak()
        return {"first": taken, "peak_mb": peak_mb(), "device_peak_mb": device}

    def run(self, job: str, least: float) -> dict[str, float]:
        """Time a warm job."""
        return repeated(self.contender.jobs[job], least) | self.memory()

    def memory(self) -> dict[str, float]:
        """Return the peak memory so far and the current memory."""
        return {"peak_mb": peak_mb(), "rest_mb": status_mb("VmRSS") or peak_mb()}

    def outputs(self, path: str) -> dict[str, Any]:
        """Write the outputs that are compared with the reference."""
        assert self.contender.outputs is not None
        np.savez(path, **vars(self.contender.outputs()))
        return {}


def serve(worker: Worker, requests: Iterable[str], replies: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=replies, flush=True)


def main(arguments: list[str]) -> None:
    module, path, *rest = arguments
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # the last line of the log is the last one said
    task = pickle.loads(Path(path).read_bytes())  # written by the runner a moment ago
    if rest:
        importlib.import_module(module).prepare(task)
    else:
        serve(Worker(module, task), sys.stdin, replies)


if __name__ == "__main__":
    main(sys.argv[1:])
