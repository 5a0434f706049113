"""Test grids, crops, tiles, run lengths in the whole image, and NMS."""

from __future__ import annotations

import numpy as np
import pytest

from samjax.automatic.crops import (
    Crop,
    crop_boxes,
    layer_grids,
    near_crop_edge,
    point_grid,
    tile_boxes,
    uncropped,
)
from samjax.masks.nms import suppress
from samjax.masks.rle import mask_to_rle
from tests.support.masks import blobs, noise


def test_point_grid_is_row_major_and_centred() -> None:
    np.testing.assert_allclose(
        point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )
    assert [len(grid) for grid in layer_grids(8, 2, 2)] == [64, 16, 4]
    assert [len(grid) for grid in layer_grids(2, 2, 4)] == [4, 1, 1]


def test_crops_of_two_layers_are_the_official_ones() -> None:
    # generate_crop_boxes((300, 400), 1, 512 / 1500)
    assert [crop.box for crop in crop_boxes((300, 400), 1, 512 / 1500)] == [
        (0, 0, 400, 300),
        (0, 0, 251, 201),
        (0, 99, 251, 300),
        (149, 0, 400, 201),
        (149, 99, 400, 300),
    ]
    assert [crop.layer for crop in crop_boxes((300, 400), 2, 0.3)] == [0] + 4 * [1] + 16 * [2]


@pytest.mark.parametrize(("size", "tile", "halo"), [((90, 250), 64, 8), ((64, 64), 64, 0)])
def test_tiles_cover_the_image(size: tuple[int, int], tile: int, halo: int) -> None:
    seen = np.zeros(size, int)
    for crop in tile_boxes(size, tile, halo):
        x0, y0, x1, y1 = crop.box
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        assert max(crop.size) <= tile + 2 * halo
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    assert (seen.max() > 1) == (halo > 0)


def test_only_edges_inside_the_image_cut_masks_off() -> None:
    crop = Crop((100, 0, 300, 200), 1)
    boxes = np.array([[50, 50, 150, 150], [10, 50, 150, 150], [50, 0, 150, 150], [50, 50, 190, 90]])
    assert near_crop_edge(boxes, crop, (400, 400)).tolist() == [False, True, False, True]
    assert not near_crop_edge(boxes, Crop((0, 0, 400, 400), 0), (400, 400)).any()


@pytest.mark.parametrize(
    "crop",
    [(0, 0, 30, 40), (5, 7, 25, 31), (0, 0, 30, 20), (10, 0, 30, 40), (29, 39, 30, 40)],
)
def test_a_crop_s_run_lengths_in_the_whole_image(crop: tuple[int, int, int, int]) -> None:
    size = (40, 30)
    x0, y0, x1, y1 = crop
    h, w = y1 - y0, x1 - x0
    candidates = [np.zeros((h, w), bool), np.ones((h, w), bool), noise(h, w, 1)]
    candidates += [blobs(h, w, seed) for seed in range(3)] if min(h, w) > 3 else []
    for mask in candidates:
        whole = np.zeros(size, bool)
        whole[y0:y1, x0:x1] = mask
        assert uncropped(mask_to_rle(mask), Crop(crop, 1), size) == mask_to_rle(whole)


def test_suppression_is_greedy_by_score_and_stable() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (80, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (80, 2))], 1).round()
    scores = rng.choice(np.linspace(0, 1, 9), 80).astype(np.float32)

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        shared = np.prod(np.clip(high - low, 0, None))
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    kept: list[int] = []
    for i in sorted(range(80), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= 0.5 for k in kept):
            kept.append(i)
    assert suppress(boxes, scores, 0.5).tolist() == kept
    assert suppress(np.zeros((0, 4)), np.zeros(0, np.float32), 0.5).tolist() == []
    # Boxes of no area have no IoU: none suppresses another.
    assert suppress(np.zeros((2, 4)), np.ones(2, np.float32), 0.5).tolist() == [0, 1]
