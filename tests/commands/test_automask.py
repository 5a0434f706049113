"""Test that the output of samjax automask depends on neither kills nor shards nor devices."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import samjax
from samjax.annotations import read_coco, read_label_png, read_npz, read_yolo, to_label_map
from samjax.cli import main
from samjax.commands import automask, dataset
from samjax.commands.staging import staging
from samjax.engine import spec
from samjax.engine.load import load
from samjax.errors import ImageError, SamjaxError
from samjax.image.folder import find_images
from samjax.jobs import masking, pipeline, progress
from samjax.jobs.part import parse_shard
from samjax.masks.rle import to_mask
from tests.support.folder_kill import (
    EVERYTHING,
    OPTIONS,
    finish,
    make_images,
    run_killed,
    start,
    tree,
)
from tests.support.models import drawn_image

FEW = ("--points-per-side", "3", "--points-per-batch", "9", *OPTIONS)
_load = functools.lru_cache(load)


@pytest.fixture(autouse=True)
def one_model(monkeypatch):
    """Load, and compile, the embedded checkpoint once for all tests."""
    monkeypatch.setattr(spec, "load", _load)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with four images in photos/ and photos/more/."""
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "photos", 4)
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """``samjax automask`` with few points, in ``folder``: (exit code, stdout, stderr)."""
    assert Path.cwd() == folder

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["automask", *map(str, arguments), *FEW])
        return code, *capsys.readouterr()

    return call


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


# What it writes


def test_every_format_holds_the_generators_masks(run, folder):
    code, out, err = run("photos", "--out", "out", *EVERYTHING)
    assert (code, err) == (0, "")
    assert out.startswith("4 images, ")
    assert out.rstrip().endswith("0 skipped, 0 failed -> out")
    model = _load(None, dtype="float32", precision="highest", device="cpu:0")
    generator = samjax.SamAutomaticMaskGenerator(
        model, 3, 9, pred_iou_thresh=0.0, stability_score_thresh=0.0, output_mode="coco_rle"
    )
    data = COCO("out/annotations.json")
    by_coco = {image.file_name: image for image in read_coco("out/annotations.json")}
    (folder / "out" / "images").symlink_to(folder / "photos")
    by_yolo = {image.file_name: image for image in read_yolo("out")}
    names = ["drawn_000.png", "drawn_001.png", "more/drawn_000.png", "more/drawn_001.png"]
    assert [data.imgs[i]["file_name"] for i in sorted(data.imgs)] == names
    total = 0
    for name in names:
        expected = generator.generate(folder / "photos" / name)
        total += len(expected)
        assert len(expected) > 3
        assert len(by_coco[name].records) == len(expected)
        for got, want in zip(by_coco[name].records, expected, strict=True):
            assert got["segmentation"] == want["segmentation"]
            assert (got["area"], got["bbox"]) == (want["area"], want["bbox"])
            assert got["predicted_iou"] == pytest.approx(want["predicted_iou"], abs=1e-6)
            assert got["stability_score"] == pytest.approx(want["stability_score"], abs=1e-6)
            np.testing.assert_allclose(got["point_coords"], want["point_coords"], atol=1e-6)
        labels = read_label_png(f"out/label_maps/{name}")
        np.testing.assert_array_equal(labels, to_label_map(expected))
        size, stored = read_npz(Path("out/npz", name).with_suffix(".npz"), "coco_rle")
        assert size == (64, 96)
        assert [r["segmentation"] for r in stored] == [r["segmentation"] for r in expected]
        filled = [r for r in expected if r["area"]]
        for got, want in zip(by_yolo[name].records, filled, strict=True):
            np.testing.assert_array_equal(
                to_mask(got["segmentation"]), to_mask(want["segmentation"])
            )
        with Image.open(f"out/overlays/{name}") as overlay:
            assert overlay.size == (96, 64)
    assert f" {total} masks " in out
    assert len(data.anns) == total
    assert not list((folder / "out").glob(".*"))


def test_records_are_json_and_name_their_files(run):
    assert run("photos", "--out", "out", "--format", "png")[0] == 0
    record = json.loads(Path("out/records/more/drawn_001.png.json").read_text())
    assert (record["image"], record["width"], record["height"]) == ("more/drawn_001.png", 96, 64)
    assert record["files"] == ["label_maps/more/drawn_001.png"]
    assert record["masks"][0]["segmentation"]["size"] == [64, 96]
    settings = json.loads(Path("out/run.json").read_text())
    assert (settings["points_per_side"], settings["images"]) == (3, "../photos")
    assert not Path("out/annotations.json").exists()


def test_crops_tiles_and_uniform_images(run):
    assert run("photos", "-o", "crops", "--crop-n-layers", 1, "--limit", 1)[0] == 0
    assert run("photos", "-o", "tiles", "--tile-size", 48, "--tile-halo", 16, "--limit", 1)[0] == 0
    boxes = {tuple(r["crop_box"]) for r in read_coco("tiles/annotations.json")[0].records}
    assert len(boxes) > 1
    code, out, err = run("photos", "-o", "none", "--min-area", 10**6)
    assert (code, out.split(" in ")[0]) == (0, "4 images, 0 masks")
    named = re.findall(r"^samjax: .*/photos/(.+): no mask is left by min_area 1000000: ", err, re.M)
    assert named == [f"{more}drawn_00{i}.png" for more in ("", "more/") for i in (0, 1)]
    assert [image.records for image in read_coco("none/annotations.json")] == [[]] * 4


@pytest.mark.usefixtures("folder")
def test_the_models_thresholds_are_recorded(capsys):
    """Left out they are the checkpoint's, which the run file says; given they are the same run."""
    few = ("automask", "photos", "--out", "out", "--points-per-side", "2", "--limit", "1")
    assert main([*few]) == 0
    own = _load(None, dtype="float32", precision="highest", device="cpu:0").automatic_thresholds
    settings = json.loads(Path("out/run.json").read_text())
    assert own.as_dict().items() <= settings.items()
    capsys.readouterr()
    given = [str(own.pred_iou_thresh), str(own.stability_score_thresh)]
    again = [*few, "--pred-iou-thresh", given[0], "--stability-score-thresh", given[1]]
    assert main(again) == 0
    assert "1 skipped" in capsys.readouterr().out
    assert main([*few, "--pred-iou-thresh", "1"]) == 2
    assert f"--pred-iou-thresh {given[0]}, now 1" in capsys.readouterr().err


def test_many_images_without_masks_are_counted():
    lines = automask._without_masks({f"{i}.png": "no mask" for i in range(9)})
    assert lines == [f"{i}.png: no mask" for i in range(5)] + ["4 more images without masks"]


# Interruption


def test_killed_or_not_the_bytes_are_the_same(tmp_path):
    """Twenty images, two kills; and the same again on two devices."""
    make_images(tmp_path / "images", 20, (48, 64))
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    out = finish(start(tmp_path / "images", tmp_path / "whole", *FEW, *EVERYTHING, env=cache))
    assert out.startswith("20 images, ")
    whole = tree(tmp_path / "whole")
    rng = random.Random()
    moments = [(k, rng.uniform(0, 0.02)) for k in sorted(rng.sample(range(1, 11), 2))]
    done = run_killed(
        tmp_path / "images", tmp_path / "killed", moments, *FEW, *EVERYTHING, env=cache
    )
    assert 0 < done[0] <= done[1] < 20
    assert tree(tmp_path / "killed") == whole
    two = {**cache, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    finish(start(tmp_path / "images", tmp_path / "two", *FEW, *EVERYTHING, env=two))
    assert tree(tmp_path / "two") == whole


def test_all_devices_are_used_and_named():
    code = (
        "from samjax.commands.automask import device_names\n"
        "print(device_names(None), device_names('cpu'), device_names('cpu:1,cpu'))"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **flags},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert out.strip() == "('cpu:0', 'cpu:1') ('cpu:0', 'cpu:1') ('cpu:1', 'cpu:0')"


def test_a_second_run_does_nothing(run, folder):
    assert run("photos", "--out", "out", *EVERYTHING)[0] == 0
    before = times(folder / "out" / "records"), tree(folder / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.*")}
    code, out, err = run("photos", "--out", "out", *EVERYTHING)
    assert (code, err) == (0, "")
    assert out.startswith("0 images, 0 masks in ")
    assert "4 skipped" in out
    assert (times(folder / "out" / "records"), tree(folder / "out")) == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(run, folder, monkeypatch, request):
    # A test run that a shell started in the background has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    assert run("photos", "--out", "whole")[0] == 0
    write = dataset.ResultFolder.write

    def interrupted(self, image, *rest):
        write(self, image, *rest)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(dataset.ResultFolder, "write", interrupted)
        code, out, err = run("photos", "--out", "out")
    assert (code, out, err) == (130, "", "samjax: interrupted\n")
    assert not list((folder / "out").glob(".*"))
    assert not Path("out/annotations.json").exists()
    assert len(list((folder / "out" / "records").rglob("*.json"))) >= 1
    assert run("photos", "--out", "out")[0] == 0
    assert tree(folder / "out") == tree(folder / "whole")


def test_a_full_disk_is_one_line(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset.ResultFolder, "write", full)
    code, out, err = run("photos", "--out", "out")
    assert (code, out) == (2, "")
    assert err == (
        "samjax: --out out: cannot be written (No space left on device); check permissions and "
        "free space, or choose another --out\n"
    )


# Images that fail or change


def test_a_broken_image_is_told_at_the_end_and_tried_again(run, folder):
    good = Path("photos/drawn_001.png").read_bytes()
    Path("photos/drawn_001.png").write_bytes(good[:200])
    Path("photos/empty.jpg").touch()
    code, out, err = run("photos", "--out", "out", *EVERYTHING)
    assert code == 2
    assert "3 images, " in out
    assert "0 skipped, 2 failed -> out" in out
    first, second = err.splitlines()
    assert first.startswith(f"samjax: {folder}/photos/drawn_001.png: is damaged or cut short")
    assert second.startswith(f"samjax: {folder}/photos/empty.jpg: is empty")
    assert not [path for path in tree(folder / "out") if "empty" in path or path == "drawn_001"]
    assert len(read_coco("out/annotations.json")) == 3
    Path("photos/drawn_001.png").write_bytes(good)
    Path("photos/empty.jpg").unlink()
    code, out, err = run("photos", "--out", "out", *EVERYTHING)
    assert (code, err) == (0, "")
    assert out.startswith("1 image, ")
    assert run("photos", "--out", "whole", *EVERYTHING)[0] == 0
    assert tree(folder / "out") == tree(folder / "whole")


def test_what_fails_in_the_generator_does_not_stop_the_rest(run, monkeypatch):
    generate = samjax.SamAutomaticMaskGenerator.generate
    errors = [MemoryError(), ValueError("two\nlines")]

    def failing(self, *args, **options):
        if errors:
            raise errors.pop()
        return generate(self, *args, **options)

    monkeypatch.setattr(samjax.SamAutomaticMaskGenerator, "generate", failing)
    code, out, err = run("photos", "--out", "out")
    assert (code, "2 failed" in out) == (2, True)
    assert len(err.splitlines()) == 2
    assert "png: ValueError: two lines\n" in err
    assert "png: out of memory; try fewer --points-per-batch, --tile-size" in err


def test_a_changed_image_is_done_again(run, folder):
    assert run("photos", "--out", "out")[0] == 0
    path = Path("photos/drawn_000.png")
    with Image.open(path) as image:
        image.rotate(180).save(path)
    assert "1 image, " in run("photos", "--out", "out")[1]
    assert run("photos", "--out", "whole")[0] == 0
    assert tree(folder / "out") == tree(folder / "whole")
    path.write_bytes(b"no longer an image")
    assert run("photos", "--out", "out")[0] == 2
    names = [image.file_name for image in read_coco("out/annotations.json")]
    assert names == ["drawn_001.png", "more/drawn_000.png", "more/drawn_001.png"]


def test_an_image_replaced_in_place_is_done_again_whatever_its_format(run, folder):
    """BMP, PPM and raw TIFF have the same length for every content."""
    suffixes = ("bmp", "ppm", "tif")
    for i, suffix in enumerate(suffixes):
        Image.fromarray(drawn_image(64, 96, seed=i)).save(f"photos/{suffix}.{suffix}")
    run("photos", "--out", "out")
    for i, suffix in enumerate(suffixes):
        path = Path(f"photos/{suffix}.{suffix}")
        before = path.stat()
        Image.fromarray(drawn_image(64, 96, seed=10 + i)).save(path)
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run("photos", "--out", "out")[1].startswith("3 images, ")
    run("photos", "--out", "whole")
    assert tree(folder / "out") == tree(folder / "whole")


def test_a_record_that_is_cut_or_changed_is_made_again(run, folder):
    run("photos", "--out", "out")
    expected = tree(folder / "out")
    path = Path("out/records/drawn_000.png.json")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > 4
    damaged = [
        b"".join(lines[: len(lines) // 2]),
        b"".join([*lines[:2], *lines[3:]]),
        whole[:-2],
        whole.replace(b'"area":', b'"area":1', 1),
        whole.replace(b'"height": 64', b'"height": 63', 1),
        lines[0],
        whole + b" ",
    ]
    for data in damaged:
        assert data != whole
        path.write_bytes(data)
        assert "1 image, " in run("photos", "--out", "out")[1]
        assert tree(folder / "out") == expected


def test_results_that_were_removed_are_made_again(run, folder):
    command = ("photos", "--out", "out", "--format", "npz,png,yolo", "--overlay")
    run(*command)
    expected = tree(folder / "out")
    for name in ("npz", "label_maps", "overlays", "labels"):
        victim = next(path for path in sorted(Path("out", name).rglob("*")) if path.is_file())
        victim.unlink()
        assert "1 image, " in run(*command)[1]
        assert tree(folder / "out") == expected


def test_pipes_and_devices_are_not_waited_for(run):
    os.mkfifo("photos/x.png")
    code, out, err = run("photos", "--out", "out")
    assert code == 2
    assert "4 images, " in out
    assert "photos/x.png: is a pipe, no regular file" in err


def test_pixels_in_flight_are_bounded_by_memory(run, monkeypatch):
    held, most = [], []

    class Small(masking.PixelBudget):
        def __init__(self):
            super().__init__(pixels=64 * 96)  # one image at a time

        def take(self, pixels):
            super().take(pixels)
            held.append(pixels)
            most.append(self.held)

    monkeypatch.setattr(masking, "PixelBudget", Small)
    assert "4 images, " in run("photos", "--out", "out", "--overlay")[1]  # pixels are kept
    assert len(held) == 4
    assert max(most) == 64 * 96


# Shards and settings


def test_shards_make_the_whole(run, folder):
    assert run("photos", "--out", "whole", *EVERYTHING)[0] == 0
    assert "2 images, " in run("photos", "--out", "out", *EVERYTHING, "--shard", "2/2")[1]
    assert len(read_coco("out/annotations.json")) == 2
    assert "2 images, " in run("photos", "--out", "out", *EVERYTHING, "--shard", "1/2")[1]
    assert tree(folder / "out") == tree(folder / "whole")


def test_a_record_written_while_the_data_set_is_assembled_is_in_it(run, folder, monkeypatch):
    """Two shards that end at the same time: the last one to look sees everything."""
    assert run("photos", "--out", "whole")[0] == 0
    write = dataset.ResultFolder._write_coco
    other = []

    def slow(self, names):
        write(self, names)
        if not other:
            other.append(1)
            source = folder / "whole" / "records" / "drawn_000.png.json"
            (folder / "out" / "records" / "drawn_000.png.json").write_bytes(source.read_bytes())

    monkeypatch.setattr(dataset.ResultFolder, "_write_coco", slow)
    assert run("photos", "--out", "out", "--shard", "2/4")[0] == 0
    names = [image.file_name for image in read_coco("out/annotations.json")]
    assert names == ["drawn_000.png", "drawn_001.png"]


def test_limit_then_all(run):
    assert "3 images, " in run("photos", "--out", "out", "--limit", 3)[1]
    assert "1 image, " in run("photos", "--out", "out")[1]
    assert len(read_coco("out/annotations.json")) == 4


def test_other_settings_are_refused_and_overwrite_starts_anew(run, folder):
    assert run("photos", "--out", "out", *EVERYTHING)[0] == 0
    before = tree(folder / "out")
    code, out, err = run("photos", "--out", "out", "--box-nms-thresh", "0.5", "--max-area", 900)
    assert (code, out) == (2, "")
    assert err == (
        "samjax: --out out holds masks made with other settings (--box-nms-thresh 0.7, now 0.5; "
        "--max-area none, now 900; --format coco,yolo,png,npz, now coco; --overlay True, now "
        "False); use the same ones, choose another --out, or pass --overwrite to start anew\n"
    )
    code, _, err = run("photos/more", "--out", "out", *EVERYTHING)
    assert (code, "images ../photos, now ../photos/more" in err) == (2, True)
    assert tree(folder / "out") == before
    assert run("photos", "--out", "out", "--max-area", 900, "--overwrite")[0] == 0
    assert run("photos", "--out", "fresh", "--max-area", 900)[0] == 0
    assert tree(folder / "out") == tree(folder / "fresh")


def test_other_weights_are_refused(run):
    assert run("photos", "--out", "out")[0] == 0
    assert main(["convert", "embedded", "half.safetensors", "--dtype", "bfloat16"]) == 0
    code, _, err = run("photos", "--out", "out", "--model", "half.safetensors")
    assert code == 2
    assert err.startswith("samjax: --out out holds masks made with other settings (weights ")


def test_overwrite_with_shards_leaves_the_others_records(run, folder):
    assert run("photos", "--out", "out")[0] == 0
    options = ("photos", "--out", "out", "--max-area", 900)
    assert run(*options, "--shard", "1/2", "--overwrite")[0] == 0
    assert len(read_coco("out/annotations.json")) == 2
    assert "2 images, " in run(*options, "--shard", "2/2")[1]
    assert run("photos", "--out", "fresh", "--max-area", 900)[0] == 0
    assert tree(folder / "out") == tree(folder / "fresh")


def test_files_that_are_not_ours_are_left_alone(run):
    Path("out").mkdir()
    Path("out/annotations.json").write_text("{}")
    code, _, err = run("photos", "--out", "out")
    assert code == 2
    assert err.startswith("samjax: out/annotations.json exists and is not of an earlier run;")
    Path("out/run.json").write_text("[]")
    assert "run.json is damaged" in run("photos", "--out", "out")[2]
    assert Path("out/annotations.json").read_text() == "{}"


def test_names_that_would_collide(run):
    with Image.open("photos/drawn_000.png") as image:
        image.save("photos/drawn_000.bmp")
    assert run("photos", "--out", "out")[0] == 0
    assert len(read_coco("out/annotations.json")) == 5
    code, _, err = run("photos", "--out", "other", "--format", "coco,yolo")
    assert code == 2
    assert "drawn_000.bmp and " in err
    assert "would both write other/labels/drawn_000.txt; rename one" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["*.xyz"], "*.xyz: no images found"),
        (["photos", "--shard", "3/2"], "--shard '3/2': give I/N"),
        (["photos", "--shard", "0/2"], "--shard '0/2': give I/N"),
        (["photos", "--format", "coco,svg"], "--format 'svg' is not known: use coco, yolo"),
        (["photos", "--tile-size", "99", "--crop-n-layers", "1"], "do not go together"),
        (["photos", "--crop-n-layers", "-1"], "Invalid value for '--crop-n-layers'"),
        (["photos", "--box-nms-thresh", "2"], "Invalid value for '--box-nms-thresh'"),
        (["photos", "--device", "cpu:99"], "no device 'cpu:99' here"),
        (["photos", "--dtype", "int8"], "dtype 'int8' is not supported"),
        (["photos", "--model", "vit_x"], "vit_x: no such file or folder, and not a model's name"),
    ],
)
def test_wrong_use_is_one_line(run, arguments, words):
    code, out, err = run(*arguments, "--out", "out")
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


# Progress


def test_progress_on_a_terminal_and_without(run, monkeypatch):
    monkeypatch.setattr(progress, "_REPORT_SECONDS", 0)
    assert "4 of 4 images, " in run("photos", "--out", "lines")[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = run("photos", "--out", "bar")[2]
    assert "0/4" in bar
    assert "image/s" in bar


# Finding images


def test_folders_files_and_patterns(folder):
    for name in (".hidden.png", "notes.txt", ".cache/a.png", "B.JPG", "[1].png", "deep/er/c.tif"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def names(*paths: str) -> tuple[str, list[str]]:
        root, images = find_images(paths)
        assert all(image.path.samefile(root / image.name) for image in images)
        return root.relative_to(folder).as_posix(), [image.name for image in images]

    drawn = ["drawn_000.png", "drawn_001.png", "more/drawn_000.png", "more/drawn_001.png"]
    everything = sorted(["B.JPG", "[1].png", "deep/er/c.tif", *drawn])
    assert names("photos") == names("photos/../photos") == ("photos", everything)
    assert names("photos", "photos/more", "photos/B.JPG") == ("photos", everything)
    assert names("photos/*") == ("photos", everything)  # folders that match are searched
    assert names("photos/**/drawn_001.png") == ("photos", [drawn[1], drawn[3]])
    assert names("photos/more", "photos/deep") == ("photos", ["deep/er/c.tif", *drawn[2:]])
    assert names("photos/[1].png") == ("photos", ["[1].png"])
    assert names("photos/notes.txt") == ("photos", ["notes.txt"])
    assert names("photos/m*/*.png") == ("photos", drawn[2:])
    with pytest.raises(ImageError, match=r"no images found"):
        find_images(["photos/.cache/*.gif"])


def test_its_own_pictures_are_no_images(run):
    assert run("photos", "--out", "photos", "--overlay")[0] == 0
    assert "0 images, 0 masks" in run("photos", "--out", "photos", "--overlay")[1]
    assert "0 images, 0 masks" in run("photos", "--out", "photos", "--overlay")[1]


def test_parse_shard():
    assert [parse_shard(text) for text in (None, "1/1", "3/4")] == [(1, 1), (1, 1), (3, 4)]
    with pytest.raises(SamjaxError, match="1/4 to 4/4"):
        parse_shard("4")


# Threads and hidden folders


def test_unfinished_files_of_dead_processes_are_removed(tmp_path):
    host = socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    parent = os.getppid()
    names = {
        "dead": f".samjax-{host}-{ended.pid}-00000000",
        "alive": f".samjax-{host}-{parent}-00000000",
        "other": f".samjax-elsewhere-{ended.pid}-00000000",
        "old": ".samjax-elsewhere-1-00000000",
        "foreign": ".samjax-notes",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    past = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / names["old"], (past, past))
    with staging(tmp_path) as folder:
        assert folder.is_dir()
        left = {path.name for path in tmp_path.iterdir()} - {folder.name}
    assert left == {names["alive"], names["other"], names["foreign"]}
    assert not folder.exists()


def test_few_items_are_in_memory_at_once():
    lock, counts = threading.Lock(), {"now": 0, "most": 0}

    def read(item: int) -> int:
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts.values())
        return item * item

    def write(item: int, worked: int) -> int:
        time.sleep(0.001)
        with lock:
            counts["now"] -= 1
        return worked + item

    openers = [lambda _: lambda _item, squared: squared]
    outcomes = [o for o in pipeline.process(range(100), read, openers, write) if o]
    assert sorted(o.result for o in outcomes) == [i * i + i for i in range(100)]
    assert counts["most"] <= 6


def test_a_device_that_does_not_start_ends_the_run():
    def broken(_):
        raise SamjaxError("no such device")

    before = threading.active_count()
    with pytest.raises(SamjaxError, match="no such device"):
        list(pipeline.process(range(9), lambda i: i, [broken], lambda i, _: i))
    assert threading.active_count() == before


def test_closing_stops_a_long_step():
    def endless(check):
        def work(*_):
            while True:
                time.sleep(0.01)
                check()

        return work

    before = threading.active_count()
    outcomes = pipeline.process(range(9), lambda i: i, [endless], lambda i, _: i)
    assert next(outcomes) is None
    outcomes.close()
    assert threading.active_count() == before
