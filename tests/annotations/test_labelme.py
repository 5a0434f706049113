"""labelme's files: read by its rules, and back through holes, parts, crowds and ids."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from PIL import Image, ImageDraw

from samjax.annotations import AnnotatedImage, read_labelme, write_coco, write_labelme
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.masks.rle import to_mask
from tests.support.drawn_sets import drawn_set
from tests.support.masks import MASKS, blobs, square_rings


def labelme_masks(path: Path) -> dict[tuple[str, int | None], np.ndarray]:
    """Read a file by the rules of labelme 6.3 (read_label_file, shapes_to_label)."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(raw["version"], str)
    assert raw["imageData"] is None
    assert (path.parent / PureWindowsPath(raw["imagePath"]).as_posix()).name
    masks: dict[tuple[str, int | None], np.ndarray] = {}
    for shape in raw["shapes"]:
        assert isinstance(shape["label"], str)
        assert shape["points"]
        for point in shape["points"]:
            assert isinstance(point, list)
            assert len(point) == 2
            assert all(isinstance(xy, int | float) for xy in point)
        assert all(isinstance(k, str) and isinstance(v, bool) for k, v in shape["flags"].items())
        assert isinstance(shape["description"], str)
        assert shape["group_id"] is None or isinstance(shape["group_id"], int)
        key = (shape["label"], shape["group_id"])
        mask = masks.setdefault(key, np.zeros((raw["imageHeight"], raw["imageWidth"]), bool))
        if shape["shape_type"] == "mask":
            with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
                (x0, y0), (x1, y1) = np.array(shape["points"]).astype(int)
                mask[y0 : y1 + 1, x0 : x1 + 1] |= np.array(picture).astype(bool)
        elif shape["shape_type"] == "polygon":
            picture = Image.new("L", mask.shape[::-1])
            corners = [tuple(xy) for xy in shape["points"]]
            ImageDraw.Draw(picture).polygon(corners, outline=1, fill=1)
            mask |= np.array(picture, bool)
        else:
            assert (shape["shape_type"], len(shape["points"])) == ("point", 1)
    return masks


@pytest.mark.parametrize("shapes", ["groups", "bridged", "mask"])
@pytest.mark.parametrize("points", [False, True])
def test_a_drawn_set_comes_back_equal(tmp_path, shapes, points):
    write_labelme(tmp_path, drawn_set(), shapes=shapes, points=points)
    found = {image.file_name: image for image in read_labelme(tmp_path, "binary_mask")}
    assert len(found) == len(drawn_set())
    for expected in drawn_set():
        image = found[expected.file_name]
        assert (image.size, image.id) == (expected.size, expected.id)
        for a, b in zip(image.records, expected.records, strict=True):
            np.testing.assert_array_equal(a.pop("segmentation"), b.pop("segmentation"))
            assert a == b


@pytest.mark.parametrize("shapes", ["groups", "bridged", "mask"])
def test_records_without_ids_come_back_through_groups(tmp_path, shapes):
    masks = [mask for mask in MASKS.values() if mask.any()]
    given = [
        AnnotatedImage(f"{i}.png", m.shape, [{"segmentation": m}] * 2) for i, m in enumerate(masks)
    ]
    write_labelme(tmp_path, given, shapes=shapes)
    for image in read_labelme(tmp_path, "binary_mask"):
        for record in image.records:
            mask = masks[int(image.file_name.removesuffix(".png"))]
            np.testing.assert_array_equal(record["segmentation"], mask)
            assert (record["label"], record["area"]) == ("object", mask.sum())
            assert "id" not in record


def test_labelme_reads_what_is_written(tmp_path):
    for path, image in zip(
        write_labelme(tmp_path, drawn_set(), shapes="mask", points=True), drawn_set(), strict=True
    ):
        masks = labelme_masks(path)
        assert list(masks) == [(r["label"], r["id"]) for r in image.records]
        for mask, record in zip(masks.values(), image.records, strict=True):
            np.testing.assert_array_equal(mask, record["segmentation"])
    # Its polygons are filled with their outline: a mask and the pixels around it, holes too.
    (path,) = write_labelme(tmp_path, [("a.png", (18, 18), [{"segmentation": square_rings(18)}])])
    ((_, mask),) = labelme_masks(path).items()
    assert mask.all()


def test_parts_and_holes_are_polygons_of_one_group(tmp_path):
    mask = np.zeros((8, 9), bool)
    mask[1:6, 1:6] = mask[7, 8] = True
    mask[2:4, 3:4] = False
    single = np.zeros((8, 9), bool)
    single[0, 0] = True
    records = [{"segmentation": mask, "label": "cat"}, {"segmentation": single}]
    (path,) = write_labelme(tmp_path, [("a.jpg", (8, 9), records)])
    raw = json.loads(path.read_text())
    assert (raw["imagePath"], raw["imageHeight"], raw["imageWidth"]) == ("a.jpg", 8, 9)
    found = [(s["label"], s["group_id"], s["flags"], len(s["points"])) for s in raw["shapes"]]
    assert found == [
        ("cat", 1, {}, 4),
        ("cat", 1, {"hole": True}, 4),
        ("cat", 1, {}, 4),
        ("object", None, {}, 4),
    ]


def test_the_path_of_the_image_is_relative(tmp_path):
    given = [("sub/a.jpg", (2, 3), [])]
    (path,) = write_labelme(tmp_path / "labels", given, image_folder=tmp_path / "images")
    assert path == tmp_path / "labels/sub/a.json"
    assert json.loads(path.read_text())["imagePath"] == "../../images/sub/a.jpg"
    assert read_labelme(tmp_path / "labels")[0].file_name == "sub/a.jpg"
    (path,) = write_labelme(tmp_path / "beside", given)
    assert json.loads(path.read_text())["imagePath"] == "a.jpg"
    assert read_labelme(path)[0].file_name == "a.jpg"


def file_of(tmp_path: Path, *shapes: dict, **content) -> Path:
    path = tmp_path / "x.json"
    content = {"imagePath": "x.jpg", "imageHeight": 20, "imageWidth": 30, **content}
    path.write_text(json.dumps({"shapes": shapes, "imageData": None, **content}))
    return path


def shape(kind: str, *points: tuple[float, float], **extra) -> dict:
    return {"label": "cat", "points": points, "shape_type": kind, **extra}


def test_shapes_of_others_are_filled(tmp_path):
    corners = ((2, 1), (12, 1), (12, 9), (2, 9))
    path = file_of(
        tmp_path,
        shape("polygon", *corners),
        shape("rectangle", corners[2], corners[0], flags={"truncated": True}, description="old"),
        shape("oriented_rectangle", *corners),
        shape("circle", (10, 10), (15, 10)),
        shape("polygon", *corners, group_id=4),
        shape("polygon", (20, 1), (25, 1), (25, 9), (20, 9), group_id=4),
        shape("point", (3, 4.5), group_id=4),
        {"label": "cat", "points": corners},  # of an early version
    )
    (image,) = read_labelme(path, "binary_mask")
    square = np.zeros((20, 30), bool)
    square[1:9, 2:12] = True
    both = square.copy()
    both[1:9, 20:25] = True
    polygon, box, turned, circle, group, early = image.records
    for record in (polygon, box, turned, early):
        np.testing.assert_array_equal(record["segmentation"], square)
    assert (box["flags"], box["description"]) == ({"truncated": True}, "old")
    y, x = np.mgrid[:20, :30] + 0.5
    disc = np.hypot(x - 10, y - 10) < 5
    assert (circle["segmentation"] ^ disc).sum() <= 8
    np.testing.assert_array_equal(group["segmentation"], both)
    assert (group["group_id"], group["point_coords"]) == (4, [[3, 4.5]])


def test_a_hole_drawn_later_is_cut_out_of_the_part_around_it(tmp_path):
    big, hole, inner = (((a, a), (b, a), (b, b), (a, b)) for a, b in ((0, 20), (4, 16), (8, 12)))
    shapes = [
        shape("polygon", *inner, group_id=1),
        shape("polygon", *big, group_id=1),
        shape("polygon", *hole, group_id=1, flags={"hole": True}),
    ]
    (image,) = read_labelme(file_of(tmp_path, *shapes), "binary_mask")
    expected = np.zeros((20, 30), bool)
    for (a, b), value in (((0, 20), True), ((4, 16), False), ((8, 12), True)):
        expected[a:b, a:b] = value
    np.testing.assert_array_equal(image.records[0]["segmentation"], expected)


def test_what_has_no_mask_is_counted_and_points_are_kept(tmp_path):
    file_of(
        tmp_path,
        shape("line", (1, 1), (5, 5)),
        shape("point", (3, 4)),
        shape("polygon", (0, 0), (3, 0), (3, 3), flags={"hole": True}),
    )
    (tmp_path / "coco.json").write_text('{"images": []}')
    with pytest.warns(AnnotationWarning, match=r"3 shapes or files skipped, the first: .*coco\."):
        found = read_labelme(tmp_path)
    assert found.points == {"x.jpg": [{"label": "cat", "point_coords": [[3, 4]]}]}
    assert [reason.split(": ", 1)[1] for reason in found.skipped] == [
        "JSON without shapes",
        "shape 1: a line has no area",
        "shape 3: a hole without a part",
    ]
    empty = {"segmentation": np.zeros((2, 3), bool)}
    with pytest.warns(AnnotationWarning, match="1 record with an empty mask left out"):
        write_labelme(tmp_path, [("e.png", (2, 3), [empty])])


def test_sizes_that_an_early_version_left_out_are_those_of_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg", exif=exif)
    path = file_of(tmp_path, imageHeight=None, imageWidth=None)
    assert read_labelme(path)[0].size == (30, 20)
    data = base64.b64encode((tmp_path / "x.jpg").read_bytes()).decode()
    (tmp_path / "x.jpg").unlink()
    assert read_labelme(file_of(tmp_path, imageHeight=None, imageData=data))[0].size == (30, 20)


TRIANGLE = ((0, 0), (3, 0), (3, 3))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"points": TRIANGLE}, "shape 1: has no label"),
        ("cat", "shape 1: has no label"),
        (shape("spline", *TRIANGLE), "shape 1: is a 'spline': use one of polygon"),
        (shape("polygon", *TRIANGLE[:2]), "polygon of 2 points: it has 3 or more"),
        (shape("circle", *TRIANGLE), "circle of 3 points: it has 2"),
        (shape("polygon", (0, 0, 1), (1, 2, 1)), r"points must be a list of \[x, y\]"),
        (shape("polygon", *TRIANGLE[:2], (0, float("nan"))), "points must be"),
        (shape("mask", (0, 0), (1, 1)), "mask must be a PNG"),
        (shape("mask", (0, 0), (1, 1), mask="AAAA"), "damaged"),
    ],
)
def test_faults_of_a_file_are_named_in_one_line(tmp_path, entry, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read_labelme(file_of(tmp_path, entry))
    assert str(error.value).startswith(f"{tmp_path}/x.json: ")
    assert "\n" not in str(error.value)


def test_faults_of_files_and_names(tmp_path):
    for content, message in (
        ({"imagePath": None}, 'has no "imagePath"'),
        ({"imageHeight": 0}, "imageHeight, imageWidth are 0, 30"),
        ({"imageHeight": 10**6, "imageWidth": 10**6}, "correct them"),
    ):
        with pytest.raises(AnnotationError, match=message):
            read_labelme(file_of(tmp_path, **content))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(AnnotationError, match='JSON without "shapes"'):
        read_labelme(tmp_path / "x.json")
    with pytest.raises(AnnotationError, match="no file of labelme in this folder"):
        read_labelme(tmp_path)
    for images, message in (
        ([("../a.jpg", (2, 3), [])], "relative to the images' folder"),
        ([("a.jpg", (2, 3), []), ("a.png", (2, 3), [])], "would share a.json"),
        ([("a.jpg", (2, 3), [{"segmentation": np.ones((2, 3), bool), "label": 3}])], "label is 3"),
    ):
        with pytest.raises(AnnotationError, match=message):
            write_labelme(tmp_path / "new", images)
    with pytest.raises(AnnotationError, match="groups, bridged, mask"):
        write_labelme(tmp_path, [], shapes="boxes")
    assert not (tmp_path / "new").exists()


def test_names_that_lead_outside_stay_in_the_folder(tmp_path):
    for image_path, name in (
        ("..\\images\\x.jpg", "x.jpg"),
        ("/abs/x.jpg", "x.jpg"),
        ("C:\\pictures\\x.jpg", "x.jpg"),
        ("images/x.jpg", "images/x.jpg"),
    ):
        found = read_labelme(file_of(tmp_path, imagePath=image_path))
        assert found[0].file_name == name
        write_coco(tmp_path / "out" / "a.json", found)


def test_records_of_the_same_group_do_not_melt(tmp_path):
    masks = [blobs(20, 20, seed) for seed in range(4)]
    records = [{"segmentation": m, "group_id": 5, "label": "a"} for m in masks[:3]]
    records.append({"segmentation": masks[3], "group_id": 5, "label": "b"})
    write_labelme(tmp_path, [("a.jpg", (20, 20), records)])
    (image,) = read_labelme(tmp_path)
    assert [r["group_id"] for r in image.records] == [5, 6, 7, 5]
    for record, mask in zip(image.records, masks, strict=True):
        np.testing.assert_array_equal(to_mask(record["segmentation"]), mask)
