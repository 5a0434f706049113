"""Compute medians of paired ratios, with exact confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """Holds the median of paired ratios and its interval of at least 95% confidence.

    With fewer than six pairs no such interval exists: ``sure`` is False, and ``low`` and ``high``
    are the smallest and the largest ratio.
    """

    median: float
    low: float
    high: float
    pairs: int
    sure: bool


def interval(count: int, confidence: float = 0.95) -> tuple[int, int] | None:
    """Return the ranks (from 0) of the order statistics that enclose the median of values.
    The interval is exact for any continuous distribution: the number of values below the median is
    binomial. It is None if not even the smallest and the largest value reach ``confidence``.
    """
    below, rank = 0, None
    for k in range(count // 2):
        below += comb(count, k)
        if 2 * below > (1 - confidence) * 2**count:
            break
        rank = k
    return None if rank is None else (rank, count - 1 - rank)


def paired_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Ratio | None:
    """Summarise theirs / ours over the rounds in which both were measured; None without any."""
    ratios = sorted(theirs[i] / ours[i] for i in ours.keys() & theirs.keys())
    return summary(ratios) if ratios else None


def summary(values: Sequence[float]) -> Ratio:
    """Compute the median of values, with its interval."""
    ordered = sorted(values)
    ranks = interval(len(ordered))
    low, high = ranks or (0, len(ordered) - 1)
    return Ratio(median(ordered), ordered[low], ordered[high], len(ordered), ranks is not None)
