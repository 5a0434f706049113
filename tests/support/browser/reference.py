"""What the browser's clicks must have led to, computed without widget and browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

import samjax
from samjax.annotations import read_coco


def masks_of(
    sam: samjax.Segmenter, image: Any, prompts: list[dict[str, Any]]
) -> list[Bool[np.ndarray, "H W"]]:
    """The mask of each object, made again by SamPredictor from its prompts."""
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(image)
    masks = []
    for entry in prompts:
        predictor.mask_threshold = entry["mask_threshold"]
        masks.append(predictor.predict(**entry["predict"]).masks[entry["candidate"]])
    return masks


def exported(path: Path) -> list[tuple[tuple[int, int], list[np.ndarray], list[str]]]:
    """Size, masks and labels of each image of a COCO file."""
    return [
        (
            image.size,
            [record["segmentation"] for record in image.records],
            [record["label"] for record in image.records],
        )
        for image in read_coco(path, "binary_mask")
    ]


def near(points: Any, aimed: Any, tolerance: float = 1.5) -> bool:
    """Whether recorded coordinates are where the mouse was sent, up to the page's own pixels."""
    return bool(np.abs(np.asarray(points, float) - np.asarray(aimed, float)).max() <= tolerance)
