"""Check the parity limits in float32 at precision "highest", and record each stage's error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# max|a - b| over max|b|; over std(b); absolute; share of equal pixels
EMBEDDING, LOGITS, SCORES, PIXELS = 1e-4, 1e-3, 1e-4, 0.999
FOREGROUND = (0.05, 0.95)


class ViolationError(AssertionError):
    """Reports a stage that differs from the official one by more than its limit."""


class Ledger:
    """Records the largest error of each stage, for the report at the end of the run."""

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.worst: dict[str, tuple[float, float, int]] = {}

    def note(self, stage: str, error: float, limit: float) -> None:
        worst, _, count = self.worst.get(stage, (0.0, limit, 0))
        self.worst[stage] = max(worst, error), limit, count + 1
        if self.strict and not error <= limit:  # NaN is above, too
            raise ViolationError(f"{stage}: error {error:.2e} is above the limit of {limit:.0e}")

    def violations(self) -> dict[str, float]:
        """List the largest error of each stage that is above its limit."""
        return {k: worst for k, (worst, limit, _) in self.worst.items() if not worst <= limit}

    def embedding(self, stage: str, ours: ArrayLike, theirs: ArrayLike) -> None:
        a, b = _pair(stage, ours, theirs)
        self.note(stage, float(np.abs(a - b).max() / np.abs(b).max()), EMBEDDING)

    def logits(self, stage: str, ours: ArrayLike, theirs: ArrayLike) -> None:
        """Compare logits, and assert that official masks are neither nearly empty nor full."""
        a, b = _pair(stage, ours, theirs)
        share = (b > 0).mean((-2, -1))
        low, high = FOREGROUND
        assert ((share > low) & (share < high)).all(), f"{stage}: foreground {share}"
        self.note(stage, float(np.abs(a - b).max() / b.std()), LOGITS)

    def scores(self, stage: str, ours: ArrayLike, theirs: ArrayLike) -> None:
        a, b = _pair(stage, ours, theirs)
        self.note(stage, float(np.abs(a - b).max()), SCORES)

    def pixels(self, stage: str, ours: ArrayLike, theirs: ArrayLike) -> None:
        """Compare binary masks; the recorded error is the share of pixels that differ."""
        a, b = np.asarray(ours), np.asarray(theirs)
        assert a.shape == b.shape, f"{stage}: {a.shape} instead of {b.shape}"
        assert a.dtype == b.dtype == np.bool_
        self.note(stage, float((a != b).mean()), round(1 - PIXELS, 6))


def _pair(stage: str, ours: ArrayLike, theirs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(ours), np.asarray(theirs)
    assert a.shape == b.shape, f"{stage}: shape {a.shape} instead of {b.shape}"
    assert a.dtype == b.dtype == np.float32, f"{stage}: dtype {a.dtype} and {b.dtype}"
    return a, b
