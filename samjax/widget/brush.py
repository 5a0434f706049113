"""Painting over a mask: strokes of the brush, and stamps of other masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from samjax.masks.rle import rle_to_mask
from samjax.widget.sizes import resized
from samjax.widget.state import Paint, Stamp


def paint(
    mask: Bool[np.ndarray, "H W"],
    strokes: Sequence[Paint],
    scale: tuple[float, float] = (1.0, 1.0),
) -> Bool[np.ndarray, "H W"]:
    """Return a copy of a mask with strokes and stamps painted over it, in order.

    A pixel is painted if its centre, (x, y) of whole numbers, lies within the radius of the line.

    Args:
        mask: of the image, or of a smaller copy of it.
        strokes: in pixels of the image; the masks of stamps have its size.
        scale: (horizontal, vertical) size of ``mask`` as a part of the image's.
    """
    painted = mask.copy()
    for stroke in strokes:
        if isinstance(stroke, Stamp):
            stamped = rle_to_mask({"size": list(stroke.size), "counts": stroke.counts})
            painted[resized(stamped, (mask.shape[0], mask.shape[1]))] = stroke.add
            continue
        line = (np.array(stroke.points, float) + 0.5) * scale - 0.5
        _paint_line(painted, line, stroke.radius * (scale[0] + scale[1]) / 2, stroke.add)
    return painted


def _paint_line(mask: Bool[np.ndarray, "H W"], line: np.ndarray, radius: float, add: bool) -> None:
    starts, ends = (line, line) if len(line) == 1 else (line[:-1], line[1:])
    for a, b in zip(starts, ends, strict=True):
        low = np.floor(np.minimum(a, b) - radius).astype(int).clip(0)
        high = np.ceil(np.maximum(a, b) + radius).astype(int) + 1
        part = mask[low[1] : max(0, high[1]), low[0] : max(0, high[0])]
        x = np.arange(part.shape[1]) + low[0] - a[0]
        y = (np.arange(part.shape[0]) + low[1] - a[1])[:, None]
        along = b - a
        length = float(along @ along)
        # Position of the nearest point of the segment, 0 at its start and 1 at its end
        t = np.clip((x * along[0] + y * along[1]) / length, 0, 1) if length else 0.0
        part[(x - t * along[0]) ** 2 + (y - t * along[1]) ** 2 <= radius**2] = add
