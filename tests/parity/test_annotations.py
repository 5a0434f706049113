"""Records and run lengths against the official functions and the programs that take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import convert.official  # noqa: F401 - makes segment_anything importable without torchvision
from samjax.annotations import convert_records, label_map_to_records
from samjax.rle import (
    area_from_rle,
    coco_encode_rle,
    crop,
    mask_to_rle,
    rle_to_mask,
)
from tests.masks import MASKS, blobs

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_run_lengths_areas_and_boxes_are_the_official_ones(mask):
    from segment_anything.utils import amg

    (expected,) = amg.mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert mask_to_rle(mask) == expected
    np.testing.assert_array_equal(rle_to_mask(expected), amg.rle_to_mask(expected))
    assert area_from_rle(expected) == amg.area_from_rle(expected)
    assert coco_encode_rle(expected) == amg.coco_encode_rle(expected)
    box = amg.box_xyxy_to_xywh(amg.batched_mask_to_box(torch.from_numpy(mask)))
    assert crop(mask).box == box.tolist()


def test_supervision_takes_the_records():
    import supervision

    labels = blobs(40, 50, 0) + 2 * blobs(40, 50, 1)
    records = convert_records(label_map_to_records(labels, "coco_rle"), "binary_mask")
    detections = supervision.Detections.from_sam(records)
    assert len(detections) == len(records) == 3
    by_area = sorted(records, key=lambda record: record["area"], reverse=True)
    np.testing.assert_array_equal(detections.mask, [each["segmentation"] for each in by_area])
    np.testing.assert_array_equal(detections.area, [each["area"] for each in by_area])
