"""Annotation files of other programs, and names and categories of all kinds: kept, or refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samjax.annotations import (
    AnnotatedImage,
    read_coco,
    read_label_png,
    read_npz,
    read_yolo,
    write_coco,
    write_npz,
    write_yolo,
)
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.masks.polygons import polygons_to_rle

GOOD = {
    "id": 7,
    "image_id": 31,
    "category_id": 17,
    "segmentation": [[0, 0, 2, 0, 2, 2]],
    "iscrowd": 0,
}
FULL = {"segmentation": np.ones((2, 3), bool)}


def coco_file(tmp_path: Path, *annotations: dict) -> Path:
    dataset = {
        "images": [
            {"id": 31, "file_name": "a.png", "height": 4, "width": 4},
            {"id": 7, "file_name": "b.png", "height": 4, "width": 4},
        ],
        "categories": [
            {"id": 17, "name": "cat"},
            {"id": 3, "name": "dog"},
            {"id": 90, "name": "x"},
        ],
        "annotations": annotations,
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dataset))
    return path


@pytest.mark.parametrize("shapes", ["rle", "polygons", "bridged"])
def test_ids_crowds_and_unused_categories_come_through(tmp_path, shapes):
    crowd = GOOD | {"id": 8, "image_id": 7, "category_id": 3, "iscrowd": 1}
    path = coco_file(tmp_path, GOOD, crowd)
    found = read_coco(path)
    assert [image.id for image in found] == [31, 7]
    assert found.categories == {"cat": 17, "dog": 3, "x": 90}
    other = write_coco(tmp_path / "b.json", found, shapes=shapes)
    before, after = json.loads(path.read_text()), json.loads(other.read_text())
    for key in ("images", "categories", "annotations"):
        own = {"segmentation", "id"} if key == "annotations" else set()  # made anew
        for old, new in zip(before[key], after[key], strict=True):
            assert {k: new[k] for k in old if k not in own} == {
                k: v for k, v in old.items() if k not in own
            }
    assert isinstance(after["annotations"][1]["segmentation"], dict)  # a crowd is run lengths
    assert read_coco(other)[1].records[0]["iscrowd"] == 1


def test_a_part_of_a_data_set_and_something_new(tmp_path):
    found = read_coco(coco_file(tmp_path, GOOD, GOOD | {"image_id": 7, "category_id": 3}))
    cow = {"segmentation": np.ones((4, 4), bool), "label": "cow"}
    new = AnnotatedImage("new.png", (4, 4), [cow])
    write_coco(tmp_path / "c.json", [found[1], new], found.categories | {"cow": 4})
    data = json.loads((tmp_path / "c.json").read_text())
    assert [image["id"] for image in data["images"]] == [7, 1]
    assert [each["category_id"] for each in data["annotations"]] == [3, 4]
    with pytest.raises(AnnotationError, match="two images have the same id"):
        write_coco(tmp_path / "c.json", [found[1], found[1]])
    assert pickle.loads(pickle.dumps(found[0])).id == 31
    assert found[0]._replace(file_name="z.png").id == 31
    name, size, records = found[0]
    assert (name, size, len(records)) == ("a.png", (4, 4), 1)


def test_annotations_without_masks_are_skipped_and_counted(tmp_path):
    bad = [
        {"id": 1, "segmentation": []},
        {"id": 2, "segmentation": None},
        {"id": 3, "segmentation": [[0, 0, 1, 1]]},
        {"id": 4, "segmentation": [[]]},
    ]
    path = coco_file(tmp_path, GOOD, *(GOOD | each for each in bad), GOOD | {"id": 5})
    with pytest.warns(AnnotationWarning, match=r"a\.json: 4 of 6 annotations were skipped, the f"):
        found = read_coco(path)
    assert [len(image.records) for image in found] == [2, 0]
    assert [reason.split(":")[0] for reason in found.skipped] == [
        f"annotation {i}" for i in (1, 2, 3, 4)
    ]


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = coco_file(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(path)[0].records) == 1
    names = write_yolo(tmp_path, [("a.jpg", (2, 3), [FULL])])
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes())
    assert read_yolo(tmp_path, {"a.jpg": (2, 3)})[0].records


@pytest.mark.parametrize(
    ("categories", "coco", "yolo"),
    [
        (["cat", "dog"], [1, 2], [0, 1]),
        (("cat", "dog"), [1, 2], [0, 1]),
        (np.array(["cat", "dog"]), [1, 2], [0, 1]),
        ({0: "cat", np.int64(5): np.str_("dog")}, [0, 5], [0, 5]),
        ({"dog": 4, "cat": 9}, [9, 4], [9, 4]),
    ],
)
def test_categories_in_all_their_forms(tmp_path, categories, coco, yolo):
    size = (np.int64(2), np.int64(3))
    records = [FULL | {"label": np.str_("cat")}, FULL | {"label": "dog"}]
    given = [(np.str_("a.png"), size, records)]
    data = json.loads(write_coco(tmp_path / "a.json", given, categories).read_text())
    ids = {each["name"]: each["id"] for each in data["categories"]}
    assert [ids["cat"], ids["dog"]] == coco
    assert [each["category_id"] for each in data["annotations"]] == coco
    write_yolo(tmp_path, given, categories)
    lines = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == yolo
    read = read_yolo(tmp_path, {"a.png": (2, 3)})[0].records
    assert [each["label"] for each in read] == ["cat", "dog"]
    write_npz(tmp_path / "a.npz", size, records)
    assert [each["label"] for each in read_npz(tmp_path / "a.npz")[1]] == ["cat", "dog"]


@pytest.mark.parametrize(
    "categories", [{"a": 1, "b": 1}, {1: "a", 2: "a"}, {"a": -1}, ["a", "a"], "ab"]
)
def test_categories_that_are_none(tmp_path, categories):
    for write in (write_coco, write_yolo):
        with pytest.raises(AnnotationError, match=r"pass a list of different names, \{name: id\}"):
            write(tmp_path / "a", [], categories)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0.png", "control characters"),
        ("a\n.png", "control characters"),
        ("x" * 300 + ".png", "too long"),
        ("../../x.png", "relative to the images' folder"),
        ("../..", "relative to the images' folder"),
        ("/etc/x.png", "relative to the images' folder"),
        ("", "relative to the images' folder"),
    ],
)
def test_file_names_that_no_data_set_should_have(tmp_path, name, message):
    for write in (
        lambda: write_yolo(tmp_path / "set", [("a.png", (2, 3), []), (name, (2, 3), [])]),
        lambda: write_coco(tmp_path / "a.json", [(name, (2, 3), [])]),
    ):
        with pytest.raises(AnnotationError, match=message) as caught:
            write()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*"))


def test_an_alias_bomb_is_refused(tmp_path):
    write_yolo(tmp_path, [("a.jpg", (2, 3), [])])
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    for text, message in (
        ("\n".join([*lines, "names: {0: *a9}"]), "has aliases"),
        ("names: {0: [a, b]}", ".*no text"),
        ("[" * 100_000, "has 21 lists in one another"),
    ):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(AnnotationError, match=rf"data\.yaml: {message}"):
            read_yolo(tmp_path, {})


@pytest.mark.parametrize("far", [1e9, 1e300, -1e7])
def test_polygons_far_outside_the_image_are_refused(tmp_path, far):
    path = tmp_path / "coco.json"
    good = [1, 1, 8, 1, 8, 8, 1, 8]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": [ring]}
        for i, ring in enumerate((good, [0, 0, far, 0, far, far, 0, far]))
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    with pytest.warns(AnnotationWarning, match="1 of 2 annotations were skipped.*pixels far"):
        (image,) = read_coco(path)
    assert len(image.records) == 1
    content["annotations"] = annotations[1:]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="give pixels of this image"):
        read_coco(path)
    slow = np.tile([[0, 0], [19, 9]], (10**6, 1))
    with pytest.raises(AnnotationError, match="give pixels of this image"):
        polygons_to_rle([slow], (10, 20))


def test_ids_that_are_given_twice_are_refused(tmp_path):
    path = tmp_path / "coco.json"
    image = {"id": 1, "file_name": "a.png", "width": 20, "height": 10}
    category = {"id": 1, "name": "a"}
    for images, categories, what in (
        ([image, image | {"file_name": "b.png"}], [category], "2 images have 1 different ids"),
        ([image], [category, category | {"name": "b"}], "2 categories have 1 different ids"),
    ):
        path.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
        with pytest.raises(AnnotationError, match=what):
            read_coco(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "coco.json"
    os.mkfifo(pipe)
    for read in (read_coco, read_npz, read_label_png):
        with pytest.raises(AnnotationError, match="no regular file"):
            read(pipe)


def test_boxes_alone_lead_to_segment_dataset(tmp_path):
    data = {"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}]}
    data["categories"] = [{"id": 1, "name": "a"}]
    data["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=r"samjax.segment_dataset makes masks of boxes"):
        read_coco(tmp_path / "a.json")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "data.yaml").write_text("names: [a]\n")
    with pytest.raises(AnnotationError, match=r"samjax.segment_dataset makes masks of boxes"):
        read_yolo(tmp_path, {"a.png": (9, 9)})


def test_images_in_place_of_a_label_map_are_told_what_to_do(tmp_path):
    """In a process of its own, in which nothing else looks at types."""
    lines = [
        "from samjax.annotations import write_label_png",
        "from samjax.errors import AnnotationError",
        "try:",
        "    write_label_png('labels', [('a.png', (9, 9), [])])",
        "except AnnotationError as error:",
        "    print(error)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert "pass the label map of one image, to_label_map(records, size)" in done.stdout
    assert not (tmp_path / "labels").exists()
