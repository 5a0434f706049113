"""Resize images as each fine-tuning code does, with the same numbers.

NumPy and SciPy; SAM's own antialiased bilinear filter is `samjax.image.longest_side.resize`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Num, UInt8


def whole_square(_shape_hw: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the whole `target` x `target` square, whatever the aspect of the image."""
    return target, target


def stretch_channels(values: Num[np.ndarray, "*hwc"]) -> UInt8[np.ndarray, "*hwc"]:
    """Stretch each channel's minimum and maximum to 0 and 255 (micro-sam's ``_to_image``).

    A two-dimensional array is one channel. Fractions are cut off, not rounded, as in micro-sam.
    """
    wide = values.astype(np.float32)
    wide -= wide.min(axis=(0, 1), keepdims=True)
    wide /= wide.max(axis=(0, 1), keepdims=True) + np.float32(1e-7)
    return (wide * 255).astype(np.uint8)


def resize_nearest(
    image: Num[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> Num[np.ndarray, "h w 3"]:
    """Resize by OpenCV's INTER_NEAREST, as SAM-Med2D: the pixel at or above left of the point.

    Pillow samples at the centres of the output pixels instead, and takes other pixels.
    """
    (height, width), (h, w) = image.shape[:2], size_hw
    # OpenCV's order of the two divisions decides at exact multiples.
    rows = np.floor(np.arange(h) * (1 / (h / height))).astype(np.int64)
    columns = np.floor(np.arange(w) * (1 / (w / width))).astype(np.int64)
    return image[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)]


def resize_medsam(
    image: Num[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize as scikit-image of third order with antialiasing, as MedSAM calls it, cut to uint8.

    A Gaussian smooths where the image shrinks; a cubic spline through half-pixel centres follows,
    in float64, clipped to the image's own range.
    """
    from scipy import ndimage

    values = image.astype(np.float64)
    factors = np.divide(image.shape[:2], size_hw)
    sigma = (*np.maximum(0, (factors - 1) / 2), 0)
    # The same border rule has two names: "mirror" counts the edge pixel once.
    smooth = ndimage.gaussian_filter(values, sigma, mode="mirror") if max(sigma) > 0 else values
    zoom = (*(1 / factors), 1)
    resized = ndimage.zoom(smooth, zoom, order=3, mode="mirror", grid_mode=True)
    return np.clip(resized, np.min(values), np.max(values)).astype(np.uint8)


def resize_spline(
    image: Num[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> Float32[np.ndarray, "h w 3"]:
    """Resize by SciPy's zoom of third order, as SAMed: corner pixels on corners, no antialias."""
    from scipy import ndimage

    values = image.astype(np.float32)
    (height, width), (h, w) = image.shape[:2], size_hw
    if (height, width) == (h, w):
        return values
    channels = [ndimage.zoom(values[..., c], (h / height, w / width), order=3) for c in range(3)]
    return np.stack(channels, -1)
