"""Keep worker processes loaded between rounds, as many as fit into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed.process import WorkerProcess
from samjax.model.config import ImageEncoderConfig, SamConfig

SHARE = 0.85  # share of the free memory for workers; the rest is left to other programs


def available_mb() -> float | None:
    """Return the memory available to new processes, in MB (Linux), or None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    line = next(line for line in lines if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 / 1e6


def guess_mb(config: SamConfig, weights: Path) -> float:
    """Estimate an upper bound of a worker's peak memory, in MB, before it has run.

    It counts the weights and ten attention matrices of a global block, about as many as ONNX
    Runtime, the largest of the competitors, holds at once.
    """
    encoder = config.image_encoder
    assert isinstance(encoder, ImageEncoderConfig)
    attention = encoder.num_heads * encoder.grid**4 * 4 / 1e6
    return 600 + 4 * weights.stat().st_size / 1e6 + 10 * attention


@dataclass(frozen=True)
class Memory:
    """Holds the memory of a worker, in MB.

    Attributes:
        peak: peak memory so far.
        rest: memory held between two jobs.
        start: seconds that its last start took.
    """

    peak: float
    rest: float
    start: float = 0.0


def to_close(
    name: str, known: Mapping[str, Memory], upcoming: Sequence[str], budget: float
) -> list[str]:
    """Choose the workers to close so that ``name`` can run up to its peak memory.

    Workers that are not needed again are closed first, then those that restart fastest for the
    memory that they free (a worker that needs a minute of torch.compile stays), then those whose
    next turn is farthest away.

    Args:
        name: worker to run.
        known: memory of the loaded workers and of ``name``.
        upcoming: names of the workers in the order of their next turns.
        budget: memory for all workers, in MB.
    """

    def price(n: str) -> tuple[float, int]:
        if n not in upcoming:
            return -1.0, 0
        return known[n].start / max(known[n].rest, 1.0), -upcoming.index(n)

    going: list[str] = []
    staying = sorted((n for n in known if n != name), key=price, reverse=True)

    def fits(others: Sequence[str]) -> bool:
        return known[name].peak + sum(known[n].rest for n in others) <= budget

    while staying and not fits(staying):
        going.append(staying.pop())
    # Closing a large worker may have made it unnecessary to close small ones.
    for n in sorted((g for g in going if g in upcoming), key=price, reverse=True):
        if fits([*staying, n]):
            staying.append(n)
            going.remove(n)
    return going


class Pool:
    """Keeps workers loaded by name; one runs at a time while the others are idle.

    Args:
        start: starts a worker and returns it with its memory.
        guess: estimated peak memory of a worker that has not run yet, in MB.
        free: returns the free memory in MB, or None if it is unknown.
    """

    def __init__(
        self,
        start: Callable[[str], tuple[WorkerProcess, Memory]],
        guess: float,
        free: Callable[[], float | None],
    ):
        self._start, self._guess, self._free = start, guess, free
        self._alive: dict[str, WorkerProcess] = {}
        self._known: dict[str, Memory] = {}

    @property
    def all_fit(self) -> bool:
        """Tell whether all workers known so far fit into memory while any of them runs."""
        budget = self._budget()
        return not any(to_close(n, self._known, (), budget) for n in self._known)

    def _budget(self) -> float:
        """Return the memory for all workers: a share of the free memory and of what they hold."""
        free = self._free()
        if free is None:
            return float("inf")
        return SHARE * (free + sum(self._known[n].rest for n in self._alive))

    def worker(self, name: str, upcoming: Sequence[str] = ()) -> WorkerProcess:
        """Return a loaded worker, after closing others if memory requires it.

        Raises:
            WorkerError: the worker died while it started.
        """
        known = {n: self._known[n] for n in self._alive}
        known[name] = self._known.get(name, Memory(self._guess, self._guess))
        for other in to_close(name, known, upcoming, self._budget()):
            self.close(other)
        if name not in self._alive:
            began = time.perf_counter()
            self._alive[name], memory = self._start(name)
            self._known[name] = replace(memory, start=time.perf_counter() - began)
        return self._alive[name]

    def note(self, name: str, seen: Memory) -> None:
        """Update the known memory of a loaded worker."""
        before = self._known[name]
        self._known[name] = replace(
            before, peak=max(before.peak, seen.peak), rest=max(before.rest, seen.rest)
        )

    def close(self, name: str) -> None:
        """End a worker, if it is loaded."""
        if (worker := self._alive.pop(name, None)) is not None:
            worker.close()

    def close_all(self) -> None:
        """End all workers."""
        for name in list(self._alive):
            self.close(name)

    def forget(self, name: str) -> None:
        """Close a worker that died, and drop its memory from the budget."""
        self.close(name)
        self._known.pop(name, None)
