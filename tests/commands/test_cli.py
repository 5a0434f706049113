"""Test the output of the command line; wrong use gives one line and exit code 2."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

import samjax
from samjax.checkpoint import convert, describe
from samjax.checkpoint import download as hub
from samjax.cli import main
from samjax.commands import info, request, results, segment
from samjax.commands.messages import without_half_made_bars
from samjax.engine import devices, spec
from samjax.engine.load import embedded_path, load
from samjax.errors import PromptError
from samjax.model.config import SamConfig

WIDTH, HEIGHT = 96, 64
CLICK = ("--point", "30,20")
THRESHOLDS = ("--pred-iou-thresh", "0.5", "--stability-score-thresh", "0.5")
_load = functools.lru_cache(load)


@pytest.fixture(autouse=True)
def one_model(monkeypatch):
    """Load, and compile, the embedded checkpoint once for all tests."""
    monkeypatch.setattr(spec, "load", _load)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with one good photograph."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("photo.png")
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command line: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A dark disc on a gradient: something to segment."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 2, y * 3, 255 - x * 2], axis=2).clip(0, 255)
    image[(x - 30) ** 2 + (y - 20) ** 2 < 200] = (20, 30, 10)
    return image.astype(np.uint8)


def read(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(path: Path) -> set[str]:
    return {entry.relative_to(path).as_posix() for entry in path.rglob("*")}


def predictor_for(path: Path) -> samjax.SamPredictor:
    predictor = samjax.SamPredictor(_load(None, dtype="float32", precision="highest", device=None))
    predictor.set_image(path)
    return predictor


# Good runs


def test_segment_writes_what_the_predictor_gives(run, folder):
    code, out, err = run("segment", "photo.png", *CLICK, "--point", "80,50,0", "--out", "out")
    assert (code, err) == (0, "")
    assert out.startswith("photo.png: 3 masks, IoU ")
    assert out.rstrip().endswith("-> out/photo_overlay.png")
    masks, scores, low_res = predictor_for(folder / "photo.png").predict(
        [[30, 20], [80, 50]], [1, 0]
    )
    order = np.argsort(-scores, kind="stable")
    with np.load("out/photo_masks.npz") as arrays:
        np.testing.assert_array_equal(arrays["masks"], masks[order])
        np.testing.assert_array_equal(arrays["scores"], scores[order])
        np.testing.assert_array_equal(arrays["low_res"], low_res[order])
        np.testing.assert_array_equal(arrays["order"], order)
    for rank, index in enumerate(order, 1):
        written = read(f"out/photo_mask_{rank}.png")
        np.testing.assert_array_equal(written, masks[index] * np.uint8(255))
    assert read("out/photo_overlay.png").shape == (HEIGHT, WIDTH, 3)
    record = json.loads(Path("out/photo.json").read_text())
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)
    assert record["prompts"]["points"] == [[30, 20], [80, 50]]
    assert record["prompts"]["labels"] == [1, 0]
    assert (record["model"], record["dtype"], record["threshold"]) == ("embedded", "float32", 0)
    listed = record["objects"][0]["masks"]
    assert [mask["area"] for mask in listed] == masks[order].sum((1, 2)).tolist()
    np.testing.assert_allclose([mask["score"] for mask in listed], scores[order], atol=1e-6)
    assert set(record["files"]) == files(folder / "out")


def test_single_threshold_box_and_point_are_one_object(run, folder):
    box = ("--box", "10,5,50,40")
    code, _, _ = run(
        "segment", "photo.png", *CLICK, *box, "--single", "--threshold", "1", "-o", "o"
    )
    assert code == 0
    predictor = predictor_for(folder / "photo.png")
    predictor.mask_threshold = 1.0
    expected = predictor.predict([[30, 20]], [1], [10, 5, 50, 40], multimask_output=False)
    with np.load("o/photo_masks.npz") as arrays:
        np.testing.assert_array_equal(arrays["masks"], expected.masks)
    assert "photo_mask_2.png" not in files(folder / "o")


def test_several_boxes_are_several_objects(run, folder):
    code, out, _ = run("segment", "photo.png", "-b", "10,5,50,40", "-b", "50,30,96,64", "-o", "o")
    assert code == 0
    assert "2 objects with 3 masks each" in out
    boxes = [[10, 5, 50, 40], [50, 30, 96, 64]]
    expected = predictor_for(folder / "photo.png").predict_many(boxes=boxes)
    order = np.argsort(-expected.scores, axis=1, kind="stable")
    with np.load("o/photo_masks.npz") as arrays:
        assert arrays["masks"].shape == (2, 3, HEIGHT, WIDTH)
        np.testing.assert_array_equal(arrays["scores"][1], expected.scores[1, order[1]])
    best = read("o/photo_object2_mask_1.png") > 0
    np.testing.assert_array_equal(best, expected.masks[1, order[1, 0]])


@pytest.mark.parametrize("white", [1, 255])
def test_mask_prompt(run, folder, white):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:34, 16:46] = white
    Image.fromarray(mask).save("rough.png")
    assert run("segment", "photo.png", "--mask", "rough.png", "-o", "o")[0] == 0
    predictor = predictor_for(folder / "photo.png")
    expected = predictor.predict_mask(mask)  # with its box and centre: alone it says too little
    with np.load("o/photo_masks.npz") as arrays:
        np.testing.assert_array_equal(arrays["masks"][0], expected.masks[expected.scores.argmax()])


def _formats() -> dict[str, Image.Image]:
    colour = Image.fromarray(picture())
    deep = np.asarray(colour.convert("L")).astype(np.uint16) * 200
    return {
        "a.jpg": colour,
        "b.png": colour,
        "c.tif": colour,
        "d.bmp": colour,
        "grey.png": colour.convert("L"),
        "palette.png": colour.convert("P"),
        "rgba.png": colour.convert("RGBA"),
        "deep.png": Image.fromarray(deep),
    }


def test_formats(run, folder):
    images = _formats()
    for name, image in images.items():
        image.save(name)
    code, out, err = run("segment", *images, *CLICK, "--out", "o")
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == list(images)
    for name in images:
        expected = predictor_for(folder / name).predict([[30, 20]], [1])
        with np.load(f"o/{Path(name).stem}_masks.npz") as arrays:
            best = arrays["masks"][0]
        np.testing.assert_array_equal(best, expected.masks[expected.scores.argmax()])


@pytest.mark.usefixtures("folder")
def test_coordinates_refer_to_the_rotated_image(run):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show: stored 64 x 96, shown 96 x 64
    stored = Image.fromarray(np.rot90(picture()).copy())
    stored.save("turned.png", exif=exif)
    box = ("--box", "60,5,96,60")
    assert run("segment", "turned.png", *box, "-o", "a")[0] == 0
    assert run("segment", "photo.png", *box, "-o", "b")[0] == 0
    with np.load("a/turned_masks.npz") as turned, np.load("b/photo_masks.npz") as plain:
        np.testing.assert_array_equal(turned["masks"], plain["masks"])
    code, _, err = run("segment", "turned.png", "--point", "20,80", "-o", "c")
    assert code == 2
    assert "96 x 64" in err


def test_overwrite_removes_the_masks_of_the_run_before(run, folder):
    assert run("segment", "photo.png", *CLICK, "-o", "o")[0] == 0
    Path("o/photo_mask_9.png").write_text("the user's own")
    before = files(folder)
    code, _, err = run("segment", "photo.png", *CLICK, "-o", "o", "--single")
    assert code == 2
    assert "exists; choose another --out, or pass --overwrite" in err
    assert files(folder) == before
    assert run("segment", "photo.png", *CLICK, "-o", "o", "--single", "--overwrite")[0] == 0
    assert before - files(folder) == {"o/photo_mask_2.png", "o/photo_mask_3.png"}


def test_demo(run, folder):
    code, out, err = run("demo", "--out", "shown")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert "shown/demo.png" in out
    shown = read("shown/demo.png")
    assert shown.shape[0] > 900
    assert shown.shape[1] > 1200
    assert {"click_mask_1.png", "box.json", "negative_point_masks.npz"} <= files(folder / "shown")
    assert read("shown/photo.jpg").shape == (600, 512, 3)


# Wrong use: one line, exit code 2, nothing written


def _bad_inputs() -> None:
    whole = Path("photo.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.tile(picture(), (4, 4, 1))).save("whole.jpg")
    Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:4000])
    Path("text.png").write_text("not a picture")
    Path("empty.jpg").touch()
    Path("file").touch()
    Path("sub").mkdir()
    Image.fromarray(picture()).save("sub/photo.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save("black.png")
    Image.fromarray(np.full((10, 10), 255, np.uint8)).save("small.png")


BAD = {
    "missing file": (("no.jpg", *CLICK), "no.jpg: no such file"),
    "folder": (("sub", *CLICK), "is a folder"),
    "cut png": (("cut.png", *CLICK), "damaged or cut short"),
    "cut jpeg": (("cut.jpg", *CLICK), "damaged or cut short"),
    "text": (("text.png", *CLICK), "not an image"),
    "empty file": (("empty.jpg", *CLICK), "empty"),
    "no image": (CLICK, "Missing argument"),
    "no prompt": (("photo.png",), "no prompt"),
    "point outside": (("photo.png", "--point", "96,20"), "outside the image of 96 x 64"),
    "point below": (("photo.png", "--point", "9,64"), "outside the image of 96 x 64"),
    "negative point": (("photo.png", "--point", "-1,20"), "negative"),
    "not a number": (("photo.png", "--point", "nan,20"), "not a position"),
    "infinite": (("photo.png", "--box", "0,0,inf,20"), "not a position"),
    "words": (("photo.png", "--point", "here,20"), "'here' is not a number"),
    "label 2": (("photo.png", "--point", "1,2,2"), "use 1 (the object) or 0"),
    "label -1": (("photo.png", "--point", "1,2,-1"), "use 1 (the object) or 0"),
    "label 1.5": (("photo.png", "--point", "1,2,1.5"), "use 1 (the object) or 0"),
    "one value": (("photo.png", "--point", "1"), "has 1 value;"),
    "four values": (("photo.png", "--point", "1,2,1,1"), "has 4 values"),
    "three values": (("photo.png", "--box", "1,2,3"), "has 3 values"),
    "no values": (("photo.png", "--box", ""), "has 1 value;"),
    "box reversed": (("photo.png", "--box", "50,5,10,40"), "X1 is not right of X0"),
    "box flat": (("photo.png", "--box", "10,40,50,40"), "Y1 is not below Y0"),
    "box outside": (("photo.png", "--box", "10,5,97,40"), "outside the image of 96 x 64"),
    "boxes and point": (
        ("photo.png", "-b", "1,1,9,9", "-b", "2,2,9,9", *CLICK),
        "several boxes are several objects",
    ),
    "black mask": (("photo.png", "--mask", "black.png"), "all black"),
    "small mask": (("photo.png", "--mask", "small.png"), "10 x 10 pixels, not of the same size"),
    "no mask": (("photo.png", "--mask", "no.png"), "--mask no.png: no such file"),
    "unknown model": (("photo.png", *CLICK, "--model", "vit_x"), "embedded, vit_b, vit_l, vit_h"),
    "no checkpoint": (("photo.png", *CLICK, "--model", "no.pth"), "no.pth: no such file"),
    "bad checkpoint": (("photo.png", *CLICK, "--model", "text.png"), "not a checkpoint"),
    "out is a file": (("photo.png", *CLICK, "--out", "file"), "is a file, not a folder"),
    "out in a file": (("photo.png", *CLICK, "--out", "file/out"), "is a file, not a folder"),
    "dtype": (("photo.png", *CLICK, "--dtype", "int8"), "float32, bfloat16, float16"),
    "device": (("photo.png", *CLICK, "--device", "quantum"), "no device 'quantum'"),
    "precision": (("photo.png", *CLICK, "--precision", "low"), "highest, high, default"),
    "threshold": (("photo.png", *CLICK, "--threshold", "nan"), "finite"),
    "threshold text": (("photo.png", *CLICK, "--threshold", "low"), "--threshold"),
    "unknown option": (("photo.png", *CLICK, "--colour"), "No such option"),
    "missing value": (("photo.png", "--point"), "--point"),
    "equal stems": (("photo.png", "sub/photo.png", *CLICK), "would both write"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_use_of_segment(run, folder, case):
    arguments, expected = BAD[case]
    _bad_inputs()
    before = files(folder)
    code, out, err = run("segment", *arguments)
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("samjax: ")
    assert err.count("\n") == 1
    assert files(folder) == before


@pytest.mark.usefixtures("folder")
def test_a_broken_image_does_not_stop_the_others(run):
    Path("broken.jpg").write_bytes(b"no picture")
    Image.fromarray(picture(10, 12)).save("small.png")
    Image.fromarray(picture()).save("second.png")
    images = ("photo.png", "broken.jpg", "small.png", "second.png", "absent.png")
    code, out, err = run("segment", *images, *CLICK, "-o", "out")
    assert code == 2
    assert [line.split(":")[0] for line in out.splitlines()] == ["photo.png", "second.png"]
    first, second, third = err.splitlines()
    assert first.startswith("samjax: broken.jpg: is not an image")
    assert second.startswith("samjax: small.png: --point 30,20 is outside")
    assert third.startswith("samjax: absent.png: no such file")
    assert Path("out/photo_overlay.png").exists()
    assert Path("out/second_overlay.png").exists()


@pytest.mark.usefixtures("folder")
def test_a_mask_alone_finds_its_object(run):
    disc = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc[(x - 30) ** 2 + (y - 20) ** 2 < 14**2] = 255
    Image.fromarray(disc).save("disc.png")
    assert run("segment", "photo.png", "--mask", "disc.png", "-o", "out")[0] == 0
    found = np.load("out/photo_masks.npz")["masks"]
    wanted = disc > 0
    assert max((m & wanted).sum() / (m | wanted).sum() for m in found) > 0.7


@pytest.mark.usefixtures("folder")
def test_an_input_is_never_replaced(run):
    Image.fromarray(picture()).save("photo_mask_1.png")
    before = Path("photo_mask_1.png").read_bytes()
    arguments = ("photo.png", "--mask", "photo_mask_1.png", "-o", ".", "--overwrite")
    code, _, err = run("segment", *arguments)
    assert code == 2
    assert "is an input and would be replaced" in err
    assert Path("photo_mask_1.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("frobnicate",), "No such command 'frobnicate'; see samjax --help"),
        (("--colour",), "No such option"),
        (("demo", "--out", "file"), "is a file, not a folder"),
        (("demo", "--dtype", "int8"), "float32, bfloat16, float16"),
        (("demo", "--model", "vit_x"), "no such file or folder"),
        (("inspect",), "Missing argument"),
        (("inspect", "no.pth"), "no.pth: no such file or folder"),
        (("inspect", "~nobody-here/x.pth"), "no such file, and no user of that name"),
        (("inspect", "text.png"), "not a checkpoint"),
        (("inspect", "photo.png"), "a PNG picture"),
        (("inspect", "sub"), "a folder without weights"),
        (("convert", "embedded"), "Missing argument"),
        (("convert", "embedded", "file"), "exists"),
        (("convert", "embedded", "x.onnx"), "unknown ending"),
        (("convert", "embedded", "x.pth", "--dtype", "int8"), "float32, bfloat16, float16"),
        (("convert", "embedded", "x.pth", "--preprocess", "none"), "unknown preset"),
        (("convert", "embedded", "x", "--pred-iou-thresh", "0.5"), "give both"),
        (("convert", "embedded", "x.pth", *THRESHOLDS), "holds tensors alone"),
        (("convert", "no.pth", "x.pth"), "no.pth: no such file or folder"),
        (("convert", "embedded", "sub", "--overwrite"), "samjax did not write"),
        (("convert", "embedded", "file/x.pth"), "cannot be written"),
        (("download", "vit_x"), "no official weights called 'vit_x'"),
    ],
)
def test_wrong_use_of_the_others(run, folder, monkeypatch, arguments, expected):
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(folder / "cache"))
    _bad_inputs()
    before = files(folder)
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("samjax: ")
    assert err.count("\n") == 1
    assert files(folder) == before


def test_a_full_disk_leaves_nothing_half_written(run, folder, monkeypatch):
    writes = []

    def fail_at_the_third(path, _):
        writes.append(path)
        path.write_bytes(b"half")
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(results, "write_png", fail_at_the_third)
    code, _, err = run("segment", "photo.png", *CLICK, "--out", "o")
    assert code == 2
    assert "--out o: cannot be written (No space left on device)" in err
    assert err.count("\n") == 1
    assert files(folder / "o") == set()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "samjax: interrupted\n"),
        (MemoryError(), 2, "samjax: out of memory: try "),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB\nmore"), 2, "samjax: out of memory: try "),
        (RuntimeError("Unable to initialize backend 'x'"), 2, "samjax: JAX does not start: "),
        (OSError(errno.EIO, "Input/output error", "f"), 2, "samjax: f: Input/output error; "),
        (PromptError("two\nlines"), 2, "samjax: two lines\n"),
    ],
)
def test_what_the_machine_does_is_one_line(run, monkeypatch, error, code, expected):
    def fail(_):
        raise error

    monkeypatch.setattr(segment, "read_image", fail)
    got, _, err = run("segment", "photo.png", *CLICK)
    assert got == code
    assert err.startswith(expected)
    assert err.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr(segment, "read_image", fail)
    with pytest.raises(ZeroDivisionError):
        main(["segment", "photo.png", *CLICK])


# The other commands


def test_version_and_help(run):
    assert run("--version") == (0, f"samjax {samjax.__version__}\n", "")
    code, out, _ = run()
    assert code == 0
    for command in ("demo", "segment", "inspect", "convert", "download", "info"):
        assert f"\n  {command} " in out
        assert run(command, "--help")[0] == 0


def test_inspect_embedded(run):
    code, out, err = run("inspect", "embedded")
    assert (code, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    assert {"family", "container", "parameters", "input", "preprocessing"} <= set(rows)
    known = json.loads(run("inspect", "embedded", "--json")[1])
    sam = _load(None, dtype="float32", precision="highest", device=None)
    assert known["config"]["image_encoder"]["image_size"] == sam.config.image_size
    assert known["family"] == sam.family


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "container", "dtype"),
    [
        ("x.pth", "zip .pth", "bfloat16"),
        ("x.safetensors", "safetensors", "float32"),
        ("x", "Orbax folder of samjax", "float16"),
    ],
)
def test_convert_then_inspect(run, name, container, dtype):
    code, out, err = run("convert", "embedded", name, "--dtype", dtype)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert out.count("\n") == 1
    known = json.loads(run("inspect", name, "--json")[1])
    original = json.loads(run("inspect", "embedded", "--json")[1])
    assert (known["container"], list(known["dtypes"])) == (container, [dtype])
    assert known["config"] == original["config"]
    assert known["parameters"] == original["parameters"]
    assert known["automatic"] == (None if name == "x.pth" else original["automatic"])
    assert ("thresholds of automatic masks are not in it" in out) == (name == "x.pth")
    assert run("convert", "embedded", name)[0] == 2
    assert run("convert", "embedded", name, "--overwrite")[0] == 0


@pytest.mark.usefixtures("folder")
def test_inspect_a_damaged_folder(run):
    run("convert", "embedded", "x")
    Path("x/parameters/_METADATA").write_text("{")
    code, out, err = run("inspect", "x")
    assert (code, out) == (2, "")
    assert "x: damaged or incomplete" in err
    assert err.count("\n") == 1


def test_inspect_a_cached_name(run, folder, monkeypatch):
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(folder))
    convert.convert_checkpoint(embedded_path(), hub.OFFICIAL["vit_b"].name)
    code, out, _ = run("inspect", "vit_b")
    assert code == 0
    assert hub.OFFICIAL["vit_b"].name in out


def test_download_prints_the_path(run, folder, monkeypatch):
    path = folder / hub.OFFICIAL["vit_b"].name
    path.write_bytes(b"weights")
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(folder))
    monkeypatch.setattr(hub, "fetch_file", lambda remote, **_: folder / remote.name)
    assert run("download", "vit_b") == (0, f"{path}\n", "")


def test_names_of_official_sizes():
    for name in ("vit_b", "vit_l", "vit_h"):
        assert describe.model_name(getattr(SamConfig, name)()) == name


def test_info(run, folder, monkeypatch):
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(folder))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(info, "nvidia_driver", lambda: "570.86.10")
    cpu = devices.choose_device("cpu:0")
    monkeypatch.setattr("jax.devices", lambda: [cpu])
    code, out, err = run("info")
    assert (code, err) == (0, "")
    for word in ("samjax", "python", "jaxlib", "flax", "orbax-checkpoint", "numpy", str(folder)):
        assert word in out
    assert "warning" in out
    assert "pip install 'samjax[cuda12]'" in out


@pytest.mark.parametrize(
    ("driver", "platforms", "expected"),
    [
        (None, {"cpu"}, None),
        ("580.95.05", {"gpu"}, None),
        ("580.95.05", {"cpu"}, "samjax[cuda13]"),
        ("535.104.05", {"cpu"}, "samjax[cuda12]"),
        ("470.82.01", {"cpu"}, "too old"),
        ("", {"cpu"}, "samjax[cuda13]"),
    ],
)
def test_idle_gpu(monkeypatch, driver, platforms, expected):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    advice = info.idle_gpu(driver, platforms)
    assert advice is None if expected is None else expected in str(advice)


def test_idle_gpu_on_purpose(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "unset JAX_PLATFORMS" in str(info.idle_gpu("580.95.05", {"cpu"}))


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 2025\nGCC version:",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
    ],
)
def test_driver_version(text):
    assert info.driver_version(text) == "580.95.05"


def test_parsing():
    assert request.parse_point(" 3.5, 4 ,0") == (3.5, 4, 0)
    assert request.parse_point("0,0") == (0, 0, 1)
    assert request.parse_box("0,0,1,2.5") == (0, 0, 1, 2.5)


# True processes


def _process(*arguments: str, **options) -> subprocess.CompletedProcess:
    root = str(Path(samjax.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
        **options,
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from samjax.cli import main; assert main(['segment', '--help']) == 0;"
        "assert not {'jax', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    done = _process("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_m_samjax(folder):
    done = _process("-m", "samjax", "segment", "no.jpg", *CLICK, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("samjax: no.jpg: no such file")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    root = str(Path(samjax.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "samjax", "segment", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_interrupt_as_a_progress_bar_is_made_prints_nothing_of_it():
    heard: list[object] = []
    filtered = without_half_made_bars(heard.append)
    filtered(SimpleNamespace(object=tqdm.__del__))
    assert heard == []
    filtered(other := SimpleNamespace(object=test_help_imports_nothing_heavy))
    assert heard == [other]
