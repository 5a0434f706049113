"""Test how the files of each data set layout are read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.samples import Filters
from samjax.errors import AnnotationError
from tests.support.benchmarks.drawn import (
    OBJECTS,
    draw_coco,
    draw_folder,
    draw_image,
    label_map,
    rectangle,
)


def test_bsds_layout_has_every_person(tmp_path):
    def maps(own):
        return [label_map(own), label_map(own[:1])]

    root = draw_folder(tmp_path / "b", "images", "segments", maps)
    dataset = open_dataset(root)
    assert dataset.kind == "bsds"
    targets = dataset.entries[0].targets(Filters())
    assert [t.id for t in targets] == ["1_0:0", "1_0:1", "1_0:2", "1_1:0", "1_1:1"]
    assert (targets[1].mask == rectangle(*OBJECTS[0][0])).all()
    first = open_dataset(root, first_only=True).entries[0].targets(Filters())
    assert [t.id for t in first] == ["1_0:0", "1_0:1", "1_0:2"]
    small = dataset.entries[0].targets(Filters(min_fraction=0.1))
    assert [t.id for t in small] == ["1_0:0", "1_0:2", "1_1:0"]


def test_instances_of_16_bit_labels(tmp_path):
    root = draw_folder(
        tmp_path / "n", "images", "labels", lambda own: [label_map(own).astype(np.uint16) * 700], ""
    )
    dataset = open_dataset(root)
    assert dataset.kind == "labels"
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1:700", "1:1400"]


def test_davis_merges_all_objects(tmp_path):
    root = draw_folder(tmp_path / "d", "img", "gt", lambda own: [label_map(own)], "")
    (target,) = open_dataset(root).entries[0].targets(Filters())
    assert target.mask.sum() == sum(w * h for _, _, w, h in OBJECTS[0])


def test_berkeley_has_several_masks_an_image(tmp_path):
    def maps(own):
        return [rectangle(*o).astype(np.uint8) * 255 for o in own]

    root = draw_folder(tmp_path / "b", "images", "masks", maps, "#{:03d}")
    dataset = open_dataset(root)
    assert dataset.kind == "berkeley"
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1#000", "1#001"]


def test_sbd_and_bsds_matlab_files(tmp_path):
    from scipy.io import savemat

    root = tmp_path / "sbd"
    draw_folder(root, "img", "inst", lambda _: [])
    labels = label_map(OBJECTS[0])
    labels[0, 0] = 255
    savemat(root / "inst" / "1.mat", {"GTinst": {"Segmentation": labels}})
    dataset = open_dataset(root, kind="sbd")
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1:1", "1:2"]
    assert dataset.note == "2 images without label maps left out"
    people = np.empty((1, 2), object)
    people[0] = [{"Segmentation": labels + 1.0}, {"Segmentation": labels * 0 + 1.0}]
    bsds = tmp_path / "bsds"
    draw_folder(bsds, "images", "groundTruth", lambda _: [])
    savemat(bsds / "groundTruth" / "2.mat", {"groundTruth": people})
    (entry,) = open_dataset(bsds).entries
    assert len({t.id.partition(":")[0] for t in entry.targets(Filters())}) == 2


def test_lvis_files_name_addresses(tmp_path):
    path = draw_coco(tmp_path / "coco")
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.example.org/val/{image.pop('file_name')}"
    path.write_text(json.dumps(content))
    assert len(open_dataset(path, images=tmp_path / "coco")) == 3
    assert len(open_dataset(tmp_path / "coco" / "val")) == 3  # found beside the images


def draw_cells(root):
    """Draw BBBC038's stage1_train: a folder for each image, a picture for each object."""
    for number, own in enumerate(OBJECTS, 1):
        draw_image(root / str(number) / "images" / f"{number}.png", number, own)
        for index, given in enumerate(own):
            path = root / str(number) / "masks" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rectangle(*given).astype(np.uint8) * 255).save(path)
    return root


def test_bbbc038_as_it_is_published(tmp_path):
    dataset = open_dataset(draw_cells(tmp_path / "stage1_train"))
    assert (dataset.kind, len(dataset)) == ("bbbc038", len(OBJECTS))
    for entry, own in zip(dataset.entries, OBJECTS, strict=True):
        targets = entry.targets(Filters())
        assert [t.id for t in targets] == [str(i) for i in range(len(own))]
        for target, given in zip(targets, own, strict=True):
            assert (target.mask == rectangle(*given)).all()
        assert entry.image().shape == (60, 80, 3)


def test_bbbc038_without_its_folders(tmp_path):
    with pytest.raises(AnnotationError, match="no folder here holds images/ and masks/"):
        open_dataset(tmp_path, kind="bbbc038")
    root = draw_cells(tmp_path / "cells")
    (root / "2" / "images" / "2.png").unlink()
    with pytest.raises(AnnotationError, match="holds 0 images, not one"):
        open_dataset(root)


def test_unknown_kind():
    with pytest.raises(AnnotationError, match="is not known"):
        open_dataset("x", kind="voc")
