"""Compare each preset with the image pipeline of its family, on the same random weights."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from skimage import transform

import samjax
from samjax.image.preset import get_preset, normalise, prepare, read_for
from samjax.image.resampling import resize_medsam, resize_nearest
from tests.support.models import PLAIN, drawn_image
from tests.support.parity import family_models as families
from tests.support.parity.official import calibrate, random_official

pytestmark = pytest.mark.parity
# Landscape, portrait, larger and smaller than the network's input, its own size
SIZES = ((48, 70), (131, 61), (80, 80), (9, 23), (200, 333))


@pytest.fixture(scope="module")
def official():
    """Build a random model whose heads are calibrated on a drawn image."""
    sam = copy.deepcopy(random_official(PLAIN, 3))
    calibrate(sam, drawn_image(48, 70, seed=1))
    return sam


@pytest.fixture(scope="module")
def saved(official, tmp_path_factory):
    path = tmp_path_factory.mktemp("presets") / "sam.pth"
    torch.save(official.state_dict(), path)
    return path


def network_input(preset: str, image) -> np.ndarray:
    chosen = get_preset(preset)
    prepared = prepare(read_for(chosen, image), PLAIN.image_size, chosen)
    return np.asarray(normalise(prepared.pixels, np.array(prepared.input_size, np.int32), chosen))


def predictor(saved, preset: str, image) -> samjax.SamPredictor:
    made = samjax.SamPredictor(samjax.load(saved, preprocess=preset))
    made.set_image(image)
    return made


def embeddings(ours: samjax.SamPredictor, theirs, ledger, stage: str) -> None:
    ledger.embedding(f"{stage}, embedding", ours.get_image_embedding(), theirs.numpy())


def logits(a: np.ndarray, b: np.ndarray, ledger, stage: str) -> None:
    # These inputs are not those that the heads were calibrated on: no limits of foreground.
    ledger.note(f"{stage}, logits", float(np.abs(a - b).max() / b.std()), 1e-3)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_medsam(official, saved, size, ledger):
    image = drawn_image(*size)
    box = np.array([0.2 * size[1], 0.1 * size[0], 0.9 * size[1], 0.8 * size[0]])
    values, embedding, low_res, scores, probability = families.medsam(official, image, box)
    ledger.embedding("medsam, input", network_input("medsam", image), np.float32(values))
    ours = predictor(saved, "medsam", image)
    embeddings(ours, embedding, ledger, "medsam")
    for multimask in (True, False):  # its single mask either way
        masks, iou, low = ours.predict(box=box, multimask_output=multimask)
        logits(low, low_res, ledger, "medsam")
        ledger.scores("medsam, scores", iou, scores)
        ledger.pixels("medsam, masks", masks, probability > 0.5)
    full = ours.predict(box=box, return_logits=True).masks
    ledger.note(
        "medsam, probability", float(np.abs(1 / (1 + np.exp(-full)) - probability).max()), 1e-4
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sammed2d(official, saved, size, ledger):
    image = drawn_image(*size)
    point = np.array([[0.4 * size[1], 0.3 * size[0]], [0.8 * size[1], 0.9 * size[0]]])
    labels = np.array([1, 0])
    box = np.array([0.2 * size[1], 0.1 * size[0], 0.9 * size[1], 0.8 * size[0]])
    ours = predictor(saved, "sammed2d", image)
    for multimask in (True, False):
        for given in ({"points": point, "labels": labels}, {"box": box}):
            values, embedding, low_res, scores, expected = families.sammed2d(
                official, image, **given, multimask=multimask
            )
            ledger.embedding(
                "sammed2d, input", network_input("sammed2d", image), np.float32(values)
            )
            embeddings(ours, embedding, ledger, "sammed2d")
            names = {"points": "point_coords", "labels": "point_labels", "box": "box"}
            arguments = {names[key]: value for key, value in given.items()}
            masks, iou, low = ours.predict(**arguments, multimask_output=multimask)
            assert masks.shape[0] == 1
            logits(low, low_res, ledger, "sammed2d")
            ledger.scores("sammed2d, scores", iou, scores)
            ledger.pixels("sammed2d, masks", masks, expected.numpy())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_samed(official, saved, size, ledger):
    rng = np.random.default_rng(0)
    grey = drawn_image(*size)[..., 0].astype(np.float32) / 255
    grey = np.clip(grey + 0.001 * rng.standard_normal(grey.shape), 0, 1).astype(np.float32)
    values, embedding, low_res, labels = families.samed(official, grey)
    ledger.embedding("samed, input", network_input("samed", grey), values)
    ours = predictor(saved, "samed", grey)
    embeddings(ours, embedding, ledger, "samed")
    masks, _, low = ours.predict()
    logits(low, low_res[1:], ledger, "samed")
    ledger.pixels("samed, masks", masks, labels == np.array([1, 2, 3])[:, None, None])
    background = ours.predict(multimask_output=False)
    ledger.pixels("samed, background", background.masks, (labels == 0)[None])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float", "colour", "dim colour"])
def test_microsam(official, saved, kind: str, ledger):
    image = drawn_image(48, 70)
    if kind == "uint8":
        image = image[..., 1] // 3 + 20
    elif kind == "uint16":
        image = (image[..., 1].astype(np.uint16) * 13 + 300).astype(np.uint16)
    elif kind == "float":
        image = image[..., 1].astype(np.float32) * 7.3 - 400
    elif kind == "dim colour":
        image = image // np.array([2, 5, 3], np.uint8) + np.uint8(9)
    theirs = families.microsam(official, image)
    ours = predictor(saved, "microsam", image)
    embeddings(ours, theirs.get_image_embedding().detach(), ledger, "microsam")
    point = {"point_coords": np.array([[28.0, 20.0]]), "point_labels": np.array([1])}
    for multimask in (True, False):
        a = ours.predict(**point, multimask_output=multimask)
        b = theirs.predict(**point, multimask_output=multimask)
        logits(a[2], b[2], ledger, "microsam")
        ledger.scores("microsam, scores", a[1], b[1])
        ledger.pixels("microsam, masks", a[0], b[0])


def test_resampling():
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width, h, w = map(int, rng.integers(1, 70, 4))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        nearest = cv2.resize(image, (w, h), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(resize_nearest(image, (h, w)), nearest)
        cubic = transform.resize(image, (h, w), order=3, preserve_range=True, anti_aliasing=True)
        ours = resize_medsam(image, (h, w))
        # Cut to whole numbers: where the exact value is one, rounding errors decide.
        assert np.abs(ours - cubic).max() < 1.001
        assert (ours == cubic.astype(np.uint8)).mean() > 0.99
