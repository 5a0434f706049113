"""The option --model: a name or a path to a model that is ready."""

from __future__ import annotations

from pathlib import Path

from samjax.engine import Segmenter, load, locate

EMBEDDED = "embedded"


def model_source(model: str) -> str | None:
    """What ``samjax.load`` takes for the value of --model."""
    return None if model == EMBEDDED else model


def load_model(model: str, *, dtype: str, precision: str, device: str | None) -> Segmenter:
    """Load the model that --model names; errors are those of ``samjax.load``."""
    return load(model_source(model), dtype=dtype, precision=precision, device=device)


def model_path(model: str) -> Path:
    """The file or folder behind the value of --model, downloaded if need be."""
    return locate(model_source(model))
