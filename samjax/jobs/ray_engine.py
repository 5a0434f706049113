"""Run shards by actors on a Ray cluster; paths travel, pixels do not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from samjax.errors import SamjaxError
from samjax.jobs.pool import ATTEMPTS, Task
from samjax.jobs.progress import Progress
from samjax.jobs.shard import ShardReport, load_once, settings_spec

_TICK = 0.5  # seconds between looks at the progress


class _Worker:
    """_Worker is an actor: it loads the model once, then runs one shard after another."""

    def __init__(self, task: Task, device: str | None, variables: dict[str, str]):
        os.environ.update(variables)  # JAX has not started yet
        from ray.util.metrics import Counter as Metric

        self._task, self._device, self._done = task, device, (0, 0)
        self._images = Metric("samjax_images", "Images that are done", tag_keys=())

    def ready(self) -> None:
        """Load the model."""
        spec = settings_spec(self._task.plan.settings)
        load_once(spec if self._device is None else replace(spec, device=self._device))

    def progress(self) -> tuple[int, int]:
        """Return the shard at work and the number of its images that are done."""
        return self._done

    def run(self, index: int) -> ShardReport:
        """Run a shard."""

        def told(count: int) -> None:
            if count > (before := self._done[1] if self._done[0] == index else 0):
                self._images.inc(count - before)
            self._done = index, count

        return self._task.run(index, device=self._device, told=told)


def run_ray(
    task: Task,
    shards: Sequence[int],
    workers: int | None,
    gpus_per_worker: float | None,
    progress: bool,
) -> list[ShardReport]:
    """Run shards on the cluster that ``ray.init`` joined, else on RAY_ADDRESS's or a new one.

    Raises:
        SamjaxError: Ray is missing, of a shard, or a shard whose workers died again and again.
    """
    try:
        import ray
    except ImportError:
        raise SamjaxError("ray is not installed: pip install 'samjax[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="ERROR")
    try:
        return _Actors(ray, task, workers, gpus_per_worker).run(shards, progress)
    finally:
        if ours:
            ray.shutdown()


class _Actors:
    def __init__(self, ray: Any, task: Task, workers: int | None, gpus: float | None):
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus_there = sum(node.get("GPU", 0) for node in nodes)
        share = gpus if gpus is not None else (1.0 if gpus_there else 0.0)
        self._count = workers or max(1, int(gpus_there / share) if share else 1)
        cores = _cores(nodes, self._count)
        variables = {} if share else {"NPROC": str(cores)}  # XLA's threads
        if 0 < share < 1:
            variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        # Two threads: one answers about the progress.
        self._class = ray.remote(
            num_cpus=1 if share else cores, num_gpus=share, max_restarts=0, max_concurrency=2
        )(_Worker)
        self._arguments = ray.put(task), "gpu:0" if share else None, variables
        self._task = task

    def run(self, shards: Sequence[int], progress: bool) -> list[ShardReport]:
        waiting, reports = list(reversed(shards)), list[ShardReport]()
        deaths: Counter[int] = Counter()
        starting: dict[Any, Any] = {}
        running: dict[Any, tuple[Any, int]] = {}
        asked: dict[Any, Any] = {}
        errors = self._ray.exceptions
        actors: list[Any] = []

        def start() -> None:
            actor = self._class.remote(*self._arguments)
            actors.append(actor)
            starting[actor.ready.remote()] = actor

        def give(actor: Any) -> None:
            if waiting:
                index = waiting.pop()
                running[actor.run.remote(index)] = actor, index

        try:
            with Progress(self._task.images(shards), shown=progress) as shown:
                for _ in range(min(self._count, len(shards))):
                    start()
                while waiting or running:
                    refs = [*starting, *running, *asked]
                    finished, _ = self._ray.wait(refs, num_returns=1, timeout=_TICK)
                    for ref in finished:
                        actor, index = starting.pop(ref, None), None
                        is_answer = ref in asked
                        if is_answer:
                            actor = asked.pop(ref)
                        elif actor is None:
                            actor, index = running.pop(ref)
                        try:
                            value = self._ray.get(ref)
                        except errors.RayTaskError as error:
                            raise _cause(error) from error
                        except (errors.RayActorError, errors.RaySystemError) as error:
                            if is_answer:
                                continue  # its shard's reference tells, too
                            if index is None:
                                deaths[-1] += 1
                            else:
                                deaths[index] += 1
                                waiting.append(index)
                            _check_deaths(deaths, self._count, error)
                            start()
                            continue
                        if is_answer:
                            if any(actor is a and i == value[0] for a, i in running.values()):
                                shown.told(*value)
                            continue
                        if index is not None:
                            shown.finish(*value)
                            reports.append(value)
                        give(actor)
                    if not finished:
                        busy = [actor for actor, _ in running.values()]
                        for actor in busy:
                            if all(actor is not a for a in asked.values()):
                                asked[actor.progress.remote()] = actor
        finally:
            for actor in actors:
                self._ray.kill(actor)
        return reports


def _cores(nodes: Sequence[dict[str, float]], workers: int) -> int:
    """Return the cores of one worker: those of the smallest node, shared evenly."""
    sizes = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    return max(1, min(sizes, default=1) // -(-workers // max(1, len(sizes))))


def _check_deaths(deaths: Counter[int], workers: int, error: Exception) -> None:
    shard, times = deaths.most_common(1)[0]
    if times < (ATTEMPTS if shard >= 0 else ATTEMPTS * workers):
        return
    first = " ".join(str(error).split())[:200]
    what = f"shard {shard}: its worker" if shard >= 0 else "workers that had no work yet"
    raise SamjaxError(f"{what} died {times} times ({first}): look for lack of memory")


def _cause(error: Any) -> Exception:
    """Return the error that a worker raised, without Ray's frame around it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, SamjaxError) else SamjaxError(str(error).splitlines()[-1])
