"""Draw small images and plan jobs on them, for tests of `samjax.jobs`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from samjax.jobs import AutomaskJob

SIDE = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def picture(number: int) -> bytes:
    """Return the PNG of a few shapes, another for each number."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (64, 48 + number % 2 * 16), tuple(rng.integers(0, 90, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = rng.integers(0, 40, 2).tolist()
        draw.ellipse((x, y, x + 20, y + 16), fill=tuple(rng.integers(90, 256, 3).tolist()))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def draw_folder(folder: Path, count: int) -> Path:
    """Write pictures to two folders below ``folder``."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return folder


def make_job(source: Any, destination: Any, shard: int = 2, **options: Any) -> AutomaskJob:
    """Return a job of the small model with few points."""
    return AutomaskJob("embedded", source, destination, shard, **SIDE | options)


def result_bytes(destination: Path) -> dict[str, bytes]:
    """Return the files of a job's results by name."""
    return {path.name: path.read_bytes() for path in sorted((destination / "results").iterdir())}
