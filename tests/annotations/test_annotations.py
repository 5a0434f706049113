import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from samjax.annotations import (
    AnnotatedImage,
    coco_dataset,
    convert_records,
    label_map_to_records,
    read_coco,
    read_label_png,
    read_npz,
    read_yolo,
    to_label_map,
    write_coco,
    write_label_png,
    write_npz,
    write_yolo,
)
from samjax.errors import AnnotationError
from samjax.masks.rle import OUTPUT_MODES, convert_segmentation, crop, to_mask
from tests.support.masks import MASKS, blobs, noise

FORMS = pytest.mark.parametrize("form", OUTPUT_MODES)


def record(mask: np.ndarray, form: str = "binary_mask", **extra) -> dict:
    """Make a record as the official generator does."""
    height, width = mask.shape
    return {
        "segmentation": convert_segmentation(mask, form),
        "area": int(mask.sum()),
        "bbox": crop(mask).box,
        "predicted_iou": 0.9176470637321472,  # what .item() of a float32 looks like
        "point_coords": [[width / 3, height / 7]],
        "stability_score": 0.9600000381469727,
        "crop_box": [0, 0, width, height],
        **extra,
    }


def images(form: str = "binary_mask") -> list[AnnotatedImage]:
    """Make a data set: each mask in its own image, then one image of many, then one of none."""
    single = [
        AnnotatedImage(f"{i}.jpg", mask.shape, [record(mask, form, label=f"kind {i % 3}")])
        for i, mask in enumerate(MASKS.values())
    ]
    many = [record(blobs(40, 50, seed), form, label=f"kind {seed % 3}") for seed in range(5)]
    return [
        *single,
        AnnotatedImage("deep/er/many.png", (40, 50), many),
        AnnotatedImage("none.png", (30, 20), []),
    ]


def assert_same(found: list[dict], expected: list[dict], *, keys: set[str] | None = None) -> None:
    """Assert equal records in any form of segmentation; ``keys``: only these are kept."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_mask(a["segmentation"]), to_mask(b["segmentation"]))
        a, b = ({k: v for k, v in each.items() if k != "segmentation"} for each in (a, b))
        assert a == (b if keys is None else {k: v for k, v in b.items() if k in keys})


# Forms


@FORMS
def test_records_change_their_form_only(form):
    mask = blobs(30, 40, 0)
    given = [record(mask, other, label="cell") for other in OUTPUT_MODES]
    for converted in convert_records(given, form):
        segmentation = converted["segmentation"]
        assert isinstance(segmentation, np.ndarray if form == "binary_mask" else dict)
        assert_same([converted], [record(mask, form, label="cell")])


# COCO


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@FORMS
@pytest.mark.parametrize("shapes", ["rle", "polygons", "bridged"])
def test_pycocotools_loads_the_data_set_and_gives_the_masks(tmp_path, capsys, form, shapes):
    path = write_coco(tmp_path / "new" / "a.json", images(form), shapes=shapes)
    coco = COCO(path)
    capsys.readouterr()
    assert [entry["name"] for entry in coco.dataset["categories"]] == ["kind 0", "kind 1", "kind 2"]
    assert len(coco.imgs) == len(images())
    for entry, image in zip(coco.dataset["images"], images(), strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=entry["id"]))
        assert (entry["file_name"], (entry["height"], entry["width"])) == image[:2]
        for annotation, expected in zip(annotations, image.records, strict=True):
            mask = expected["segmentation"]
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            y, x = np.nonzero(mask)
            box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] if len(x) else [0, 0, 0, 0]
            assert annotation["bbox"] == box
            assert annotation["iscrowd"] == 0
            assert annotation["stability_score"] == expected["stability_score"]
            name = coco.loadCats(annotation["category_id"])[0]["name"]
            assert name == expected["label"]


@FORMS
@pytest.mark.parametrize("shapes", ["rle", "polygons", "bridged"])
def test_a_coco_data_set_comes_back_equal(tmp_path, form, shapes):
    found = read_coco(write_coco(tmp_path / "a.json", images(), shapes=shapes), form)
    assert [image[:2] for image in found] == [image[:2] for image in images()]
    ids = itertools.count(1)
    for image, expected in zip(found, images(form), strict=True):
        assert_same(image.records, [each | {"id": next(ids)} for each in expected.records])
        for a, b in zip(image.records, expected.records, strict=True):
            assert type(a["segmentation"]) is type(b["segmentation"])


def test_polygons_keep_masks_with_holes_as_run_lengths():
    hole = np.ones((6, 7), bool)
    hole[2:4, 2:4] = False
    two = np.zeros((6, 7), bool)
    two[1:3, 1:3] = two[4:, 4:] = True
    given = [AnnotatedImage("a.png", (6, 7), [record(hole), record(two)])]

    def shapes(kind: str) -> list:
        return [each["segmentation"] for each in coco_dataset(given, shapes=kind)["annotations"]]

    with_hole, parts = shapes("polygons")
    assert isinstance(with_hole, dict)
    assert parts == [[1, 1, 3, 1, 3, 3, 1, 3], [4, 4, 7, 4, 7, 6, 4, 6]]
    (bridged,), _ = shapes("bridged")
    assert len(bridged) == 2 * (4 + 4 + 2)  # both rings, and the bridge's ends once more


def test_simplified_polygons_are_short_and_close(tmp_path):
    mask = blobs(200, 300, 4)
    given = [AnnotatedImage("a.png", mask.shape, [record(mask)])]
    exact, simple = (tmp_path / "exact.json", tmp_path / "simple.json")
    write_coco(exact, given, shapes="bridged")
    write_coco(simple, given, shapes="bridged", tolerance=1.0)
    assert simple.stat().st_size < 0.35 * exact.stat().st_size
    (found,) = read_coco(simple, "binary_mask")[0].records
    both = (found["segmentation"] & mask).sum() / (found["segmentation"] | mask).sum()
    assert 0.97 < both < 1


def test_categories_are_given_or_found_and_nameless_records_are_objects(tmp_path):
    mask = np.ones((2, 3), bool)
    given = [AnnotatedImage("a.png", (2, 3), [record(mask), record(mask, label="cat")])]
    found = coco_dataset(given)
    assert [entry["name"] for entry in found["categories"]] == ["object", "cat"]
    found = coco_dataset(given, ["dog", "cat", "object"])
    assert [entry["category_id"] for entry in found["annotations"]] == [3, 2]
    with pytest.raises(AnnotationError, match="'object' is not among the categories cat, dog"):
        coco_dataset(given, ["cat", "dog"])
    with pytest.raises(AnnotationError, match="different names"):
        coco_dataset(given, ["cat", "cat"])
    with pytest.raises(AnnotationError, match="label is 3"):
        coco_dataset([AnnotatedImage("a.png", (2, 3), [record(mask, label=3)])])
    records = read_coco(write_coco(tmp_path / "a.json", given))[0].records
    assert [each["label"] for each in records] == ["object", "cat"]


def test_scores_of_numpy_and_scores_that_are_no_numbers_are_valid_json(tmp_path):
    mask = np.ones((2, 3), bool)
    given = record(mask, predicted_iou=np.float32(0.5), stability_score=math.nan, score=np.inf)
    given["point_coords"] = np.array([[1, 2.5]])
    path = write_coco(tmp_path / "a.json", [("a.png", (2, 3), [given])])
    (annotation,) = json.loads(path.read_text(), parse_constant=pytest.fail)["annotations"]
    assert annotation["predicted_iou"] == 0.5
    assert annotation["point_coords"] == [[1, 2.5]]
    assert annotation["stability_score"] is None
    assert math.isnan(read_coco(path)[0].records[0]["stability_score"])


def test_data_sets_of_others_are_read(tmp_path):
    # No extra fields, ids that are no run of numbers, an uncompressed crowd, two polygons.
    dataset = {
        "images": [{"id": 42, "file_name": "x.jpg", "height": 4, "width": 5}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [
            {
                "id": 9,
                "image_id": 42,
                "category_id": 17,
                "segmentation": [
                    [0, 0, 2, 0, 2, 2, 0, 2],
                    [3.0, 3.0, 5.0, 3.0, 5.0, 4.0, 3.0, 4.0],
                ],
            },
            {
                "id": 10,
                "image_id": 42,
                "category_id": 17,
                "iscrowd": 1,
                "segmentation": {"size": [4, 5], "counts": [4, 8, 8]},
            },
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dataset))
    ((name, size, records),) = read_coco(path, "binary_mask")
    assert (name, size) == ("x.jpg", (4, 5))
    expected = np.zeros((2, 4, 5), bool)
    expected[0, :2, :2] = expected[0, 3, 3:] = expected[1, :, 1:3] = True
    np.testing.assert_array_equal([each["segmentation"] for each in records], expected)
    assert [(each["area"], each["bbox"], each["label"]) for each in records] == [
        (6, [0, 0, 4, 3], "cat"),
        (8, [1, 0, 1, 3], "cat"),
    ]


ANNOTATION = {"id": 7, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a COCO JSON file, or is damaged"),
        ("[]", 'JSON without "images"'),
        ('{"images": [{"id": 1}]}', "damaged"),
        ({"image_id": 2}, "annotation 7 is of image 2: not listed"),
        ({"category_id": 2}, "annotation 7 is of category 2: not listed"),
        ({"segmentation": []}, "annotation 7: has no segmentation: boxes"),
        ({"segmentation": [[0, 0, 1]]}, "annotation 7: polygons must be lists"),
        ({"segmentation": [[0, 0, 1, 1]]}, "annotation 7: polygon with fewer than 3"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, r"size \(9, 9\) in an image of size"),
        ({"segmentation": {"size": [4, 4], "counts": "zz"}}, "annotation 7: run lengths do not"),
    ],
)
def test_faults_of_a_coco_file_are_named_in_one_line(tmp_path, content, message):
    if isinstance(content, dict):
        dataset = {
            "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [ANNOTATION | content],
        }
        content = json.dumps(dataset)
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=message) as error:
        read_coco(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "read", [read_coco, read_npz, read_label_png, lambda path: read_yolo(path, {})]
)
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(AnnotationError, match=r"absent.*no such file: check the path"):
        read(tmp_path / "absent")


@pytest.mark.parametrize("read", [read_coco, read_npz, read_label_png])
def test_a_folder_or_another_kind_of_file_is_named(tmp_path, read):
    with pytest.raises(AnnotationError, match="is a folder: pass the path of a"):
        read(tmp_path)
    (tmp_path / "a").write_bytes(b"\x00\xff not what it should be")
    with pytest.raises(AnnotationError, match="damaged"):
        read(tmp_path / "a")


def test_unusable_records_are_an_error_and_leave_the_old_file(tmp_path):
    mask = np.ones((2, 3), bool)
    path = write_coco(tmp_path / "a.json", [("a.png", (2, 3), [record(mask)])])
    before = path.read_bytes()
    for given, message in (
        ([("a.png", (3, 2), [record(mask)])], "2 x 3 pixels in an image of 3 x 2"),
        ([("a.png", (2, 3), [{"area": 3}])], r"\['area'\] has no segmentation"),
    ):
        with pytest.raises(AnnotationError, match=message):
            write_coco(path, given)
    with pytest.raises(AnnotationError, match="rle, polygons, bridged"):
        write_coco(path, [], shapes="boxes")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# YOLO


@FORMS
def test_a_yolo_data_set_comes_back_equal(tmp_path, form):
    write_yolo(tmp_path, images(form))
    sizes = {image.file_name: image.size for image in images()}
    found = read_yolo(tmp_path, sizes, form)
    assert [image[:2] for image in found] == [image[:2] for image in images()]
    for image, expected in zip(found, images(form), strict=True):
        records = [each for each in expected.records if each["area"]]  # YOLO has no empty masks
        assert_same(image.records, records, keys={"area", "bbox", "label"})
    assert (tmp_path / "labels/deep/er/many.txt").exists()
    assert (tmp_path / "labels/none.txt").read_text() == ""


def test_a_line_is_the_category_and_corners_in_shares_of_the_sides(tmp_path):
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:] = True
    path = write_yolo(
        tmp_path, [("a.jpg", (4, 8), [record(mask, label="cat: 'x'")])], ["dog", "cat: 'x'"]
    )
    index, *shares = (tmp_path / "labels/a.txt").read_text().split()
    assert index == "1"
    assert list(map(float, shares)) == [0.25, 0.25, 1, 0.25, 1, 0.75, 0.25, 0.75]
    assert read_yolo(tmp_path, {"a.jpg": (4, 8)})[0].records[0]["label"] == "cat: 'x'"
    assert path == tmp_path / "data.yaml"


def test_large_images_lose_nothing_to_six_digits(tmp_path):
    mask = np.zeros((3, 65000), bool)
    mask[1, np.random.default_rng(0).integers(0, 65000, 400)] = True
    write_yolo(tmp_path, [("a.jpg", mask.shape, [record(mask)])])
    (found,) = read_yolo(tmp_path, {"a.jpg": mask.shape}, "binary_mask")[0].records
    np.testing.assert_array_equal(found["segmentation"], mask)


def test_sizes_are_those_that_a_viewer_shows(tmp_path):
    mask = blobs(30, 20, 1)
    write_yolo(tmp_path, [("sub/a.jpg", mask.shape, [record(mask)])])
    (tmp_path / "images/sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: 20 x 30 in the file
    Image.new("RGB", (30, 20)).save(tmp_path / "images/sub/a.jpg", exif=exif)
    Image.new("RGB", (5, 4)).save(tmp_path / "images/none.png")
    none, found = read_yolo(tmp_path, output_mode="binary_mask")
    assert (none.file_name, none.size, none.records) == ("none.png", (4, 5), [])
    assert (found.file_name, found.size) == ("sub/a.jpg", (30, 20))
    np.testing.assert_array_equal(found.records[0]["segmentation"], mask)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.1", "line 2: is a box"),
        ("0 0 0 1 0 1", "line 2: has 5 coordinates"),
        ("cat 0 0 1 0 1 1", "line 2: must be a category's index"),
        ("3 0 0 1 0 1 1", "line 2: category 3 has no name"),
        ("0 0 0 1 0 1 nan", "line 2: polygon with NaN"),
    ],
)
def test_faults_of_a_yolo_line_are_named(tmp_path, line, message):
    write_yolo(tmp_path, [("a.jpg", (2, 3), [record(np.ones((2, 3), bool))])])
    with (tmp_path / "labels/a.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(AnnotationError, match=rf"a\.txt: {message}"):
        read_yolo(tmp_path, {"a.jpg": (2, 3)})


def test_yolo_names_may_be_a_list_and_must_be_there(tmp_path):
    write_yolo(tmp_path, [("a.jpg", (2, 3), [record(np.ones((2, 3), bool))])])
    (tmp_path / "data.yaml").write_text("names: [tree]\n")
    assert read_yolo(tmp_path, {"a.jpg": (2, 3)})[0].records[0]["label"] == "tree"
    for content in ("nc: 1\n", "- a\n", ""):
        (tmp_path / "data.yaml").write_text(content)
        with pytest.raises(AnnotationError, match='no "names"'):
            read_yolo(tmp_path, {})
    write_yolo(tmp_path, [])
    with pytest.raises(AnnotationError, match="images: no such folder"):
        read_yolo(tmp_path)


def test_yolo_files_stay_in_their_folder_and_apart(tmp_path):
    for name in ("../a.jpg", "/a.jpg", "b/../../a.jpg", ""):
        with pytest.raises(AnnotationError, match="relative to the images' folder"):
            write_yolo(tmp_path / "set", [(name, (2, 3), [])])
    with pytest.raises(AnnotationError, match=r"a.png and a.jpg would share a.txt"):
        write_yolo(tmp_path / "set", [("a.jpg", (2, 3), []), ("a.png", (2, 3), [])])


# Label maps


@FORMS
def test_small_masks_lie_on_large_ones(form):
    y, x = np.mgrid[:30, :30] - 15
    discs = [x**2 + y**2 < radius**2 for radius in (5, 14, 9)]
    labels = to_label_map([record(disc, form) for disc in discs])
    assert labels.dtype == np.uint8
    for i, disc in enumerate(discs):
        smaller = [other for other in discs if other.sum() < disc.sum()]
        visible = disc & ~np.any([np.zeros_like(disc), *smaller], 0)
        np.testing.assert_array_equal(labels == i + 1, visible)
    np.testing.assert_array_equal(labels == 0, ~discs[1])


def test_other_orders_put_the_better_or_the_later_on_top():
    mask = np.ones((1, 1), bool)
    scores = [0.7, 0.9, 0.8]
    given = [record(mask, predicted_iou=score) for score in scores]
    assert to_label_map(given, order="score").item() == 2
    assert to_label_map(given, order="given").item() == 3
    given[0]["score"] = 0.95
    assert to_label_map(given, order="score").item() == 1
    with pytest.raises(AnnotationError, match='use order="area"'):
        to_label_map([{"segmentation": mask}], order="score")
    with pytest.raises(AnnotationError, match="area, score, given"):
        to_label_map(given, order="size")


def test_label_maps_need_a_size_and_masks_of_one_size():
    assert not to_label_map([], (3, 4)).any()
    with pytest.raises(AnnotationError, match="pass the size"):
        to_label_map([])
    with pytest.raises(AnnotationError, match="2 x 3 pixels in an image of 3 x 3"):
        to_label_map([record(np.ones((3, 3), bool)), record(np.ones((2, 3), bool))])


@pytest.mark.parametrize(("count", "dtype", "mode"), [(255, "uint8", "P"), (256, "uint16", "I;16")])
def test_up_to_255_objects_are_an_indexed_png_more_a_16_bit_one(tmp_path, count, dtype, mode):
    masks = np.eye(400, dtype=bool)[:count].reshape(count, 20, 20)
    labels = to_label_map([record(mask) for mask in masks])
    assert labels.dtype == dtype
    path = write_label_png(tmp_path / "a.png", labels)
    with Image.open(path) as picture:
        assert picture.mode == mode
        if mode == "P":
            colours = np.array(picture.convert("RGB")).reshape(-1, 3)
            assert len(np.unique(colours, axis=0)) == count + 1
            assert not colours[-1].any()  # the background is black
    found = read_label_png(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels)
    assert_same(
        label_map_to_records(found),
        [{"segmentation": m, "area": 1, "bbox": crop(m).box} for m in masks],
    )


@FORMS
def test_records_of_a_label_map_skip_numbers_that_do_not_occur(form):
    labels = np.array([[0, 7, 7], [3, 0, 7]])
    records = label_map_to_records(labels, form, label="cell")
    expected = [{"segmentation": labels == i, "label": "cell"} for i in (3, 7)]
    for each, box in zip(expected, ([0, 1, 0, 0], [1, 0, 1, 1]), strict=True):
        each |= {"area": int(each["segmentation"].sum()), "bbox": box}
    assert_same(records, expected)
    assert len(label_map_to_records(labels + 1)) == 3  # no background at all
    assert label_map_to_records(np.zeros((2, 2), np.uint8)) == []
    with pytest.raises(AnnotationError, match="negative"):
        label_map_to_records(labels - 1)


def test_label_pngs_of_others_are_read_and_pictures_are_not(tmp_path):
    path = tmp_path / "a.png"
    for mode in ("L", "1"):
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode).save(path)
        assert read_label_png(path).tolist() == [[0, 255 if mode == "L" else 1]]
    Image.new("RGB", (3, 3)).save(path)
    with pytest.raises(AnnotationError, match="is a picture in RGB"):
        read_label_png(path)
    for labels in (np.array([[-1]]), np.array([[65536]]), np.zeros((0, 3), int)):
        with pytest.raises(AnnotationError, match="from 0 to 65535"):
            write_label_png(path, labels)


# NPZ


@FORMS
def test_npz_gives_everything_back(tmp_path, form):
    records = [
        record(noise(20, 30, seed), form, label=f"kind {seed}", score=0.1 * seed)
        for seed in range(4)
    ]
    path = write_npz(tmp_path / "a.masks", (20, 30), records)
    size, found = read_npz(path, form)
    assert size == (20, 30)
    assert_same(found, records)
    again = write_npz(tmp_path / "b.npz", *read_npz(path, "coco_rle"))
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", MASKS)
def test_npz_holds_every_mask(tmp_path, name):
    mask = MASKS[name]
    _, found = read_npz(write_npz(tmp_path / "a.npz", mask.shape, [record(mask), record(~mask)]))
    assert_same(found, [record(mask), record(~mask)])


def test_npz_keeps_apart_what_only_some_records_have(tmp_path):
    mask = np.ones((2, 3), bool)
    bare = {"segmentation": mask, "area": 6, "bbox": [0, 0, 2, 1]}
    records = [
        bare,
        bare | {"label": "", "point_coords": []},
        bare | {"predicted_iou": 0.25, "crop_box": [0, 0, 3, 2]},
        bare | {"label": "größer", "point_coords": [[1.5, 0.5], [0.0, 1.0]]},
        bare | {"label": "", "point_coords": [[1.5, 0.5], [0.0, 1.0]], "point_labels": [1, 0]},
    ]
    for given in (records, [bare], []):
        size, found = read_npz(write_npz(tmp_path / "a.npz", (2, 3), given))
        assert size == (2, 3)
        assert_same(found, given)


def test_npz_is_small_and_needs_no_pickle(tmp_path):
    mask = blobs(1000, 1500, 0)
    path = write_npz(tmp_path / "a.npz", mask.shape, [record(mask, label="x")])
    assert path.stat().st_size < 0.01 * mask.size
    with np.load(path, allow_pickle=False) as npz:
        assert all(npz[key].dtype != object for key in npz)


def test_npz_refuses_fields_of_odd_shape_and_damaged_files(tmp_path):
    mask = np.ones((2, 3), bool)
    path = tmp_path / "a.npz"
    for key, value, message in (
        ("bbox", [1, 2], "bbox of the records is not of shape"),
        ("predicted_iou", [0.5], "predicted_iou of the records"),
        ("label", 3, "labels must be str"),
    ):
        with pytest.raises(AnnotationError, match=message):
            write_npz(path, (2, 3), [record(mask), record(mask, **{key: value})])
    assert not path.exists()
    write_npz(path, (2, 3), [record(mask)])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AnnotationError, match=r"a\.npz: is not an NPZ file of masks"):
        read_npz(path)
    with path.open("wb") as file:
        np.savez(file, x=np.ones(3))
    with pytest.raises(AnnotationError, match="damaged"):
        read_npz(path)
