"""Boxes and points of COCO, YOLO and CSV: used, mended or told, never lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from samjax.annotations.prompts import ImagePrompts, ObjectPrompt, read_prompts
from samjax.annotations.usable import usable_objects
from samjax.errors import AnnotationError

SIZE = (60, 80)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.png", "sub/b.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    return tmp_path / "images"


def coco(
    tmp_path: Path, *annotations: dict, names: tuple[str, ...] = ("a.png", "sub/b.png")
) -> Path:
    entries = [
        {"id": 40 + i, "file_name": n, "height": 60, "width": 80} for i, n in enumerate(names)
    ]
    data = {"images": entries, "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data | {"annotations": annotations}))
    return path


def box(number: int, *bbox: float, **extra) -> dict:
    return {"id": number, "image_id": 40, "category_id": 9, "bbox": bbox, **extra}


def test_coco_boxes_and_keypoints_with_all_that_is_kept(tmp_path, images):
    attributes = {"attributes": {"old": True}, "iscrowd": 1, "track": 4}
    points = {"keypoints": [1, 2, 2, 0, 0, 0, 5, 6, 1], "num_keypoints": 2}
    path = coco(tmp_path, box(7, 10, 20, 30, 5.5, **attributes), box(2, **points))
    found = read_prompts(path, images)
    assert found.categories == {"cat": 3, "dog": 9}
    assert found.problems == []
    first, second = found.images
    assert (first.file_name, first.id, first.size, second.objects) == ("a.png", 40, SIZE, ())
    boxed, pointed = first.objects
    assert boxed == ObjectPrompt(
        *(7, "dog", (10.0, 20.0, 40.0, 25.5), ()),
        {"attributes": {"old": True}, "iscrowd": 1, "extra": {"track": 4}},
    )
    assert (pointed.box, pointed.points) == (None, ((1, 2, 1), (5, 6, 1)))
    assert pointed.kept == points


def test_unknown_ids_and_images_of_one_name_are_told(tmp_path, images):
    path = coco(
        tmp_path,
        box(1, 1, 1, 5, 5, category_id=4),
        box(2, 1, 1, 5, 5, image_id=77),
        box(3, 1, 1, 5, 5, image_id=41),
        box(4, 1, 1, 5, 5),
        names=("a.png", "a.png", "../b.png"),
    )
    found = read_prompts(path, images)
    assert [[o.id for o in image.objects] for image in found.images] == [[4]]
    assert [(p.kind, p.image, p.object) for p in found.problems] == [
        ("unknown category id", "a.png", 1),
        ("unknown image id", "77", 2),
        ("image: listed twice", "a.png", None),
        ("image: unusable name", "../b.png", None),
    ]
    assert found.problems[2].detail == "1 object left out"


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("image,x0,y0,x1,y1,label", ["a.png,1,2,30,40,cat"], ("cat", (1, 2, 30, 40), ())),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", ["a.png,80,60,cat,1,2,30,40"],
         ("cat", (1, 2, 30, 40), ())),
        ("file_name, left, top, w, h", ["a.png, 1, 2, 29, 38"], (None, (1, 2, 30, 40), ())),
        ("image,x,y", ["a.png,5,6.5"], (None, None, ((5, 6.5, 1),))),
        ("image,id,x,y,point_label", ["a.png,3,5,6,1", "a.png,3,7,8,0"],
         (None, None, ((5, 6, 1), (7, 8, 0)))),
    ],
)  # fmt: skip
def test_tables_of_boxes_and_points(tmp_path, images, header, rows, expected):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    found = read_prompts(path, images)
    (image,) = found.images
    (each,) = image.objects
    assert (each.label, each.box, each.points) == expected
    assert found.problems == []
    assert each.id == (3 if "id" in header.split(",") else 1)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,x0,y0,x1,y1", "a.png,1,2,,5"),
        ("image,x0,y0,w", None),
        ("image,x0,y0,x1,y1", "a.png,1,2,3"),
        ("filename,width,height,xmin,ymin,xmax,ymax", "a.png,80,60,1,2,,5"),
        ("image,x,y,x0,y0,w", "a.png,,,1,2,3"),
        ("image,x,y,point_label", "a.png,5,6,2"),
    ],
)
def test_a_row_without_all_numbers_is_told(tmp_path, images, header, row):
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{row}\n")
    if row is None:
        with pytest.raises(AnnotationError, match="it needs image and"):
            read_prompts(path, images)
        return
    found = read_prompts(path, images)
    assert [each.objects for each in found.images] == [()]
    assert [(p.kind, p.object) for p in found.problems] == [("row: no numbers", 1)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("1 2 / 1 2 3", [1, 2, 3, 4, 5]),  # anew in each image: 3 alone would be number 3 twice
        ("7 5 / 9 2 4", [7, 5, 9, 2, 4]),
        ("7 5 / 9 . 4", [1, 2, 3, 4, 5]),
        ("a b / c d e", [1, 2, 3, 4, 5]),
        ("9" * 5000 + " 1 / 2 3 4", [1, 2, 3, 4, 5]),
    ],
)
def test_ids_of_a_table_are_kept_if_each_has_one(tmp_path, images, ids, expected):
    rows = ["image,id,x0,y0,x1,y1"]
    for name, part in zip(("a.png", "sub/b.png"), ids.split("/"), strict=True):
        rows += [f"{name},{each.strip('.')},10,20,30,40" for each in part.split()]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows))
    found = read_prompts(path, images)
    assert [each.id for image in found.images for each in image.objects] == expected


def test_an_image_by_two_names_is_one(tmp_path, images):
    path = tmp_path / "a.csv"
    path.write_text("image,x0,y0,x1,y1\na.png,1,2,3,4\n./a.png,1,2,3,4\nsub//b.png,1,2,3,4\n")
    found = read_prompts(path, images)
    assert [each.file_name for each in found.images] == ["a.png", "sub//b.png"]
    assert [p.kind for p in found.problems] == ["image: listed twice"]


def test_categories_of_one_name_are_told(tmp_path, images):
    path = coco(tmp_path, box(1, 10, 20, 30, 5))
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = "cat"
    path.write_text(json.dumps(content))
    found = read_prompts(path, images)
    assert found.categories == {"cat": 9}
    assert [(p.kind, p.detail) for p in found.problems] == [
        ("category: name of another, mended", "cat: 3 is 9")
    ]


def test_a_yolo_data_set_without_boxes_is_refused(tmp_path, images):
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    with pytest.raises(AnnotationError, match="labels: no such folder"):
        read_prompts(tmp_path, images)


def test_ids_of_images_are_kept_or_refused(tmp_path, images):
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    for image, name in zip(content["images"], ("left", "right"), strict=True):
        image["id"] = name
    path.write_text(json.dumps(content))
    assert [each.id for each in read_prompts(path, images).images] == ["left", "right"]
    content["images"][1]["id"] = "left"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="1 image with the id of an earlier one"):
        read_prompts(path, images)


def test_yolo_boxes_and_polygons(tmp_path, images):
    (tmp_path / "labels/sub").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.4 0.1 0.4 0.6\n")
    (tmp_path / "labels/sub/b.txt").write_text("7 0.5 0.5 0.1 0.1\n0 0.5 x 0.1 0.1\n1 0.5 0.5\n")
    (tmp_path / "labels/gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    found = read_prompts(tmp_path, images)
    first, second = found.images
    assert [(o.label, o.box) for o in first.objects] == [
        ("dog", (0.25, 0.375, 0.75, 0.625)),
        ("cat", (0.1, 0.1, 0.4, 0.6)),
    ]
    assert second.objects == ()
    good, problems = usable_objects(first, SIZE, normalised=True)
    assert good[0].box == (20, 22.5, 60, 37.5)
    assert problems == []
    assert [(p.kind, p.object) for p in found.problems] == [
        ("unknown category id", 3),
        ("line: no box or polygon", 4),
        ("line: no box or polygon", 5),
        ("image: missing", None),
    ]


@pytest.mark.parametrize(
    ("given", "used", "kind"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40), None),
        ((30, 40, 10, 20), (10, 20, 30, 40), "box: reversed corners, mended"),
        ((-5, 20, 90, 40), (0, 20, 80, 40), "box: beyond the border, mended by cutting off"),
        ((10, 20, 80.2, 40), (10, 20, 80, 40), None),  # rounding
        ((80, 20, 90, 40), None, "box: outside the image"),
        ((10, 20, 10, 40), None, "box: without area"),
        ((0.1, 0.2, 0.3, 0.4), None, "box: fractions where pixels were meant"),
        ((10, 20, float("nan"), 40), None, "box: no numbers"),
    ],
)
def test_each_fault_of_a_box_is_mended_or_told(given, used, kind):
    image = ImagePrompts("a.png", (ObjectPrompt(5, "cat", tuple(map(float, given))),))
    good, problems = usable_objects(image, SIZE)
    assert [each.box for each in good] == ([] if used is None else [used])
    assert [p.kind for p in problems] == ([] if kind is None else [kind])
    assert all((p.image, p.object) == ("a.png", 5) for p in problems)


def test_points_outside_and_objects_without_prompts_are_told():
    objects = (
        ObjectPrompt(1, points=((5.0, 5.0, 1), (90.0, 5.0, 0))),
        ObjectPrompt(2, points=((90.0, 5.0, 1),)),
        ObjectPrompt(3),
        ObjectPrompt(4, points=((5.0, 5.0, 0),)),
    )
    good, problems = usable_objects(ImagePrompts("a.png", objects), SIZE)
    assert [(each.id, each.points) for each in good] == [(1, ((5, 5, 1),))]
    assert [(p.kind.split(":")[0], p.object) for p in problems] == [
        *(("point", 1), ("point", 2), ("no prompt", 3), ("no prompt", 4))
    ]


def test_fractions_where_pixels_are_meant_are_refused(tmp_path, images):
    path = coco(tmp_path, box(1, 0.1, 0.1, 0.5, 0.5), box(2, 0.3, 0.3, 0.2, 0.2))
    with pytest.raises(AnnotationError, match=r"lie between 0 and 1: .* pass --normalised"):
        read_prompts(path, images)
    (first, _) = read_prompts(path, images, normalised=True).images
    good, _ = usable_objects(first, SIZE, normalised=True)
    assert good[0].box == pytest.approx((8, 6, 48, 36))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "no such file or folder"),
        ("a.json", "[]", 'JSON without "images"'),
        ("a.json", "{", "is not a COCO JSON file or CSV table"),
        ("a.csv", "", "has the columns none: it needs image and x0"),
        ("a.csv", "image,x0\n", "has the columns image, x0: it needs"),
        ("images", None, "data.yaml"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(tmp_path, images, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(AnnotationError, match=message) as error:
        read_prompts(tmp_path / name, images)
    assert "\n" not in str(error.value)
    with pytest.raises(AnnotationError, match="no such folder of images"):
        read_prompts(coco(tmp_path), tmp_path / "none")


def test_rows_without_numbers_or_image_are_told(tmp_path, images):
    path = tmp_path / "a.csv"
    path.write_text("image,x0,y0,x1,y1\na.png,a,b,c,d\n,1,2,3,4\na.png,1,2,30\na.png,1,2,30,40\n")
    found = read_prompts(path, images)
    assert [each.box for each in found.images[0].objects] == [(1, 2, 30, 40)]
    assert [(p.kind, p.object) for p in found.problems] == [
        *(("row: no image", 2), ("row: no numbers", 1), ("row: no numbers", 3))
    ]
