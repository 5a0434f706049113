"""Faults that are planted in data sets of all formats are found, and nothing else."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samjax import check_dataset
from samjax.annotations import (
    AnnotatedImage,
    to_label_map,
    write_coco,
    write_label_png,
    write_labelme,
    write_semantic,
    write_yolo,
)
from samjax.annotations.quality import KINDS, Limits, box_iou, image_findings
from samjax.errors import AnnotationError

SIZE = (80, 120)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(columns - x, rows - y) < radius


def of(*masks: np.ndarray, **extra) -> list[dict]:
    return [{"segmentation": mask, "area": int(mask.sum()), **extra} for mask in masks]


def kinds(*masks: np.ndarray, boxes: list | None = None, limits: Limits | None = None) -> list:
    found = image_findings(AnnotatedImage("a.png", SIZE, of(*masks)), boxes or [], limits)
    return [(f.kind, f.objects, f.detail) for f in found]


def test_good_masks_have_no_findings():
    square = np.zeros(SIZE, bool)
    square[10:30, 10:30] = True
    ring = disc(80, 40, 30) & ~disc(80, 40, 10)
    assert kinds(square, ring, boxes=[[10, 10, 20, 20], None]) == []


def test_parts_and_holes_below_the_limit_are_found_with_their_place():
    mask = disc(40, 40, 20)
    mask[2:4, 100:103] = True
    mask[40, 40] = mask[45:47, 41:43] = False
    (speck, hole) = image_findings(AnnotatedImage("a.png", SIZE, of(mask)))
    assert (speck.kind, speck.detail, speck.boxes) == (
        *("speck", "1 small part of 2 parts"),
        ((100, 2, 3, 2),),
    )
    assert (hole.kind, hole.detail) == ("hole", "2 small holes, 5 pixels")
    assert set(hole.boxes) == {(40, 40, 1, 1), (41, 45, 2, 2)}
    assert kinds(mask, limits=Limits(min_region_area=1)) == []
    tiny = np.zeros(SIZE, bool)
    tiny[5, 5:8] = True
    assert kinds(tiny) == [("speck", (1,), "a mask of 3 pixels")]
    # A notch that is open to the outside, and pixels that touch at a corner, are neither.
    notch = disc(40, 40, 20)
    notch[40, 40:] = False
    notch[0, 0] = False
    assert kinds(notch) == []


def test_pairs_are_told_apart_by_what_they_share():
    big = disc(40, 40, 20)
    assert kinds(big, disc(41, 40, 20)) == [("duplicate mask", (1, 2), "IoU 0.94")]
    assert kinds(big, big)[0] == ("duplicate mask", (1, 2), "IoU 1.00")
    assert kinds(big, disc(40, 40, 8)) == [("nested", (1, 2), "100% inside")]
    ((kind, objects, detail),) = kinds(disc(100, 40, 10), big, disc(60, 40, 20))
    assert (kind, objects, detail[-15:]) == ("overlap", (2, 3), " of the smaller")
    assert kinds(big, disc(76, 40, 20)) == []
    both = [*of(big, label="cat", id=8), *of(big, label="dog", id=5)]
    (found,) = image_findings(AnnotatedImage("a.png", SIZE, both))
    assert (found.objects, found.detail) == ((8, 5), "IoU 1.00, cat and dog")


def test_many_masks_in_one_image_are_compared_in_blocks():
    masks = []
    for i in range(600):
        mask = np.zeros(SIZE, bool)
        mask[i // 60 * 8 : i // 60 * 8 + 6, i % 60 * 2 : i % 60 * 2 + 1] = True
        masks.append(mask)
    masks += [masks[3], masks[500]]
    found = kinds(*masks, limits=Limits(min_region_area=0))
    assert [f[1] for f in found if f[0] == "duplicate mask"] == [(4, 601), (501, 602)]
    assert {f[0] for f in found} == {"duplicate mask", "border"}


def test_borders_boxes_empty_masks_and_crowds():
    assert kinds(disc(0, 40, 20)) == [("border", (1,), "left")]
    assert kinds(np.ones(SIZE, bool)) == [("border", (1,), "top, left, bottom, right")]
    assert kinds(np.zeros(SIZE, bool)) == [("empty mask", (1,), "")]
    assert kinds() == [("no objects", (), "")]
    square = np.zeros(SIZE, bool)
    square[10:30, 10:30] = True
    for box in ([10, 10, 30, 20], [30, 30, -20, -20], [0.1, 0.1, 0.2, 0.2], "box", [1, 2, 3]):
        ((kind, objects, _),) = kinds(square, boxes=[box])
        assert (kind, objects) == ("box", (1,))
    assert box_iou([10, 10, 30, 20], [10, 10, 20, 20]) == pytest.approx(2 / 3)
    assert box_iou([0, 0, float("nan"), 2], [0, 0, 2, 2]) == 0
    crowd = of(disc(0, 40, 20), iscrowd=1) + of(disc(40, 40, 20), iscrowd=1) + of(disc(30, 40, 9))
    assert image_findings(AnnotatedImage("a.png", SIZE, crowd)) == []


# Data sets


def planted() -> list[AnnotatedImage]:
    """Plant one overlap, one speck, one mask at the border, one image without objects."""
    mask = disc(40, 40, 15)
    mask[2, 100] = True
    first = [*of(mask, label="cat"), *of(disc(60, 40, 15), label="dog")]
    return [
        AnnotatedImage("a.png", SIZE, first),
        AnnotatedImage("sub/b.jpg", SIZE, of(disc(0, 40, 20), label="cat")),
        AnnotatedImage("none.jpg", SIZE, []),
    ]


def save_images(folder: Path) -> None:
    for number, image in enumerate(planted()):
        (folder / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(folder / image.file_name)


def write(kind: str, folder: Path) -> Path:
    save_images(folder / "images")
    if kind == "coco":
        return write_coco(folder / "coco.json", planted())
    if kind == "yolo":
        return write_yolo(folder, planted()).parent
    if kind == "labelme":
        write_labelme(folder / "labelme", planted(), image_folder=folder / "images")
        return folder / "labelme"
    if kind == "semantic":
        return write_semantic(folder / "classes", planted()).parent
    for name, size, records in planted():
        path = (folder / "png" / name).with_suffix(".png")
        write_label_png(path, to_label_map(records, size))
    return folder / "png"


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme", "semantic", "png"])
def test_all_formats_give_the_same_findings(tmp_path, kind):
    path = write(kind, tmp_path)
    expected = {"overlap": 1, "speck": 1, "no objects": 1, "border": 1}
    if kind in ("semantic", "png"):
        del expected["overlap"]  # a pixel has one number
    for given in {path, path.parent if kind == "coco" else path}:
        report = check_dataset(given)
        assert report.format == kind
        assert report.counts == expected
        assert (report.images, report.masks) == (3, 3)
        if kind != "png":
            assert report.classes == {"cat": (2, 2), "dog": (1, 1)}
    assert check_dataset(path, tmp_path / "images").counts == expected
    assert json.loads(json.dumps(report.as_dict()))["counts"] == expected
    said = "\n".join(report.rows())
    assert "3 images, 3 masks" in said
    assert all(name in said for name in expected)


def test_image_files_are_compared_with_the_annotations(tmp_path):
    path = write("coco", tmp_path)
    images = tmp_path / "images"
    shutil.copy(images / "a.png", images / "none.jpg")
    Image.new("RGB", (9, 9)).save(images / "sub/b.jpg")
    found = [f for f in check_dataset(path).findings if "image" in f.kind]
    assert [(f.kind, f.image, f.detail) for f in found] == [
        ("image size", "sub/b.jpg", "file 9 x 9, annotations 120 x 80"),
        ("duplicate image", "none.jpg", "the same as a.png"),
    ]
    (images / "a.png").unlink()
    (images / "sub/b.jpg").write_bytes(b"no picture")
    found = [f for f in check_dataset(path).findings if f.kind == "no image"]
    assert [(f.image, f.detail.split(":")[0]) for f in found] == [
        ("a.png", ""),
        ("sub/b.jpg", "cannot be read"),
    ]
    shutil.rmtree(images)
    png = write_label_png(tmp_path / "alone" / "a.png", to_label_map(planted()[0].records))
    report = check_dataset(png)
    assert report.image_folder is None
    assert not [f for f in report.findings if "image" in f.kind]


def test_boxes_entries_without_masks_and_copies_of_a_coco_file(tmp_path):
    copy = AnnotatedImage("c.png", SIZE, of(planted()[0].records[1]["segmentation"]))
    path = write_coco(tmp_path / "a.json", [*planted(), copy])
    data = json.loads(path.read_text())
    data["annotations"][1]["bbox"] = [0, 0, 5, 5]
    data["annotations"].append({"id": 77, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]})
    path.write_text(json.dumps(data))
    found = {f.kind: f for f in check_dataset(path).findings}
    assert (found["box"].objects, found["box"].detail[:8]) == ((2,), "IoU 0.00")
    assert "annotation 77: has no segmentation" in found["no mask"].detail
    assert found["copied mask"].detail == "the same as a.png #2"
    assert found["copied mask"].image == "c.png"


def test_the_worst_keep_their_masks_each_kind_in_turn(tmp_path):
    images = [
        AnnotatedImage(f"{i}.png", SIZE, of(disc(40, 40, 15), disc(40 + i, 40, 15)))
        for i in range(1, 20)
    ]
    report = check_dataset(write_coco(tmp_path / "a.json", [*images, *planted()]))
    worst = [finding for finding, _ in report.worst(5)]
    assert len(worst) == 5
    assert len({finding.kind for finding in worst}) == 5
    overlaps = [f for f, _ in report.worst(1000) if f.kind == "overlap"]
    assert [f.severity for f in overlaps] == sorted((f.severity for f in overlaps), reverse=True)
    assert all(f.masks for f in overlaps)
    assert not any(f.masks for f in report.findings)
    assert list(report.counts) == [kind for kind in KINDS if kind in report.counts]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = []
    for count in (20, 120):
        folder = tmp_path / str(count)
        for i in range(count):
            labels = np.zeros((200, 200), np.uint8)
            for k in range(9):
                y, x = k // 3 * 60 + 5, k % 3 * 60 + 5
                labels[y : y + 40, x : x + 35 + i % 9] = k + 1
            write_label_png(folder / f"{i}.png", labels)
        tracemalloc.start()
        report = check_dataset(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.masks == 9 * count
    assert peaks[1] < 2 * peaks[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "no such file or folder"),
        ("a.json", "{", "is not annotations in JSON or PNG"),
        ("a.json", "[]", "JSON of neither COCO nor labelme"),
        ("a.json", '{"images": [{"id": 1}]}', "damaged"),
        ("a.json", '{"shapes": []}', 'has no "imagePath"'),
        ("a.png", "no picture", "damaged"),
        ("", None, "no annotations found"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(AnnotationError, match=message) as error:
        check_dataset(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_wrong_arguments_are_named(tmp_path):
    path = write("coco", tmp_path)
    with pytest.raises(AnnotationError, match="format is 'voc': use one of automask, coco"):
        check_dataset(path, format="voc")
    with pytest.raises(AnnotationError, match="no such folder of images"):
        check_dataset(path, tmp_path / "absent")
    with pytest.raises(AnnotationError, match="an address"):
        check_dataset("https://hub.example.org/coco.json")
    shutil.copy(path, tmp_path / "other.json")
    with pytest.raises(
        AnnotationError, match=r"COCO files: coco\.json, other\.json: pass the path"
    ):
        check_dataset(tmp_path)


def test_the_ten_largest_classes_are_told(tmp_path):
    mask = np.zeros((40, 60), bool)
    mask[5:20, 5:20] = True
    records = [
        {"segmentation": mask, "label": f"class {number:02}"}
        for number in range(12)
        for _ in range(number + 1)
    ]
    write_coco(tmp_path / "a.json", [("a.png", (40, 60), records)])
    report = check_dataset(tmp_path / "a.json")
    rows = report.rows()
    assert [row[:8] for row in rows[3:14]] == [
        *(f"class {number:02}" for number in range(11, 1, -1)),
        "2 more",
    ]
    assert len(report.classes) == 12
