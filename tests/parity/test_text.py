"""Compare the adapters of real detectors with transformers called by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

import samjax
from samjax.cli import main
from samjax.errors import DetectorError, PromptError
from samjax.text.segment import detect
from tests.support.models import drawn_image
from tests.support.parity import detectors

pytestmark = pytest.mark.parity

PHRASES = ("dog", "A red Apple", "tree")
SIZES = [(80, 120), (120, 80), (33, 61)]
EVERYTHING = {"box_threshold": 0.05, "nms_threshold": 1.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {make.__name__: make(root / make.__name__) for make in detectors.FAMILIES}


def by_hand(folder: Path, image: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    """Detect boxes, scores and official labels as in transformers' documentation."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    picture, sizes, words = Image.fromarray(image), [image.shape[:2]], [p.lower() for p in PHRASES]
    with torch.no_grad():
        if model.config.model_type == "owlv2":
            inputs = processor(images=picture, text=[words], return_tensors="pt")
            (found,) = processor.post_process_grounded_object_detection(
                model(**inputs), threshold, target_sizes=sizes, text_labels=[words]
            )
        else:
            inputs = processor(images=picture, text=words, return_tensors="pt")
            (found,) = processor.post_process_grounded_object_detection(
                model(**inputs), inputs.input_ids, threshold, 0.5, target_sizes=sizes
            )
    boxes, scores = found["boxes"].numpy(), found["scores"].numpy()
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], np.array(found["text_labels"], object)[order]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_owlv2_gives_the_official_boxes_scores_and_labels(folders, size):
    image = drawn_image(*size)
    boxes, scores, labels = samjax.load_detector(str(folders["owlv2"]), **EVERYTHING)(
        image, PHRASES
    )
    expected_boxes, expected_scores, expected_labels = by_hand(folders["owlv2"], image, 0.05)
    assert len(boxes) > 5
    assert len(set(labels)) > 1
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    np.testing.assert_allclose(boxes, expected_boxes, atol=1e-3)
    assert [label.lower() for label in labels] == list(expected_labels)


@pytest.mark.parametrize("family", ["grounding_dino", "mm_grounding_dino"])
def test_grounding_dino_gives_the_official_boxes_and_scores(folders, family):
    detector = samjax.load_detector(str(folders[family]), text_threshold=0.5, **EVERYTHING)
    tokens = {"dog": {"dog"}, "A red Apple": {"a", "red", "apple"}, "tree": {"tree"}}
    seen, dropped = [], 0
    for size in SIZES:
        image = drawn_image(*size)
        boxes, scores, labels = detector(image, PHRASES)
        expected_boxes, expected_scores, official = by_hand(folders[family], image, 0.05)
        # The official label strings together all tokens above the threshold, dots and [SEP] too.
        words = [set(label.replace(".", " ").split()) - {"[SEP]", "[CLS]"} for label in official]
        named = np.array([bool(each) for each in words])
        dropped += (~named).sum()
        np.testing.assert_allclose(scores, expected_scores[named], atol=1e-6)
        np.testing.assert_allclose(boxes, expected_boxes[named], atol=1e-3)
        told = [each for each in words if each]
        for label, each in zip(labels, told, strict=True):
            assert tokens[label] & each
            # Where the official label has the words of one phrase only, it is ours.
            seen += [label for phrase in PHRASES if each <= tokens[phrase]]
            assert all(label == phrase for phrase in PHRASES if each <= tokens[phrase])
    assert set(seen) == set(PHRASES)
    assert dropped > 0


def test_thresholds_and_suppression(folders):
    image = drawn_image(80, 120)
    for folder in folders.values():
        every = samjax.load_detector(str(folder), **EVERYTHING)(image, PHRASES)
        middle = float(np.median(every[1]))
        sure = samjax.load_detector(str(folder), box_threshold=middle, nms_threshold=1.0)
        assert len(sure(image, PHRASES)[1]) == (every[1] > middle).sum()
        apart = samjax.load_detector(str(folder), box_threshold=0.05, nms_threshold=0.0)
        boxes, _, labels = apart(image, PHRASES)
        assert 0 < len(boxes) < len(every[0])
        for label in PHRASES:
            own = boxes[[i for i, other in enumerate(labels) if other == label]]
            low = np.maximum(own[:, None, :2], own[None, :, :2])
            high = np.minimum(own[:, None, 2:], own[None, :, 2:])
            shared = np.maximum(high - low, 0).prod(-1)
            assert np.all(shared[~np.eye(len(own), dtype=bool)] == 0)


def test_segment_text_from_a_folder(folders, small):
    image = drawn_image(80, 120)
    for folder in folders.values():
        found = samjax.segment_text(
            small, image, ". ".join(PHRASES), str(folder), box_threshold=0.3
        )
        detector = samjax.load_detector(str(folder), box_threshold=0.3)
        expected = detect(detector, image, PHRASES)
        assert len(found.labels) > 0
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        predictor = samjax.SamPredictor(small)
        predictor.set_image(image)
        masks = predictor.predict_many(boxes=expected.boxes, multimask_output=False).masks
        assert (found.masks == masks[:, 0]).mean() > 0.999
        none = samjax.segment_text(small, image, "dog", str(folder), box_threshold=0.999)
        assert none.masks.shape == (0, 80, 120)


def test_command_line(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(drawn_image(80, 120)).save("a.png")
    detector = str(folders["owlv2"])
    arguments = ["segment", "a.png", "--text", "dog . tree", "--detector", detector, "-o", "o"]
    assert main([*arguments, "--box-threshold", "0.3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a.png: ")
    assert err == ""
    record = json.loads(Path("o/a.json").read_text())
    assert record["text"]["box_threshold"] == 0.3
    assert len(record["objects"]) > 0
    assert {entry["label"] for entry in record["objects"]} <= {"dog", "tree"}


def test_phrases_that_a_family_cannot_read(folders):
    image = drawn_image(33, 61)
    dino = samjax.load_detector(str(folders["grounding_dino"]))
    with pytest.raises(PromptError, match=r"'which dog\?' has a '\?': Grounding DINO splits"):
        dino(image, ["which dog?"])
    with pytest.raises(PromptError, match=r"'St\. Bernard' has a '\.'"):
        dino(image, ["St. Bernard"])
    with pytest.raises(
        PromptError, match="the phrases have 43 tokens together: Grounding DINO reads at most 32"
    ):
        dino(image, ["dog cat " * 10, "tree " * 19])
    owl = samjax.load_detector(str(folders["owlv2"]))
    with pytest.raises(PromptError, match="has 18 tokens: OWLv2 reads at most 16"):
        owl(image, ["dog", "abcdefghijklmnop"])


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _other_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def _unknown_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "frobnicator"}')


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _incomplete(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["box_head.dense0.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_config, "no config.json in it"),
        (_other_model, "a bert model; text prompts work with grounding-dino, mm-grounding"),
        (_unknown_model, "cannot be loaded as a detector"),
        (_cut, "cannot be loaded as a detector .*check that its files are complete"),
        (_incomplete, "1 of 98 weights are missing, such as box_head.dense0.weight"),
        (_no_tokenizer, "files of the tokenizer are missing"),
    ],
)
def test_folders_that_are_no_detector(
    folders, tmp_path, capfd, harm: Callable[[Path], None], message
):
    folder = tmp_path / "detector"
    shutil.copytree(folders["owlv2"], folder)
    harm(folder)
    with pytest.raises(DetectorError, match=message) as caught:
        samjax.load_detector(str(folder))
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # no reports of transformers


def test_wrong_names_devices_and_thresholds(folders, tmp_path):
    folder = str(folders["owlv2"])
    with pytest.raises(DetectorError, match="torch cannot use device 'quantum'"):
        samjax.load_detector(folder, device="quantum")
    for threshold in (-0.1, 1.0, float("nan")):
        with pytest.raises(PromptError, match="give a confidence from 0 to 1"):
            samjax.load_detector(folder, box_threshold=threshold)
    with pytest.raises(DetectorError, match="no such folder, and not a name on Hugging Face"):
        samjax.load_detector(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(DetectorError, match="is a file"):
        samjax.load_detector(str(tmp_path / "file"))
