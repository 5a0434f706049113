"""Run samjax through its public API."""

from __future__ import annotations

import copy
from collections import deque
from functools import cache
from typing import Any

import jax
import numpy as np

import samjax
from benchmarks.speed.task import AUTOMATIC, Contender, Outputs, Task, official_outputs
from samjax.image.preset import PreparedImage


def load(task: Task) -> Contender:
    """Load the predictor in the task's dtype; float32 runs at precision "highest", the default."""
    sam = samjax.load(task.weights, dtype=task.dtype, device=task.device, preprocess="sam")
    predictor, inputs = samjax.SamPredictor(sam), task.inputs
    generator = samjax.SamAutomaticMaskGenerator(
        sam, points_per_side=task.points_per_side, **AUTOMATIC
    )
    points, labels = inputs.points[:, None], np.ones((len(inputs.points), 1), np.int32)
    prepared = PreparedImage(inputs.padded, inputs.input_size, inputs.original_size)

    @cache
    def reader() -> samjax.SamPredictor:
        """Return a predictor whose encoder returns at once: the last image's embedding."""
        idle = copy.copy(sam)
        idle._encode = lambda *_: predictor.current_embedding.features
        idle.images_at_once = 1
        return samjax.SamPredictor(idle)

    def files() -> None:
        """Read, resize and hash files, and hand their pixels to the device."""
        deque(reader().encode_images(task.photographs), maxlen=0)

    def set_image() -> None:
        predictor.set_image(inputs.image)
        jax.block_until_ready(predictor.current_embedding.features)

    def encoder() -> None:
        """Encode the prepared image; normalisation is part of the compiled encoder."""
        embedding = sam.encode(prepared)
        jax.block_until_ready(embedding.features)
        predictor.set_embedding(embedding)

    def many() -> samjax.Prediction:
        return predictor.predict_many(points, labels)

    def outputs() -> Outputs:
        found = many()
        return official_outputs(
            predictor.get_image_embedding(), found.low_res, found.scores, found.masks
        )

    def device_peak() -> float | None:
        stats: dict[str, Any] = sam.device.memory_stats() or {}
        return stats["peak_bytes_in_use"] / 1e6 if "peak_bytes_in_use" in stats else None

    return Contender(
        f"precision {sam.precision}" if task.dtype == "float32" else f"{task.dtype} products",
        {
            "encoder": encoder,
            "set_image": set_image,
            "files": files,
            "click": lambda: predictor.predict(points[0], labels[0]),
            "points": many,
            "automatic": lambda: generator.generate(inputs.image),
        },
        outputs,
        device_peak,
    )
