"""A YOLO data set of boxes keeps the names and indices of all its categories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.annotations import read_coco, read_yolo, write_coco, write_yolo

NAMES = {i: f"class {i:02}" for i in range(80)}


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Three boxes of the categories 62, 5 and 0, in this order, of 80."""
    folder = tmp_path / "yolo"
    (folder / "labels").mkdir(parents=True)
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images/a.png")
    lines = ["62 0.5 0.5 0.4 0.4", "5 0.3 0.3 0.3 0.3", "0 0.6 0.6 0.5 0.5"]
    (folder / "labels/a.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(json.dumps({"names": NAMES}))
    return folder


def test_names_and_indices_of_data_yaml_are_kept(boxes, tmp_path):
    report = samjax.segment_dataset(boxes, boxes / "images", tmp_path / "out")
    data = json.loads(report.path.read_text())
    assert {entry["id"]: entry["name"] for entry in data["categories"]} == NAMES
    assert [each["category_id"] for each in data["annotations"]] == [62, 5, 0]
    write_yolo(tmp_path / "again", read_coco(report.path))
    again = read_yolo(tmp_path / "again", {"a.png": (48, 64)})
    assert again.names == {name: index for index, name in NAMES.items()}
    text = (tmp_path / "again/labels/a.txt").read_text()
    assert [line.split()[0] for line in text.splitlines()] == ["62", "5", "0"]


def test_ids_of_coco_from_1_become_indices_in_their_order(tmp_path):
    record = {"segmentation": np.eye(9, dtype=bool), "label": "z"}
    names = {"z": 90, "a": 1, "m": 7}
    write_coco(tmp_path / "a.json", [("a.png", (9, 9), [record])], names)
    write_yolo(tmp_path / "yolo", read_coco(tmp_path / "a.json"))
    assert read_yolo(tmp_path / "yolo", {"a.png": (9, 9)}).names == {"a": 0, "m": 1, "z": 2}


def test_two_indices_of_one_name_are_told(boxes, tmp_path):
    (boxes / "data.yaml").write_text(json.dumps({"names": {**NAMES, 7: NAMES[5]}}))
    report = samjax.segment_dataset(boxes, boxes / "images", tmp_path / "out")
    assert report.counts == {"category: name of another, mended": 1}


def test_the_confidence_of_a_line_is_the_score(boxes, tmp_path):
    (boxes / "labels/a.txt").write_text("62 0.5 0.5 0.4 0.4 0.75\n5 0.3 0.3 0.3 0.3\n")
    report = samjax.segment_dataset(boxes, boxes / "images", tmp_path / "out")
    assert [r.get("score") for r in read_coco(report.path)[0].records] == [0.75, None]
