"""Upscale low-res mask logits to the original image, and turn masks into prompts (NumPy)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from numpy.typing import ArrayLike
from PIL import Image

from samjax.arguments import real_number, whole_number
from samjax.array_arguments import array
from samjax.bilinear import Band, bilinear_rows
from samjax.errors import PromptError

_ROWS = 64  # output rows or columns per product: a block stays in the cache, bands stay narrow
_LARGEST_SIDE = 8192  # of low-res masks


@lru_cache(maxsize=32)
def upscale_bands(low_res: int, image_size: int, inside: int, original: int) -> tuple[Band, ...]:
    """Compose one axis of the official postprocess_masks into narrow bands of one matrix.

    Low-res masks are upscaled to the network's size, cropped to the ``inside`` pixels that are
    image, and resized to the original size: both resizings are linear, so their product is
    computed once for each image size.
    """
    network = np.zeros((inside, low_res), np.float32)
    inner = bilinear_rows(low_res, image_size, 0, inside)
    network[:, inner.low : inner.high] = inner.weights
    bands = []
    for start in range(0, original, _ROWS):
        stop = min(start + _ROWS, original)
        outer = bilinear_rows(inside, original, start, stop)
        weights = outer.weights @ network[outer.low : outer.high]
        used = np.flatnonzero(weights.any(0))
        low, high = int(used[0]), int(used[-1]) + 1
        bands.append(Band(start, stop, low, high, np.ascontiguousarray(weights[:, low:high])))
    return tuple(bands)


def upscale(
    low_res: Float32[np.ndarray, "*b m m"],
    image_size: int,
    input_size: tuple[int, int],
    original_size: tuple[int, int],
    threshold: float | None = 0.0,
) -> Shaped[np.ndarray, "*b H W"]:
    """Upscale masks to the original resolution (official Sam.postprocess_masks and threshold).

    Args:
        low_res: mask logits.
        image_size: side of the network's input, in pixels.
        input_size: (h, w) of the resized image inside that square.
        original_size: (H, W) of the result.
        threshold: logit above which a pixel belongs to the mask; None: return the logits.

    Returns:
        Bool masks, or float32 logits.
    """
    *batch, size, _ = low_res.shape
    (h, w), (height, width) = input_size, original_size
    rows = upscale_bands(size, image_size, h, height)
    columns = upscale_bands(size, image_size, w, width)
    out = np.empty((int(np.prod(batch)), height, width), np.float32 if threshold is None else bool)
    wide = np.empty((size, width), np.float32)
    for mask, low in zip(out, low_res.reshape(-1, size, size), strict=True):
        for c in columns:
            wide[:, c.start : c.stop] = low[:, c.low : c.high] @ c.weights.T
        for r in rows:
            logits = r.weights @ wide[r.low : r.high]
            mask[r.start : r.stop] = logits if threshold is None else logits > threshold
    return out.reshape(*batch, height, width)


def mask_to_logits(
    mask: ArrayLike, low_res_size: int = 256, *, confidence: float = 10.0, stretch: bool = False
) -> Float32[np.ndarray, "1 m m"]:
    """Turn a binary mask (H x W) into a mask prompt for ``predict(mask_input=...)``.

    SAM was trained with its own earlier logits as mask prompts, of the whole padded square
    (paper, appendix A), not with zeros and ones. The mask is fitted into the square as the image
    is, averaged over each low-res pixel, and becomes ``confidence`` inside, ``-confidence``
    outside and in the padding.

    Args:
        mask: H x W, of the original image's shape; bool, or numbers above 0 inside.
        low_res_size: side m of the low-res masks: ``sam.config.low_res_size`` (256 for the
            official models).
        confidence: logit of a pixel that is wholly inside; about that of SAM's own masks.
        stretch: fill the square whatever the aspect, as the presets medsam, samed and sammed2d
            do with images.

    Raises:
        PromptError: not a two-dimensional mask, an empty array, or numbers that mean nothing.
    """
    low_res_size = whole_number(low_res_size, "low_res_size", 1, _LARGEST_SIDE)
    confidence = real_number(confidence, "confidence", 0)
    inside = array(mask, "mask", real=True)
    if inside.ndim == 3 and inside.shape[0] == 1:
        inside = inside[0]
    if inside.ndim != 2 or inside.size == 0:
        raise PromptError(f"mask of shape {inside.shape}: give one H x W mask of the image")
    height, width = inside.shape
    scale = low_res_size / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    if stretch:
        h = w = low_res_size
    share = _area_matrix(height, h) @ (inside > 0).astype(np.float32) @ _area_matrix(width, w).T
    logits = np.full((1, low_res_size, low_res_size), -confidence, np.float32)
    logits[0, :h, :w] = confidence * (2 * share - 1)
    return logits


def resize_mask(mask: Bool[np.ndarray, "H W"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Resize a mask to (h, w) pixels for display: half covered pixels and more are inside."""
    if mask.shape == size_hw:
        return mask
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(size_hw[::-1], Image.Resampling.BILINEAR)) > 127


def _area_matrix(inputs: int, outputs: int) -> Float32[np.ndarray, "o i"]:
    """Return the matrix that averages the input over the interval of each output pixel."""
    edges = np.linspace(0, inputs, outputs + 1)
    pixel = np.arange(inputs)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def mask_iou(a: Bool[np.ndarray, "*b H W"], b: Bool[np.ndarray, "*b H W"]) -> np.ndarray:
    """Return the intersection over union of masks; two empty masks count as equal (1)."""
    union = (a | b).sum((-1, -2))
    return np.where(union == 0, 1.0, (a & b).sum((-1, -2)) / np.maximum(union, 1))
