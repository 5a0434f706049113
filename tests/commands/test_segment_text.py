"""Test ``samjax segment --text`` with a scripted detector: files, messages and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.cli import main
from samjax.commands import segment_text
from samjax.engine import spec
from samjax.viz.overlay import PALETTE
from tests.support.models import drawn_image

HEIGHT, WIDTH = 64, 96
TEXT = ("--text", "a dog . a cat .")
# What the detector sees in an image, told by its number of columns: boxes, scores, labels
SEEN = {
    96: ([[10, 5, 50, 40], [50, 30, 96, 64]], [0.5, 0.75], ["a cat", "a dog"]),
    80: ([[20, 20, 60, 50]], [0.4], ["a cat"]),
    70: ([], [], []),
}


class Scripted:
    """Stands for a loaded Grounding DINO."""

    def __init__(self, name: str, box_threshold: float | None, device: str | None):
        self.asked = (name, box_threshold, device)
        self.box_threshold = 0.35 if box_threshold is None else box_threshold

    def __call__(self, image, phrases):
        assert phrases == ("a dog", "a cat")
        return SEEN[image.shape[1]]


@pytest.fixture
def asked(monkeypatch, tmp_path, small) -> list:
    """What load_detector was asked for; the working folder has three images."""
    made: list = []

    def load(name, *, box_threshold, device):
        made.append((name, box_threshold, device))
        return Scripted(name, box_threshold, device)

    monkeypatch.setattr(segment_text, "load_detector", load)
    monkeypatch.setattr(spec, "load", lambda *_, **__: small)  # quicker than the embedded one
    monkeypatch.chdir(tmp_path)
    for name, width in {"two": 96, "one": 80, "none": 70}.items():
        Image.fromarray(drawn_image(HEIGHT, width)).save(f"{name}.png")
    return made


@pytest.fixture
def run(capsys):
    """Run ``samjax segment``: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["segment", *arguments])
        return code, *capsys.readouterr()

    return call


def read(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_masks_labels_and_picture(asked, run, small):
    code, out, err = run("two.png", *TEXT, "--detector", "some/folder", "-o", "o")
    assert (code, err) == (0, "")
    assert asked == [("some/folder", None, None)]
    assert out == (
        "two.png: 1 x 'a dog' (best 0.75), 1 x 'a cat' (best 0.50) -> o/two_overlay.png\n"
    )
    boxes, labels = [[50, 30, 96, 64], [10, 5, 50, 40]], ["a dog", "a cat"]
    predictor = samjax.SamPredictor(small)
    predictor.set_image("two.png")
    expected = predictor.predict_many(boxes=boxes)
    order = np.argsort(-expected.scores, axis=1, kind="stable")
    record = json.loads(Path("o/two.json").read_text())
    assert record["text"] == {
        "phrases": ["a dog", "a cat"],
        "detector": "some/folder",
        "box_threshold": 0.35,
    }
    assert [entry["label"] for entry in record["objects"]] == labels
    assert [entry["detector_score"] for entry in record["objects"]] == [0.75, 0.5]
    assert [entry["box"] for entry in record["objects"]] == boxes
    assert {f"o/{name}" for name in record["files"]} == {f for f in files() if f[:2] == "o/"}
    with np.load("o/two_masks.npz") as arrays:
        assert arrays["labels"].tolist() == labels
        np.testing.assert_array_equal(arrays["boxes"], np.float32(boxes))
        np.testing.assert_array_equal(arrays["detector_scores"], np.float32([0.75, 0.5]))
        for i in range(2):
            np.testing.assert_array_equal(arrays["masks"][i], expected.masks[i, order[i]])
            best = read(f"o/two_object{i + 1}_mask_1.png") > 0
            np.testing.assert_array_equal(best, expected.masks[i, order[i, 0]])
    picture = read("o/two_overlay.png")
    for colour in PALETTE[:2]:  # the tags
        assert (picture == colour).all(axis=2).sum() > 100


def test_many_images_with_any_number_of_objects(asked, run):
    arguments = ("--single", "--box-threshold", "0.2", "--device", "cpu", "-o", "o")
    code, out, err = run("one.png", "none.png", "two.png", *TEXT, *arguments)
    assert (code, err) == (0, "")
    assert asked == [("IDEA-Research/grounding-dino-tiny", 0.2, "cpu")]
    lines = out.splitlines()
    assert lines[0] == "one.png: 1 x 'a cat' (best 0.40); no 'a dog' -> o/one_overlay.png"
    assert lines[1] == (
        "none.png: nothing found for 'a dog', 'a cat' above box threshold 0.2; lower "
        "--box-threshold, or name it otherwise -> o/none.json"
    )
    assert {f for f in files() if "_mask_" in f} == {
        "o/one_object1_mask_1.png",
        "o/two_object1_mask_1.png",
        "o/two_object2_mask_1.png",
    }
    for name, count, width in (("one", 1, 80), ("none", 0, 70), ("two", 2, 96)):
        with np.load(f"o/{name}_masks.npz") as arrays:
            assert arrays["masks"].shape == (count, 1, HEIGHT, width)
            assert arrays["labels"].shape == (count,)
            assert arrays["boxes"].shape == (count, 4)
    assert json.loads(Path("o/none.json").read_text())["objects"] == []
    np.testing.assert_array_equal(read("o/none_overlay.png"), read("none.png"))


@pytest.mark.usefixtures("asked")
def test_overwrite_and_what_is_never_replaced(run):
    assert run("two.png", *TEXT, "-o", "o")[0] == 0
    for name in ("two.json", "two_masks.npz", "two_overlay.png"):
        Path("o", name).rename(f"kept_{name}")
    code, _, err = run("two.png", *TEXT, "-o", "o")  # masks of objects are left
    assert (code, err) == (
        2,
        "samjax: o/two_object1_mask_1.png exists; choose another --out, or pass --overwrite\n",
    )
    Path("kept_two.json").rename("o/two.json")
    assert run("two.png", *TEXT, "-o", "o", "--single", "--overwrite")[0] == 0
    assert not Path("o/two_object1_mask_2.png").exists()
    Path("o/two_object2_mask_1.png").rename("two_object2_mask_1.png")
    code, _, err = run("two.png", "two_object2_mask_1.png", *TEXT, "-o", ".", "--overwrite")
    assert code == 2
    assert "is an input and would be replaced" in err


BAD = {
    "point": ((*TEXT, "--point", "3,4"), "--text with --point: the objects of a text come from"),
    "all": ((*TEXT, "-p", "3,4", "-b", "1,2,3,4"), "--text with --point and --box"),
    "mask": ((*TEXT, "--mask", "one.png"), "--text with --mask"),
    "no words": (("--text", " . "), "--text ' . ' has no words: give phrases separated by dots"),
    "empty": (("--text", ""), "--text '' has no words"),
    "detector alone": (("--detector", "x/y"), "--detector without --text"),
    "detector and point": (("--detector", "x/y", "-p", "3,4"), "--detector without --text"),
    "threshold alone": (("--box-threshold", "0", "-p", "3,4"), "--box-threshold without --text"),
    "threshold 1": ((*TEXT, "--box-threshold", "1"), "--box-threshold 1: give a confidence"),
    "threshold -1": ((*TEXT, "--box-threshold", "-1"), "give a confidence from 0 to 1"),
    "threshold nan": ((*TEXT, "--box-threshold", "nan"), "give a confidence from 0 to 1"),
    "no prompt": ((), "or what it is with --text"),
    "model": ((*TEXT, "--model", "vit_x"), "no such file or folder"),
    "out": ((*TEXT, "--out", "one.png"), "is a file, not a folder"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("asked")
def test_wrong_use(run, case):
    arguments, expected = BAD[case]
    before = files()
    code, out, err = run("two.png", *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.startswith("samjax: ")
    assert err.count("\n") == 1
    assert files() == before


def test_a_broken_image_comes_out_before_the_detector_is_loaded(asked, run):
    Path("broken.png").write_text("no image")
    code, _, err = run("broken.png", *TEXT)
    assert code == 2
    assert "broken.png" in err
    assert asked == []


def test_a_broken_image_does_not_stop_the_others(asked, run):
    Path("broken.png").write_text("no image")
    code, out, err = run("two.png", "broken.png", *TEXT)
    assert code == 2
    assert "broken.png" in err
    assert "two.png" in out
    assert len(asked) == 1
