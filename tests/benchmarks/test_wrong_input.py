"""Test that wrong data and arguments give a one-line error and exit code 2."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import samjax
from benchmarks.miou import cli
from tests.support.benchmarks.drawn import draw_coco, draw_folder, label_map
from tests.support.models import PLAIN

# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def empty(root):
    path = draw_coco(root)
    path.write_text(json.dumps({"images": [], "annotations": []}))
    return path


def no_annotations(root):
    path = draw_coco(root)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    return path


def images_gone(root):
    path = draw_coco(root)
    (root / "val" / "2.png").unlink()
    return path


def folder_gone(root):
    path = draw_coco(root)
    shutil.rmtree(root / "val")
    return path


def not_json(root):
    path = draw_coco(root)
    path.write_text("{")
    return path


def not_coco(root):
    path = draw_coco(root)
    path.write_text("[]")
    return path


def changed(root, change):
    """Write a COCO file whose content ``change`` has modified."""
    path = draw_coco(root)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def no_image_id(root):
    return changed(root, lambda content: content["annotations"][0].pop("image_id"))


def no_height(root):
    return changed(root, lambda content: content["images"][0].pop("height"))


def short_box(root):
    return changed(root, lambda content: content["annotations"][0].update(bbox=[1, 2, 3]))


def broken_polygon(root):
    return changed(root, lambda content: content["annotations"][0].update(segmentation=[["a"]]))


def broken_picture(root):
    path = draw_coco(root)
    (root / "val" / "1.png").write_bytes(b"no picture")
    return path


def other_images(root):
    path = draw_coco(root)
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(root / "val" / "1.png")
    return path


def empty_folder(root):
    return draw_folder(root, "images", "segments", lambda _: [])


def unknown_folder(root):
    root.mkdir()
    return root


WRONG = {
    "an empty data set": (empty, "it lists no image"),
    "a missing annotation file": (lambda root: root / "no.json", "no such annotation file"),
    "no annotations": (no_annotations, "there is no annotation"),
    "crowds only": (lambda root: draw_coco(root, crowd=True), "all 6 annotations are crowds"),
    "an image missing": (images_gone, "1 of 3"),
    "no folder of images": (folder_gone, "give it with --images"),
    "not JSON": (not_json, "not a readable JSON file"),
    "not COCO": (not_coco, "not a COCO file"),
    "an entry without its image": (no_image_id, "lacks an entry ('image_id')"),
    "an image without its size": (no_height, "lacks an entry ('height')"),
    "a box of three numbers": (short_box, "annotation 1 has no usable segmentation or bbox"),
    "a broken polygon": (broken_polygon, "annotation 1 has no usable segmentation or bbox"),
    "a picture that is none": (broken_picture, "1.png"),
    "images of another size": (other_images, "do not belong together"),
    "no label maps": (empty_folder, "no image here has a label map"),
    "an unknown layout": (unknown_folder, "not a data set that is known"),
    "no folder": (lambda root: root / "nowhere", "no such folder or annotation file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_gives_one_line_and_exit_code_2(case, tmp_path, monkeypatch, capsys):
    make, words = WRONG[case]
    path = make(tmp_path / "data")
    monkeypatch.setattr(cli, "load_models", lambda _: [samjax.load(PLAIN)])
    monkeypatch.setattr(samjax, "SamPredictor", lambda _: NeverAsked())
    with pytest.raises(SystemExit) as left:
        cli.command(["sam-point", "--data", str(path), "--out", str(tmp_path / "out")])
    assert left.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in message


class NeverAsked:
    """Stands in for a predictor without methods: wrong data must be noticed before its use."""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--limit", "0"], "--limit 0: at least 1"),
        (["--detections", "d.json"], "belongs to the protocol boxes"),
        (["--refine"], "belongs to the protocol boxes"),
        (["--limit", "-3"], "--limit -3: at least 1"),
        (["--devices", "0"], "--devices 0: at least 1"),
        (["--devices", "99"], "JAX sees"),
        (["--devices", "2", "--device", "cpu:99"], "no device 'cpu:99' here"),
        (["--device", "abacus"], "no device 'abacus' here"),
        (["--dtype", "int3"], "int3"),
        (["--model", "none.pth"], "none.pth"),
    ],
)
def test_wrong_arguments(more, words, tmp_path, capsys):
    path = draw_coco(tmp_path / "coco")
    with pytest.raises(SystemExit) as left:
        cli.command(["sam-point", "--data", str(path), "--out", str(tmp_path / "o"), *more])
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_classical_methods_say_what_to_install(tmp_path, monkeypatch, capsys):
    path = draw_coco(tmp_path / "coco")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit) as left:
        cli.command(["overview", "--data", str(path), "--out", str(tmp_path / "o")])
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert "cv2" in message
    assert "samjax[bench]" in message
    assert "--classical 0" in message


def detection(**changes):
    """Write a detector's results with a single entry."""
    right = {"image_id": 1, "category_id": 1, "bbox": [4, 6, 20, 10], "score": 0.5}
    return json.dumps([right | changes])


def test_missing_detections(tmp_path, capsys):
    path = draw_coco(tmp_path / "coco")
    with pytest.raises(SystemExit) as left:
        cli.command(
            ["boxes", "--data", str(path), "--out", str(tmp_path), "--detections", "none.json"]
        )
    assert left.value.code == 2
    assert "none.json: no such annotation file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "none of its 0 detections"),
        ("{}", "not COCO results"),
        ('[{"image_id": 1}]', "not COCO results"),
        (detection(bbox=[1, 2, 3]), "not COCO results"),
        (detection(bbox=5), "not COCO results"),
        (detection(score=float("nan")), "not COCO results"),
        (detection(image_id=99), "none of its 1 detections"),
        ("?", "not a readable JSON file"),
    ],
)
def test_wrong_detections(content, words, tmp_path, capsys):
    path = draw_coco(tmp_path / "coco")
    results = tmp_path / "results.json"
    results.write_text(content)
    with pytest.raises(SystemExit) as left:
        cli.command(
            ["boxes", "--data", str(path), "--out", str(tmp_path), "--detections", str(results)]
        )
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_detections_need_a_coco_file(tmp_path, capsys):
    root = draw_folder(tmp_path / "d", "images", "labels", lambda own: [label_map(own)], "")
    results = tmp_path / "results.json"
    results.write_text("[]")
    with pytest.raises(SystemExit):
        cli.command(
            ["boxes", "--data", str(root), "--out", str(tmp_path), "--detections", str(results)]
        )
    assert "against a COCO file" in capsys.readouterr().err


def test_an_interrupt_ends_with_one_line_and_exit_code_130(tmp_path, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_models", interrupted)
    path = draw_coco(tmp_path / "coco")
    with pytest.raises(SystemExit) as left:
        cli.command(["sam-point", "--data", str(path), "--out", str(tmp_path / "o")])
    assert left.value.code == 130
    assert "resumes where it stopped" in capsys.readouterr().err
