"""Plan and run the automatic masks of many images: ``samjax.AutomaskJob``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samjax import __version__
from samjax.arguments import (
    several,
    shown,
    whole_number,
)
from samjax.automatic.options import AutomaticOptions
from samjax.engine.spec import ModelSpec
from samjax.errors import SamjaxError
from samjax.files import protecting
from samjax.jobs.changes import STATE, Suspects, check_kind, find_changed, find_suspects
from samjax.jobs.driver import driving
from samjax.jobs.part import parse_shard
from samjax.jobs.plan import PLAN, RESULTS, Plan, encode_plan, read_plan, read_shard_images
from samjax.jobs.pool import Engine, Task, apart, run_pool
from samjax.jobs.results import decode_about, decode_rows
from samjax.jobs.shard import (
    ShardReport,
    describe_run,
    load_once,
    settings_options,
    settings_spec,
)
from samjax.jobs.sources import list_source
from samjax.jobs.storage import absolute, is_local, join, list_objects, read_bytes, write_bytes

_READERS = 16  # threads that look at the shards that are there
ENGINES = ("process", "ray")


@dataclass(frozen=True)
class JobStatus:
    """Hold how far a job is: numbers of images and shards, and of masks and failed images.

    ``changed`` names images whose content is no longer that of their results; `AutomaskJob.run`
    makes them again.
    """

    images: int
    shards: int
    shards_done: int
    images_done: int
    masks: int
    failed: int
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobReport:
    """Hold what a run did.

    Attributes:
        images: images that were worked on now.
        masks: of the shards that were written now.
        failed: failed images, also those of before.
        skipped: images that were there before.
        seconds: of the run.
    """

    images: int
    masks: int
    failed: int
    skipped: int
    seconds: float


class AutomaskJob:
    """AutomaskJob makes the automatic masks of many images, in shards that any engine may run.

    >>> job = samjax.AutomaskJob("vit_b", "s3://bucket/photos", "s3://bucket/masks")
    >>> job.run(workers=4)  # plans first; run it again after an interruption
    >>> for name, size, records in samjax.read_results("s3://bucket/masks"):
    ...     print(name, len(records))

    Args:
        spec: the model, a ModelSpec or its name or path.
        source: the images: a folder, pattern, file or WebDataset tar, by path or address (any
            scheme of fsspec: ``s3://``, ``gs://``, ``https://``); a list in a .txt, .csv or
            .parquet file; or a sequence of paths and addresses.
        destination: folder of the results, a path or an address.
        images_per_shard: images whose results become one object, and the most that a killed
            worker has to do again.
        generator_options: the arguments of AutomaticOptions, each by its name.

    Raises:
        PromptError: options that do not fit together.
        SamjaxError: ``output_mode`` or ``point_grids``, or fewer than one image in a shard.
    """

    def __init__(
        self,
        spec: ModelSpec | str,
        source: str | Path | Sequence[str | Path],
        destination: str | Path,
        images_per_shard: int = 512,
        **generator_options: Any,
    ):
        for name in {"output_mode", "point_grids"} & generator_options.keys():
            raise SamjaxError(f"{name}: is no option of a job, which stores run lengths of a grid")
        images_per_shard = whole_number(images_per_shard, "images_per_shard", error=SamjaxError)
        if images_per_shard < 1:
            raise SamjaxError(f"images_per_shard is {images_per_shard}: at least 1")
        for given, what in ((spec, "spec"), (destination, "destination")):
            if not isinstance(given, (str, Path, ModelSpec)):
                raise SamjaxError(f"{what} is {shown(given)}: pass a name, a path or an address")
        if not isinstance(source, (str, Path)):
            several(source, "source", "paths and addresses", SamjaxError)
        self.spec = spec if isinstance(spec, ModelSpec) else ModelSpec(spec)
        self.source, self.destination = source, absolute(str(destination))
        self.images_per_shard = images_per_shard
        self.options = AutomaticOptions(**generator_options)
        self._plan: Plan | None = None

    @classmethod
    def open(cls, destination: str | Path) -> AutomaskJob:
        """Return the job that was planned for a destination.

        Raises:
            SamjaxError: nothing was planned there.
        """
        address = absolute(str(destination))
        plan = read_plan(address)
        if plan is None:
            raise SamjaxError(f"{destination}: has no {PLAN}: plan the job first")
        job = cls.__new__(cls)
        job.spec, job.options = settings_spec(plan.settings), settings_options(plan.settings)
        job.source, job.destination = plan.settings["source"], address
        job.images_per_shard, job._plan = plan.settings["images_per_shard"], plan
        return job

    def _settings(self) -> dict[str, Any]:
        source = self.source
        several = not isinstance(source, (str, Path))
        text: Any = [str(each) for each in source] if several else str(source)  # type: ignore[union-attr]
        names = self.options.as_record()
        return {
            "source": text,
            "model": asdict(self.spec),
            "options": names | {"points_per_batch": self.options.points_per_batch},
            "images_per_shard": self.images_per_shard,
        }

    def plan(self) -> Plan:
        """List the images and write the plan, or return the one that is there.

        A plan is frozen: images that come later are not in it, and those that change are taken
        as they are when they are read. It tells model and options too, and the hash of the
        weights.

        Raises:
            SamjaxError: no images, two with one name, or a plan of another model, other options or
                another source.
        """
        return self._planned(lambda function, *arguments: function(*arguments))

    def _planned(self, call: Callable[..., Any]) -> Plan:
        if self._plan is not None:
            return self._plan
        settings = self._settings()
        found = read_plan(self.destination)
        if found is not None:
            self._plan = _checked(found, settings, self.destination)
            return found
        self.spec.check()
        images = list_source(self.source)
        run = call(_describe, self.spec, self.options)
        data = encode_plan(images, settings | {"samjax": __version__}, run)
        local = [image.location for image in images if is_local(image.location)]
        with protecting([*local[:1], *self.spec.files()]):
            write_bytes(join(self.destination, PLAN), data)
        self._plan = read_plan(self.destination)
        assert self._plan is not None
        return self._plan

    def run_shard(
        self, index: int, *, retry_failed: bool = False, check: str = "listing"
    ) -> ShardReport:
        """Make the masks of one shard's images, and write them as one object.

        It is pure and idempotent: the same plan and images give the same bytes, in whatever
        process and order; what is there is skipped. An image that fails becomes a row with the
        reason.

        Args:
            index: number of the shard, from 0.
            retry_failed: try the failed images of a finished shard again.
            check: how to notice images of a finished shard that changed; see ``run``.

        Raises:
            SamjaxError: no such shard, other weights than planned, or a store that fails.
        """
        plan = self.plan()
        suspects = find_suspects(plan, self.destination, [index], check)
        return Task(plan, self.destination, retry_failed, suspects).run(index)

    def status(self, check: str = "listing") -> JobStatus:
        """Return how far the job is, from the files of its destination.

        Args:
            check: how to notice images that changed; see ``run``.

        Raises:
            SamjaxError: nothing was planned, or the store fails.
        """
        plan = self.plan()
        suspects = find_suspects(plan, self.destination, range(plan.shards), check)
        names = list_objects(join(self.destination, RESULTS))
        wanted = {plan.shard_name(i).partition("/")[2] for i in range(plan.shards)}
        here = sorted(wanted & names.keys())
        with ThreadPoolExecutor(_READERS) as pool:
            read = pool.map(lambda n: read_bytes(join(self.destination, RESULTS, n)), here)
            found = [about for about in map(decode_about, read) if about is not None]
        done = [about for about in found if about.run == plan.digest]
        return JobStatus(
            plan.images,
            plan.shards,
            len(done),
            sum(about.images for about in done),
            sum(about.masks for about in done),
            sum(about.failed for about in done),
            tuple(sorted(self._changed(plan, {about.shard for about in done}, suspects))),
        )

    def _changed(self, plan: Plan, done: set[int], suspects: Suspects) -> Iterator[str]:
        for index in done & suspects.keys():
            data = read_bytes(join(self.destination, plan.shard_name(index)))
            rows = {row["name"]: row for row in decode_rows(data, STATE)}
            images = read_shard_images(self.destination, index)
            yield from find_changed(images, rows, suspects[index])

    def run(
        self,
        engine: str = "process",
        *,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        shard: str | None = None,
        retry_failed: bool = False,
        check: str = "listing",
        images_at_once: int | None = None,
        progress: bool = True,
    ) -> JobReport:
        """Plan, run every shard that is not there yet, and make changed images again.

        In a script, call it under ``if __name__ == "__main__":``: the workers are new processes,
        which import the script.

        Args:
            engine: "process", new processes on this machine, or "ray", actors on a Ray cluster
                (``ray.init`` it before, or it joins the cluster of RAY_ADDRESS, or starts one).
            workers: number of processes or actors; None: one for each GPU, else 1. One process
                is this one.
            gpus_per_worker: share of a GPU for each worker, such as 0.5; None: 1 where there are
                GPUs.
            shard: "I/N": only part I of N of the shards, as for an array of Slurm.
            retry_failed: try failed images of finished shards again.
            check: how to notice images of finished shards that changed: "listing" compares sizes,
                etags and times with the plan's, and reads images where these differ (of a list of
                remote addresses the plan knows none); "content" reads all of them again, "none"
                trusts that nothing changed.
            images_at_once: images that a worker's device encodes together; None: 1 on CPUs, up to
                8 on accelerators, as their memory allows. Other batches may differ in the last
                bits: name it where machines differ.
            progress: show a bar on a terminal, else a line a minute.

        Raises:
            SamjaxError: wrong input, another driver at work on the same part, a shard whose
                workers died again and again, or a store that fails.
        """
        start = time.monotonic()
        if engine not in ENGINES:
            raise SamjaxError(f"engine {engine!r}: use {' or '.join(ENGINES)}")
        if workers is not None and workers < 1:
            raise SamjaxError(f"workers is {workers}: at least 1")
        if images_at_once is not None and images_at_once < 1:
            raise SamjaxError(f"images_at_once is {images_at_once}: at least 1")
        check_kind(check)
        part, parts = parse_shard(shard)
        if self.destination.startswith("memory://") and (engine == "ray" or (workers or 1) > 1):
            raise SamjaxError(f"{self.destination}: is of this process alone: use one worker")
        here = workers == 1 and engine == "process"
        plan = self.plan() if here else self._planned(apart)
        mine = list(range(plan.shards))[part - 1 :: parts]
        with driving(self.destination, part, parts):
            suspects = find_suspects(plan, self.destination, mine, check)
            task = Task(plan, self.destination, retry_failed, suspects, images_at_once)
            reports = _engine(engine)(task, mine, workers, gpus_per_worker, progress)
        return JobReport(
            images=sum(report.images - report.skipped for report in reports),
            masks=sum(report.masks for report in reports if report.skipped < report.images),
            failed=sum(report.failed for report in reports),
            skipped=sum(report.skipped for report in reports),
            seconds=time.monotonic() - start,
        )


def _engine(name: str) -> Engine:
    if name == "process":
        return run_pool
    from samjax.jobs.ray_engine import run_ray

    return run_ray


def _describe(spec: ModelSpec, options: AutomaticOptions) -> dict[str, Any]:
    return describe_run(load_once(spec), spec, options)


def _checked(plan: Plan, settings: dict[str, Any], destination: str) -> Plan:
    """Return the plan if it is of these settings."""
    for key, value in settings.items():
        other = plan.settings.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            pairs = {k: (other.get(k), v) for k, v in value.items() if other.get(k) != v}
        else:
            pairs = {} if other == value else {key: (other, value)}
        # Lists and tuples are one in JSON.
        pairs = {k: (a, b) for k, (a, b) in pairs.items() if a != _listed(b)}
        for name, (a, b) in pairs.items():
            raise SamjaxError(
                f"{join(destination, PLAN)}: was planned with {name} {_short(a)}, not {_short(b)}: "
                "choose another destination, or the same options"
            )
    return plan


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
