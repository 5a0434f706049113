"""Drawn sets through COCO and YOLO: ids, areas, crowds, parts, holes and attributes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from samjax.annotations import read_coco, read_yolo, write_coco, write_yolo
from samjax.errors import AnnotationWarning
from tests.support.drawn_sets import drawn_record, drawn_set


@pytest.mark.parametrize("shapes", ["rle", "polygons", "bridged"])
def test_coco_keeps_everything(tmp_path, shapes):
    path = write_coco(tmp_path / "a.json", drawn_set(), shapes=shapes)
    found = read_coco(path, "binary_mask")
    for image, expected in zip(found, drawn_set(), strict=True):
        assert (*image[:2], image.id) == (*expected[:2], expected.id)
        for a, b in zip(image.records, expected.records, strict=True):
            np.testing.assert_array_equal(a.pop("segmentation"), b.pop("segmentation"))
            assert a == b
    again = write_coco(tmp_path / "b.json", read_coco(path), shapes=shapes)
    assert again.read_bytes() == path.read_bytes()


def test_keys_of_others_come_through_coco(tmp_path):
    path = write_coco(tmp_path / "a.json", drawn_set())
    data = json.loads(path.read_text())
    data["annotations"][0] |= {"track": {"frame": 3}, "occluded": None, "keypoints": [1, 2, 2]}
    path.write_text(json.dumps(data))
    again = json.loads(write_coco(tmp_path / "b.json", read_coco(path)).read_text())
    assert again["annotations"] == data["annotations"]


def test_ids_that_occur_twice_are_told_and_numbered_anew(tmp_path):
    mask = np.ones((2, 3), bool)
    records = [drawn_record(mask, number) for number in (2, 2, 1)]
    records.append({"segmentation": mask})
    with pytest.warns(AnnotationWarning, match="1 record had the id of an earlier one"):
        path = write_coco(tmp_path / "a.json", [("a.png", (2, 3), records)])
    assert [a["id"] for a in json.loads(path.read_text())["annotations"]] == [2, 3, 1, 4]


def test_pycocotools_gives_the_set_an_ap_of_one_against_itself(tmp_path, capsys):
    truth = COCO(str(write_coco(tmp_path / "a.json", drawn_set())))
    results = [
        {k: a[k] for k in ("image_id", "category_id", "segmentation")}
        | {"score": 1 - a["id"] / 1e4}
        for a in truth.dataset["annotations"]
        if not a["iscrowd"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    capsys.readouterr()


def test_yolo_keeps_masks_labels_and_the_indices_of_all_categories(tmp_path):
    names = {"unused": 0, "kind 2": 1, "kind 0": 2, "kind 1": 3}
    write_yolo(tmp_path / "a", drawn_set(), names)
    sizes = {image.file_name: image.size for image in drawn_set()}
    found = read_yolo(tmp_path / "a", sizes, "binary_mask")
    assert found.names == names
    for image, expected in zip(found, drawn_set(), strict=True):
        for a, b in zip(image.records, expected.records, strict=True):
            np.testing.assert_array_equal(a["segmentation"], b["segmentation"])
            assert a.keys() == {"segmentation", "area", "bbox", "label"}
            assert all(a[key] == b[key] for key in ("area", "bbox", "label"))
    write_yolo(tmp_path / "b", found)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@pytest.mark.parametrize("shapes", ["rle", "polygons", "bridged"])
def test_fiftyone_finds_what_its_coco_importer_expects(tmp_path, shapes):
    """As its documentation describes the format; FiftyOne, with its database, is not installed.

    It reads ids, relative file names, sizes, [x, y, w, h] and either kind of segmentation, cuts
    the mask out by the rounded box, and takes all other keys as attributes.
    """
    data = json.loads(write_coco(tmp_path / "labels.json", drawn_set(), shapes=shapes).read_text())
    assert {"info", "licenses", "categories", "images", "annotations"} <= data.keys()
    names = {each["id"]: each["name"] for each in data["categories"]}
    assert all(isinstance(each["supercategory"], str) for each in data["categories"])
    images = {each["id"]: each for each in data["images"]}
    truth = {r["id"]: r for image in drawn_set() for r in image.records}
    for annotation in data["annotations"]:
        record, image = truth[annotation["id"]], images[annotation["image_id"]]
        assert names[annotation["category_id"]] == record["label"]
        assert annotation["iscrowd"] == record.get("iscrowd", 0)
        segmentation, size = annotation["segmentation"], (image["height"], image["width"])
        if isinstance(segmentation, list):
            segmentation = coco_masks.merge(coco_masks.frPyObjects(segmentation, *size))
        decoded = coco_masks.decode(segmentation).astype(bool)
        x, y, w, h = annotation["bbox"]
        part = decoded[round(y) : round(y + h), round(x) : round(x + w)]
        assert part.sum() == decoded.sum() == record["area"]
        assert part.shape == (h, w)
        np.testing.assert_array_equal(decoded, record["segmentation"])
