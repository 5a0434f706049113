"""Draw data sets with everything that annotation formats lose: holes, parts, crowds, ids."""

from __future__ import annotations

import numpy as np

from samjax.annotations import AnnotatedImage
from samjax.masks.rle import crop
from tests.support.masks import MASKS, blobs, square_rings


def drawn_record(mask: np.ndarray, number: int, **extra) -> dict:
    """Make a record with an id, attributes and scores."""
    return {
        "segmentation": mask,
        "area": int(mask.sum()),
        "bbox": crop(mask).box,
        "id": number,
        "label": f"kind {number % 3}",
        "score": number / 100,
        "attributes": {"occluded": bool(number % 2), "note": f"größer {number}"},
        **extra,
    }


def drawn_set() -> list[AnnotatedImage]:
    """Draw four images with ids of their own: hard masks, overlapping blobs, a crowd, nothing."""
    hard = [mask for mask in MASKS.values() if mask.any()]
    masks = [
        AnnotatedImage(f"{i}.png", m.shape, [drawn_record(m, 900 + i)], 50 + i)
        for i, m in enumerate(hard)
    ]
    many = [drawn_record(blobs(40, 50, seed), 500 - seed) for seed in range(5)]
    crowd = [
        drawn_record(square_rings(30), 7, iscrowd=1),
        drawn_record(blobs(30, 30, 9), 3, point_coords=[[1.5, 2.0], [20.0, 11.25]]),
    ]
    return [
        *masks,
        AnnotatedImage("deep/er/many.jpg", (40, 50), many, 12),
        AnnotatedImage("deep/crowd.jpg", (30, 30), crowd, 11),
        AnnotatedImage("none.jpg", (20, 31), [], 4),
    ]
