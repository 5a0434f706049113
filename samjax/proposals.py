"""Low-res logits to stability, area, box and pixels of full-size masks, in fixed shapes (JAX)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from samjax.masks import upscale_bands
from samjax.model.layers import map_each

# Pixels of logits at once: 64 MB of float32, whatever the image.
_PIXELS = 2**24


class Measured(NamedTuple):
    """``c`` masks of an image inside a canvas: counts over the image's own pixels only.

    ``above_high`` and ``above_low`` count logits above threshold + offset and - offset; ``boxes``
    are (x0, y0, x1, y1) of the first and last pixels, 0 where empty; ``bits`` the binary masks,
    eight pixels of a row in a byte.
    """

    above_high: Int[Array | np.ndarray, "*c"]
    above_low: Int[Array | np.ndarray, "*c"]
    boxes: Int[Array | np.ndarray, "*c 4"]
    bits: UInt8[Array | np.ndarray, "*c h w8"]


class Canvas(NamedTuple):
    """An image size, padded so that images of nearly the same size share a compiled function.

    ``rows`` and ``columns`` upscale low-res logits to the canvas; both are inputs of the compiled
    function, as is ``size`` (H, W), the part of the canvas that is image.
    """

    rows: Float[np.ndarray, "h m"]
    columns: Float[np.ndarray, "w m"]
    size: tuple[int, int]

    @property
    def masks_at_once(self) -> int:
        """A power of two that bounds the memory of the logits, at most 32."""
        room = max(1, _PIXELS // (len(self.rows) * len(self.columns)))
        return min(32, 2 ** int(np.log2(room)))


def padded_side(length: int) -> int:
    """``length`` rounded up to a multiple of an eighth of its power of two (and of 8)."""
    step = max(8, 2 ** (max(1, length - 1).bit_length() - 4))
    return -(-length // step) * step


def canvas(
    low_res: int, image_size: int, input_size: tuple[int, int], original_size: tuple[int, int]
) -> Canvas:
    """The canvas of an image: (h, w) inside the network's square, (H, W) itself."""

    def matrix(inside: int, original: int) -> np.ndarray:
        dense = np.zeros((padded_side(original), low_res), np.float32)
        for band in upscale_bands(low_res, image_size, inside, original):
            dense[band.start : band.stop, band.low : band.high] = band.weights
        return dense

    (h, w), (height, width) = input_size, original_size
    return Canvas(matrix(h, height), matrix(w, width), original_size)


def measure(
    low_res: Float[Array, "n m m"],
    index: Int[Array, " c"],
    rows: Float[Array, "h m"],
    columns: Float[Array, "w m"],
    size: Int[Array, " 2"],
    threshold: Float[Array, ""],
    offset: Float[Array, ""],
    *,
    one_by_one: bool,
) -> Measured:
    """Upscale the masks ``index`` of ``low_res`` and measure them.

    ``one_by_one`` keeps a mask in a core's cache: five times faster on a CPU.

    Sources: official calculate_stability_score and batched_mask_to_box.
    """
    y, x = jnp.arange(rows.shape[0]), jnp.arange(columns.shape[0])
    inside = (y < size[0])[:, None] & (x < size[1])[None, :]

    def one(low: Float[Array, "m m"]) -> Measured:
        wide = jnp.matmul(low, columns.T, precision=lax.Precision.HIGHEST)
        logits = jnp.matmul(rows, wide, precision=lax.Precision.HIGHEST)

        def count(level: Array) -> Array:
            # In float32, exact within a row, XLA:CPU adds up twice as fast as in int32.
            per_row = jnp.where(inside & (logits > level), jnp.float32(1), 0).sum(1)
            return per_row.astype(jnp.int32).sum()

        mask = inside & (logits > threshold)
        in_row, in_column = mask.any(1), mask.any(0)
        first = [jnp.argmax(in_column), jnp.argmax(in_row)]
        last = [len(x) - 1 - jnp.argmax(in_column[::-1]), len(y) - 1 - jnp.argmax(in_row[::-1])]
        box = jnp.where(in_row.any(), jnp.stack([*first, *last]), 0).astype(jnp.int32)
        bits = jnp.packbits(mask, axis=-1)
        return Measured(count(threshold + offset), count(threshold - offset), box, bits)

    return map_each(one, low_res[index], one_by_one)
