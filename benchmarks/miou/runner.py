"""Measure a data set, image by image, on one or several devices."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from benchmarks.miou.journal import Journal
from benchmarks.miou.protocol import Case, Method, Options, Predictor, Row
from benchmarks.miou.samples import Dataset, Entry, Filters, check_size
from samjax.errors import AnnotationError


@dataclass(frozen=True)
class Measured:
    """Holds all rows in the data set's order, the images without a row, and the model's seconds.

    Seconds are listed for each image that has rows.
    """

    rows: list[Row]
    images: int
    empty: int
    seconds: list[float]


class Timed:
    """Wraps a predictor and adds up the seconds spent in it."""

    def __init__(self, predictor: Predictor):
        self._predictor = predictor
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def _run(self, call: Any, *args: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **named)
        finally:
            self.seconds += time.perf_counter() - start

    def set_image(self, image: Any) -> None:
        """Set the image of the wrapped predictor, timed."""
        self._run(self._predictor.set_image, image)

    def predict_many(self, *args: Any, **named: Any) -> Any:
        """Predict by the wrapped predictor, timed; it waits for the device."""
        return self._run(self._predictor.predict_many, *args, **named)


def measure_entry(
    method: Method, entry: Entry, predictor: Predictor, filters: Filters, options: Options
) -> dict[str, Any]:
    """Measure one image and return its journal entry; ``seconds`` are those of the model alone."""
    targets = entry.targets(filters)
    if not targets and method.needs_targets:
        return {"image": entry.id, "rows": [], "seconds": 0.0}
    image = entry.image()
    check_size(entry.path, image, targets)
    timed = Timed(predictor)
    rows = method.measure(timed, Case(entry.id, image, targets), options)
    return {"image": entry.id, "rows": rows, "seconds": timed.seconds}


def measure_dataset(
    method: Method,
    dataset: Dataset,
    predictors: Sequence[Predictor],
    filters: Filters,
    options: Options,
    journal: Journal,
    progress: bool = True,
) -> Measured:
    """Measure the images that the journal lacks, and return all results.

    Raises:
        AnnotationError: no image of the data set has a target that passes the filters.
    """
    left = [e for e in dataset.entries if e.id not in journal.results]
    idle: queue.Queue[Predictor] = queue.Queue()
    for predictor in predictors:
        idle.put(predictor)

    def job(entry: Entry) -> dict[str, Any]:
        predictor = idle.get()
        try:
            return measure_entry(method, entry, predictor, filters, options)
        finally:
            idle.put(predictor)

    done = len(dataset) - len(left)
    bar = tqdm(total=len(dataset), initial=done, unit="image", disable=None if progress else True)
    with bar, ThreadPoolExecutor(len(predictors)) as pool:
        waiting = iter(left)
        running = {pool.submit(job, e) for _, e in zip(predictors, waiting, strict=False)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                journal.add(future.result())
                bar.update()
            running |= {pool.submit(job, e) for _, e in zip(finished, waiting, strict=False)}
    return collect(dataset, journal)


def collect(dataset: Dataset, journal: Journal) -> Measured:
    """Collect the rows in the order of the data set, each with its image.

    Raises:
        AnnotationError: there are no rows.
    """
    results = [journal.results[e.id] for e in dataset.entries]
    rows = [{"image": r["image"], **row} for r in results for row in r["rows"]]
    if not rows:
        raise AnnotationError(
            f"{dataset.name}: none of its {len(dataset)} images has anything to measure: "
            f"{_why_empty(dataset)}"
        )
    empty = sum(not r["rows"] for r in results)
    seconds = [r["seconds"] for r in results if r["rows"]]
    return Measured(rows, len(results), empty, seconds)


def _why_empty(dataset: Dataset) -> str:
    everything = Filters(crowd=True, min_area=-math.inf)
    found = [t for e in dataset.entries for t in e.targets(everything)]
    if not found:
        return "there is no annotation; give images that have some"
    crowds = sum(t.crowd for t in found)
    if crowds == len(found):
        return f"all {crowds} annotations are crowds, which this protocol leaves out"
    return (
        f"{len(found)} annotations, {crowds} of them crowds, are all left out; see --min-area and "
        "--min-fraction"
    )
