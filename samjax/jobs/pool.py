"""Run shards in new processes of this machine, and start again those that die."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import Any, TypeAlias, TypeVar

from samjax.errors import SamjaxError
from samjax.jobs.changes import Suspects
from samjax.jobs.plan import Plan
from samjax.jobs.progress import Progress
from samjax.jobs.shard import ShardReport, StoppedError, run_shard

ATTEMPTS = 3  # of a shard whose worker dies
_GUARD = "in a script, call run() under if __name__ == '__main__':"
_TICK = 0.5  # seconds between looks at the progress

_T = TypeVar("_T")


@dataclass(frozen=True)
class Task:
    """Hold what every worker of a run knows."""

    plan: Plan
    destination: str
    retry_failed: bool = False
    suspects: Suspects = field(default_factory=dict)
    images_at_once: int | None = None

    def images(self, shards: Sequence[int]) -> int:
        """Return the number of images in shards."""
        return sum(map(self.plan.shard_size, shards))

    def run(self, index: int, **where: Any) -> ShardReport:
        """Run a shard; see `run_shard` for the other arguments."""
        return run_shard(
            self.plan,
            self.destination,
            index,
            suspects=self.suspects.get(index, {}),
            retry_failed=self.retry_failed,
            images_at_once=self.images_at_once,
            **where,
        )


# Runs shards somewhere: task, shards, workers, gpus_per_worker, progress.
Engine: TypeAlias = Callable[
    [Task, Sequence[int], int | None, float | None, bool], list[ShardReport]
]


def run_pool(
    task: Task,
    shards: Sequence[int],
    workers: int | None,
    gpus_per_worker: float | None,
    progress: bool,
) -> list[ShardReport]:
    """Run shards in this process, or in several new ones.

    Raises:
        SamjaxError: of a shard, or a shard whose workers died again and again.
    """
    if workers == 1 or len(shards) <= 1:
        return _run_here(task, shards, progress)
    devices = apart(_devices, gpus_per_worker)
    count = min(workers or max(1, len(devices)), max(1, len(shards)))
    if count == 1:
        return _run_here(task, shards, progress)
    return _Pool(task, shards, count, devices, progress).run()


def apart(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in a new process, so that this one takes no memory of a GPU.

    Raises:
        SamjaxError: this is such a process itself: a script without its guard.
    """
    if parent_process() is not None:
        raise SamjaxError(f"a worker process would start workers: {_GUARD}")
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise SamjaxError(f"the first worker process died: {_GUARD}") from None


def _run_here(task: Task, shards: Sequence[int], progress: bool) -> list[ShardReport]:
    reports = []
    with Progress(task.images(shards), shown=progress) as shown:
        for index in shards:
            report = task.run(
                index,
                told=lambda done, index=index: shown.told(index, done),
            )
            shown.finish(*report)
            reports.append(report)
    return reports


def _devices(gpus_per_worker: float | None) -> list[str]:
    """Return a device's name for each worker; none on the CPU."""
    import jax

    if jax.default_backend() == "cpu":
        return []
    names = [f"{d.platform}:{i}" for i, d in enumerate(jax.local_devices())]
    share = gpus_per_worker or 1.0
    return [name for name in names for _ in range(max(1, round(1 / share)))]


class _Pool:
    def __init__(
        self,
        task: Task,
        shards: Sequence[int],
        workers: int,
        devices: Sequence[str],
        progress: bool,
    ):
        self._task, self._shards, self._progress = task, shards, progress
        self._workers, self._devices = workers, devices
        self._context = get_context("spawn")  # a fork after JAX has started hangs
        # One number for each shard, written by one process at a time: no lock that a kill holds.
        self._done = self._context.RawArray("q", task.plan.shards)
        self._stop = self._context.RawValue("b", 0)

    def run(self) -> list[ShardReport]:
        waiting, reports = list(reversed(self._shards)), list[ShardReport]()
        deaths: Counter[int] = Counter()
        with Progress(self._task.images(self._shards), shown=self._progress) as shown:
            while waiting:
                pool = self._start()
                try:
                    for found in self._drain(pool, waiting, shown):
                        if isinstance(found, ShardReport):
                            shown.finish(*found)
                            reports.append(found)
                        else:  # a worker died, with it the pool
                            waiting += sorted(found, reverse=True)
                            deaths.update(found)
                finally:
                    self._stop.value = 1
                    pool.shutdown(wait=True, cancel_futures=True)
                    self._stop.value = 0
                shard, times = max(deaths.items(), key=lambda d: d[1], default=(0, 0))
                if times >= ATTEMPTS:
                    raise SamjaxError(
                        f"shard {shard}: its worker died {times} times: look for lack of memory, "
                        "or use fewer workers"
                    )
        return reports

    def _drain(
        self, pool: ProcessPoolExecutor, waiting: list[int], shown: Progress
    ) -> Iterator[ShardReport | list[int]]:
        """Keep every worker busy; yield reports, at last the shards of a pool that broke."""
        running: dict[Future[ShardReport], int] = {}
        while waiting or running:
            try:
                while waiting and len(running) < self._workers:
                    running[pool.submit(_work, waiting[-1])] = waiting[-1]
                    waiting.pop()
            except BrokenProcessPool:
                yield list(running.values())
                return
            finished, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
            for index in running.values():
                shown.told(index, self._done[index])
            broken = [f for f in finished if isinstance(f.exception(), BrokenProcessPool)]
            for future in finished:
                if future not in broken:
                    del running[future]
                    yield future.result()
            if broken:
                yield list(running.values())
                return

    def _start(self) -> ProcessPoolExecutor:
        numbers = self._context.SimpleQueue()
        for number in range(self._workers):
            numbers.put(number)
        environment = {}
        if len(self._devices) > len(set(self._devices)):
            environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        return ProcessPoolExecutor(
            self._workers,
            mp_context=self._context,
            initializer=_open,
            initargs=(
                (self._task, self._done, self._stop),
                (numbers, list(self._devices), environment),
            ),
        )


_worker: dict[str, Any] = {}  # of a worker process


def _open(shared: tuple[Any, ...], place: tuple[Any, ...]) -> None:
    """Prepare a worker process, before JAX starts in it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which stops the workers
    task, done, stop = shared
    numbers, devices, environment = place
    number = numbers.get()
    os.environ.update(environment)
    device = None
    # Without devices each worker uses all cores: with fewer threads XLA adds up in another order,
    # and the bytes would not be those of one process.
    if devices:
        device = devices[number % len(devices)]
    _worker.update(task=task, done=done, stop=stop, device=device)


def _work(index: int) -> ShardReport:
    task, done, stop = _worker["task"], _worker["done"], _worker["stop"]

    def told(count: int) -> None:
        done[index] = count

    def check() -> None:
        if stop.value or parent_process() is None:
            raise StoppedError(f"shard {index}: was stopped")

    return task.run(index, device=_worker["device"], told=told, check=check)
