import numpy as np
import pytest
from pycocotools import mask as coco

from samjax.errors import AnnotationError
from samjax.masks import rle as rle_module
from samjax.masks.rle import (
    area_from_rle,
    coco_encode_rle,
    convert_segmentation,
    crop,
    mask_to_rle,
    masks_to_rle,
    rle_to_mask,
    segmentation_area,
    segmentation_size,
    to_coco_rle,
    to_rle,
)
from tests.support.masks import MASKS, blobs, noise

each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def naive(mask: np.ndarray) -> dict:
    """Run lengths pixel by pixel, down the columns."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@each_mask
def test_runs_go_down_the_columns_and_start_with_zeros(mask):
    rle = mask_to_rle(mask)
    assert rle == naive(mask)
    assert all(type(count) is int for count in rle["counts"])
    assert mask_to_rle(np.asfortranarray(mask)) == rle


@each_mask
def test_every_form_gives_the_mask_back(mask):
    compressed = to_coco_rle(mask)
    for form in (mask_to_rle(mask), compressed, mask):
        np.testing.assert_array_equal(convert_segmentation(form, "binary_mask"), mask)
        assert to_rle(form) == mask_to_rle(mask)
        assert to_coco_rle(form) == compressed
        assert segmentation_area(form) == mask.sum()
        assert segmentation_size(form) == mask.shape


@each_mask
def test_pycocotools_writes_and_reads_the_same(mask):
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = reference["counts"].decode()
    assert coco_encode_rle(mask_to_rle(mask)) == {"size": list(mask.shape), "counts": text}
    np.testing.assert_array_equal(rle_to_mask(reference), mask)
    assert area_from_rle(reference) == coco.area(reference)


def test_long_runs_and_large_differences_survive_the_coco_string():
    mask = np.zeros((3000, 4000), bool)
    mask[5:2990, 7:3000:3] = True
    mask[:, 3500] = True
    mask[100, 3999] = True
    rle = mask_to_rle(mask)
    assert to_rle(coco_encode_rle(rle)) == rle


def test_masks_are_encoded_in_chunks(monkeypatch):
    masks = np.stack([noise(11, 8, seed) for seed in range(9)])
    monkeypatch.setattr(rle_module, "_CHUNK_PIXELS", 11 * 8 * 4)
    assert masks_to_rle(masks) == [naive(mask) for mask in masks]
    assert masks_to_rle(masks[:0]) == []


@each_mask
def test_a_crop_holds_all_pixels_and_no_more(mask):
    for form in (mask, mask_to_rle(mask), to_coco_rle(mask)):
        part = crop(form)
        pasted = np.zeros_like(mask)
        pasted[part.window] = part.pixels
        np.testing.assert_array_equal(pasted, mask)
        if mask.any():
            y, x = np.nonzero(mask)
            assert part.box == [x.min(), y.min(), np.ptp(x), np.ptp(y)]
            assert part.pixels.shape == (np.ptp(y) + 1, np.ptp(x) + 1)
        else:
            assert part.box == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "counts", [[0, 0, 3, 0, 2, 0, 1], [2, 0, 1, 3], [6], [0, 6], [0, 6, 0], [3, 2, 0, 0, 1]]
)
def test_runs_of_no_length_are_harmless(counts):
    rle = {"size": [2, 3], "counts": counts}
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    mask = flat.reshape(3, 2).T
    np.testing.assert_array_equal(rle_to_mask(rle), mask)
    part = crop(rle)
    pasted = np.zeros_like(mask)
    pasted[part.window] = part.pixels
    np.testing.assert_array_equal(pasted, mask)


VALID = to_coco_rle(blobs(30, 20, 0))["counts"]


@pytest.mark.parametrize(
    "counts",
    [[], [5], [-1, 7], [3, 4], "", "0", VALID[:-1], VALID + "1", "~~~", "é", b"\xff", [[6]]],
)
def test_damaged_runs_are_an_error_and_never_stray_memory(counts):
    with pytest.raises(AnnotationError, match=r"do not add up to 2 x 3 pixels: check"):
        rle_to_mask({"size": [2, 3], "counts": counts})


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [6]}, "they need"),
        ({"size": [2, 3]}, "they need"),
        ({"size": [2], "counts": [2]}, "they need"),
        ({"size": [0, 3], "counts": [0]}, "1 or more"),
        (np.zeros((2, 3)), "of float64, shape"),
        (np.zeros((1, 2, 3), bool), "H x W bool array"),
        (np.zeros((0, 3), bool), "empty"),
        ([[1, 0]], "segmentation is list"),
    ],
)
def test_what_is_no_segmentation_is_named(segmentation, message):
    with pytest.raises(AnnotationError, match=message):
        crop(segmentation)


def test_an_unknown_output_mode_lists_the_modes():
    with pytest.raises(AnnotationError, match="binary_mask, uncompressed_rle, coco_rle"):
        convert_segmentation(np.ones((2, 2), bool), "png")


@pytest.mark.parametrize("counts", [[-5, 11], [5, 6], [1.5, 4.5, "x"], [[6]]])
def test_encoding_refuses_what_are_no_runs(counts):
    with pytest.raises(AnnotationError, match=r"do not add up to 2 x 3 pixels"):
        to_coco_rle({"size": [2, 3], "counts": counts})
