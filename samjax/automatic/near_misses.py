"""Zero masks are explained: the thresholds that would have kept some are named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from samjax.automatic.options import AutomaticOptions
from samjax.errors import NoMasksWarning
from samjax.words import counted

_TRIED = 32  # candidates below the predicted IoU whose stability is measured, in each crop


class NearMisses:
    """Collects candidates that the thresholds dropped, as pairs of predicted IoU and stability.

    Candidates below ``pred_iou_thresh`` are never upscaled; of them the batch with the best one
    is kept until the crop is done, and measured only if the image has no mask by then.
    """

    def __init__(self, options: AutomaticOptions):
        self._options = options
        self._pairs: list[Float[np.ndarray, "n 2"]] = []
        self._best: tuple[Any, np.ndarray] | None = None

    def offer(self, decoded: tuple[Any, Any], scores: Float[np.ndarray, " n"]) -> None:
        """Keep a batch's low-res logits and IoUs if its best rejected score is the crop's best."""
        rejected = np.sort(scores[scores <= self._options.thresholds[0]])
        if len(rejected) and (self._best is None or rejected[-1] > self._best[1][-1]):
            self._best = (*decoded, len(scores)), rejected

    def take_rejected(self) -> tuple[tuple[Any, Any], int, float] | None:
        """Return the kept batch, its number of prompts and a least IoU that few pass; forget it."""
        kept, self._best = self._best, None
        if kept is None:
            return None
        (low_res, iou, number), rejected = kept
        least = np.nextafter(rejected[-_TRIED:][0], np.float32(-np.inf))
        return (low_res, iou), number // iou.shape[1], float(least)

    def add(
        self,
        scores: Float[np.ndarray, " n"],
        stability: Float[np.ndarray, " n"],
        usable: Bool[np.ndarray, " n"],
    ) -> None:
        """Add measured candidates; ``usable`` are neither empty nor cut off by the crop."""
        pairs = np.stack([scores, stability], 1)[usable & np.isfinite(stability)]
        self._pairs.append(pairs.astype(np.float64))

    def tell(self, areas: list[int], on_empty: Callable[[str], None] | None) -> None:
        """Pass the advice on, or warn the caller of ``generate``."""
        if on_empty is None:
            warnings.warn(self.advice(areas), NoMasksWarning, stacklevel=3)
        else:
            on_empty(self.advice(areas))

    def advice(self, areas: list[int]) -> str:
        """Say why an image has no mask, and which thresholds would have kept some.

        Args:
            areas: pixels of the masks that passed the thresholds.
        """
        options = self._options
        if areas:
            limits = f"min_area {options.min_area}"
            if options.max_area is not None:
                limits += f" and max_area {options.max_area}"
            sizes = (
                f"{min(areas)} to {max(areas)} pixels" if len(areas) > 1 else f"{areas[0]} pixels"
            )
            return f"no mask is left by {limits}: {counted(len(areas), 'mask')} of {sizes}"
        predicted, stable = options.thresholds
        passed = (
            f"no mask passed pred_iou_thresh {predicted:g} and stability_score_thresh {stable:g}"
        )
        pairs = np.concatenate([np.zeros((0, 2)), *self._pairs])
        if not len(pairs):
            return f"{passed}, and no other would: all masks are empty or cut off by their crop"
        lacking = np.maximum(np.array([predicted, stable]) - pairs, 0).sum(1)
        score, stability = pairs[lacking.argmin()]
        # Scores must be above their threshold, stability at least at it; two digits, rounded down.
        lower = min(predicted, np.floor(100 * (score - 1e-6)) / 100)
        looser = min(stable, np.floor(100 * stability + 1e-9) / 100)
        return (
            f"{passed}; pred_iou_thresh {lower:g} and stability_score_thresh {looser:g} "
            "would have kept some"
        )
