"""Measurements of full-size masks beside the same masks made by NumPy."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from samjax.engine.measuring import MaskFunctions, Measuring
from samjax.masks.measure import (
    band_width,
    canvas,
    cut,
    measure,
    padded_side,
    row_bands,
)
from samjax.masks.rle import rle_to_mask
from samjax.masks.upscale import upscale, upscale_bands

LOW, SIZE = 24, 96
SHAPES = [((96, 64), (300, 200)), ((50, 96), (25, 48)), ((96, 3), (640, 20)), ((1, 96), (2, 500))]


@pytest.fixture(scope="module")
def low_res() -> np.ndarray:
    rng = np.random.default_rng(3)
    blocks = rng.normal(size=(5, 3, 6, 6)).repeat(4, 2).repeat(4, 3)
    logits = (3 * blocks + rng.normal(size=(5, 3, LOW, LOW))).astype(np.float32)
    logits[2, 1] = -9  # empty
    return logits


def masks_of(low_res: np.ndarray, shapes: tuple, threshold: float) -> np.ndarray:
    return upscale(low_res.reshape(-1, LOW, LOW), SIZE, *shapes, threshold)


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("shapes", SHAPES)
def test_measurements_are_those_of_the_masks(low_res, shapes, one_by_one: bool) -> None:
    iou = np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3)
    area = canvas(LOW, SIZE, *shapes)
    run = jax.jit(partial(measure, one_by_one=one_by_one))
    levels = (np.float32(x) for x in (0.3, 0.25, 1.5))
    found = jax.device_get(run(low_res, iou, np.int32(4), area, *levels))
    number = int(found.number)
    chosen = np.flatnonzero(iou[:4].reshape(-1) > 0.3)
    assert found.which[:number].tolist() == chosen.tolist()
    assert found.scores.tolist() == iou.reshape(-1).tolist()
    high, mask, low = (masks_of(low_res, shapes, t)[chosen] for t in (1.75, 0.25, -1.25))
    # NumPy's and XLA's products may round a pixel to the other side of a threshold.
    assert np.abs(found.measured.above_high[:number] - high.sum((1, 2))).max() <= 1
    assert np.abs(found.measured.above_low[:number] - low.sum((1, 2))).max() <= 1
    for box, one in zip(found.measured.boxes[:number], mask, strict=True):
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        edges = [columns[0], rows[0], columns[-1], rows[-1]] if len(rows) else [0] * 4
        assert box.tolist() == edges


def test_a_limit_of_zero_takes_all(low_res) -> None:
    iou = np.full((5, 3), np.nan, np.float32)
    area = canvas(LOW, SIZE, *SHAPES[0])
    limits = [np.float32(x) for x in (0, 0, 1)]
    run = jax.jit(partial(measure, one_by_one=True))
    found = run(low_res, iou, np.int32(5), area, *limits)
    assert int(found.number) == 15


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("shapes", SHAPES)
def test_cut_masks_are_the_upscaled_ones(low_res, shapes, one_by_one: bool) -> None:
    area = canvas(LOW, SIZE, *shapes)
    index = np.array([14, 3, 7, 0])
    kept = low_res.reshape(-1, LOW, LOW)
    run = jax.jit(partial(cut, one_by_one=one_by_one))
    bits = np.asarray(run(kept, index, np.int32(3), area, np.float32(0.25)))
    height, width = shapes[1]
    masks = np.unpackbits(bits, axis=-1, count=width)[:3, :height]
    expected = masks_of(low_res, shapes, 0.25)[index[:3]]
    assert (masks != expected).sum() <= 2


@pytest.mark.parametrize(("low", "image"), [(24, 96), (96, 384), (256, 1024)])
def test_blocks_of_rows_are_the_whole_matrix(low: int, image: int) -> None:
    """For every length the band is wide enough, and no weight is lost."""
    for length in [*range(1, 12), 63, 64, 65, 127, 200, 511, 600, 961, 1024, 1025, 2000, 4095]:
        for inside in {1, max(1, min(image, length) // 2), image}:
            dense = np.zeros((padded_side(length), low), np.float32)
            for band in upscale_bands(low, image, inside, length):
                dense[band.start : band.stop, band.low : band.high] = band.weights
            weights, starts = row_bands(dense, band_width(low, length))
            again = np.zeros((weights.shape[0] * 64, low), np.float32)
            for i, (block, start) in enumerate(zip(weights, starts, strict=True)):
                again[64 * i : 64 * i + 64, start : start + block.shape[1]] = block
            np.testing.assert_array_equal(again[: len(dense)], dense)


def test_of_lengths_that_share_a_canvas_the_bands_are_alike() -> None:
    assert len({band_width(256, n) for n in range(961, 1025)}) == 1
    assert len({band_width(256, n) for n in range(1025, 1153)}) == 1


@pytest.mark.parametrize("room", [None, 1])
def test_run_lengths_of_kept_masks_in_any_order(low_res, room, monkeypatch) -> None:
    """Also where little can be kept: earlier masks are then run lengths already."""
    if room is not None:
        monkeypatch.setattr("samjax.engine.measuring._KEPT_BYTES", room)
    shapes, iou = SHAPES[0], np.ones((5, 3), np.float32)
    functions = MaskFunctions.compile(one_by_one=True)
    area = canvas(LOW, SIZE, *shapes)
    measuring = Measuring(functions, area, 0.25, 1.0, jax.devices("cpu")[0])
    slots = []
    for _ in range(3):
        started = measuring.start(jax.numpy.asarray(low_res), jax.numpy.asarray(iou), 5, 0.5)
        assert measuring.finish(started).which.tolist() == list(range(15))
        slots.append(measuring.keep(started, np.array([1, 14, 6])))
        slots.append(measuring.keep(started, np.zeros(0, np.int64)))
    everything = np.concatenate(slots)
    assert everything.tolist() == list(range(9))
    asked = np.array([8, 0, 5, 4, 1])
    expected = masks_of(low_res, shapes, 0.25)[[6, 1, 6, 14, 14]]
    for rle, mask in zip(measuring.run_lengths(asked), expected, strict=True):
        assert (rle_to_mask(rle) != mask).sum() <= 1
    assert measuring.run_lengths(np.zeros(0, np.int64)) == []
