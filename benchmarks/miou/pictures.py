"""Draw pictures of the best and the worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import samjax
from benchmarks.miou.protocol import Row, decode_mask
from benchmarks.miou.samples import Dataset, Entry, Filters
from samjax.files import replacing

TRUTH, PREDICTION = (60, 200, 90), (255, 140, 0)


def extremes(rows: Sequence[Row], measure: str, count: int) -> tuple[list[Row], list[Row]]:
    """Select the best and the worst rows of a measure; ties keep the order of the data set."""
    known = [r for r in rows if r["values"].get(measure) is not None and r.get("rle")]
    ranked = sorted(known, key=lambda r: -r["values"][measure])
    return ranked[:count], ranked[::-1][: min(count, max(0, len(ranked) - count))]


def draw(entry: Entry, row: Row) -> np.ndarray:
    """Draw the image with the true mask, and beside it with the predicted mask and the prompt."""
    image = entry.image()
    size = image.shape[:2]
    truth: np.ndarray | None
    if "truth" in row:  # of the whole image
        truth = decode_mask(row["truth"], size)
    else:  # a detection has no target of its own
        everything = entry.targets(Filters(crowd=True, min_area=0))
        truth = next((t.mask for t in everything if t.id == row["target"]), None)
    prompt: dict[str, Any] = row.get("prompt", {})
    points = np.array(prompt.get("points", np.zeros((0, 3))), np.float64).reshape(-1, 3)
    boxes = np.array([prompt["box"]]) if "box" in prompt else None
    predicted = decode_mask(row["rle"], size)
    left = image if truth is None else samjax.overlay(image, truth[None], colors=[TRUTH])
    right = samjax.overlay(
        image, predicted[None], points[:, :2], points[:, 2], boxes, colors=[PREDICTION]
    )
    return np.concatenate([left, right], axis=1)


def write_pictures(
    folder: Path, dataset: Dataset, rows: Sequence[Row], measure: str, count: int
) -> dict[str, str]:
    """Write ``best_1.jpg`` ... ``worst_1.jpg`` ..., and return the captions by file name."""
    entries = {e.id: e for e in dataset.entries}
    captions = {}
    for kind, chosen in zip(("best", "worst"), extremes(rows, measure, count), strict=True):
        for number, row in enumerate(chosen, 1):
            name = f"{kind}_{number}.jpg"
            with replacing(folder / name) as temporary:
                picture = Image.fromarray(draw(entries[row["image"]], row))
                picture.save(temporary, format="JPEG", quality=88)
            value = row["values"][measure]
            captions[name] = f"{measure} {value:.3f}: image {row['image']}, {row['target']}"
    return captions
