"""No output replaces an input, however the paths are spelled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.cli import main
from samjax.errors import AnnotationError, SamjaxError
from samjax.files import check_outputs, protecting, replacing
from tests.support.models import drawn_image


def pictures(folder: Path, *names: str) -> dict[str, bytes]:
    """Write drawn images, and return what each file holds."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_image(48, 70, seed=number)).save(path, format="PNG")
    return {name: (folder / name).read_bytes() for name in names}


def spellings(folder: Path) -> list[Path]:
    """The same folder: as it is, through ``..``, through a link, and from elsewhere."""
    (folder.parent / "link").symlink_to(folder)
    relative = Path(os.path.relpath(folder))
    return [folder, folder / ".." / folder.name, folder.parent / "link", relative]


def test_writers_refuse_a_protected_file_by_every_name(tmp_path):
    target = tmp_path / "a" / "photo.png"
    target.parent.mkdir()
    target.write_text("photograph")
    (tmp_path / "soft.png").symlink_to(target)
    os.link(target, tmp_path / "hard.png")
    names = [folder / "photo.png" for folder in spellings(target.parent)]
    for name in [*names, tmp_path / "soft.png", tmp_path / "hard.png"]:
        with (
            protecting([target], AnnotationError),
            pytest.raises(AnnotationError, match="is an input and would be replaced"),
            replacing(name) as temporary,
        ):
            temporary.write_text("masks")
    assert target.read_text() == "photograph"
    with protecting([tmp_path / "soft.png"]), pytest.raises(SamjaxError):  # the input is the link
        check_outputs([target])
    with replacing(target) as temporary:  # nobody's input any more
        temporary.write_text("masks")
    assert target.read_text() == "masks"


def test_a_target_that_becomes_an_input_meanwhile(tmp_path):
    photo, new = tmp_path / "photo.png", tmp_path / "new.png"
    photo.write_text("photograph")

    def write() -> None:
        with protecting([photo]), replacing(new) as temporary:
            temporary.write_text("masks")
            new.symlink_to(photo)

    with pytest.raises(SamjaxError, match="is an input"):
        write()
    assert photo.read_text() == "photograph"


@pytest.mark.parametrize("spelling", range(4))
def test_the_annotators_export_never_replaces_an_image(small, tmp_path, spelling):
    photos = tmp_path / "photos"
    before = pictures(photos, "a.png", "b.png")
    annotator = samjax.Annotator(small, [photos / "b.png", photos / "a.png"])
    for index in (0, 1):
        annotator.go(index)
        annotator.click(20, 20)
    with pytest.raises(AnnotationError, match=r"\.png is an input and would be replaced"):
        annotator.export("png", spellings(photos)[spelling])
    assert {p.name: p.read_bytes() for p in photos.iterdir()} == before
    annotator.export("png", photos / "masks")
    assert sorted(p.name for p in (photos / "masks").iterdir()) == ["a.png", "b.png"]


def test_no_kind_of_export_replaces_an_image(small, tmp_path):
    # Pictures under the names that the exports use: what a file is called says little.
    names = ("annotations.json", "labels/c.txt", "data.yaml", "one.png", "two.npz")
    before = pictures(tmp_path, *names)
    annotator = samjax.Annotator(small, [*(tmp_path / n for n in names), drawn_image(48, 70)])
    for index in range(len(names)):
        annotator.go(index)
        annotator.click(20, 20)
    alone = samjax.Annotator(small, [tmp_path / "one.png"])
    other = samjax.Annotator(small, [tmp_path / "two.npz"])
    for kind, path in (
        ("coco", tmp_path),
        ("coco", tmp_path / "annotations.json"),
        ("yolo", tmp_path),
        ("png", tmp_path),
        ("npz", tmp_path),
        ("png", tmp_path / "one.png"),
        ("npz", tmp_path / "two.npz"),
    ):
        with pytest.raises(AnnotationError, match="is an input and would be replaced"):
            {"one.png": alone, "two.npz": other}.get(path.name, annotator).export(kind, path)
        left = {name: (tmp_path / name).read_bytes() for name in before}
        assert left == before, (kind, path)


def test_saved_states_never_replace_an_image(small, tmp_path):
    photo = tmp_path / "x"
    Image.fromarray(drawn_image(48, 70)).save(photo, format="PNG")
    (tmp_path / "x.json").symlink_to(photo)  # where the state would go
    before = photo.read_bytes()
    annotator = samjax.Annotator(small, [photo], path=tmp_path)
    annotator.click(20, 20)
    annotator.commit()
    assert photo.read_bytes() == before


@pytest.fixture
def quick(monkeypatch, small):
    """The command line with a tiny model."""
    from samjax.engine import spec

    monkeypatch.setattr(spec, "load", lambda *_, **__: small)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("spelling", range(4))
def test_segment_never_replaces_an_input(tmp_path, capsys, spelling):
    before = pictures(tmp_path / "photos", "a.png", "a_mask_1.png", "a_overlay.png")
    out = spellings(tmp_path / "photos")[spelling]
    for image, mask in (("a.png", "a_mask_1.png"), ("a.png", "a_overlay.png")):
        arguments = ["segment", str(tmp_path / "photos" / image), "--overwrite", "-o", str(out)]
        code = main([*arguments, "--mask", str(tmp_path / "photos" / mask)])
        assert code == 2
        assert "is an input and would be replaced" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "photos").iterdir()} == before


@pytest.mark.usefixtures("quick")
def test_automask_never_replaces_an_input(tmp_path, capsys):
    before = pictures(tmp_path / "photos", "a.png", "b/c.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "label_maps").symlink_to(tmp_path / "photos")  # a folder that it writes to
    few = ("--points-per-side", "2", "--device", "cpu:0", "--dtype", "float32", "--overwrite")
    arguments = ["automask", str(tmp_path / "photos"), "--out", str(out), "-f", "png", *few]
    assert main(arguments) == 2
    assert "is an input and would be replaced" in capsys.readouterr().err
    assert {name: (tmp_path / "photos" / name).read_bytes() for name in before} == before
    # A file of the run that is a link to an image.
    (out / "label_maps").unlink()
    (out / "annotations.json").symlink_to(tmp_path / "photos" / "a.png")
    arguments[arguments.index("png")] = "coco"
    assert main(arguments) == 2
    assert "is an input and would be replaced" in capsys.readouterr().err
    assert {name: (tmp_path / "photos" / name).read_bytes() for name in before} == before


def test_convert_and_the_viewer_keep_their_sources(small, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(drawn_image(48, 70)).save(photo)
    before = photo.read_bytes()
    viewer = samjax.show(photo, np.zeros((1, 48, 70), bool))
    for name in spellings(tmp_path):
        with pytest.raises(SamjaxError, match="is an input and would be replaced"):
            viewer.save(name / "photo.png")
    assert photo.read_bytes() == before
    predictor = samjax.SamPredictor(small)
    predictor.set_image(photo)
    assert predictor.save_embedding(tmp_path / "photo.npz").exists()
