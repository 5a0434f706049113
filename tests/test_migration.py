"""Scripts of segment-anything and transformers meet help: they work, or one line says how."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import samjax
from samjax import migration
from samjax.checkpoint.convert import write_safetensors
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import to_official
from samjax.engine import registry
from samjax.errors import (
    AnnotationError,
    CheckpointError,
    DeviceError,
    DownloadError,
    ImageError,
    MigrationError,
    PromptError,
)
from samjax.image.folder import find_images
from samjax.viz.overlay import _check_labels

BOXES = np.array([[20, 330, 505, 599], [165, 90, 330, 310]])


# -------------------------------------------------------------------- names of models


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("vit-b", "vit_b"), ("ViT-L", "vit_l"), ("vitb", "vit_b"), ("sam_vit_b", "vit_b")),
        *(("facebook/sam-vit-base", "vit_b"), ("facebook/sam-vit-huge", "vit_h")),
        *(("sam-vit-large", "vit_l"), ("sam_vit_h_4b8939.pth", "vit_h"), ("default", "vit_h")),
        *(("models/sam_vit_b_01ec64.pth", "vit_b"), ("vit_base", "vit_b"), ("vit_n", None)),
        *(("embeded", "embedded"), ("Embedded", "embedded"), ("photo.jpg", None), ("", None)),
        *(
            ("facebook/sam2.1-hiera-large", None),
            ("mobile_sam.pt", None),
            ("sam_hq_vit_b.pth", None),
        ),
        ("medsam_vit_b.pth", None),
    ],
)
def test_the_name_that_was_meant(written: str, meant: str | None) -> None:
    assert migration.intended_model(written) == meant


def test_load_suggests() -> None:
    with pytest.raises(CheckpointError, match=r'did you mean "vit_b"\?$'):
        samjax.load("vit-b")
    with pytest.raises(CheckpointError, match=r"check the path$"):
        samjax.load("nothing.pth")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMJAX_MIRROR", "http://127.0.0.1:9/")


@pytest.mark.usefixtures("no_network")
def test_registry_forwards_to_load(embedded, tmp_path: Path) -> None:
    assert set(samjax.sam_model_registry) == {"default", "vit_h", "vit_l", "vit_b"}
    assert samjax.sam_model_registry["default"] is samjax.build_sam is samjax.build_sam_vit_h
    found = samjax.sam_model_registry["vit_b"](checkpoint="embedded")
    assert found.fingerprint == embedded.fingerprint
    with pytest.raises(DownloadError, match=r"sam_vit_l_0b3195\.pth: no connection"):
        samjax.build_sam_vit_l()
    with pytest.raises(CheckpointError, match=r"x\.pth: no such file"):
        samjax.build_sam_vit_b(checkpoint=tmp_path / "x.pth")


def test_registry_refuses_a_file_of_another_size(
    embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, to_official(embedded.parameters(), embedded.config))
    with pytest.raises(CheckpointError, match=r"not of the size of vit_h; write samjax\.load\("):
        samjax.build_sam(checkpoint=path)
    monkeypatch.setattr(registry, "_CONFIGS", {**registry._CONFIGS, "vit_l": embedded.config})
    with pytest.raises(CheckpointError, match=r'write sam_model_registry\["vit_l"\]$'):
        samjax.build_sam_vit_b(str(path))
    assert samjax.build_sam_vit_l(str(path)).fingerprint == embedded.fingerprint


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("vit-b", r'did you mean sam_model_registry\["vit_b"\]\?'),
        ("vit_t", r"samjax\.load\('mobile_sam\.pt'\)"),
        ("resnet", "with the path of the checkpoint"),
    ],
)
def test_registry_suggests(name: str, advice: str) -> None:
    with pytest.raises(CheckpointError, match=f"no '{name}', only default, vit_h.*{advice}"):
        samjax.sam_model_registry[name]


def test_models_are_given_by_name(embedded, photo, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    write_torch_file(path, to_official(embedded.parameters(), embedded.config))
    for given in ("embedded", samjax.ModelSpec(), path, embedded):
        assert samjax.SamPredictor(given).model.fingerprint == embedded.fingerprint
    assert samjax.SamPredictor(embedded).model is embedded
    assert samjax.SamAutomaticMaskGenerator("embedded").model.fingerprint == embedded.fingerprint
    assert samjax.Annotator("embedded", photo)._controller.model.fingerprint == embedded.fingerprint
    with pytest.raises(CheckpointError, match=r'did you mean "vit_b"'):
        samjax.SamPredictor("vit-b")
    for other in (None, 3, photo):
        with pytest.raises(PromptError, match=r"pass what samjax\.load returns, or a model's name"):
            registry.as_segmenter(other)

    class Sam:
        __module__ = "segment_anything.modeling.sam"

    with pytest.raises(PromptError, match=r"of type Sam: that is PyTorch's; pass samjax\.load"):
        registry.as_segmenter(Sam())


# -------------------------------------------------------------------- methods and attributes


def test_to_and_eval_return_the_model_where_they_are_true(small) -> None:
    assert small.eval() is small.to("cpu") is small.to(device="cpu:0") is small.cpu() is small
    assert small.to(small.device) is small.to() is small
    for device, advice in (
        ("cuda", "device='gpu'"),
        ("cuda:1", "device='gpu:1'"),
        ("mps", "device='mps'"),
        ("cpu:7", "device='cpu:7'"),
    ):
        with pytest.raises(DeviceError, match=re.escape(f"write samjax.load(..., {advice})")):
            small.to(device=device)
    with pytest.raises(DeviceError, match="device='gpu'"):
        small.cuda()
    for arguments in (("torch.float16",), (np.float16,), (None, "half"), ("cpu", "float16")):
        with pytest.raises(DeviceError, match="dtype='float16'"):
            small.to(*arguments)


@pytest.mark.parametrize("name", sorted(migration.SEGMENTER))
def test_names_of_the_official_model_are_answered(small, name: str) -> None:
    with pytest.raises(MigrationError, match=f"^Segmenter has no '{name}': .{{10,}}$") as caught:
        getattr(small, name)
    assert "\n" not in str(caught.value)
    assert not hasattr(small, name)
    assert isinstance(caught.value, samjax.SamjaxError)


@pytest.mark.parametrize("name", sorted(migration.PREDICTOR))
def test_names_of_the_official_predictor_are_answered(small, name: str) -> None:
    with pytest.raises(MigrationError, match=f"^SamPredictor has no '{name}': .{{10,}}$"):
        getattr(samjax.SamPredictor(small), name)


@pytest.mark.parametrize("name", sorted(migration.GENERATOR))
def test_names_of_the_official_generator_are_answered(small, name: str) -> None:
    with pytest.raises(MigrationError, match=f"^SamAutomaticMaskGenerator has no '{name}': "):
        getattr(samjax.SamAutomaticMaskGenerator(small), name)


def test_other_names_are_plain_attribute_errors(small) -> None:
    for each in (small, samjax.SamPredictor(small), samjax.SamAutomaticMaskGenerator(small)):
        with pytest.raises(AttributeError, match=r"object has no attribute 'colour'") as caught:
            each.colour  # noqa: B018
        assert not isinstance(caught.value, samjax.SamjaxError)
        assert copy.copy(each).__dict__.keys() <= each.__dict__.keys()  # caches are made anew
    assert pickle.loads(pickle.dumps(samjax.ModelSpec())) == samjax.ModelSpec()


def test_the_hints_name_what_exists(small) -> None:
    predictor = samjax.SamPredictor(small)
    predictor.set_image(np.zeros((30, 40, 3), np.uint8))
    root = {"sam": small, "samjax": samjax, "predictor": predictor}
    for hints in (migration.SEGMENTER, migration.PREDICTOR, migration.PACKAGE):
        for text in hints.values():
            for path in re.findall(r"\b(?:sam|samjax|predictor)(?:\.\w+)+", text):
                first, *names = path.split(".")
                found = root[first]
                for name in names:
                    found = getattr(found, name)


@pytest.mark.parametrize("name", sorted(migration.PACKAGE))
def test_imports_are_answered(name: str) -> None:
    with pytest.raises(ImportError, match=f"^samjax has no '{name}': .{{10,}}$"):
        exec(f"from samjax import {name}")
    with pytest.raises(samjax.SamjaxError):
        getattr(samjax, name)
    assert not hasattr(samjax, "nothing_of_the_kind")


def test_the_call_with_batched_inputs_names_predict_images(small) -> None:
    with pytest.raises(MigrationError, match=r"predict_images\(images, prompts\)"):
        small([{"image": None}], multimask_output=False)


# -------------------------------------------------------------------- predict_torch


def test_predict_torch_is_predict_many_in_the_frame_of_the_input(predictor, photo) -> None:
    size = photo.shape[:2]
    boxes = predictor.transform.apply_boxes_torch(BOXES, size)
    many = predictor.predict_many(boxes=BOXES, multimask_output=False)
    found = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=boxes, multimask_output=False
    )
    for ours, theirs in zip(found, many, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    points = np.array([[[230, 420]], [[250, 200]]])
    labels = np.ones((2, 1), int)
    moved = predictor.transform.apply_coords(points, size)
    np.testing.assert_array_equal(
        predictor.predict_torch(moved, labels).masks, predictor.predict_many(points, labels).masks
    )
    resized = predictor.transform.apply_image(photo)
    assert resized.shape[:2] == predictor.input_size
    assert predictor.transform.target_length == predictor.model.config.image_size


def test_predict_torch_refuses_what_was_not_moved(predictor) -> None:
    with pytest.raises(PromptError, match=r"these go up to 599: apply predictor\.transform"):
        predictor.predict_torch(boxes=BOXES)
    with pytest.raises(PromptError, match="no prompt"):
        predictor.predict_torch()


def test_features_are_the_official_embedding(predictor, small) -> None:
    np.testing.assert_array_equal(predictor.features, predictor.get_image_embedding())
    with pytest.raises(MigrationError, match=r"set_embedding\(\.\.\.\)"):
        predictor.features = np.zeros(3)
    with pytest.raises(PromptError, match="no image is set"):
        samjax.SamPredictor(small).features  # noqa: B018


# -------------------------------------------------------------------- folders and pictures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("b.png", "a.png", "more/c.jpg", "masks/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_annotator_takes_a_folder_and_a_pattern(small, photos: Path) -> None:
    annotator = samjax.Annotator(small, str(photos), path=photos / "masks")
    assert annotator.names == ["a.png", "b.png", "c.jpg"]  # nothing of its own folder
    annotator.wait()
    annotator.click(10, 10)
    again = samjax.Annotator(small, f"{photos}/*.png")
    assert again.names == ["a.png", "b.png"]
    mixed = samjax.Annotator(small, [photos / "more", photos / "a.png"])
    assert mixed.names == ["c.jpg", "a.png"]
    assert len(find_images([str(photos)])[1]) == 4
    empty = photos / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="no images found"):
        samjax.Annotator(small, empty)
    with pytest.raises(ImageError, match=r"\*\.tif: no images found"):
        samjax.Annotator(small, f"{photos}/*.tif")


def test_names_with_brackets_are_files(small, photos: Path) -> None:
    name = photos / "x[1].png"
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(name)
    assert samjax.Annotator(small, name).names == ["x[1].png"]


def test_overlay_takes_paths_lists_and_names(photos: Path) -> None:
    path = photos / "a.png"
    mask = np.zeros((24, 32), bool)
    mask[4:20, 4:20] = True
    pixels = samjax.read_image(path)
    expected = samjax.overlay(pixels, mask[None], [[10, 10]], [1], boxes=[4, 4, 19, 19])
    for given in (mask, [mask], [{"segmentation": mask}]):
        drawn = samjax.overlay(path, given, [[10, 10]], [1], boxes=[4, 4, 19, 19])
        np.testing.assert_array_equal(drawn, expected)
    assert (pixels == 90).all()  # the image itself stays
    named = samjax.overlay(path, mask, labels=["leaf"])
    assert (named != samjax.overlay(path, mask)).any()
    with pytest.raises(AnnotationError, match="for points pass point_labels"):
        _check_labels([mask], np.array([1]))  # beartype is faster with overlay itself
    with pytest.raises(AnnotationError, match="1 masks but 2 labels"):
        samjax.overlay(path, mask, labels=["a", "b"])
    with pytest.raises(PromptError, match="1 points but 2 point_labels"):
        samjax.overlay(path, mask, [[10, 10]], [1, 0])
    with pytest.raises(AnnotationError, match="mask of 23 x 32 pixels"):
        samjax.overlay(path, mask[1:])


def test_the_device_of_jax_is_understood(small) -> None:
    assert small.to(jax.devices()[0]) is small
