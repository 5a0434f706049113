"""Measure stability and box of full-size masks from low-res logits; cut their pixels (JAX)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from samjax.masks.upscale import upscale_bands
from samjax.model.layers import map_each

# Pixels of logits at once: 64 MB of float32, whatever the image.
_PIXELS = 2**24
# Output rows in a block: narrow enough to depend on few low-res rows.
_BLOCK = 64


class Measured(NamedTuple):
    """Measurements describe ``c`` masks on a canvas, over the image's own pixels only.

    ``above_high`` and ``above_low`` count logits above threshold + offset and - offset; ``boxes``
    are (x0, y0, x1, y1) of the first and last pixels, 0 where empty.
    """

    above_high: Int[Array | np.ndarray, "*c"]
    above_low: Int[Array | np.ndarray, "*c"]
    boxes: Int[Array | np.ndarray, "*c 4"]

    @property
    def stability(self) -> Float[np.ndarray, "*c"]:
        """Return the IoU of each mask's two levels, on the host; NaN for an empty mask."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.divide(self.above_high, self.above_low, dtype=np.float32)


class Batch(NamedTuple):
    """A batch of decoded masks: the predicted IoUs of all, and the measured masks among them.

    ``which`` are the indices of the measured masks among all (of p * c); the first ``number``
    of it and of ``measured`` count.
    """

    scores: Float[Array | np.ndarray, " n"]
    which: Int[Array | np.ndarray, " k"]
    number: Int[Array | np.ndarray, ""]
    measured: Measured


class RowBands(NamedTuple):
    """Blocks of 64 output rows, each from the few low-res rows that it depends on.

    ``weights`` of block b multiply the low-res rows from ``starts[b]`` on.
    """

    weights: Float[Array | np.ndarray, "b 64 k"]
    starts: Int[Array | np.ndarray, " b"]

    @property
    def height(self) -> int:
        """Return the number of output rows."""
        return self.weights.shape[0] * self.weights.shape[1]


class Canvas(NamedTuple):
    """A canvas pads an image size, so that images of similar size share a compiled function.

    ``rows`` and ``columns`` upscale low-res logits to the canvas; both are inputs of the compiled
    function, as is ``size`` (H, W), the part of the canvas that is image.
    """

    rows: RowBands
    columns: Float[Array | np.ndarray, "w m"]
    size: Int[Array | np.ndarray, " 2"]

    @property
    def masks_at_once(self) -> int:
        """Return the number of masks at once: a power of two up to 32 that bounds the memory."""
        room = max(1, _PIXELS // (self.rows.height * len(self.columns)))
        return min(32, 2 ** int(np.log2(room)))


def _step(length: int) -> int:
    return max(8, 2 ** (max(1, length - 1).bit_length() - 4))


def padded_side(length: int) -> int:
    """Round ``length`` up to a multiple of an eighth of its power of two (and of 8)."""
    return -(-length // _step(length)) * _step(length)


def band_width(low_res: int, length: int) -> int:
    """Return how many low-res rows a block needs at most, for all lengths of one padded side."""
    shortest = padded_side(length) - _step(length) + 1
    # Half-pixel centres, twice interpolated, reach at most four rows beyond the block's own.
    return min(low_res, 4 * -(-(-(-_BLOCK * low_res // shortest) + 4) // 4))


def row_bands(dense: Float[np.ndarray, "h m"], width: int) -> RowBands:
    """Cut a matrix of upscaling into blocks of rows of ``width`` columns, zeros left out."""
    blocks = -(-len(dense) // _BLOCK)
    padded = np.pad(dense, ((0, blocks * _BLOCK - len(dense)), (0, 0)))
    weights, starts = np.zeros((blocks, _BLOCK, width), np.float32), np.zeros(blocks, np.int32)
    for i, block in enumerate(padded.reshape(blocks, _BLOCK, -1)):
        used = np.flatnonzero(block.any(0))
        first, last = (used[0], used[-1]) if len(used) else (0, 0)
        assert last - first < width
        starts[i] = min(first, dense.shape[1] - width)
        weights[i] = block[:, starts[i] : starts[i] + width]
    return RowBands(weights, starts)


def canvas(
    low_res: int, image_size: int, input_size: tuple[int, int], original_size: tuple[int, int]
) -> Canvas:
    """Return the canvas of an image of (H, W) pixels, (h, w) inside the network's square."""

    def matrix(inside: int, original: int) -> np.ndarray:
        dense = np.zeros((padded_side(original), low_res), np.float32)
        for band in upscale_bands(low_res, image_size, inside, original):
            dense[band.start : band.stop, band.low : band.high] = band.weights
        return dense

    (h, w), (height, width) = input_size, original_size
    rows = row_bands(matrix(h, height), band_width(low_res, height))
    return Canvas(rows, matrix(w, width), np.array(original_size, np.int32))


def measure(
    low_res: Float[Array, "p c m m"],
    iou: Float[Array, "p c"],
    prompts: Int[Array | np.ndarray, ""],
    canvas: Canvas,
    least_iou: Float[Array | np.ndarray, ""],
    threshold: Float[Array | np.ndarray, ""],
    offset: Float[Array | np.ndarray, ""],
    *,
    one_by_one: bool,
) -> Batch:
    """Measure the masks with a predicted IoU above ``least_iou`` (0 or less: all) at full size.

    Only the first ``prompts`` prompts count, the others are padding. ``one_by_one`` keeps a mask
    in a core's cache: five times faster on a CPU.

    Sources: official calculate_stability_score and batched_mask_to_box.
    """
    scores = iou.reshape(-1)
    real = jnp.arange(len(scores)) < prompts * iou.shape[1]
    chosen = real & ((scores > least_iou) | (least_iou <= 0))
    number = chosen.sum()
    at_once = 1 if one_by_one else canvas.masks_at_once
    index = jnp.flatnonzero(chosen, size=-(-len(scores) // at_once) * at_once, fill_value=0)

    def block(logits: Float[Array, "r w"], inside: Bool[Array, "r w"]) -> tuple[Array, ...]:
        def count(level: Any) -> Array:
            # In float32, exact within a row, XLA:CPU adds up twice as fast as in int32.
            per_row = jnp.where(inside & (logits > level), jnp.float32(1), 0).sum(1)
            return per_row.astype(jnp.int32).sum()

        mask = inside & (logits > threshold)
        return count(threshold + offset), count(threshold - offset), mask.any(1), mask.any(0)

    def one(low: Float[Array, "m m"]) -> Measured:
        high, lower, in_row, in_column = _by_blocks(block, low, canvas, one_by_one)
        in_row, in_column = in_row.reshape(-1), in_column.any(0)
        first = [jnp.argmax(in_column), jnp.argmax(in_row)]
        last = [len(x) - 1 - jnp.argmax(x[::-1]) for x in (in_column, in_row)]
        box = jnp.where(in_row.any(), jnp.stack([*first, *last]), 0).astype(jnp.int32)
        return Measured(high.sum(), lower.sum(), box)

    masks = low_res.reshape(-1, *low_res.shape[2:])
    return Batch(scores, index, number, _for_each(one, masks, index, number, at_once))


def cut(
    low_res: Float[Array, "n m m"],
    index: Int[Array | np.ndarray, " k"],
    number: Int[Array | np.ndarray, ""],
    canvas: Canvas,
    threshold: Float[Array | np.ndarray, ""],
    *,
    one_by_one: bool,
) -> UInt8[Array, "k h w8"]:
    """Return the first ``number`` binary masks of ``index``, eight pixels of a row in a byte."""
    at_once = 1 if one_by_one else len(index)

    def block(logits: Float[Array, "r w"], inside: Bool[Array, "r w"]) -> UInt8[Array, "r w8"]:
        return jnp.packbits(inside & (logits > threshold), axis=-1)

    def one(low: Float[Array, "m m"]) -> UInt8[Array, "h w8"]:
        packed = _by_blocks(block, low, canvas, one_by_one)
        return packed.reshape(-1, packed.shape[-1])

    return _for_each(one, low_res, index, number, at_once)


def keep(
    kept: Float[Array, "n m m"],
    low_res: Float[Array, "p c m m"],
    index: Int[Array | np.ndarray, " k"],
    start: Int[Array | np.ndarray, ""],
) -> Float[Array, "n m m"]:
    """Write the masks ``index`` of ``low_res`` to ``kept``, from row ``start`` on."""
    masks = low_res.reshape(-1, *low_res.shape[2:])
    return lax.dynamic_update_slice_in_dim(kept, masks[index], start, 0)


def _by_blocks(
    function: Callable[[Array, Array], Any],
    low: Float[Array, "m m"],
    canvas: Canvas,
    one_by_one: bool,
) -> Any:
    """Apply ``function`` to blocks of rows of the upscaled logits, with the pixels that count.

    One block at a time stays in a core's cache, and no mask is ever whole in memory.
    """
    weights, starts = canvas.rows
    rows, width = weights.shape[1:]
    wide = jnp.matmul(low, canvas.columns.T, precision=lax.Precision.HIGHEST)
    across = jnp.arange(len(canvas.columns)) < canvas.size[1]

    def block(i: Array) -> Any:
        needed = lax.dynamic_slice_in_dim(wide, starts[i], width)
        logits = jnp.matmul(weights[i], needed, precision=lax.Precision.HIGHEST)
        down = i * rows + jnp.arange(rows) < canvas.size[0]
        return function(logits, down[:, None] & across[None])

    return map_each(block, jnp.arange(len(weights)), one_by_one)


def _for_each(
    function: Callable[[Array], Any],
    masks: Float[Array, "n m m"],
    index: Int[Array | np.ndarray, " k"],
    number: Int[Array | np.ndarray, ""],
    at_once: int,
) -> Any:
    """Apply ``function`` to the masks of the first ``number`` indices, ``at_once`` at a time.

    Only as many are computed, though shapes are those of all; the rest of the result means nothing.
    """
    parts = jnp.asarray(index).reshape(-1, at_once)

    def part(i: Array | int) -> Any:
        if at_once == 1:
            return jax.tree.map(lambda x: x[None], function(masks[parts[i, 0]]))
        return jax.vmap(function)(masks[parts[i]])

    def step(i: Array, out: Any) -> Any:
        return jax.tree.map(
            lambda whole, new: lax.dynamic_update_index_in_dim(whole, new, i, 0), out, part(i)
        )

    shapes = jax.eval_shape(part, 0)
    empty = jax.tree.map(lambda s: jnp.zeros((len(parts), *s.shape), s.dtype), shapes)
    out = lax.fori_loop(0, -(-number // at_once), step, empty)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)
