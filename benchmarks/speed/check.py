"""Check a competitor's outputs against the reference before its times count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.speed.task import Outputs

# Limits of the root mean square error of the embedding and of the low-res logits, relative to
# their standard deviations. Unrelated outputs have an error of 1.4; rounding errors are largest in
# networks with random weights. Largest errors are reported but not limited: they depend on a
# single value.
LIMITS = {"float32": 1e-2, "bfloat16": 0.3, "float16": 0.1}


def read_outputs(path: Path) -> Outputs:
    """Read the outputs that a worker wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Outputs(**dict(file))


def compare(found: Outputs, reference: Outputs, dtype: str) -> dict[str, float | str]:
    """Compare a competitor's outputs with the reference.

    Returns:
        "embedding" (largest error relative to the largest value), "logits" (largest error
        relative to the standard deviation), "embedding rms" and "logits rms" (rms error relative
        to the standard deviation), "scores" (largest error), "pixels" (share of equal mask
        pixels), and "wrong": the reason why the outputs are wrong, or "".
    """
    for name, value in vars(reference).items():
        if getattr(found, name).shape != value.shape:
            shapes = f"{getattr(found, name).shape}, not {value.shape}"
            return {"wrong": f"{name} of shape {shapes}"}
    embedding = found.embedding - reference.embedding
    logits = found.low_res - reference.low_res
    deviation = reference.low_res.std() or 1
    errors = {
        "embedding": _largest(embedding) / (_largest(reference.embedding) or 1),
        "embedding rms": _rms(embedding) / (float(reference.embedding.std()) or 1),
        "logits": _largest(logits) / float(deviation),
        "logits rms": _rms(logits) / float(deviation),
        "scores": _largest(found.scores - reference.scores),
        "pixels": float((found.masks == reference.masks).mean()),
    }
    wrong = ""
    for name in ("embedding", "logits"):
        error = errors[f"{name} rms"]
        if not wrong and not error <= LIMITS[dtype]:  # also true for NaN
            wrong = f"{name} off by {error:.2g} of its std (rms)"
    return {k: v if np.isfinite(v) else 1e9 for k, v in errors.items()} | {"wrong": wrong}


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
