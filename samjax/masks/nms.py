"""Suppress duplicates: non-maximum suppression of boxes by score."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Num


def suppress(
    boxes: Num[np.ndarray, "n 4"], scores: Float32[np.ndarray, " n"], threshold: float
) -> Int[np.ndarray, " kept"]:
    """Return the indices that greedy non-maximum suppression keeps, by falling score.

    A box is dropped if its IoU with a kept box of higher score is above ``threshold``; equal
    scores keep their order. Source: torchvision's nms.
    """
    corners = boxes.astype(np.float32)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(first)
        low = np.maximum(corners[first, :2], corners[rest, :2])
        high = np.minimum(corners[first, 2:], corners[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: two empty boxes, both stay
            iou = shared / (area[first] + area[rest] - shared)
        order = rest[~(iou > np.float32(threshold))]
    return np.array(kept, np.int64)
