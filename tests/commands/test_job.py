"""``samjax job`` plans, runs, reports and exports, and tells wrong input in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from samjax.annotations import read_coco, read_yolo, to_label_map
from samjax.cli import main
from samjax.jobs import read_results
from tests.support.job_images import draw_folder

_OPTIONS = [
    "--points-per-side=2",
    "--pred-iou-thresh=0",
    "--stability-score-thresh=0",
    "--images-per-shard=2",
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["job", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    draw_folder(folder / "photos", 3)
    assert main(["job", "plan", str(folder / "photos"), "-o", str(folder / "out"), *_OPTIONS]) == 0
    assert main(["job", "run", str(folder / "out"), "--workers=1"]) == 0
    return folder


def test_plan_run_and_status(done: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]):
    photos, out = done / "photos", tmp_path / "out"
    assert run("plan", photos, "-o", out, *_OPTIONS) == (0, f"3 images in 2 shards -> {out}\n", "")
    assert run("status", out)[1] == "0 of 3 images (0 of 2 shards), 0 masks, 0 failed\n"
    code, text, _ = run("run", out, "--workers", 1, "--shard", "2/2")
    assert (code, text.split(",")[0]) == (0, "1 image")
    assert run("status", out)[1].startswith("1 of 3 images (1 of 2 shards)")
    code, text, _ = run("run", out, "--workers", 1)
    assert (code, "1 skipped, 0 failed" in text) == (0, True)
    for file in (done / "out/results").iterdir():
        assert (out / "results" / file.name).read_bytes() == file.read_bytes()


def test_failed_images_are_listed(tmp_path: Path, run: Callable[..., tuple[int, str, str]]):
    photos, out = draw_folder(tmp_path / "photos", 1), tmp_path / "out"
    for number in range(6):
        (photos / f"bad{number}.jpg").write_bytes(b"nothing")
    run("plan", photos, "-o", out, *_OPTIONS)
    code, text, errors = run("run", out, "--workers", 1)
    assert (code, "6 failed" in text) == (2, True)
    lines = [line for line in errors.splitlines() if "failed" in line or "is not an image" in line]
    assert lines[0] == (
        f"samjax: {photos}/bad0.jpg: is not an image that can be read: pass a JPEG, PNG, TIFF, "
        "BMP, WebP or GIF file"
    )
    assert len(lines) == 6
    assert lines[-1] == "samjax: 1 more image failed"


def test_export_of_a_part(done: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]):
    code, text, _ = run("export", done / "out", "-o", tmp_path, "-f", "coco,yolo,png,npz",
                        "--match", "a/*")  # fmt: skip
    expected = [image for image in read_results(done / "out") if image.file_name.startswith("a/")]
    count = sum(len(image.records) for image in expected)
    assert (code, text) == (0, f"2 images, {count} masks -> {tmp_path}\n")
    found = read_coco(tmp_path / "annotations.json")
    assert [image.file_name for image in found] == ["a/000.png", "a/002.png"]
    for image, other in zip(found, expected, strict=True):
        pairs = zip(image.records, other.records, strict=True)
        assert all(a["segmentation"] == b["segmentation"] for a, b in pairs)
        stem = Path(image.file_name).with_suffix("")
        labels = Image.open(tmp_path / f"label_maps/{stem}.png")
        assert (to_label_map(other.records, other.size) == labels).all()
        assert (tmp_path / f"npz/{stem}.npz").exists()
    shutil.copytree(done / "photos", tmp_path / "images")
    yolo = {image.file_name for image in read_yolo(tmp_path)}
    assert {"a/000.png", "a/002.png"} <= yolo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "nothing: has no plan.parquet: plan the job first"),
        (["status", "nope://a/b"], "nope://a/b/plan.parquet: no store is known for nope://"),
        (["plan", "none", "-o", "x"], "none: no such file or folder"),
        (["plan", "photos", "-o", "out", *_OPTIONS, "--points-per-side=3"], "was planned with"),
        (["plan", "photos", "-o", "x", "--model", "vit_x"], "vit_x"),
        (["run", "out", "--engine", "dask"], "engine 'dask': use process or ray"),
        (["run", "out", "--shard", "3/2"], "--shard '3/2': give I/N"),
        (["export", "out", "-o", "x", "-f", "gif"], "format 'gif' is not known: use coco, yolo"),
        (["export", "out", "-o", "x", "--match", "z*"], "no image is left to export"),
        (["export", "x", "-o", "y"], "x: has no results: run the job first"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    message: str,
    done: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(done)
    before = sorted(done.rglob("*"))
    if "photos" in arguments and "out" in arguments:  # as it was typed when it was planned
        arguments = [str(done / a) if a in ("photos", "out") else a for a in arguments]
    code, text, errors = run(*arguments)
    assert (code, text) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(done.rglob("*")) == before


def test_the_plan_tells_what_was_asked_for(done: Path):
    import pyarrow.parquet

    about = json.loads(pyarrow.parquet.read_metadata(done / "out/plan.parquet").metadata[
        b"samjax.plan"])  # fmt: skip
    assert about["settings"]["options"]["points_per_side"] == 2
    assert about["settings"]["model"]["source"] == "embedded"
    assert len(about["run"]["weights"]) == 32
