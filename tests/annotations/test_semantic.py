"""Class maps and their legends."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from samjax.annotations import (
    read_coco,
    read_legend,
    read_semantic,
    to_class_map,
    write_coco,
    write_label_png,
    write_semantic,
)
from samjax.errors import AnnotationError
from samjax.masks.rle import to_mask
from tests.support.drawn_sets import drawn_set

NAMES = ["kind 0", "kind 1", "kind 2"]


def expected_classes(records: list[dict], ids: dict[str, int], size: tuple[int, int]) -> np.ndarray:
    classes = np.zeros(size, int)
    for record in sorted(records, key=lambda each: -each["area"]):
        classes[record["segmentation"]] = ids[record["label"]]
    return classes


@pytest.mark.parametrize("legend", ["json", "csv"])
@pytest.mark.parametrize("categories", [NAMES, {"kind 1": 7, "kind 0": 300, "kind 2": 5}, None])
def test_a_drawn_set_comes_back_class_by_class(tmp_path, legend, categories):
    given = read_coco(write_coco(tmp_path / "a.json", drawn_set(), NAMES), "binary_mask")
    path = write_semantic(tmp_path / "maps", given, categories, legend=legend)
    assert path == tmp_path / f"maps/legend.{legend}"
    ids = categories if isinstance(categories, dict) else {n: i for i, n in enumerate(NAMES, 1)}
    assert read_legend(path) == {"background": 0, **ids}
    found = {image.file_name: image for image in read_semantic(tmp_path / "maps", None)}
    assert len(found) == len(given)
    for image in given:
        name = image.file_name.rsplit(".", 1)[0] + ".png"
        expected = expected_classes(image.records, ids, image.size)
        with Image.open(tmp_path / "maps" / name) as picture:
            assert picture.mode == ("I;16" if 300 in ids.values() else "P")
            np.testing.assert_array_equal(np.array(picture), expected)
        assert found[name].size == image.size
        again = np.zeros(image.size, int)
        for record in found[name].records:
            mask = to_mask(record["segmentation"])
            assert record["area"] == mask.sum() > 0
            again[mask] = ids[record["label"]]
        np.testing.assert_array_equal(again, expected)


def test_the_legend_has_the_colours_of_the_picture(tmp_path):
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:3] = True
    records = [{"segmentation": mask, "label": "car, red"}, {"segmentation": ~mask, "label": "sky"}]
    for legend in ("json", "csv"):
        path = write_semantic(tmp_path / legend, [("a.jpg", (4, 5), records)], legend=legend)
        with Image.open(tmp_path / legend / "a.png") as picture:
            colours = np.array(picture.convert("RGB"))
        if legend == "json":
            rows = json.loads(path.read_text())
        else:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        assert [(int(r["id"]), r["name"]) for r in rows] == [
            (0, "background"),
            (1, "car, red"),
            (2, "sky"),
        ]
        for row, at in zip(rows[1:], ((1, 1), (0, 0)), strict=True):
            assert row["color"] == "#{:02x}{:02x}{:02x}".format(*colours[at].tolist())


def test_parts_are_told_apart_on_request(tmp_path):
    classes = np.array([[1, 1, 0, 2], [0, 0, 0, 0], [0, 1, 0, 2]], np.uint8)
    write_label_png(tmp_path / "a.png", classes)
    (tmp_path / "legend.json").write_text('{"0": "background", "1": "cat", "2": "dog"}')
    whole = read_semantic(tmp_path)[0].records
    assert [(r["label"], r["area"]) for r in whole] == [("cat", 3), ("dog", 2)]
    parts = read_semantic(tmp_path, split=True)[0].records
    assert [(r["label"], r["area"]) for r in parts] == [
        *(("cat", 2), ("cat", 1), ("dog", 1), ("dog", 1))
    ]


def test_class_maps_of_records():
    mask = np.ones((2, 3), bool)
    assert not to_class_map([], ["cat"], (2, 3)).any()
    assert to_class_map([{"segmentation": mask}], {"object": 9}).tolist() == [[9] * 3] * 2
    with pytest.raises(AnnotationError, match="'object' is not among the categories"):
        to_class_map([{"segmentation": mask}], ["cat"])


def test_unusable_categories_legends_and_maps_are_named(tmp_path):
    for categories, message in (
        ({"cat": 0}, "has id 0: 0 is the background, use 1 to 65535"),
        ({"cat": 65536}, "has id 65536"),
        (["background"], "it is 0 always"),
    ):
        with pytest.raises(AnnotationError, match=message):
            write_semantic(tmp_path / "new", [("a.jpg", (2, 3), [])], categories)
    with pytest.raises(AnnotationError, match="use one of json, csv"):
        write_semantic(tmp_path / "new", [], legend="xml")
    with pytest.raises(AnnotationError, match=r"would share a\.png"):
        write_semantic(tmp_path / "new", [("a.jpg", (2, 3), []), ("a.png", (2, 3), [])])
    assert not (tmp_path / "new").exists()
    with pytest.raises(AnnotationError, match="no such folder"):
        read_semantic(tmp_path / "new")
    with pytest.raises(AnnotationError, match=r"no legend\.json or legend\.csv"):
        read_semantic(tmp_path)
    legend = tmp_path / "legend.json"
    for text, message in (
        ("{", "is not a legend in JSON or CSV"),
        ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "a name or id twice"),
        ('{"a": -1}', "ids outside 0 to 65535"),
        ('[{"id": 1}]', "damaged"),
    ):
        legend.write_text(text)
        with pytest.raises(AnnotationError, match=message):
            read_semantic(tmp_path)
    legend.write_text('{"cat": 1}')
    with pytest.raises(AnnotationError, match="no PNG file"):
        read_semantic(tmp_path)
    write_label_png(tmp_path / "a.png", np.array([[0, 1, 2]]))
    with pytest.raises(AnnotationError, match=r"a\.png: number 2 is not in the legend"):
        read_semantic(tmp_path)
    (tmp_path / "legend.csv").write_text("id,name\n1,cat\n2,dog\n")
    with pytest.raises(AnnotationError, match=r"legend\.json and legend\.csv: pass the legend"):
        read_semantic(tmp_path)
    assert len(read_semantic(tmp_path, tmp_path / "legend.csv")[0].records) == 2
