"""Compare both predictors end to end, from files and images to masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import samjax
from benchmarks.speed.competitors.sizes import hugging_face_sizes
from samjax.checkpoint.families.huggingface import official_key
from tests.support.models import DRAWN, PLAIN, drawn_image
from tests.support.parity.measure import LOGITS, Ledger
from tests.support.parity.official import (
    OfficialPredictor,
    build_official,
    calibrate,
    random_official,
    randomise,
    state_arrays,
)

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def official():
    return random_official(PLAIN)


@pytest.fixture(scope="module")
def sam(official, tmp_path_factory) -> samjax.Segmenter:
    path = tmp_path_factory.mktemp("zip") / "sam.pth"
    torch.save(official.state_dict(), path)
    return samjax.load(path)


@pytest.fixture(scope="module")
def ours(sam) -> samjax.SamPredictor:
    return samjax.SamPredictor(sam)


@pytest.fixture(scope="module")
def theirs(official) -> OfficialPredictor:
    return OfficialPredictor(official)


def prompt_sets(height: int, width: int, low_res: np.ndarray) -> dict[str, dict]:
    """Make arguments of ``predict``, in pixels of an image of this size."""

    def pixels(*xy: float) -> np.ndarray:
        return np.array(xy).reshape(-1, 2) * (width, height)

    point = {"point_coords": pixels(0.4, 0.45), "point_labels": np.array([1])}
    points = {
        "point_coords": pixels(0.3, 0.3, 0.8, 0.9, 0.5, 0.6),
        "point_labels": np.array([1, 0, 1]),
    }
    padded = {
        "point_coords": pixels(0.3, 0.3, 0.8, 0.9),
        "point_labels": np.array([1, -1]),
    }
    outside = {"point_coords": pixels(1.2, -0.3, 0.5, 0.5), "point_labels": np.array([0, 1])}
    whole = {"point_coords": np.array([[width // 2, height // 2]]), "point_labels": np.array([1])}
    box = {"box": pixels(0.2, 0.1, 0.85, 0.9).reshape(4)}
    mask = {"mask_input": low_res}
    return {
        "point": point,
        "point of whole pixels": whole,
        "points": points,
        "label -1": padded,
        "outside": outside,
        "box": box,
        "points and box": points | box,
        "mask": mask,
        "point and mask": point | mask,
        "box and mask": box | mask,
        "points, box and mask": points | box | mask,
    }


def compare(ours, theirs, arguments: dict, ledger: Ledger, stage: str = "predict") -> None:
    """Compare one call of both: logits, scores, binary masks, shapes and dtypes."""
    masks, scores, low_res = ours.predict(**arguments)
    expected_masks, expected_scores, expected = theirs.predict(**arguments)
    ledger.logits(f"{stage}, low-res logits", low_res, expected)
    ledger.scores(f"{stage}, scores", scores, expected_scores)
    if arguments.get("return_logits"):
        assert masks.dtype == expected_masks.dtype == np.float32
        assert masks.shape == expected_masks.shape
        error = np.abs(masks - expected_masks).max() / expected.std()
        ledger.note(f"{stage}, full-size logits", float(error), LOGITS)
    else:
        ledger.pixels(f"{stage}, masks", masks, expected_masks)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("size", DRAWN, ids=str)
def test_predict(ours, theirs, size: tuple[int, int], image_format: str, ledger):
    image = drawn_image(*size)
    ours.set_image(image, image_format)
    theirs.set_image(image, image_format)
    assert ours.original_size == tuple(theirs.original_size)
    assert ours.input_size == tuple(theirs.input_size)
    ledger.embedding(
        "image embedding", ours.get_image_embedding(), theirs.get_image_embedding().numpy()
    )
    centre = np.array([[size[1] / 2, size[0] / 2]])
    low_res = theirs.predict(centre, np.array([1]), multimask_output=False)[2]
    for arguments in prompt_sets(*size, low_res).values():
        for multimask in (True, False):
            for logits in (True, False):
                extra = {"multimask_output": multimask, "return_logits": logits}
                compare(ours, theirs, arguments | extra, ledger)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", [1, 2, 5])
@pytest.mark.parametrize("given", ["points", "boxes", "points boxes", "points boxes masks"])
def test_predict_many(official, ours, theirs, given: str, prompts: int, multimask: bool, ledger):
    size = 48, 70
    image = drawn_image(*size)
    ours.set_image(image)
    theirs.set_image(image)
    rng = np.random.default_rng(prompts)
    xy = rng.uniform(0, 1, (prompts, 3, 2)) * (size[1], size[0])
    labels = rng.integers(0, 2, (prompts, 3))
    boxes = np.sort(rng.uniform(0, 1, (prompts, 2, 2)), 1) * (size[1], size[0])
    boxes = boxes.reshape(-1, 4)
    m = official.image_encoder.img_size // official.image_encoder.patch_embed.proj.stride[0] * 4
    masks = (8 * rng.standard_normal((prompts, 1, m, m))).astype(np.float32)
    transform = theirs.transform
    named = {}
    tensors = {"point_coords": None, "point_labels": None, "boxes": None, "mask_input": None}
    if "points" in given:
        named |= {"point_coords": xy, "point_labels": labels}
        tensors["point_coords"] = torch.as_tensor(
            transform.apply_coords(xy, size), dtype=torch.float
        )
        tensors["point_labels"] = torch.as_tensor(labels, dtype=torch.int)
    if "boxes" in given:
        named["boxes"] = boxes
        tensors["boxes"] = torch.as_tensor(transform.apply_boxes(boxes, size), dtype=torch.float)
    if "masks" in given:
        named["mask_inputs"] = masks
        tensors["mask_input"] = torch.from_numpy(masks)
    got = ours.predict_many(**named, multimask_output=multimask)
    expected = [x.numpy() for x in theirs.predict_torch(**tensors, multimask_output=multimask)]
    ledger.logits("predict_many, low-res logits", got.low_res, expected[2])
    ledger.scores("predict_many, scores", got.scores, expected[1])
    ledger.pixels("predict_many, masks", got.masks, expected[0])


def test_ragged_points_are_those_of_single_calls(ours, theirs, ledger):
    image = drawn_image(48, 70)
    ours.set_image(image)
    theirs.set_image(image)
    rng = np.random.default_rng(0)
    xy = [rng.uniform(0, 48, (n, 2)) for n in (1, 4, 2)]
    labels = [np.arange(n) % 2 for n in (1, 4, 2)]
    got = ours.predict_many(xy, labels)
    for i, (points, marks) in enumerate(zip(xy, labels, strict=True)):
        masks, scores, low_res = theirs.predict(points, marks)
        ledger.logits("predict_many, ragged, low-res logits", got.low_res[i], low_res)
        ledger.scores("predict_many, ragged, scores", got.scores[i], scores)
        ledger.pixels("predict_many, ragged, masks", got.masks[i], masks)


def test_predict_images(ours, theirs, ledger):
    sizes = ((48, 70), (90, 61), (5, 7))
    images = [drawn_image(*size, seed=i) for i, size in enumerate(sizes)]
    prompts = [
        {"point_coords": [[[20, 20]], [[30, 40]]], "point_labels": [[1], [1]]},
        {"boxes": [[5, 6, 50, 70]]},
        {"point_coords": [[[2, 2], [4, 4]]], "point_labels": [[1, 0]]},
    ]
    results = ours.predict_images(images, prompts)
    for image, given, got in zip(images, prompts, results, strict=True):
        theirs.set_image(image)
        for i in range(len(got.masks)):
            one = {k: np.array(v[i]) for k, v in given.items()}
            if "boxes" in one:
                one["box"] = one.pop("boxes")
            masks, scores, low_res = theirs.predict(**one)
            ledger.logits("predict_images, low-res logits", got.low_res[i], low_res)
            ledger.scores("predict_images, scores", got.scores[i], scores)
            ledger.pixels("predict_images, masks", got.masks[i], masks)


# ------------------------------------------------------------------ files


def hugging_face(official) -> transformers.SamModel:
    """Build transformers' SamModel with the weights of an official model."""
    config = transformers.SamConfig(**hugging_face_sizes(PLAIN), attn_implementation="eager")
    model = transformers.SamModel(config).eval()
    weights = official.state_dict()
    model.load_state_dict({key: weights[official_key(key)] for key in model.state_dict()})
    return model


@pytest.fixture(scope="module")
def written(official, tmp_path_factory) -> dict[str, Path]:
    """Write the same weights in every container, by torch, safetensors and transformers."""
    folder = tmp_path_factory.mktemp("files")
    weights = official.state_dict()
    torch.save(weights, folder / "zip.pth")
    torch.save(weights, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "plain.safetensors")
    model = hugging_face(official)
    model.save_pretrained(folder / "hf")
    model.save_pretrained(folder / "hf sharded", max_shard_size="60KB")
    assert len(list((folder / "hf sharded").glob("*.safetensors"))) > 2
    (folder / "hf bin").mkdir()
    torch.save(model.state_dict(), folder / "hf bin" / "pytorch_model.bin")
    config = json.loads((folder / "hf" / "config.json").read_text())
    (folder / "hf bin" / "config.json").write_text(json.dumps(config))
    names = ("zip.pth", "legacy.pth", "plain.safetensors", "hf", "hf sharded", "hf bin")
    return {name: folder / name for name in names}


@pytest.mark.parametrize(
    "name", ["zip.pth", "legacy.pth", "plain.safetensors", "hf", "hf sharded", "hf bin"]
)
def test_every_container_gives_the_same_parameters(sam, written, name: str):
    loaded = samjax.load(written[name])
    expected, got = sam.parameters(), loaded.parameters()
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
    eps = loaded.config.mask_decoder.layer_norm_eps
    assert eps == (1e-6 if name.startswith("hf") else 1e-5)
    assert loaded.config.image_encoder == sam.config.image_encoder


def test_hugging_face_forward(official, written, ledger):
    """SamModel's own forward, with its epsilon of 1e-6 in the two-way blocks."""
    model = transformers.SamModel.from_pretrained(written["hf"], attn_implementation="eager")
    ours = samjax.SamPredictor(samjax.load(written["hf"]))
    size = 48, 70
    image = drawn_image(*size)
    ours.set_image(image)
    transform = OfficialPredictor(official).transform
    resized = torch.from_numpy(transform.apply_image(image)).permute(2, 0, 1)[None]
    xy = np.array([[30.0, 20.0], [60.0, 10.0]])
    labels, box = np.array([1, 0]), np.array([10.0, 5.0, 60.0, 40.0])
    inside = torch.as_tensor(transform.apply_coords(xy, size), dtype=torch.float)[None, None]
    corners = torch.as_tensor(transform.apply_boxes(box[None], size), dtype=torch.float)[None]
    pixels = official.preprocess(resized)
    with torch.no_grad():
        embedding = model.get_image_embeddings(pixels)
    ledger.embedding("Hugging Face, image embedding", ours.get_image_embedding(), embedding.numpy())
    points = {"input_points": inside, "input_labels": torch.as_tensor(labels)[None, None]}
    for theirs, mine in (
        (points, {"point_coords": xy, "point_labels": labels}),
        ({"input_boxes": corners}, {"box": box}),
        (
            points | {"input_boxes": corners},
            {"point_coords": xy, "point_labels": labels, "box": box},
        ),
    ):
        for multimask in (True, False):
            with torch.no_grad():
                out = model(pixel_values=pixels, **theirs, multimask_output=multimask)
            got = ours.predict(**mine, multimask_output=multimask)
            ledger.logits("Hugging Face, logits", got.low_res, out.pred_masks[0, 0].numpy())
            ledger.scores("Hugging Face, scores", got.scores, out.iou_scores[0, 0].numpy())


# -------------------------------------------------------------- full size


def test_vit_b_at_full_size(photo, tmp_path, ledger):
    """The published size once: random weights, a photograph, every kind of prompt."""
    config = samjax.SamConfig.vit_b()
    model = build_official(config)
    randomise(model, torch.Generator().manual_seed(0))
    theirs = calibrate(model, photo)  # encodes the photograph: 20 seconds, so once
    path = tmp_path / "vit_b.pth"
    torch.save(model.state_dict(), path)
    ours = samjax.SamPredictor(samjax.load(path))
    assert ours.model.config == config
    assert len(state_arrays(model)) == len(ours.model.parameters())
    ours.set_image(photo)
    ledger.embedding(
        "vit_b, image embedding", ours.get_image_embedding(), theirs.get_image_embedding().numpy()
    )
    h, w = photo.shape[:2]
    low_res = theirs.predict(np.array([[w / 2, h / 2]]), np.array([1]), multimask_output=False)[2]
    sets = prompt_sets(h, w, low_res)
    for name in ("point", "points and box", "point and mask"):
        for multimask in (True, False):
            arguments = sets[name] | {"multimask_output": multimask}
            compare(ours, theirs, arguments, ledger, "vit_b")
