"""Test presets: values, fitting, mask rules, warnings, and where they are recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.describe import describe
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.cli import main
from samjax.errors import CheckpointWarning, ImageError, PromptError
from samjax.image.preset import PRESETS, get_preset, normalise, prepare, read_for
from samjax.image.resampling import resize_medsam, resize_nearest, stretch_channels
from samjax.masks.rules import resize_labels
from samjax.masks.upscale import mask_to_logits, upscale
from tests.checkpoint.families.test_official import make
from tests.support.models import PLAIN, drawn_image

STRETCHED = ("medsam", "samed", "sammed2d")
IMAGE = drawn_image(24, 60)


def values_of(preset: str, image: np.ndarray, size: int = 40) -> np.ndarray:
    chosen = get_preset(preset)
    prepared = prepare(read_for(chosen, image), size, chosen)
    return np.asarray(normalise(prepared.pixels, np.array(prepared.input_size, np.int32), chosen))


@pytest.mark.parametrize("name", PRESETS)
def test_fitting(name: str):
    preset = get_preset(name)
    prepared = prepare(read_for(preset, IMAGE), 40, preset)
    assert prepared.input_size == ((40, 40) if name in STRETCHED else (16, 40))
    assert prepared.original_size == (24, 60)
    assert prepared.pixels.dtype == (np.float32 if name == "samed" else np.uint8)


def test_medsam_stretches_the_range_of_all_channels_together():
    values = values_of("medsam", IMAGE // 2 + 30)
    assert (values.min(), values.max()) == (0, 1)
    flat = values_of("medsam", np.full((5, 9, 3), 77, np.uint8))
    assert (flat == 0).all()  # nothing to stretch: 0 as there, and not NaN


def test_medsam_smooths_before_it_shrinks():
    checks = np.indices((80, 80)).sum(0) % 2 * np.uint8(255)
    image = np.repeat(checks[..., None], 3, -1)
    assert np.ptp(resize_medsam(image, (16, 16))) <= 20
    assert np.ptp(resize_medsam(image, (80, 80))) == 255


def test_microsam_stretches_each_channel_of_whatever_depth():
    deep = np.zeros((4, 5, 3), np.uint16)
    deep[1], deep[2, ..., 0] = 700, 1400
    deep[3, 0] = 60000
    assert read_for(get_preset("microsam"), deep)[1, 0].tolist() == [2, 2, 2]
    grey = np.linspace(-3, 5, 20).reshape(4, 5)
    read = read_for(get_preset("microsam"), grey)
    assert (read.min(), read.max(), read.dtype) == (0, 255, np.uint8)
    np.testing.assert_array_equal(read[..., 0], stretch_channels(grey))
    # Once stretched, it stays: crops of an image are prepared again.
    np.testing.assert_array_equal(
        stretch_channels(np.arange(256).reshape(16, 16)).ravel(), range(256)
    )
    with pytest.raises(ImageError, match="NaN"):
        read_for(get_preset("microsam"), np.full((2, 2), np.nan))


def test_samed_takes_values_of_0_to_1():
    grey = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    np.testing.assert_array_equal(values_of("samed", grey)[..., 2], grey)  # not cut to 8 bits
    bytes_ = values_of("samed", np.full((40, 40), 51, np.uint8))
    np.testing.assert_allclose(bytes_, 0.2, atol=1e-6)
    colour = np.random.default_rng(0).random((4, 5, 3), np.float32)
    np.testing.assert_array_equal(read_for(get_preset("samed"), colour, "BGR"), colour[..., ::-1])
    with pytest.raises(ImageError, match="expected 0 to 1"):
        values_of("samed", 255 * grey)
    with pytest.raises(ImageError, match="alpha"):
        values_of("samed", np.zeros((2, 2, 4), np.float32))


def test_sammed2d_takes_pixels_as_they_are():
    image = np.arange(10, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert resize_nearest(image, (1, 4))[0, :, 0].tolist() == [0, 2, 5, 7]
    assert resize_nearest(image, (1, 20))[0, :, 0].tolist() == [i // 2 for i in range(20)]


# Rules of output


def rule(name: str, low_res: np.ndarray, size=(30, 20), threshold: float | None = 0.0):
    return get_preset(name).masks.full_size(low_res, 40, (40, 40), size, threshold)


def test_probabilities_are_not_logits():
    low_res = np.full((1, 1, 4, 4), -1, np.float32)
    low_res[..., :2] = 8  # far more certain on the left
    as_logits, as_probabilities = rule("sam", low_res)[0, 0], rule("medsam", low_res)[0, 0]
    assert as_logits.sum() > as_probabilities.sum()  # the mean of the logits is positive longer
    sure = np.full((1, 1, 4, 4), 200, np.float32)
    assert np.isfinite(rule("medsam", sure, threshold=None)).all()
    assert rule("medsam", -sure).sum() == 0


def test_the_best_mask_alone():
    low_res = np.arange(6, dtype=np.float32)[:, None, None].repeat(4, 1).repeat(4, 2)
    low_res = low_res.reshape(2, 3, 4, 4)
    scores = np.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.4]], np.float32)
    low, best = get_preset("sammed2d").masks.choose(low_res, scores, True)
    assert best.tolist() == [[np.float32(0.9)], [np.float32(0.5)]]
    assert low[:, :, 0, 0].tolist() == [[1], [3]]
    for preset, multimask in (("sammed2d", False), ("sam", True)):
        same = get_preset(preset).masks.choose(low_res, scores, multimask)
        assert same[0] is low_res


def test_classes_share_the_image():
    low_res = np.random.default_rng(0).standard_normal((1, 4, 10, 10)).astype(np.float32)
    masks, leads = rule("samed", low_res), rule("samed", low_res, threshold=None)
    assert (masks.sum(1) == 1).all()
    np.testing.assert_array_equal(masks, leads > 0)
    logits = upscale(low_res, 40, (40, 40), (40, 40), None)
    expected = resize_labels(logits[0].argmax(0), (30, 20))
    np.testing.assert_array_equal(masks[0].argmax(0), expected)
    assert rule("samed", low_res[:, :1], threshold=None).shape == (1, 1, 30, 20)


@pytest.mark.parametrize(
    ("name", "several", "one"),
    [("sam", 3, 1), ("medsam", 1, 1), ("microsam", 3, 1), ("samed", 3, 1), ("sammed2d", 1, 1)],
)
def test_numbers_of_masks(name: str, several: int, one: int):
    predictor = samjax.SamPredictor(samjax.load(PLAIN, preprocess=name))
    predictor.set_image(IMAGE)
    prompts = {} if name == "samed" else {"box": [5, 5, 50, 20]}
    preset = predictor.model.preset
    for multimask, expected in ((True, several), (False, one)):
        made = predictor.predict(**prompts, multimask_output=multimask)
        assert made.masks.shape == (expected, 24, 60)
        assert made.scores.shape == (expected,)
        assert made.low_res.shape == (expected, 40, 40)
        assert preset.masks.count(3, multimask) == expected
    if name != "samed":
        with pytest.raises(PromptError, match="no prompt"):
            predictor.predict()
    if name in ("medsam", "samed"):
        with pytest.raises(PromptError, match=f"trained with clicks, preset '{name}'"):
            samjax.SamAutomaticMaskGenerator(predictor.model)


def test_mask_prompts_fill_the_square_where_images_do():
    mask = np.zeros((24, 60), bool)
    mask[:, 30:] = True
    padded, stretched = (mask_to_logits(mask, 40, stretch=s)[0] for s in (False, True))
    assert (padded[20:] < 0).all()
    assert (stretched[:, 20:] > 0).all()
    assert (stretched[:, :20] < 0).all()


# Which preset a checkpoint gets


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return to_official(random_parameters(PLAIN), PLAIN)


def test_conversion_records_the_preset(tmp_path: Path, tensors):
    source = tmp_path / "medsam_vit_b.pth"
    write_torch_file(source, tensors)
    assert samjax.load(source).preset.name == "sam"
    for target in ("store", "file.safetensors"):
        convert_checkpoint(source, tmp_path / target, preprocess="medsam")
        assert describe(tmp_path / target).preprocess == "medsam"
        assert samjax.load(tmp_path / target).preset.name == "medsam"
        assert samjax.load(tmp_path / target, preprocess="sam").preset.name == "sam"


def test_files_that_leave_a_doubt(tmp_path: Path, tensors, capsys):
    """An FT-SAM by its container and sizes; nothing in it says how its images were prepared."""
    few = make.few_weights() | {"image_encoder.pos_embed": np.zeros((1, 16, 16, 768), np.float32)}
    path = tmp_path / "ft-sam_b.pth"
    content = make.dict_of({"model": make.state_dict(few), "optimizer": make.call("torch", "Adam")})
    make.write_zip(path, content, make.storages_of(few))
    from samjax.checkpoint.families.official import read_official_weights

    assert "preprocess='sammed2d'" in read_official_weights(path).doubt
    trained = tmp_path / "trained.pth"
    content = make.dict_of({"model": make.state_dict(tensors), "optimizer": b"}"})
    make.write_zip(trained, content, make.storages_of(tensors))
    assert samjax.load(trained).preset.name == "sam"  # 80 px: nobody's, and no warning

    folder = tmp_path / "hf"
    folder.mkdir()
    write_torch_file(folder / "pytorch_model.bin", tensors)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    with pytest.warns(CheckpointWarning, match="hf: preprocessed as for SAM, which may be wrong"):
        assert samjax.load(folder).preset.name == "sam"
    assert samjax.load(folder, preprocess="microsam").preset.name == "microsam"
    out = tmp_path / "out"
    image = tmp_path / "image.png"
    from PIL import Image

    Image.fromarray(IMAGE).save(image)
    command = ["segment", str(image), "--box", "5,5,50,20", "--model", str(folder), "-o", str(out)]
    assert main(command) == 0
    error = capsys.readouterr().err
    assert "image processor is not SAM's own; choose with preprocess=" in error
    assert len(error.splitlines()) == 1
    assert main([*command, "--preprocess", "sammed2d", "--overwrite"]) == 0
    assert capsys.readouterr().err == ""
    record = json.loads((out / "image.json").read_text())
    assert record["preprocessing"] == "sammed2d"
    assert len(record["objects"][0]["masks"]) == 1
    assert main([*command, "--preprocess", "no", "--overwrite"]) == 2
    assert "unknown preset 'no'" in capsys.readouterr().err
