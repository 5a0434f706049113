"""Worker processes kept loaded between rounds, as many as the memory holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed.process import WorkerProcess
from samjax.config import ImageEncoderConfig, SamConfig

SHARE = 0.85  # of the free memory; the rest is for everybody else


def available_mb() -> float | None:
    """Memory that new processes may take, in MB, where Linux tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    line = next(line for line in lines if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 / 1e6


def guess_mb(config: SamConfig, weights: Path) -> float:
    """Upper guess of a worker's peak before it was seen: weights, and products of global attention.

    The hungriest seen so far, ONNX Runtime, holds about ten of these products at once.
    """
    encoder = config.image_encoder
    assert isinstance(encoder, ImageEncoderConfig)
    attention = encoder.num_heads * encoder.grid**4 * 4 / 1e6
    return 600 + 4 * weights.stat().st_size / 1e6 + 10 * attention


@dataclass(frozen=True)
class Memory:
    """Of a worker, in MB: the most it ever held, and what it holds between two jobs.

    ``start`` is how long its last start took, in seconds.
    """

    peak: float
    rest: float
    start: float = 0.0


def to_close(
    name: str, known: Mapping[str, Memory], upcoming: Sequence[str], budget: float
) -> list[str]:
    """Who must go so that ``name`` may run up to its peak while the others of ``known`` rest.

    First those whose turn does not come again, then those who are back soonest for the memory
    that they leave (what torch.compile takes a minute and a half for stays), then those whose
    turn is farthest away.
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
    # A large one may have made up for small ones.
    for n in sorted((g for g in going if g in upcoming), key=price, reverse=True):
        if fits([*staying, n]):
            staying.append(n)
            going.remove(n)
    return going


class Pool:
    """Loaded workers by name: one runs at a time, the others rest.

    ``start`` makes a ready worker and returns it with its memory; ``guess`` is the peak in MB of
    one that was not seen yet; ``free`` tells what is free now, which others use too, or None.
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
        """Whether everybody seen so far may stay loaded while any of them runs."""
        budget = self._budget()
        return not any(to_close(n, self._known, (), budget) for n in self._known)

    def _budget(self) -> float:
        """What the workers may hold: a share of what is free and of what they hold already."""
        free = self._free()
        if free is None:
            return float("inf")
        return SHARE * (free + sum(self._known[n].rest for n in self._alive))

    def worker(self, name: str, upcoming: Sequence[str] = ()) -> WorkerProcess:
        """The loaded worker; others are closed for it if they must.

        Raises:
            WorkerError: it died while it started.
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
        """What a loaded worker holds by now."""
        before = self._known[name]
        self._known[name] = replace(
            before, peak=max(before.peak, seen.peak), rest=max(before.rest, seen.rest)
        )

    def close(self, name: str) -> None:
        """End a worker, if it is loaded."""
        if (worker := self._alive.pop(name, None)) is not None:
            worker.close()

    def close_all(self) -> None:
        """End all."""
        for name in list(self._alive):
            self.close(name)

    def forget(self, name: str) -> None:
        """Of one that died: it will not come back."""
        self.close(name)
        self._known.pop(name, None)
