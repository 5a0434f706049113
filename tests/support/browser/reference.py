"""Compute the expected masks of the browser's clicks, without widget and browser."""

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
    """Predict the mask of each object again by SamPredictor from its prompts."""
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(image)
    masks = []
    for entry in prompts:
        predictor.mask_threshold = entry["mask_threshold"]
        masks.append(predictor.predict(**entry["predict"]).masks[entry["candidate"]])
    return masks


def exported(path: Path) -> list[tuple[tuple[int, int], list[np.ndarray], list[str]]]:
    """Read the size, masks and labels of each image of a COCO file."""
    return [
        (
            image.size,
            [record["segmentation"] for record in image.records],
            [record["label"] for record in image.records],
        )
        for image in read_coco(path, "binary_mask")
    ]


def near(points: Any, aimed: Any, tolerance: float = 1.5) -> bool:
    """Tell whether recorded coordinates equal the mouse's, up to a pixel of the page."""
    return bool(np.abs(np.asarray(points, float) - np.asarray(aimed, float)).max() <= tolerance)
