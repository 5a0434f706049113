"""Turn boxes and points of a data set into masks: one image, its prompts in, its records out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from samjax.annotations.prompt_set import ObjectPrompt
from samjax.annotations.records import new_record
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.masks.rle import Record
from samjax.prediction import Prediction, predict_prompts

_OFFSET = 1.0  # of the logits, as in the official automatic masks
_PIXELS = 2**24  # of logits at full size at once
_DIGITS = 6


def segment_objects(
    model: Segmenter, image: ImageEmbedding, objects: Sequence[ObjectPrompt]
) -> list[Record]:
    """Return a record for each object, in the given order; a pure function of its arguments.

    Objects with the same kinds of prompts are decoded in one call. A box gives one mask, points
    alone the best of the three candidates.

    Args:
        model: the model that made the embedding.
        image: embedding of the image.
        objects: prompts in pixels of the original image.

    Returns:
        Records with COCO's run lengths, ``id``, ``label``, ``predicted_iou``,
        ``stability_score`` (official: IoU of the masks at logits +1 and -1 around the threshold,
        at full size) and the keys that the objects keep.
    """
    records: list[Record | None] = [None] * len(objects)
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for number, each in enumerate(objects):
        kinds.setdefault((each.box is not None, bool(each.points)), []).append(number)
    for (boxed, pointed), numbers in kinds.items():
        group = [objects[number] for number in numbers]
        multimask = not boxed
        found = predict_prompts(
            model,
            image,
            [[(x, y) for x, y, _ in each.points] for each in group] if pointed else None,
            [[on for _, _, on in each.points] for each in group] if pointed else None,
            np.array([each.box for each in group], np.float32) if boxed else None,
            multimask=multimask,
            threshold=model.mask_threshold,
            output="rle",
        )
        best = found.scores.argmax(1)
        stability = _stability(model, image, found)
        for row, (number, each) in enumerate(zip(numbers, group, strict=True)):
            mask = found.masks[row][best[row]]
            extra: dict[str, Any] = {"id": each.id, **each.kept}
            if each.label is not None:
                extra["label"] = each.label
            extra["predicted_iou"] = round(float(found.scores[row, best[row]]), _DIGITS)
            extra["stability_score"] = round(float(stability[row, best[row]]), _DIGITS)
            records[number] = new_record(mask, "coco_rle", extra)
    return [record for record in records if record is not None]


def _stability(model: Segmenter, image: ImageEmbedding, found: Prediction) -> np.ndarray:
    """Return the stability of each candidate; 0 for one without pixels at either level."""
    height, width = image.original_size
    count, candidates = found.scores.shape
    step = max(1, _PIXELS // (height * width * candidates))
    threshold = model.mask_threshold
    values = np.zeros(found.scores.shape, np.float32)
    for start in range(0, count, step):
        part = slice(start, start + step)
        logits = model.preset.masks.full_size(
            found.low_res[part],
            model.config.image_size,
            image.input_size,
            image.original_size,
            None,
        )
        high = np.count_nonzero(logits > threshold + _OFFSET, axis=(2, 3))
        low = np.count_nonzero(logits > threshold - _OFFSET, axis=(2, 3))
        values[part] = high / np.maximum(low, 1)
    return values
