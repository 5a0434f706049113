"""Compare records and run lengths with the official functions and with other programs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convert.official  # noqa: F401 - makes segment_anything importable without torchvision
from samjax.annotations import convert_records, label_map_to_records, write_coco
from samjax.masks.rle import (
    area_from_rle,
    coco_encode_rle,
    crop,
    mask_to_rle,
    rle_to_mask,
)
from tests.support.drawn_sets import drawn_set
from tests.support.masks import MASKS, blobs

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


def test_supervision_reads_a_coco_file_as_the_page_on_formats_shows(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs/howto/formats.md").read_text("utf-8")
    (snippet,) = (
        block for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if "supervision" in block
    )
    monkeypatch.chdir(tmp_path)
    images = [image for image in drawn_set() if image.records]
    for image in images:
        path = tmp_path / "photos" / image.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", image.size[::-1]).save(path)
    write_coco("set/coco.json", images)
    variables: dict = {}
    exec(snippet, variables)
    assert len(capsys.readouterr().out.splitlines()) == len(images)
    found = {Path(path).resolve(): detections for path, _, detections in variables["data"]}
    for image in images:
        detections = found[(tmp_path / "photos" / image.file_name).resolve()]
        for mask, record in zip(detections.mask, image.records, strict=True):
            np.testing.assert_array_equal(mask, record["segmentation"])
        names = [variables["data"].classes[i] for i in detections.class_id]
        assert names == [record["label"] for record in image.records]
        crowds = [record.get("iscrowd", 0) for record in image.records]
        assert detections.data["iscrowd"].tolist() == crowds
