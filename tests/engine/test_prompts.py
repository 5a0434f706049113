"""Test the checks of prompts, and the rows of tokens that they become."""

from __future__ import annotations

import numpy as np
import pytest

from samjax.engine.prompts import (
    CLICK_BUCKETS,
    blocks,
    bucket,
    check_boxes,
    check_masks,
    check_points,
    click_bucket,
    pack,
)
from samjax.errors import PromptError
from samjax.model.prompt_encoder import (
    ABSENT,
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
)

SIZE = (40, 80)  # of the image, fitted into 64 pixels as (32, 64)
INSIDE = (32, 64)
POINT = check_points([[10, 20]], [1])


def rows(points=None, boxes=None, masks=None):
    return pack(points, boxes, masks, SIZE, INSIDE)


def test_points_end_with_the_padding_point():
    prompts = rows([check_points([[10, 20], [30, 5]], [1, 0])])
    assert prompts.kinds[0, :3].tolist() == [POSITIVE, NEGATIVE, NOT_A_POINT]
    assert (prompts.kinds[0, 3:] == ABSENT).all()
    np.testing.assert_array_equal(prompts.coords[0, :2], [[8, 16], [24, 4]])
    assert prompts.coords.dtype == np.float32
    assert prompts.masks is None
    assert prompts.has_mask is None


def test_a_box_takes_the_place_of_the_padding_point():
    prompts = rows([POINT], check_boxes([[0, 10, 40, 20]]))
    kinds = [POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    assert prompts.kinds[0, :4].tolist() == [*kinds, ABSENT]
    np.testing.assert_array_equal(prompts.coords[0, 1:3], [[0, 8], [32, 16]])


def test_label_minus_one_is_the_padding_point():
    prompts = rows([check_points([[10, 20], [0, 0]], [1, -1])])
    assert prompts.kinds[0, :4].tolist() == [POSITIVE, NOT_A_POINT, NOT_A_POINT, ABSENT]


def test_a_mask_alone_has_no_tokens():
    prompts = rows(masks=np.zeros((1, 16, 16), np.float32))
    assert (prompts.kinds == ABSENT).all()
    assert prompts.has_mask.tolist() == [True]


def test_ragged_points_share_a_width():
    sets = [check_points(np.zeros((n, 2)), np.ones(n)) for n in (1, 5, 2)]
    prompts = rows(sets)
    assert prompts.kinds.shape == (3, 8)
    assert (prompts.kinds != ABSENT).sum(1).tolist() == [2, 6, 3]


@pytest.mark.parametrize("count", range(1, 17))
@pytest.mark.parametrize("box", [False, True])
def test_up_to_sixteen_points_and_a_box_fill_two_buckets(count: int, box: bool):
    points = [check_points(np.zeros((count, 2)), np.ones(count))]
    boxes = check_boxes([[0, 0, 5, 5]]) if box else None
    few = count <= (2 if box else 3)
    assert rows(points, boxes).kinds.shape == (1, CLICK_BUCKETS[0 if few else 1])


def test_click_buckets():
    sizes = (0, 1, 4, 5, 20, 21, 40, 41)
    assert [click_bucket(n) for n in sizes] == [4, 4, 4, 20, 20, 40, 40, 80]


def test_buckets_double():
    assert [bucket(n, 20) for n in (0, 1, 20, 21, 40, 41)] == [20, 20, 20, 40, 40, 80]


def test_blocks_hold_every_prompt_once():
    coords = np.random.default_rng(0).uniform(0, 1, (21, 4)).astype(np.float32)
    boxes = np.concatenate([coords[:, :2], coords[:, :2] + 1], 1)
    masks = np.arange(21, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    prompts = pack(None, boxes, masks, SIZE, INSIDE)
    counts, sizes, seen = [], [], []
    for count, block in blocks(prompts, 8):
        counts.append(count)
        sizes.append(len(block.kinds))
        assert (block.kinds[count:] == ABSENT).all()
        assert not block.has_mask[count:].any()
        seen.append(block.masks[:count, 0, 0])
    assert counts == [8, 8, 5]
    assert sizes == [8, 8, 8]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(21))


WRONG = {
    "no label": (lambda: check_points([[1, 2]], None), "give one label a point"),
    "one pair": (lambda: check_points([1, 2], [1]), "give N x 2"),
    "three numbers": (lambda: check_points([[1, 2, 3]], [1]), "give N x 2"),
    "labels short": (lambda: check_points([[1, 2], [3, 4]], [1]), "2 points but"),
    "label 2": (lambda: check_points([[1, 2]], [2]), "use 1 .object., 0 .background. or -1"),
    "label 0.5": (lambda: check_points([[1, 2]], [0.5]), "use 1 .object., 0 .background. or -1"),
    "NaN": (lambda: check_points([[np.nan, 2]], [1]), "NaN or infinite"),
    "ragged": (lambda: check_points([[1, 2], [3]], [1, 1]), "not a rectangular array"),
    "words": (lambda: check_points([["a", "b"]], [1]), "not a rectangular array"),
    "flat box": (lambda: check_boxes([1, 2, 3, 4]), "give P x 4"),
    "turned box": (lambda: check_boxes([[5, 5, 1, 9]]), "top left corner, then"),
    "infinite box": (lambda: check_boxes([[0, 0, 1, np.inf]]), "NaN or infinite"),
    "mask size": (lambda: check_masks(np.zeros((1, 8, 8)), 16), "give low-res logits of 1 x 16"),
    "mask 2d": (lambda: check_masks(np.zeros((16, 16)), 16), "give low-res logits"),
    "binary mask": (lambda: check_masks(np.zeros((1, 16, 16), bool), 16), "mask_to_logits"),
    "NaN mask": (lambda: check_masks(np.full((1, 16, 16), np.nan), 16), "NaN or infinite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_say_in_one_line_what_to_do(name: str):
    call, text = WRONG[name]
    with pytest.raises(PromptError, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_masks_of_four_axes_are_taken():
    assert check_masks(np.zeros((3, 1, 16, 16)), 16).shape == (3, 16, 16)
