"""Masks of the objects that phrases name, to pick from: a detector's boxes, decoded by SAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from samjax.annotations.records import new_record
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.masks.rle import Record
from samjax.text.segment import Detector, detect
from samjax.widget.decode import predict
from samjax.widget.sizes import fitted
from samjax.widget.state import Prompt

SIDE = 1024  # masks to pick from are of a copy of this size at most


def text_masks(
    model: Segmenter,
    image: ImageEmbedding,
    pixels: UInt8[np.ndarray, "H W 3"],
    phrases: Sequence[str],
    detector: Detector,
) -> list[Record]:
    """Detect the objects that phrases name and predict a mask for each box.

    Args:
        model: of the embedding.
        image: the embedding.
        pixels: RGB, of the image.
        phrases: names of objects.
        detector: finds the boxes.

    Returns:
        Records as those of automatic masks, with ``label``, the phrase, and ``prompt_box``
        (x0, y0, x1, y1 in pixels of the image), by falling confidence of the detector.

    Raises:
        DetectorError: the detector does not return boxes.
    """
    found = detect(detector, pixels, phrases)
    size = fitted(image.original_size, SIDE)
    records = []
    for box, score, label in zip(found.boxes.tolist(), found.scores, found.labels, strict=True):
        prompt = Prompt(box=(box[0], box[1], box[2], box[3]))
        masks = predict(model, image, prompt, model.mask_threshold, size)
        best = masks.chosen(None)
        extra = {
            "point_coords": [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]],
            "crop_box": [0, 0, size[1], size[0]],
            "predicted_iou": float(masks.scores[best]),
            "detector_score": float(score),
            "label": label,
            "prompt_box": box,
        }
        records.append(new_record(masks.mask(best), "coco_rle", extra))
    return records
