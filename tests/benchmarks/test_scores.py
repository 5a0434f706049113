"""Test clickers, metrics and the matching of edges against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.miou import edge_maps, med
from benchmarks.miou.clickers import Click, centre_click, depth, ritm_click, sam_click
from benchmarks.miou.edges import scores, suppress
from benchmarks.miou.effsam import random_clicks
from benchmarks.miou.fast_coco import fast_click
from benchmarks.miou.metrics import (
    boundary,
    dice,
    iou,
    mean_interval,
    spearman,
    surface_dice,
)
from tests.support.benchmarks.drawn import HEIGHT, WIDTH, rectangle

EMPTY = np.zeros((HEIGHT, WIDTH), bool)


def test_iou():
    a, b = rectangle(0, 0, 10, 10), rectangle(5, 0, 10, 10)
    assert iou(a, b) == 50 / 150
    assert iou(a, EMPTY) == 0
    assert math.isnan(iou(EMPTY, EMPTY))
    assert iou(a, b, rectangle(0, 0, 5, 10)) == 50 / 100


def test_dice():
    assert dice(rectangle(0, 0, 10, 10), rectangle(5, 0, 10, 10)) == 0.5
    assert math.isnan(dice(EMPTY, EMPTY))


def test_surface_dice_counts_outlines():
    a = rectangle(10, 10, 20, 20)
    assert surface_dice(a, a, 2.0) == 1
    assert surface_dice(a, rectangle(12, 10, 20, 20), 2.0) == 1  # within the tolerance
    assert surface_dice(a, rectangle(50, 40, 5, 5), 2.0) == 0
    assert surface_dice(a, EMPTY, 2.0) == 0
    assert math.isnan(surface_dice(EMPTY, EMPTY, 2.0))


def test_boundary_is_a_band_inside_the_mask():
    band = boundary(rectangle(10, 10, 20, 20))  # 0.02 of a diagonal of 100
    assert band.sum() == 20 * 20 - 16 * 16
    assert boundary(np.ones((HEIGHT, WIDTH), bool)).sum() == 60 * 80 - 56 * 76  # the rim is one


def test_depth_counts_the_rim_as_outside():
    inside = depth(np.ones((5, 7), bool))
    assert inside[0, 0] == 1
    assert inside[2, 3] == 3
    assert not depth(np.zeros((5, 7), bool)).any()


def test_first_click_is_farthest_from_the_edge():
    assert centre_click(rectangle(10, 10, 21, 21)) == Click(20, 20, 1)


def test_sam_click_goes_into_the_error():
    mask = rectangle(0, 0, 40, 40)
    assert sam_click(mask, mask) is None
    x, y, label = sam_click(mask, rectangle(0, 0, 40, 11))
    assert (label, 11 <= y < 40, x < 40) == (1, True, True)
    extra = sam_click(mask, mask | rectangle(50, 0, 30, 30))
    assert (extra.label, extra.x >= 50) == (0, True)
    assert sam_click(mask, rectangle(0, 0, 40, 11), ~rectangle(0, 0, 40, 11)) is None


def test_ritm_click_is_positive_only_if_strictly_deeper():
    mask, nothing = rectangle(0, 0, 9, 9), EMPTY
    assert ritm_click(mask, EMPTY, nothing) == Click(4, 4, 1)
    tie = ritm_click(mask, rectangle(30, 30, 9, 9), nothing)
    assert tie == Click(34, 34, 0)
    clicked = EMPTY.copy()
    clicked[4, 4] = True
    again = ritm_click(mask, EMPTY, clicked)
    assert again.label == 1
    assert (again.x, again.y) != (4, 4)
    assert ritm_click(mask, mask, nothing) is None
    assert ritm_click(mask, EMPTY, nothing, mask) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sam_and_ritm_agree_where_one_kind_of_error_is_left(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 8)) < 0.5, np.ones((6, 6))) > 0
    if mask.any():
        first = ritm_click(mask, np.zeros_like(mask), np.zeros_like(mask))
        assert first == sam_click(mask, np.zeros_like(mask)) == centre_click(mask)


def slow_fast_click(mask: np.ndarray) -> tuple[int, int]:
    """Search pixel by pixel as fast_click does at once."""
    best, found = -1, (0, 0)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if not mask[y, x]:
                continue
            reaches = []
            for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1)):
                steps, v, u = 0, y + dy, x + dx
                while 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u]:
                    steps, v, u = steps + 1, v + dy, u + dx
                reaches.append(steps)
            if min(reaches) > best:
                best, found = min(reaches), (x, y)
            if best >= 20:
                break
    return found


def test_fast_click_takes_the_centre_of_mass_if_it_is_inside():
    assert fast_click(rectangle(10, 10, 21, 11)) == (20, 15)


@pytest.mark.parametrize("size", [(12, 16), (100, 120)])
@pytest.mark.parametrize("seed", range(4))
def test_fast_click_searches_as_the_published_code(size, seed):
    """Rings: the centre of mass lies in the hole. The large ones reach the early exit."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    radius = np.hypot(y - size[0] / 2, x - size[1] / 2)
    mask = (radius > 0.1 * size[0]) & (radius < size[0])
    mask &= rng.random(size) > 0.002
    mask[size[0] // 2 - 1 : size[0] // 2 + 2, size[1] // 2 - 1 : size[1] // 2 + 2] = False
    assert fast_click(mask) == slow_fast_click(mask)


def test_random_clicks_lie_inside_and_are_seeded():
    mask = rectangle(3, 4, 5, 6)
    clicks = random_clicks(mask, 3, 0, "a/1")
    assert mask[clicks[:, 1], clicks[:, 0]].all()
    assert len({tuple(c) for c in clicks.tolist()}) == 3
    assert (clicks == random_clicks(mask, 3, 0, "a/1")).all()
    assert (clicks != random_clicks(mask, 3, 1, "a/1")).any()
    assert len(random_clicks(rectangle(1, 1, 1, 1), 3, 0, "b")) == 3


def test_interval_draws_whole_images():
    values = np.array([0.0, 0.0, 1.0, 1.0, np.nan])
    mean, low, high = mean_interval(values, ["a", "a", "b", "b", "c"])
    assert (mean, low, high) == (0.5, 0, 1)
    mean, low, high = mean_interval(np.full(9, 0.3), list("aabbccdde"))
    assert [mean, low, high] == pytest.approx([0.3] * 3)
    assert all(map(math.isnan, mean_interval(np.array([np.nan]), ["a"])))


def test_interval_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(0.6, 0.2, 400)
    mean, low, high = mean_interval(values, [str(i) for i in range(400)])
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / 20, rel=0.12)


def test_spearman():
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1], [1, 2]))


def test_cubic_weights_are_an_interpolation():
    weights = med.cubic_weights(16, 64)
    assert weights.sum(1) == pytest.approx(np.ones(64))
    ramp = weights @ np.arange(16.0)
    middle = (np.arange(64) + 0.5) / 4 - 0.5
    assert ramp[8:-8] == pytest.approx(middle[8:-8], abs=0.05)
    assert (med.cubic_weights(8, 8) == np.eye(8)).all()


def test_edge_pixels_match_one_to_one():
    marked = np.array([[5, 5], [5, 6], [20, 20]])
    true = np.array([[5, 5], [30, 30]])
    found, hit = edge_maps.matched_pixels(marked, true, 1.0)
    assert (found.sum(), hit.tolist()) == (1, [True, False])
    nobody, nothing = edge_maps.matched_pixels(marked, np.zeros((0, 2), int), 1.0)
    assert not nobody.any()
    assert not nothing.size


def test_a_largest_matching_is_found_where_the_nearest_would_block():
    marked = np.array([[0, 0], [0, 1]])
    true = np.array([[0, 1], [0, 2]])
    found, hit = edge_maps.matched_pixels(marked, true, 1.0)
    assert found.all()
    assert hit.all()


def counts(found, true, correct, marked):
    return edge_maps.Counts(*(np.array(x) for x in (found, true, correct, marked)))


def test_edge_scores_by_hand():
    """Two thresholds: everything marked at half precision, then half of it marked rightly."""
    one = counts([10, 5], [10, 10], [10, 5], [20, 5])
    found = scores([one])
    assert found["ODS"] == found["OIS"] == pytest.approx(2 / 3)  # both thresholds give it
    assert found["R50"] == 1
    perfect = counts([10, 10], [10, 10], [10, 10], [10, 10])
    assert scores([perfect]) == {
        "ODS": 1.0,
        "OIS": 1.0,
        "AP": pytest.approx(0.01),  # a single point of the curve, as in the original
        "R50": 1.0,
    }


def test_each_image_may_choose_its_threshold():
    early, late = counts([9, 0], [9, 9], [9, 0], [9, 0]), counts([9, 9], [9, 9], [9, 9], [90, 9])
    found = scores([early, late])
    assert found["OIS"] == 1
    assert found["ODS"] < 1


def test_nothing_marked_scores_nothing():
    assert scores([counts([0], [10], [0], [0])]) == {"ODS": 0, "OIS": 0, "AP": 0, "R50": 0}


def test_suppression_keeps_the_most_certain_of_like_boxes():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], float)
    assert suppress(boxes, np.array([0.5, 0.9, 0.1])) == [1, 2]


def test_mask_edges_lie_just_outside():
    index, values = edge_maps.mask_edges(np.where(rectangle(10, 10, 20, 20), 8.0, -8.0))
    outside = np.zeros(HEIGHT * WIDTH, bool)
    outside[index] = True
    expected = rectangle(9, 9, 22, 22) & ~rectangle(10, 10, 20, 20)
    assert (outside.reshape(HEIGHT, WIDTH) == expected).all()
    assert (values > 0).all()


def test_thinning_keeps_the_crest():
    y, _ = np.mgrid[:40, :50]
    crest = np.exp(-((y - 20) ** 2) / 4.0)
    thin = edge_maps.thin_map(crest)
    assert (thin[20, 8:-8] > 0.9).all()
    assert not thin[22:30, 8:-8].any()
