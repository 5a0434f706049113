"""Torch's bilinear interpolation as matrices of one axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


class Band(NamedTuple):
    """Output rows ``start:stop`` depend on input rows ``low:high`` only, through ``weights``."""

    start: int
    stop: int
    low: int
    high: int
    weights: Float32[np.ndarray, "rows inputs"]


def bilinear_rows(inputs: int, outputs: int, start: int, stop: int) -> Band:
    """Rows of one axis of torch's ``interpolate(mode="bilinear", align_corners=False)``.

    Half-pixel centres, no antialias, clamped at the borders; coordinates in float32 as torch's.
    """
    scale = np.float32(inputs) / np.float32(outputs)
    source = scale * (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    source = np.maximum(source, 0)
    low = np.minimum(source.astype(np.int64), inputs - 1)
    high = np.minimum(low + 1, inputs - 1)
    fraction = (source - low).astype(np.float32)
    first, last = int(low[0]), int(high[-1]) + 1
    weights = np.zeros((stop - start, last - first), np.float32)
    rows = np.arange(stop - start)
    np.add.at(weights, (rows, low - first), 1 - fraction)
    np.add.at(weights, (rows, high - first), fraction)
    return Band(start, stop, first, last, weights)


def bilinear_matrix(inputs: int, outputs: int) -> Float32[np.ndarray, "o i"]:
    """Return all rows of ``bilinear_rows`` as one dense matrix."""
    band = bilinear_rows(inputs, outputs, 0, outputs)
    matrix = np.zeros((outputs, inputs), np.float32)
    matrix[:, band.low : band.high] = band.weights
    return matrix
