"""Run lengths along the rows: how masks travel to the page."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt32

from samjax.widget.sizes import Size


def row_runs(mask: Bool[np.ndarray, "h w"]) -> UInt32[np.ndarray, " r"]:
    """Return the lengths of the runs of zeros and ones in turn, zeros first, along the rows."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(bounds).astype(np.uint32)
    return np.concatenate([np.zeros(1, np.uint32), runs]) if flat[0] else runs


def runs_to_mask(runs: UInt32[np.ndarray, " r"], size: Size) -> Bool[np.ndarray, "h w"]:
    """Return the mask of `row_runs`."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)
