"""Test that annotations of every format become objects, and that bad ones are told in a line."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax import annotations
from samjax.annotations import AnnotatedImage
from samjax.errors import AnnotationError, AnnotationWarning, SamjaxError
from samjax.masks.rle import to_mask
from tests.support.models import drawn_image

SIZE = (48, 70)
NAMES = ("x/a.png", "x/b.jpg", "y/a.png")


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """Draw a disc."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def drawn() -> list[AnnotatedImage]:
    """Make the records of three images, two of which have one name in two folders."""
    found = []
    for i, name in enumerate(NAMES):
        records = [
            {"segmentation": disc(15 + 5 * i, 20, 8 - i), "label": "one", "id": 40 + i},
            {"segmentation": disc(50, 20, 5) & ~disc(50, 20, 2), "label": "two", "id": 7 - i},
        ]
        found.append(AnnotatedImage(name, SIZE, records))
    return found


def masks_of(images: list[AnnotatedImage]) -> list[list[np.ndarray]]:
    """Return the masks of all images."""
    return [[to_mask(record["segmentation"]) for record in image.records] for image in images]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Write the images."""
    paths = [tmp_path / "photos" / name for name in NAMES]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_image(*SIZE, seed=i)).save(path)
    return paths


def opened(annotator: samjax.Annotator) -> list[list[np.ndarray]]:
    """Return the masks of all images of an annotator, none of which needs to be encoded."""
    controller = annotator._controller
    return [
        [to_mask(mask.segmentation) for _, mask in controller.finished(i)]
        for i in range(len(annotator.names))
    ]


def same(first: list, second: list) -> None:
    """Compare masks of images."""
    assert [len(each) for each in first] == [len(each) for each in second]
    for a, b in zip(chain(*first), chain(*second), strict=True):
        np.testing.assert_array_equal(a, b)


def written(kind: str, folder: Path) -> Path:
    """Write the drawn set in a format."""
    if kind == "coco":
        return annotations.write_coco(folder / "coco.json", drawn(), shapes="bridged")
    if kind == "yolo":
        return annotations.write_yolo(folder, drawn(), ["zero", "two", "one"]).parent
    if kind == "labelme":
        annotations.write_labelme(folder, drawn())
    elif kind == "semantic":
        annotations.write_semantic(folder, drawn())
    else:
        for name, _, records in drawn():
            path = (folder / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            labels = np.zeros(SIZE, np.uint8)
            for record in records:
                labels[record["segmentation"]] = record["id"]
            annotations.write_label_png(path, labels)
    return folder


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme", "semantic", "png"])
def test_files_of_all_formats_are_opened(small, photos, tmp_path, kind):
    path = written(kind, tmp_path / "set")
    before = {p: p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()}
    annotator = samjax.Annotator(small, photos, annotations=path)
    expected = masks_of(drawn())
    if kind == "png":  # numbers ascend
        expected = [each[::-1] for each in expected]
    same(opened(annotator), expected)
    assert annotator.review == (0, 6)
    if kind == "png":
        assert annotator.labels == ["object"] * 2
        assert [e["source_id"] for e in annotator.prompts] == [7, 40]
    else:
        assert annotator.labels == ["one", "two"]
    assert all(p.read_bytes() == content for p, content in before.items())


def test_png_and_yolo_keep_their_numbers(small, photos, tmp_path):
    path = written("png", tmp_path / "png")
    samjax.Annotator(small, photos, annotations=path).export("png", tmp_path / "out")
    for file in sorted(path.rglob("*.png")):
        # Images of one name are told apart by their folders, as in the source.
        again = tmp_path / "out" / file.relative_to(path)
        np.testing.assert_array_equal(
            annotations.read_label_png(file), annotations.read_label_png(again)
        )
    path = written("yolo", tmp_path / "yolo")
    samjax.Annotator(small, photos, annotations=path).export("yolo", tmp_path / "again")
    files = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_boxes_of_yolo_and_records_become_masks(small, photos, tmp_path):
    (tmp_path / "labels/x").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    (tmp_path / "labels/x/a.txt").write_text("1 0.5 0.5 0.2 0.25 0.75\n\n0 0.1 0.1 0.2 0.2\n")
    annotator = samjax.Annotator(small, photos[:1], annotations=tmp_path)
    assert annotator.labels == ["dog", "cat"]
    entry = annotator.prompts[0]
    np.testing.assert_allclose(entry["predict"]["box"], [28, 18, 42, 30])
    assert annotator.records[0]["score"] == 0.75
    records = [{"bbox": [28, 18, 14, 12], "label": "dog", "id": 9, "attributes": {"a": 1}}]
    again = samjax.Annotator(small, photos[0], annotations=records)
    np.testing.assert_array_equal(again.masks[0], annotator.masks[0])
    (record,) = again.records
    assert (record["id"], record["attributes"]) == (9, {"a": 1})


def test_records_come_in_every_form(small, photos, tmp_path):
    given = drawn()
    arrays = [np.asarray(Image.open(path)) for path in photos]
    by_position = [image.records for image in given]
    by_name = {image.file_name: image.records for image in given}
    plain = [tuple(image) for image in given]
    read = annotations.read_coco(written("coco", tmp_path))
    for form in (given, by_position, by_name, plain, read):
        annotator = samjax.Annotator(small, photos, annotations=form)
        same(opened(annotator), masks_of(given))
        assert annotator.prompts[0]["source_id"] == 40
    same(opened(samjax.Annotator(small, arrays, annotations=by_position)), masks_of(given))
    single = samjax.Annotator(small, arrays[0], annotations=given[0].records)
    same(opened(single), masks_of(given[:1]))


def test_names_are_matched_by_their_folders(small, photos, tmp_path):
    path = written("coco", tmp_path)
    with pytest.warns(AnnotationWarning, match="2 images of it not among these"):
        annotator = samjax.Annotator(small, photos[2:], annotations=path)
    same(opened(annotator), masks_of(drawn()[2:]))
    data = json.loads(path.read_text())
    for image in data["images"]:
        image["file_name"] = image["file_name"].replace("x/a.png", "c.png")
    path.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=r"y/a.png fits x/a.png and y/a.png"):
        samjax.Annotator(small, photos, annotations=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].update(category_id=99), "is of category 99: not listed"),
        (lambda d: d["annotations"][0].update(image_id=99), "is of image 99: not listed"),
        (lambda d: d["images"][1].update(id=d["images"][0]["id"]), "two images have the same id"),
        (lambda d: d["images"][0].update(width=71), "has 71 x 48 pixels there"),
        (lambda d: d["images"][0].update(file_name="../a.png"), "relative to the images' folder"),
        (lambda d: [i.update(file_name="z.png") for i in d["images"]], "none of its images"),
        (lambda d: d.pop("images"), "JSON"),
        (lambda d: d["images"][0].pop("height"), "is not a COCO JSON file"),
    ],
)
def test_bad_coco_files_are_told_in_a_line(small, photos, tmp_path, change, message):
    path = written("coco", tmp_path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=message) as caught:
        samjax.Annotator(small, photos, annotations=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "annotations is int"),
        ([[]], "annotations of 1 image for 3 images"),
        ([[{"label": "cat"}], [], []], "neither segmentation nor a usable bbox"),
        ([[3], [], []], "record 0 of image 0 is int"),
        ([[{"bbox": [0, 0, 5, 5], "x": object()}], [], []], "not plain data"),
        (
            [[{"segmentation": np.ones((4, 5), bool)}], [], []],
            "has 5 x 4 pixels there",
        ),
        ("nowhere.json", "no such file"),
    ],
)
def test_bad_records_are_told_in_a_line(small, photos, given, message):
    with pytest.raises(SamjaxError, match=message) as caught:
        samjax.Annotator(small, photos, annotations=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.1 0.1 0.2 0.2", "line 1: category 7 has no name"),
        ("0 0.1 0.1 0.2", "line 1: has 3 coordinates"),
        ("0 0.1 0.1 0.2 x", "line 1: must be a category's index and numbers"),
        ("0 1.5 0.5 0.2 0.2", "line 1: is a box outside of the image"),
    ],
)
def test_bad_lines_of_yolo_are_told(small, photos, tmp_path, line, message):
    (tmp_path / "labels/x").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    (tmp_path / "labels/x/a.txt").write_text(line)
    with pytest.raises(AnnotationError, match=message):
        samjax.Annotator(small, photos[:1], annotations=tmp_path)
