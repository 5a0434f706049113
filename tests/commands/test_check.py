"""The command samjax check: a table, JSON, the contact sheet, exit codes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samjax.annotations import AnnotatedImage, write_coco
from samjax.annotations.check import check_dataset
from samjax.cli import main
from samjax.viz.contact_sheet import draw_finding, write_contact_sheet

SIZE = (60, 90)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with a duplicate mask, a hole, and an image with a name like markup."""
    square = np.zeros(SIZE, bool)
    square[10:40, 10:40] = True
    pierced = np.roll(square, 45, axis=1)
    pierced[20:22, 70:72] = False
    records = [{"segmentation": m, "label": "<b>cat</b>"} for m in (square, square, pierced)]
    names = ("a.png", "<script>x.png")
    for name in names:
        path = tmp_path / "data/images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (10, 200, 30)).save(path)
    images = [AnnotatedImage(names[0], SIZE, records), AnnotatedImage(names[1], SIZE, [])]
    return write_coco(tmp_path / "data/coco.json", images)


def tags_of(page: str) -> list[str]:
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:  # noqa: ARG002
            tags.append(tag)

    Tags().feed(page)
    return tags


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["check", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_table_of_classes_and_findings_and_exit_code_0(data, capsys):
    code, out, err = run(capsys, data.parent)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["<b>cat</b>", "3", "1"] in lines
    assert "duplicate mask       1       1  a.png #1 and #2: IoU 1.00" in out
    assert "hole                 1       1  a.png #3: 1 small hole, 4 pixels" in out
    assert "no objects" in out
    code, out, _ = run(capsys, data, "--min-region-area", 3, "--duplicate", 1, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["counts"] == {"duplicate image": 1, "duplicate mask": 1, "no objects": 1}
    assert report["findings"][0] == {
        "kind": "duplicate mask",
        "image": "a.png",
        "objects": [1, 2],
        "detail": "IoU 1.00",
        "severity": 1.0,
    }


def test_the_sheet_is_one_page_without_scripts_and_a_picture(data, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in data.parent.rglob("*")}
    code, _, err = run(capsys, data, "--sheet", tmp_path / "sheet")
    shown = f"{tmp_path}/sheet/check.html and {tmp_path}/sheet/check.png"
    assert (code, err) == (0, f"samjax: the worst findings are shown in {shown}\n")
    assert {p.name for p in (tmp_path / "sheet").iterdir()} == {"check.html", "check.png"}
    page = (tmp_path / "sheet/check.html").read_text(encoding="utf-8")
    tags = tags_of(page)
    assert {"script", "link", "iframe", "b"} & set(tags) == {"b"}
    assert tags.count("img") == tags.count("figure") == tags.count("b") == 4
    assert not re.search(r'(src|href)="(?!data:image)', page)
    assert "&lt;script&gt;x.png" in page
    with Image.open(tmp_path / "sheet/check.png") as picture:
        pixels = np.asarray(picture)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    assert {p: p.stat().st_mtime_ns for p in data.parent.rglob("*")} == before
    code, _, _ = run(capsys, data, "--sheet", tmp_path / "sheet", "--sheet-count", 1)
    assert (tmp_path / "sheet/check.html").read_text(encoding="utf-8").count("<figure>") == 1


def test_a_tile_shows_the_masks_and_marks_the_hole(data):
    report = check_dataset(data)
    tiles = {f.kind: draw_finding(f, file) for f, file in report.worst()}
    hole = tiles["hole"]
    assert hole.picture.shape == (240, 240, 3)
    assert hole.caption == ("hole", "a.png #3", "1 small hole, 4 pixels")
    assert (hole.picture == (220, 38, 38)).all(2).any()  # the mark
    assert (tiles["no objects"].picture == (10, 200, 30)).all(2).any()  # the image
    blue = tiles["duplicate mask"].picture.astype(int)
    assert ((blue[..., 2] > 60) & (blue[..., 1] < 190)).mean() > 0.05
    (finding,) = (f for f, _ in report.worst() if f.kind == "hole")
    assert (draw_finding(finding, None).picture == 96).all(2).any()


def test_a_data_set_without_findings_has_a_sheet_too(tmp_path, capsys):
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30] = True
    path = write_coco(
        tmp_path / "a.json", [AnnotatedImage("a.png", SIZE, [{"segmentation": mask}])]
    )
    code, out, _ = run(capsys, path, "--images", tmp_path, "--sheet", tmp_path / "sheet")
    assert code == 0
    assert "no image" in out
    report = check_dataset(path)
    report.findings.clear()
    report._drawable.clear()
    assert report.rows()[-1] == "no findings"
    page, sheet = write_contact_sheet(report, tmp_path / "sheet")
    assert "no findings" in page.read_text(encoding="utf-8")
    assert sheet.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent: no such file or folder"),
        (["data", "--images", "absent"], "absent: no such folder of images"),
        (["data", "--format", "voc"], "use one of automask, coco"),
        (["data", "--sheet", "data/sheet"], "lies in data; choose a folder outside"),
        (["data", "--sheet", "data/coco.json/x"], "lies in data"),
        (["data/coco.json", "--sheet", "data/coco.json"], "cannot be made"),
        (["data", "--overlap", "2"], "Invalid value for '--overlap'"),
        ([], "Missing argument 'OUT'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(data, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(data.parents[1])
    before = data.read_bytes()
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out or "--sheet" in arguments
    assert data.read_bytes() == before


def test_the_output_of_automask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:64, :96]
    picture = np.stack([x * 2, y * 3, 255 - x * 2], axis=2).clip(0, 255).astype(np.uint8)
    picture[(x - 30) ** 2 + (y - 20) ** 2 < 200] = (20, 30, 10)
    Path("photos/deep").mkdir(parents=True)
    Image.fromarray(picture).save("photos/deep/a.png")
    Image.fromarray(picture[::-1]).save("photos/b.png")
    thresholds = ("--pred-iou-thresh", "0.5", "--stability-score-thresh", "0.5")
    assert main(["automask", "photos", "--out", "out", "--points-per-side", "4", *thresholds]) == 0
    code, out, _ = run(capsys, "out", "--json", "--sheet", "sheet")
    report = json.loads(out)
    assert (code, report["format"], report["images"]) == (0, "automask", 2)
    assert report["masks"] == report["classes"]["object"]["masks"] > 0
    assert not report["counts"].keys() & {"no image", "image size", "box", "no mask"}
    by_coco = check_dataset("out/annotations.json", "photos").as_dict()
    for key in ("images", "masks", "counts"):
        assert by_coco[key] == report[key]
