"""Check arrays that a caller passed, and say in one line what is usable."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from samjax.arguments import shown
from samjax.errors import PromptError, SamjaxError


def array(
    values: Any, name: str, error: type[SamjaxError] = PromptError, *, real: bool = False
) -> np.ndarray:
    """Return what NumPy makes of values, of whatever shape; with ``real`` of real numbers or bools.

    Raises:
        error: rows of different lengths, or other types.
    """
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, OverflowError):
        message = f"{name} are not a rectangular array of numbers: {shown(values)}"
        raise error(message) from None
    numbers = found.dtype.kind in "biuf" or found.dtype.type.__module__ == "ml_dtypes"
    if real and not numbers:
        raise error(f"{name} is of dtype {found.dtype}: pass real numbers or bools")
    return found


def number_array(
    values: Any, name: str, error: type[SamjaxError] = PromptError
) -> Float64[np.ndarray, "*shape"]:
    """Return finite numbers as an array of float64.

    Raises:
        error: no numbers, rows of different lengths, NaN or infinity.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        message = f"{name} are not a rectangular array of numbers: {shown(values)}"
        raise error(message) from None
    if not np.isfinite(found).all():
        raise error(f"{name} hold NaN or infinite values: {shown_array(found)}")
    return found


def rows(
    values: Any, name: str, width: int, error: type[SamjaxError] = PromptError
) -> Float64[np.ndarray, "n _"]:
    """Return finite numbers as rows of ``width``; one row alone may be flat.

    Raises:
        error: no such rows.
    """
    found = number_array(values, name, error)
    if found.ndim == 0 or found.size % width:
        raise error(f"{name} have shape {found.shape}: pass N x {width}")
    return found.reshape(-1, width)


def shown_array(values: np.ndarray) -> str:
    """Return the beginning of an array as text."""
    text = str(values.ravel()[:8].tolist())
    return text if values.size <= 8 else f"{text[:-1]}, ...]"
