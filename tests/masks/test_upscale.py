"""Test upscaling against a plain two-step reference, masks as prompts, and mask IoU."""

from __future__ import annotations

import numpy as np
import pytest

from samjax.errors import PromptError
from samjax.masks.upscale import mask_iou, mask_to_logits, upscale

# image_size, (h, w) inside, (H, W) original; low-res masks of a quarter of the image size
SHAPES = [
    (64, (64, 43), (90, 61)),
    (64, (44, 64), (48, 70)),
    (64, (64, 64), (64, 64)),
    (64, (64, 64), (200, 200)),
    (64, (46, 64), (5, 7)),
    (64, (64, 64), (1, 1)),
    (64, (5, 64), (3, 40)),
    (64, (1, 64), (1, 400)),
]


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate pixel by pixel: bilinear, half-pixel centres, clamped, no antialias."""
    h, w = image.shape
    out = np.zeros((height, width))
    for i in range(height):
        y = max((i + 0.5) * h / height - 0.5, 0)
        y0 = min(int(y), h - 1)
        y1 = min(y0 + 1, h - 1)
        for j in range(width):
            x = max((j + 0.5) * w / width - 0.5, 0)
            x0 = min(int(x), w - 1)
            x1 = min(x0 + 1, w - 1)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out


@pytest.mark.parametrize(("size", "inside", "original"), SHAPES)
def test_upscale_is_two_bilinear_steps(size, inside, original):
    low_res = np.random.default_rng(0).normal(0, 10, (2, size // 4, size // 4)).astype(np.float32)
    h, w = inside
    expected = [bilinear(bilinear(x, size, size)[:h, :w], *original) for x in low_res]
    logits = upscale(low_res, size, inside, original, None)
    assert logits.dtype == np.float32
    assert logits.shape == (2, *original)
    np.testing.assert_allclose(logits, expected, atol=2e-4)
    masks = upscale(low_res, size, inside, original, 1.5)
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, logits > 1.5)


def test_upscale_keeps_leading_axes():
    low_res = np.zeros((2, 3, 16, 16), np.float32)
    assert upscale(low_res, 64, (64, 40), (32, 20)).shape == (2, 3, 32, 20)
    assert upscale(low_res[0, 0], 64, (64, 40), (32, 20)).shape == (32, 20)
    assert upscale(low_res[:0], 64, (64, 40), (32, 20)).shape == (0, 3, 32, 20)


def test_a_constant_stays_constant():
    low_res = np.full((1, 16, 16), 3.0, np.float32)
    np.testing.assert_allclose(upscale(low_res, 64, (64, 43), (611, 410), None), 3.0, rtol=1e-6)


@pytest.mark.parametrize("shape", [(48, 70), (90, 61), (400, 400), (1, 1), (3, 40)])
def test_mask_to_logits_and_back(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 <= (min(shape) / 3) ** 2
    logits = mask_to_logits(mask, 64)
    assert logits.shape == (1, 64, 64)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() <= 10.001
    scale = 256 / max(shape)
    inside = tuple(max(1, int(side * scale + 0.5)) for side in shape)
    if min(shape) > 20:
        back = upscale(logits, 256, inside, shape)[0]
        assert mask_iou(back, mask) > 0.9
    # The padding is not part of the mask
    h, w = (-(-side // 4) for side in inside)
    assert (logits[0, h + 1 :] == -10).all()
    assert (logits[0, :, w + 1 :] == -10).all()


def test_mask_to_logits_counts_above_zero_as_inside():
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    logits = mask_to_logits(mask, 16, confidence=5.0)
    np.testing.assert_array_equal(logits[0, :8], 5)
    np.testing.assert_array_equal(logits[0, 8:], -5)
    np.testing.assert_array_equal(mask_to_logits(mask[None], 16, confidence=5.0), logits)


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 5, 5)])
def test_mask_to_logits_refuses_what_is_no_mask(shape):
    with pytest.raises(PromptError, match="give one H x W mask"):
        mask_to_logits(np.zeros(shape, bool), 16)


def test_mask_iou():
    a = np.zeros((3, 4, 4), bool)
    b = a.copy()
    a[1, :2], b[1, 1:3] = True, True
    a[2], b[2, 0] = True, True
    np.testing.assert_allclose(mask_iou(a, b), [1, 1 / 3, 1 / 4])
