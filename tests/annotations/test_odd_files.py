"""Files that other programs write oddly are refused, or read with what they hold and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samjax.annotations import read_coco, read_yolo, write_coco, write_yolo
from samjax.annotations.prompts import read_prompts
from samjax.annotations.segment_dataset import segment_dataset
from samjax.cli import main
from samjax.errors import AnnotationError
from tests.support.models import drawn_image

BOX = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}
MASK = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}


def coco_file(folder: Path, *annotations: dict, **changes: dict) -> Path:
    """Write a COCO file of one image, a.png, with numbered annotations."""
    dataset = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 96, "height": 64, **changes.get("image", {})}
        ],
        "categories": [{"id": 1, "name": "cat", **changes.get("category", {})}],
        "annotations": [{"id": i, **each} for i, each in enumerate(annotations, 1)],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(dataset))
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder with the image a.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(drawn_image(64, 96)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"category": {"id": "1"}}, "category 'cat' has the id '1': whole numbers"),
        ({"category": {"id": None}}, "category 'cat' has the id None"),
        ({"category": {"id": 1.5}}, "category 'cat' has the id 1.5"),
        ({"category": {"id": True}}, "category 'cat' has the id True"),
        ({"category": {"id": -1}}, "category 'cat' has the id -1"),
        ({"category": {"name": 5}}, "category 1 has the name 5: give it a text"),
        ({"category": {"name": None}}, "category 1 has the name None"),
        ({"image": {"id": None}}, "image None: its id is no whole number"),
        ({"image": {"id": 1.5}}, "image 1.5: its id"),
        ({"image": {"file_name": 5}}, "image 1 has the file name 5"),
        ({"image": {"file_name": None}}, "image 1 has the file name None"),
        ({"image": {"file_name": ""}}, "image 1 has the file name ''"),
        ({"image": {"file_name": "\ud800.png"}}, "image 1 has the file name"),
        ({"image": {"width": 1.5}}, "image 1 has the size 1.5 x 64: give whole pixels"),
        ({"image": {"width": "96"}}, "image 1 has the size '96' x 64"),
        ({"image": {"height": 0}}, "image 1 has the size 96 x 0"),
        ({"image": {"height": None}}, "image 1 has the size 96 x None"),
        ({"image": {"height": 10**12}}, "image 1 has the size 96 x 1000000000000"),
    ],
)
def test_odd_images_and_categories_are_refused(tmp_path, photos, entry, told):
    path = coco_file(tmp_path, MASK, **entry)
    for read in (lambda: read_coco(path), lambda: read_prompts(path, photos)):
        with pytest.raises(AnnotationError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: {told}")


def test_what_is_odd_and_clear_is_read_and_written_again(tmp_path):
    path = coco_file(tmp_path, {**MASK, "image_id": "x1"}, image={"id": "x1", "width": 96.0})
    found = read_coco(path)
    assert (found[0].id, found[0].size, found[0].records[0]["area"] > 9) == ("x1", (64, 96), True)
    again = json.loads(write_coco(tmp_path / "again.json", found).read_text())
    assert again["images"][0] == {"id": "x1", "file_name": "a.png", "height": 64, "width": 96}
    assert again["annotations"][0]["image_id"] == "x1"


@pytest.mark.parametrize("name", ["\ud800.png", "a\udc80/b.png"])
def test_no_writer_takes_names_that_no_text_file_can_hold(tmp_path, name):
    for write in (write_coco, write_yolo):
        with pytest.raises(AnnotationError, match="file name"):
            write(tmp_path / "out", [(name, (9, 9), [])])
    assert list(tmp_path.iterdir()) == []


def test_a_byte_order_mark_of_yolo_labels(tmp_path, photos):
    mask = np.zeros((64, 96), bool)
    mask[10:30, 20:50] = True
    write_yolo(tmp_path / "set", [("a.png", (64, 96), [{"segmentation": mask}])])
    label = tmp_path / "set" / "labels" / "a.txt"
    label.write_bytes(b"\xef\xbb\xbf" + label.read_bytes())
    assert read_yolo(tmp_path / "set", {"a.png": (64, 96)})[0].records[0]["area"] == mask.sum()
    found = read_prompts(tmp_path / "set", photos)
    assert (len(found.images[0].objects), found.problems) == (1, [])


# segment-dataset


@pytest.mark.parametrize("box", [[None, 1, 2, 3], ["a", 1, 2, 3], [1, 2, 3], 5, {"x": 1}, [[]] * 4])
def test_a_box_without_numbers_is_skipped_and_told(tmp_path, photos, box):
    found = read_prompts(coco_file(tmp_path, {**BOX, "bbox": box}, BOX), photos)
    assert [each.id for each in found.images[0].objects] == [2]
    assert [problem[:3] for problem in found.problems] == [("box: no numbers", "a.png", 1)]


def test_an_id_that_is_given_twice_is_told_once_in_one_line(
    tmp_path, photos, small, monkeypatch, capsys
):
    monkeypatch.setattr("samjax.engine.spec.load", lambda *_, **__: small)
    boxes = [{**BOX, "id": number} for number in (7, 7, None, 3, 7)]
    path, out = coco_file(tmp_path, *boxes), tmp_path / "out"
    command = ["segment-dataset", str(path), "--images", str(photos), "--out", str(out)]
    assert main(command) == 0
    err = capsys.readouterr().err
    assert err == "samjax: 2 x id: given twice, mended: a.png #6 it was 7\n"
    written = json.loads((out / "annotations.json").read_text())["annotations"]
    assert [each["id"] for each in written] == [7, 6, 8, 3, 9]  # the third has no place of its own
    before = (out / "annotations.json").read_bytes()
    assert main(command) == 0
    assert (out / "annotations.json").read_bytes() == before
    assert segment_dataset(path, photos, out, sam=small).earlier == 1
