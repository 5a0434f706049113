"""Measure the masks of one image in batches, keep some as logits, and make their run lengths.

Automatic masks decode far more masks than they return. All of sufficient predicted IoU are upscaled
once to be measured; pixels leave the device for those alone that survive NMS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from samjax.masks.measure import Batch, Canvas, cut, keep, measure
from samjax.masks.rle import Rle, masks_to_rle

# Low-res logits that are kept at once: beyond it, run lengths are cut before they are asked for.
_KEPT_BYTES = 2**27


# Numbers and indices go to the device with a call, also where jax_transfer_guard forbids it
_transfers = partial(jax.transfer_guard_host_to_device, "allow")


class MaskFunctions(NamedTuple):
    """The compiled functions of one model."""

    measure: Callable[..., Batch]
    keep: Callable[..., Array]
    cut: Callable[..., Array]

    @classmethod
    def compile(cls, *, one_by_one: bool) -> MaskFunctions:
        """Make the functions; each compiles when it is first called."""
        return cls(
            jax.jit(partial(measure, one_by_one=one_by_one)),
            jax.jit(keep, donate_argnums=0),
            jax.jit(partial(cut, one_by_one=one_by_one)),
        )


class Started(NamedTuple):
    """A batch at work on the device."""

    low_res: Float[Array, "p c m m"]
    batch: Batch


class Measuring:
    """Measuring holds one image's masks on the device until NMS has chosen among them.

    Args:
        functions: the model's compiled functions.
        canvas: the image's canvas.
        threshold: logit above which a pixel belongs to a mask.
        offset: distance from it of the two levels that stability compares.
        device: where the masks are decoded.
    """

    def __init__(
        self,
        functions: MaskFunctions,
        canvas: Canvas,
        threshold: float,
        offset: float,
        device: jax.Device,
    ):
        self._functions, self._device = functions, device
        self._size = tuple(int(side) for side in canvas.size)
        self._canvas: Canvas = jax.device_put(canvas, device)
        self._threshold, self._offset = np.float32(threshold), np.float32(offset)
        self._kept: Any = None  # low-res logits on the device
        self._base = self._held = 0  # slots base .. base + held are among them
        self._cut: dict[int, Rle] = {}  # earlier ones, as run lengths

    def start(
        self,
        low_res: Float[Array, "p c m m"],
        iou: Float[Array, "p c"],
        prompts: int,
        least_iou: float,
    ) -> Started:
        """Start to measure a batch's masks of sufficient predicted IoU; nothing waits here."""
        levels = np.float32(least_iou), self._threshold, self._offset
        count = np.int32(prompts)
        with _transfers():
            batch = self._functions.measure(low_res, iou, count, self._canvas, *levels)
        return Started(low_res, batch)

    def finish(self, started: Started) -> Batch:
        """Return a batch's measurements on the host, without padding: the one wait for it."""
        batch = jax.device_get(started.batch)
        number = int(batch.number)
        measured = type(batch.measured)(*(x[:number] for x in batch.measured))
        return batch._replace(which=batch.which[:number], measured=measured)

    def keep(self, started: Started, index: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Keep masks (of p * c), and return the slots that they got."""
        low_res = started.low_res
        rows, side = low_res.shape[0] * low_res.shape[1], low_res.shape[-1]
        if self._kept is None:
            room = rows + max(1, _KEPT_BYTES // (4 * side**2))
            with _transfers():
                self._kept = jnp.zeros((room, side, side), jnp.float32, device=self._device)
        if self._held + rows > len(self._kept):
            self._clear()
        filled = np.zeros(rows, np.int32)
        filled[: len(index)] = index
        start = np.int32(self._held)
        with _transfers():
            self._kept = self._functions.keep(self._kept, low_res, filled, start)
        slots = self._base + self._held + np.arange(len(index))
        self._held += len(index)
        return slots

    def run_lengths(self, slots: Int[np.ndarray, " k"]) -> list[Rle]:
        """Return the uncompressed run lengths of kept masks, in the order of ``slots``."""
        here = [int(slot) - self._base for slot in slots if slot >= self._base]
        made = dict(zip(here, self._outlines(here), strict=True))
        return [self._cut[int(s)] if s < self._base else made[int(s) - self._base] for s in slots]

    def _clear(self) -> None:
        """Turn all kept logits into run lengths, which are small."""
        outlines = self._outlines(list(range(self._held)))
        self._cut |= {self._base + i: rle for i, rle in enumerate(outlines)}
        self._base, self._held = self._base + self._held, 0

    def _outlines(self, rows: list[int]) -> list[Rle]:
        """Return run lengths of kept rows, one chunk ahead on the device."""
        size = self._canvas.masks_at_once
        chunks = [rows[i : i + size] for i in range(0, len(rows), size)]

        def start(chunk: list[int]) -> Array:
            index = np.zeros(size, np.int32)
            index[: len(chunk)] = chunk
            number = np.int32(len(chunk))
            with _transfers():
                return self._functions.cut(self._kept, index, number, self._canvas, self._threshold)

        found: list[Rle] = []
        pending = start(chunks[0]) if chunks else None
        for i, chunk in enumerate(chunks):
            current, pending = pending, start(chunks[i + 1]) if i + 1 < len(chunks) else None
            found += _unpacked(jax.device_get(current)[: len(chunk)], self._size)
        return found


def _unpacked(bits: np.ndarray, size: tuple[int, ...]) -> list[Rle]:
    height, width = size
    masks = np.unpackbits(bits[:, :height], axis=-1, count=width).view(bool)
    return masks_to_rle(masks)
