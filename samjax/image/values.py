"""Turn the values of any dtype into uint8: one rule for files, PIL images and arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from samjax.errors import ImageError

# Window for data deeper than 8 bits: the percentiles that become 0 and 255.
WINDOW_PERCENT = (0.1, 99.9)

Deep = Callable[[np.ndarray], np.ndarray]  # values deeper than 8 bits to uint8, same shape


def to_uint8(
    values: np.ndarray, name: str = "array", deep: Deep | None = None
) -> UInt8[np.ndarray, "*shape"]:
    """Return colour values as uint8, by the rule of `samjax.image.read.read_image`.

    Args:
        values: of any shape; bool, integers or floats, bfloat16 included.
        name: of the image, for errors.
        deep: function that takes the place of the rule for values other than uint8 and bool.

    Raises:
        ImageError: NaN or infinite values, or a dtype that holds no real numbers.
    """
    values = plain_dtype(values, name)
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(f"{name}: has NaN or infinite values: replace them, as by np.nan_to_num")
    if deep is not None:
        return deep(values)
    if values.dtype.kind == "f" and _within_unit(values):
        return _unit_to_uint8(values)
    return _window(values)


def alpha_to_uint8(alpha: np.ndarray, name: str = "array") -> UInt8[np.ndarray, "*shape"]:
    """Return opacity as uint8; its scale is absolute, 0 to 1 or to the integer's maximum.

    A window would make a half-transparent image opaque.

    Raises:
        ImageError: NaN, infinite or signed values, or floats outside 0 to 1.
    """
    alpha = plain_dtype(alpha, name)
    if alpha.dtype.kind == "u":
        return to_uint8(alpha if alpha.itemsize == 1 else alpha / np.iinfo(alpha.dtype).max, name)
    if alpha.dtype.kind == "i" or (alpha.dtype.kind == "f" and not _within_unit(alpha)):
        raise ImageError(
            f"{name}: has a fourth channel, alpha, of {alpha.dtype} values from {alpha.min():.4g} "
            f"to {alpha.max():.4g}: pass unsigned integers or 0 to 1, or choose bands=(0, 1, 2)"
        )
    return to_uint8(alpha, name)


def plain_dtype(values: np.ndarray, name: str) -> np.ndarray:
    """Return real numbers in one of NumPy's own dtypes; bfloat16 and its kin become float32.

    Raises:
        ImageError: the dtype holds no real numbers.
    """
    if values.dtype.type.__module__ == "ml_dtypes":
        return values.astype(np.float32)
    if values.dtype.kind not in "buif":
        raise ImageError(
            f"{name}: dtype {values.dtype} is not an image: pass bool, integers or floats"
        )
    return values


def _within_unit(values: np.ndarray) -> bool:
    slack = 1e-3  # interpolation overshoots by a rounding error
    return bool(values.min() >= -slack and values.max() <= 1 + slack)


def _unit_to_uint8(values: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _window(values: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    """Stretch the range between the percentiles of `WINDOW_PERCENT` to 0..255."""
    # float32 holds 16 bits exactly; 32-bit data would lose its small differences.
    narrow = values.dtype.itemsize <= 2
    wide: np.ndarray = values.astype(np.float32 if narrow else np.float64)
    low, high = map(float, np.percentile(wide, WINDOW_PERCENT))
    if low == high:  # all but a few pixels are alike: keep those few
        low, high = float(wide.min()), float(wide.max())
    if low == high:
        return np.zeros(values.shape, np.uint8)
    if not np.isfinite(high - low):  # float64 of both signs near its limit
        wide, low, high = wide / 4, low / 4, high / 4
    shares = (np.clip(wide, low, high) - low) / (high - low)
    return np.rint(shares * 255).astype(np.uint8)
