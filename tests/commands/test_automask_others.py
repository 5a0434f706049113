"""Test that samjax automask replaces no file that it did not write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from samjax.cli import main
from samjax.commands.dataset import ResultFolder
from samjax.engine import spec
from tests.support.folder_kill import OPTIONS, tree
from tests.support.models import drawn_image

QUICK = ("--points-per-side", "2", "--device", "cpu:0", "--dtype", "float32", *OPTIONS)
MINE = "drawn by hand"


@pytest.fixture(autouse=True)
def quick(monkeypatch, small):
    """The command line with a tiny model."""
    monkeypatch.setattr(spec, "load", lambda *_, **__: small)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """``samjax automask`` in a folder with photos/drawn_000.png and _001.png: code and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(drawn_image(64, 96, seed=i)).save(f"photos/drawn_00{i}.png")

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["automask", *map(str, arguments), *QUICK])
        return code, capsys.readouterr().err

    return call


def by_hand(path: str) -> Path:
    """Write a file of the user's own."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(MINE)
    return Path(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("overlays/drawn_000.png", ("--overlay",)),
        ("overlays/other.png", ("--overlay",)),
        ("annotations.json", ()),
        ("data.yaml", ("-f", "yolo")),
        ("labels/drawn_001.txt", ("-f", "yolo")),
        ("label_maps/drawn_000.png", ("-f", "png")),
        ("records/drawn_000.png.json", ()),
        ("run.json", ()),
    ],
)
@pytest.mark.parametrize("out", ["photos", "photos/../photos", "link"])
def test_files_beside_the_images_stay_though_overwrite_is_given(run, name, options, out):
    Path("link").symlink_to("photos")
    mine = by_hand(f"photos/{name}")
    before = tree(Path("photos"))
    code, err = run("photos", "--out", out, *options, "--overwrite")
    assert code == 2
    told = "lies with the images and was not written by samjax|is an input and would be replaced"
    assert re.search(told, err)
    assert tree(Path("photos")) == before
    assert mine.read_text() == MINE


def test_a_file_put_among_the_results_stays(run):
    """The folder is samjax's, one file in it is not."""
    assert run("photos/drawn_001.png", "--out", "photos", "--overlay") == (0, "")
    mine = by_hand("photos/overlays/drawn_000.png")
    before = tree(Path("photos"))
    code, err = run("photos", "--out", "photos", "--overlay", "--overwrite")
    assert code == 2
    assert "overlays/drawn_000.png was not written by samjax, or was changed since: remove" in err
    assert tree(Path("photos")) == before
    code, err = run("photos", "--out", "photos", "--overlay")  # the other one is done already
    assert (code, err.count("\n")) == (2, 1)
    assert mine.read_text() == MINE
    mine.unlink()
    assert run("photos", "--out", "photos", "--overlay", "--overwrite") == (0, "")
    assert mine.read_bytes().startswith(b"\x89PNG")


def test_files_of_formats_that_no_run_wrote_stay(run):
    assert run("photos", "--out", "photos", "-f", "png") == (0, "")
    mine = by_hand("photos/annotations.json")
    assert run("photos", "--out", "photos", "-f", "npz", "--overwrite") == (0, "")
    assert mine.read_text() == MINE


def test_images_in_a_folder_of_that_name_are_images(run):
    """photos/labels is a folder of results only if samjax wrote it."""
    Path("photos/labels").mkdir()
    Path("photos/drawn_000.png").rename("photos/labels/x.png")
    assert run("photos", "--out", "photos") == (0, "")
    names = [
        entry["file_name"]
        for entry in json.loads(Path("photos/annotations.json").read_text())["images"]
    ]
    assert names == ["drawn_001.png", "labels/x.png"]


def test_overwrite_elsewhere_is_consent(run):
    by_hand("out/annotations.json")
    by_hand("out/overlays/drawn_000.png")
    assert run("photos", "--out", "out", "--overlay")[0] == 2
    assert run("photos", "--out", "out", "--overlay", "--overwrite") == (0, "")
    assert run("photos", "--out", "whole", "--overlay") == (0, "")
    assert tree(Path("out")) == tree(Path("whole"))


# Results that were changed


def test_changed_results_are_kept_and_told(run):
    command = ("photos", "--out", "out", "-f", "coco,yolo,png,npz", "--overlay")
    assert run(*command) == (0, "")
    expected = tree(Path("out"))
    victims = sorted(
        path for path in Path("out").rglob("*/drawn_000.*") if "records" not in path.parts
    )
    assert len(victims) == 4
    for path in victims:
        path.write_bytes(path.read_bytes() + b" ")
    code, err = run(*command)
    assert code == 0
    assert err.splitlines() == [
        f"samjax: {path}: was changed since samjax wrote it, and is kept: remove it to have it "
        "made again"
        for path in victims
    ]
    assert all(path.read_bytes().endswith(b" ") for path in victims)
    for path in victims:
        path.unlink()
    assert run(*command) == (0, "")
    assert tree(Path("out")) == expected


def test_a_changed_result_of_a_changed_image_is_not_replaced(run):
    assert run("photos", "--out", "out", "-f", "png") == (0, "")
    corrected = by_hand("out/label_maps/drawn_000.png")
    with Image.open("photos/drawn_000.png") as image:
        image.rotate(180).save("photos/drawn_000.png")
    for _ in range(2):  # the second time there is no record of it any more
        code, err = run("photos", "--out", "out", "-f", "png")
        assert (code, err.count("\n")) == (2, 1)
        assert "label_maps/drawn_000.png was not written by samjax, or was changed since" in err
        assert corrected.read_text() == MINE


def test_results_of_a_killed_run_and_of_a_damaged_record_are_known(run):
    command = ("photos", "--out", "out", "-f", "yolo,png", "--overlay")
    assert run(*command) == (0, "")
    expected = tree(Path("out"))
    record = Path("out/records/drawn_000.png.json")
    pending = record.with_name(record.name + ".pending")
    record.rename(pending)  # killed before the record was moved to its place
    Path("out/labels/drawn_000.txt").unlink()
    assert run(*command) == (0, "")
    assert tree(Path("out")) == expected
    pending.write_bytes(record.read_bytes())  # killed before the copy was removed
    assert run(*command) == (0, "")
    assert tree(Path("out")) == expected
    record.write_bytes(b"")
    assert run(*command) == (0, "")
    assert tree(Path("out")) == expected
    record.write_bytes(b"")
    mine = by_hand("out/labels/drawn_000.txt")
    assert run(*command)[0] == 2
    assert mine.read_text() == MINE


def test_records_without_hashes_are_believed(run, monkeypatch):
    """An early version wrote none."""
    from samjax.commands import image_record

    real = image_record.record_text

    def early(header, *rest):
        return real({key: value for key, value in header.items() if key != "hashes"}, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("samjax.commands.dataset.record_text", early)
        assert run("photos", "--out", "photos", "--overlay") == (0, "")
    assert run("photos", "--out", "photos", "--overlay") == (0, "")
    Path("photos/overlays/drawn_000.png").unlink()
    assert run("photos", "--out", "photos", "--overlay") == (0, "")
    assert run("photos", "--out", "photos", "--overlay", "--overwrite") == (0, "")


def test_a_file_that_appears_while_its_image_is_worked_on(run, monkeypatch):
    real = ResultFolder.write

    def write(self, image, *rest):
        by_hand("out/label_maps/drawn_000.png")
        return real(self, image, *rest)

    monkeypatch.setattr(ResultFolder, "write", write)
    code, err = run("photos/drawn_000.png", "--out", "out", "-f", "png")
    assert (code, err.count("\n")) == (2, 1)
    assert Path("out/label_maps/drawn_000.png").read_text() == MINE
