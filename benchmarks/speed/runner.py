"""Measure all competitors on one model in interleaved rounds, each in its own process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.speed.check import compare, read_outputs
from benchmarks.speed.competitors import PRODUCTS, REFERENCES, Competitor
from benchmarks.speed.pool import Memory, Pool, available_mb, guess_mb
from benchmarks.speed.process import WorkerError, WorkerProcess, export
from benchmarks.speed.task import Outputs, Task

PAUSE = 0.3  # seconds between two measurements, since thread pools spin for a while after work
LEAST = 0.5  # seconds in which a job is repeated in a round; the median of the calls counts


@dataclass(frozen=True)
class Plan:
    """Specifies the jobs and the numbers of rounds and starts.

    Attributes:
        jobs: names of benchmarks.speed.task.JOBS.
        rounds: rounds of every job.
        slow: seconds; a job that takes longer runs in the first ``slow_rounds`` rounds only.
        starts: cold starts of every competitor, and as many with a filled compilation cache.
        deadline: time.perf_counter() after which no round but the first begins.
    """

    jobs: tuple[str, ...]
    rounds: int
    slow: float
    slow_rounds: int
    starts: int
    deadline: float = float("inf")


@dataclass
class Entry:
    """Holds all measurements of one competitor on one model.

    Attributes:
        state: "measured", "missing", "failed" or "wrong".
        reason: why it is missing, failed or wrong.
        starts: one dict for each fresh process, with an "empty" or "filled" compilation cache.
        seconds: one value for each round by job, None where the job did not run.
    """

    competitor: Competitor
    state: str = "measured"
    reason: str = ""
    precision: str = ""
    check: dict[str, Any] = field(default_factory=dict)
    starts: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, list[float | None]] = field(default_factory=dict)
    peak_mb: float | None = None  # of all its processes, after all jobs
    jobs: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        return self.state == "measured"

    def drop(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason

    def takes_part(self, job: str, turn: int, plan: Plan) -> bool:
        """Tell whether it runs this job in round ``turn``; slow jobs run in fewer rounds."""
        done = [s for s in self.seconds.get(job, []) if s is not None]
        slow = bool(done) and max(done) > plan.slow and len(done) >= plan.slow_rounds
        return self.runs and job in self.jobs and not slow and turn < plan.rounds


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Rotate the order of competitors by one for each round."""
    first = turn % len(names) if names else 0
    return [*names[first:], *names[:first]]


def visits(
    names: Sequence[str], jobs: Sequence[str], turn: int, *, by_job: bool
) -> list[tuple[str, str]]:
    """List the (competitor, job) of a round in order.

    With ``by_job`` all competitors run one job before the next, so that compared times are
    measured in close succession; this needs all workers in memory. Otherwise each competitor runs
    all its jobs in turn.
    """
    order = rotated(names, turn)
    if by_job:
        return [(name, job) for job in jobs for name in order]
    return [(name, job) for name in order for job in jobs]


class Run:
    """Starts, checks and measures all competitors on one model."""

    def __init__(self, entries: Sequence[Entry], task: Task, plan: Plan, bar: tqdm):
        self.entries = {e.competitor.name: e for e in entries}
        self.task, self.plan, self.bar = task, plan, bar
        self.reference: Outputs | None = None
        self.reference_name = ""
        self._jobs = [*plan.jobs, "product"]
        self._exports: dict[str, str] = {}  # reason of the failure, or "", by module

    def measure(self) -> None:
        """Measure everything; the entries hold the results."""
        names = sorted(self.entries, key=self._first_to_start)
        pool = Pool(self._start, guess_mb(self.task.config, self.task.weights), available_mb)
        try:
            for name in names:
                self.bar.set_description(f"{name}: starting")
                self._guarded(pool, name, pool.worker, name, names)
                self.bar.update()
            self._rounds(pool)
        finally:
            pool.close_all()
        for number in range(1, self.plan.starts + 1):
            for name in rotated(list(self.entries), number):
                self.bar.set_description(f"{name}: start {number}")
                self._more_starts(name, number)
                self.bar.update()

    def _first_to_start(self, name: str) -> int:
        """Rank the first starts: matrix products, then the reference, then other competitors."""
        if self.entries[name].competitor.name in REFERENCES:
            return 1 + REFERENCES.index(name)
        return 0 if self.entries[name].competitor in PRODUCTS else 1 + len(REFERENCES)

    def _guarded(self, pool: Pool, name: str, action: Callable[..., Any], *given: Any) -> None:
        """Run an action on a worker; if the worker dies, mark its entry failed and go on."""
        if not self.entries[name].runs:
            return
        try:
            action(*given)
        except WorkerError as error:
            self.entries[name].drop("failed", str(error))
        if not self.entries[name].runs:
            pool.forget(name)

    def _rounds(self, pool: Pool) -> None:
        longest = 0.0
        by_job = pool.all_fit
        names = [n for n, e in self.entries.items() if e.runs]
        for turn in range(self.plan.rounds):
            start = time.perf_counter()
            if turn and start + longest > self.plan.deadline:
                return
            todo = visits(names, self._jobs, turn, by_job=by_job)
            for place, (name, job) in enumerate(todo):
                if self.entries[name].takes_part(job, turn, self.plan):
                    self.bar.set_description(f"{name}: {job}, round {turn + 1}")
                    upcoming = self._upcoming(names, todo[place:], turn)
                    self._guarded(pool, name, self._once, pool, name, job, turn, upcoming)
                self.bar.update()
            longest = max(longest, time.perf_counter() - start)

    def _upcoming(
        self, names: Sequence[str], rest: Sequence[tuple[str, str]], turn: int
    ) -> list[str]:
        """List the competitors that run in the rest of this round and in the next, in order."""
        following = visits(names, self._jobs, turn + 1, by_job=False)
        due = [(n, j, turn) for n, j in rest] + [(n, j, turn + 1) for n, j in following]
        return [n for n, j, t in due if self.entries[n].takes_part(j, t, self.plan)]

    def _once(self, pool: Pool, name: str, job: str, turn: int, upcoming: Sequence[str]) -> None:
        worker = pool.worker(name, upcoming)
        time.sleep(PAUSE)
        answer = worker.ask("run", job=job, least=LEAST)
        entry = self.entries[name]
        entry.seconds.setdefault(job, [None] * self.plan.rounds)[turn] = answer["seconds"]
        entry.peak_mb = max(entry.peak_mb or 0.0, answer["peak_mb"])
        pool.note(name, Memory(answer["peak_mb"], answer["rest_mb"]))

    # ------------------------------------------------------------------ starts

    def _start(self, name: str) -> tuple[WorkerProcess, Memory]:
        """Start a worker: load it, check its outputs the first time, and warm up its jobs."""
        entry = self.entries[name]
        competitor = entry.competitor
        seen = bool(entry.starts)
        if competitor.exporter:
            self._export(competitor.exporter)
        worker = WorkerProcess(competitor, self.task, self._cache(name, 0))
        try:
            return worker, self._warm(worker, entry, seen)
        except BaseException:  # the pool does not know it yet and would not close it
            worker.close()
            raise

    def _warm(self, worker: WorkerProcess, entry: Entry, seen: bool) -> Memory:
        competitor = entry.competitor
        start = self._ready(worker, entry, "empty")
        if not seen:
            entry.starts.append(start)
            self._check(worker, entry)
        done = {"encoder", "click", *(() if seen or not entry.check else ("points",))}
        if not competitor.caches:  # nothing to compile in them
            done |= {"set_image", "automatic"}
        warm = [job for job in self.plan.jobs if job in entry.jobs and job not in done]
        if entry.runs:
            worker.ask("first", jobs=warm)
        held = worker.ask("memory")
        return Memory(held["peak_mb"], held["rest_mb"])

    def _ready(self, worker: WorkerProcess, entry: Entry, cache: str) -> dict[str, Any]:
        """Load the model and time its first calls."""
        loaded = dict(worker.ask("load"))
        entry.precision, jobs = loaded.pop("precision"), loaded.pop("jobs")
        entry.jobs = tuple(jobs)
        first = worker.ask("first", jobs=[j for j in ("encoder", "click", "product") if j in jobs])
        return {"cache": cache, **loaded, **first}

    def _check(self, worker: WorkerProcess, entry: Entry) -> None:
        if "encoder" not in entry.jobs:
            return
        path = self.task.folder / f"{entry.competitor.name}.npz"
        worker.ask("outputs", path=str(path))
        found = read_outputs(path)
        path.unlink()
        if self.reference is None:
            self.reference, self.reference_name = found, entry.competitor.name
        entry.check = compare(found, self.reference, entry.competitor.dtype)
        if entry.check["wrong"]:
            entry.drop("wrong", str(entry.check["wrong"]))

    def _export(self, module: str) -> None:
        """Export files once per run; if that fails, all competitors that load them fail."""
        if module not in self._exports:
            self.bar.set_description(f"{module.rpartition('.')[2]}: exporting")
            self._exports[module] = ""
            try:
                export(module, self.task)
            except WorkerError as error:
                self._exports[module] = str(error)
        if self._exports[module]:
            raise WorkerError(f"its files could not be written: {self._exports[module]}")

    def _more_starts(self, name: str, number: int) -> None:
        """Start once with an empty compilation cache, and once with the cache that it filled.

        The measuring process was the first start with an empty cache.
        """
        entry = self.entries[name]
        if not entry.runs or "encoder" not in entry.jobs:
            return
        caches = [("empty", number)] if number < self.plan.starts else []
        caches += [("filled", number if caches else 0)] if entry.competitor.caches else []
        try:
            for state, which in caches:
                worker = WorkerProcess(entry.competitor, self.task, self._cache(name, which))
                try:
                    entry.starts.append(self._ready(worker, entry, state))
                finally:
                    worker.close()
        except WorkerError as error:
            entry.drop("failed", str(error))
        shutil.rmtree(self._cache(name, number), ignore_errors=True)

    def _cache(self, name: str, number: int) -> Path:
        return self.task.folder / "cache" / f"{name}-{number}"
