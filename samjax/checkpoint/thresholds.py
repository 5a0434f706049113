"""The thresholds of automatic masks belong to a checkpoint: each quality head has a scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samjax.errors import CheckpointError

# The key of the thresholds in the metadata of a safetensors file
THRESHOLDS_KEY = "samjax.automatic"


@dataclass(frozen=True)
class AutomaticThresholds:
    """The thresholds that automatic masks use unless told otherwise; by default SAM's own.

    Attributes:
        pred_iou_thresh: masks with a predicted IoU above it stay.
        stability_score_thresh: masks with at least this stability stay.
    """

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95

    def __str__(self) -> str:
        """Return both in words, as ``print(sam)`` and ``samjax inspect`` show them."""
        return (
            f"predicted IoU above {self.pred_iou_thresh:g}, "
            f"stability from {self.stability_score_thresh:g} on"
        )

    def as_dict(self) -> dict[str, float]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, recorded: Any) -> AutomaticThresholds:
        """Check thresholds that a file records.

        Raises:
            CheckpointError: one is missing or no number.
        """
        try:
            values = {name: float(recorded[name]) for name in cls().as_dict()}
            if not all(map(math.isfinite, values.values())):
                raise ValueError(values)
            return cls(**values)
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"its thresholds of automatic masks are {recorded!r:.80}, expected numbers "
                "pred_iou_thresh and stability_score_thresh; convert it again"
            ) from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> AutomaticThresholds | None:
        """Read the thresholds from the metadata of a safetensors file; None: it has none.

        Raises:
            CheckpointError: damaged metadata.
        """
        text = metadata.get(THRESHOLDS_KEY)
        if text is None:
            return None
        try:
            recorded = json.loads(text)
        except ValueError:
            recorded = text
        return cls.from_dict(recorded)

    def as_metadata(self) -> dict[str, str]:
        """Return the entry of a safetensors file's metadata."""
        return {THRESHOLDS_KEY: json.dumps(self.as_dict())}
