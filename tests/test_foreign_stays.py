"""No output replaces or deletes a file that samjax did not write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax import annotations
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.orbax_folder import Checkpoint, restore_orbax_folder, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.cli import main
from samjax.commands.demo import photograph
from samjax.errors import AnnotationError, CheckpointError, RasterError, SamjaxError
from samjax.files import check_foreign
from tests.support import layouts
from tests.support.checkpoint_files import write_safetensors
from tests.support.folder_record import rewrite, without_hashes
from tests.support.models import GOLDEN, PLAIN, drawn_image
from tests.support.rasters import FindsColours, drawn_shapes, write_raster

FOREIGN = "was not written by samjax, or was changed since: move it away"
INPUT = "is an input and would be replaced"
SIZE = (48, 70)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn_image(*SIZE, seed=seed)).save(path, format="PNG")
    return path


def refused(folder: Path, call: Callable[[], object], text: str = FOREIGN) -> None:
    """Expect one line, and every file of the folder as it was."""
    before = contents(folder)
    with pytest.raises(SamjaxError) as caught:
        call()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


def test_what_cannot_be_asked_is_not_ours(tmp_path):
    def fails(_: Path) -> bool:
        raise KeyError("files")

    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    check_foreign([tmp_path / "new"], fails)
    for name in ("file", "link", "."):
        with pytest.raises(SamjaxError, match="was not written by samjax"):
            check_foreign([tmp_path / name], fails)
    check_foreign([tmp_path / "file"], lambda _: True)


def test_an_embedding_replaces_embeddings_alone(small, tmp_path):
    predictor = samjax.SamPredictor(small)
    source = photo(tmp_path / "photo.png")
    predictor.set_image(source)
    (tmp_path / "link.npz").symlink_to(source)
    os.link(source, tmp_path / "hard.npz")
    np.savez(tmp_path / "mine.npz", features=np.zeros(3))
    (tmp_path / "text.npz").write_text("mine")
    for name in ("photo.png", "link.npz", "hard.npz", "mine.npz", "text.npz", "x/../mine.npz"):
        (tmp_path / "x").mkdir(exist_ok=True)
        refused(tmp_path, lambda name=name: predictor.save_embedding(tmp_path / name))
    path = predictor.save_embedding(tmp_path / "image.npz")
    before = path.read_bytes()
    predictor.set_image(photo(tmp_path / "other.png", seed=1))
    assert predictor.save_embedding(path).read_bytes() != before


def test_the_sheets_of_a_check_replace_sheets_alone(tmp_path, capsys):
    photo(tmp_path / "data/images/check.png")
    mask = np.zeros(SIZE, bool)
    mask[5:30, 5:30] = True
    image = annotations.AnnotatedImage("check.png", SIZE, [{"segmentation": mask}] * 2)
    data = annotations.write_coco(tmp_path / "data/coco.json", [image])
    for name in ("check.html", "check.png"):
        for make in (
            lambda path: path.write_text("<!DOCTYPE html><title>samjax check</title>"),
            lambda path: path.symlink_to(tmp_path / "data/images/check.png"),
            photo,
        ):
            sheet = tmp_path / "sheet" / name
            sheet.parent.mkdir(exist_ok=True)
            make(sheet)
            before = contents(tmp_path)
            assert main(["check", str(data), "--sheet", str(sheet.parent)]) == 2
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1)  # before the data set is read
            assert FOREIGN in err
            assert contents(tmp_path) == before
            sheet.unlink()
    # In the folder of the images, too.
    assert main(["check", str(data), "--sheet", str(tmp_path / "data/images")]) == 2
    for count in ("1", "2"):
        sheets = str(tmp_path / "sheet")
        assert main(["check", str(data), "--sheet", sheets, "--sheet-count", count]) == 0


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A COCO file with a box in one image."""
    photo(tmp_path / "images/a.png")
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30]}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(data))
    return path


OUTPUTS = ("annotations.json", "review.json", "problems.json", "segment_dataset.json",
           "records/a.png.json")  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_segment_dataset_replaces_what_an_earlier_run_wrote(small, boxes, tmp_path, name):
    def run(**options):
        return samjax.segment_dataset(
            boxes, tmp_path / "images", tmp_path / "out", sam=small, **options
        )

    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"mine": 1}')
    refused(tmp_path, run, "exists and is not of an earlier run")
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    refused(tmp_path, run, "exists and is not of an earlier run")
    file.unlink()
    run()
    done = contents(tmp_path / "out")
    run()
    assert contents(tmp_path / "out") == done
    # Corrected by hand since: kept, and named.
    file.write_text('{"mine": 1}')
    text = "is not of an earlier run" if name == "segment_dataset.json" else FOREIGN
    refused(tmp_path, run, text)
    run(overwrite=True)
    assert contents(tmp_path / "out") == done
    run()


@pytest.mark.parametrize("when", range(1, 6))
def test_segment_dataset_knows_its_files_after_a_kill(small, boxes, tmp_path, monkeypatch, when):
    """Killed at any of the writes, with other images at the second run."""
    from samjax.annotations import segment_files as module

    def run():
        return samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=small)

    run()
    photo(tmp_path / "images/a.png", seed=5)
    original, calls = module.replacing, []

    def dying(path):
        calls.append(path)
        if len(calls) == when + 1:  # the first is the record
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(module, "replacing", dying)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(module, "replacing", original)
    photo(tmp_path / "images/a.png", seed=6)
    run()
    whole = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "whole", sam=small)
    assert contents(whole.path.parent) == contents(tmp_path / "out")


def test_segment_dataset_keeps_every_file_of_a_yolo_data_set(small, tmp_path):
    photo(tmp_path / "yolo/images/a.png")
    record = {"segmentation": np.eye(*SIZE, dtype=bool)}
    data = annotations.write_yolo(tmp_path / "yolo", [("a.png", SIZE, [record])]).parent
    out = tmp_path / "out"
    out.mkdir()
    for name, target in (("review.json", "labels/a.txt"), ("problems.json", "data.yaml")):
        (out / name).symlink_to(data / target)
        refused(
            tmp_path,
            lambda: samjax.segment_dataset(data, data / "images", out, sam=small, overwrite=True),
            INPUT,
        )
        (out / name).unlink()


def segment_raster(source: Path, target: Path, **options):
    from samjax.geo import segment_raster

    options = {"tile": 256, "halo": 64, "progress": lambda *_: None, **options}
    return segment_raster(options.pop("generator", FindsColours()), source, target, **options)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_parts_of_a_raster_delete_nothing_of_others(tmp_path, overwrite):
    source = write_raster(tmp_path / "scene.tif", 512, drawn_shapes(512, 10))
    target, parts = tmp_path / "a.gpkg", tmp_path / "a.gpkg.parts"

    def run(**options):
        return segment_raster(source, target, **({"overwrite": overwrite} | options))

    for name in ("notes.txt", "000001.json", "plan.json", "sub/plan.json"):
        (parts / name).parent.mkdir(parents=True)
        (parts / name).write_text('{"tile": "mine"}')
        refused(tmp_path, run)
        (parts / name).unlink()
        (parts / name).parent.rmdir()
        if parts.exists():
            parts.rmdir()
    # Beside the tiles of a run, which goes on when the file is moved away.
    with pytest.raises(KeyboardInterrupt):
        run(generator=FindsColours(stop=3))
    (parts / "notes.txt").write_text("mine")
    refused(tmp_path, run)
    (parts / "notes.txt").rename(tmp_path / "notes.txt")
    # Links, and a file that comes while it runs.
    parts.rename(tmp_path / "elsewhere")
    parts.symlink_to(tmp_path / "elsewhere")
    refused(tmp_path, run, "is a link or a file: move it away")
    parts.unlink()
    (tmp_path / "elsewhere").rename(parts)
    assert run(progress=lambda *_: (parts / "late.txt").write_text("mine")).objects == 10
    assert [p.name for p in parts.iterdir()] == ["late.txt"]


def test_a_virtual_raster_keeps_the_files_that_it_is_made_of(tmp_path):
    import rasterio.shutil

    source = write_raster(tmp_path / "scene.tif", 512, drawn_shapes(512, 10))
    rasterio.shutil.copy(source, tmp_path / "scene.vrt", driver="VRT")
    (tmp_path / "a.gpkg").symlink_to(source)
    with pytest.raises(RasterError, match=INPUT):
        segment_raster(tmp_path / "scene.vrt", tmp_path / "a.gpkg", overwrite=True)
    assert source.read_bytes()[:2] == b"II"


def test_the_demo_replaces_an_earlier_demo_alone(tmp_path, capsys, small, monkeypatch):
    from samjax.engine import spec

    monkeypatch.setattr(spec, "load", lambda *_, **__: small)
    arguments = ["demo", "--out", str(tmp_path / "out"), "--device", "cpu:0"]
    for name in ("photo.jpg", "demo.png", "box.json", "click_mask_2.png", "box_masks.npz"):
        photo(tmp_path / "out" / name)
        before = contents(tmp_path)
        assert main(arguments) == 2
        assert FOREIGN in capsys.readouterr().err
        assert contents(tmp_path) == before
        (tmp_path / "out" / name).unlink()
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert (tmp_path / "out/photo.jpg").read_bytes() == photograph().read_bytes()
    # A mask of samjax segment of another photograph.
    text = (tmp_path / "out/click.json").read_text()
    (tmp_path / "out/click.json").write_text(text.replace("grace_hopper.jpg", "mine.jpg"))
    assert main(arguments) == 2
    assert FOREIGN in capsys.readouterr().err


def test_convert_replaces_no_input_and_nothing_in_a_folder(tmp_path, capsys):
    base = to_official(random_parameters(PLAIN), PLAIN)
    write_torch_file(tmp_path / "base.pth", base)
    write_safetensors(tmp_path / "lora.safetensors", layouts.pairs(base)[0])
    os.link(tmp_path / "base.pth", tmp_path / "hard.pth")
    source, target = str(tmp_path / "base.pth"), str(tmp_path / "hard.pth")
    lora = [str(tmp_path / "lora.safetensors"), "--base", source]
    for command in ([source, target], [*lora, "--overwrite", source], [*lora, target]):
        before = contents(tmp_path)
        assert main(["convert", *command, "--overwrite"]) == 2
        assert INPUT in capsys.readouterr().err
        assert contents(tmp_path) == before
    own = tmp_path / "own"
    checkpoint = Checkpoint(dict(random_parameters(GOLDEN)), GOLDEN, "official", None)
    save_orbax_folder(own, checkpoint)
    for name in ("notes.txt", "parameters/notes.txt", "runs/1/d/log", "_notes", "d/metadata"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("mine")
        refused(tmp_path, lambda: save_orbax_folder(own, checkpoint, overwrite=True))
        (own / name).unlink()
        for folder in ("runs", "d"):
            shutil.rmtree(own / folder, ignore_errors=True)
    shutil.copytree(own, own / "_inner")  # a source within the target
    before = contents(tmp_path)
    assert main(["convert", str(own / "_inner"), str(own), "--overwrite"]) == 2
    assert INPUT in capsys.readouterr().err
    assert contents(tmp_path) == before
    shutil.rmtree(own / "_inner")
    link = tmp_path / "link"
    link.symlink_to(own)
    with pytest.raises(CheckpointError, match="exists"):
        save_orbax_folder(own, checkpoint)
    other = Checkpoint(dict(random_parameters(GOLDEN, seed=5)), GOLDEN, "official", None)
    save_orbax_folder(link, other, overwrite=True)
    assert link.is_symlink()  # what it leads to is replaced
    name, value = next(iter(other.parameters.items()))
    np.testing.assert_array_equal(restore_orbax_folder(own).parameters[name], value)
    assert not list(tmp_path.glob(".*"))
    rewrite(own, lambda _: None, without_hashes)  # whose record lists no files
    (own / "_notes").write_text("mine")
    refused(tmp_path, lambda: save_orbax_folder(own, checkpoint, overwrite=True))


def test_the_export_of_a_job_keeps_images_and_results(tmp_path):
    from samjax.jobs import export_results
    from tests.support.job_images import draw_folder, make_job

    photos = draw_folder(tmp_path / "photos", 2)
    make_job(photos, tmp_path / "job").run(workers=1, progress=False)
    out = tmp_path / "out"
    out.mkdir()
    (out / "label_maps").symlink_to(photos)
    refused(tmp_path, lambda: export_results(tmp_path / "job", out, ["png"]), INPUT)
    (out / "label_maps").unlink()
    (file,) = (tmp_path / "job").rglob("results/*.parquet")
    (out / "annotations.json").symlink_to(file)
    refused(tmp_path, lambda: export_results(tmp_path / "job", out), INPUT)
    (out / "annotations.json").unlink()
    (out / "annotations.json").write_text('{"info": {"year": 2017}, "images": []}')
    (out / "data.yaml").write_text("names: [mine]")
    for kind in ("coco", "yolo"):
        refused(tmp_path, lambda kind=kind: export_results(tmp_path / "job", out, [kind]))
    (out / "annotations.json").unlink()
    (out / "data.yaml").unlink()
    for _ in range(2):
        assert export_results(tmp_path / "job", out, ["coco", "yolo", "png", "npz"]).images == 2


def test_a_label_map_replaces_no_photograph(tmp_path):
    photo(tmp_path / "a.png")
    Image.fromarray(drawn_image(*SIZE)).save(tmp_path / "b.png", format="JPEG")
    mask = np.zeros(SIZE, bool)
    mask[5:30, 5:30] = True
    for name in ("a.png", "b.png"):
        image = annotations.AnnotatedImage(name, SIZE, [{"segmentation": mask}])
        refused(tmp_path, lambda image=image: annotations.write_semantic(tmp_path, [image]))
        path = tmp_path / name
        refused(tmp_path, lambda path=path: annotations.write_label_png(path, mask.astype("u1")))
    path = annotations.write_label_png(tmp_path / "labels.png", mask.astype(np.uint8))
    annotations.write_label_png(path, mask.astype(np.uint8) * 2)
    assert annotations.read_label_png(path).max() == 2
    with pytest.raises(AnnotationError, match=FOREIGN):
        annotations.write_label_png(tmp_path, mask.astype(np.uint8))


def test_the_annotators_export_keeps_data_sets_of_others(small, tmp_path):
    annotator = samjax.Annotator(small, [photo(tmp_path / "photos/a.png")])
    annotator.click(20, 20)
    annotator.commit()
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotations.json").write_text('{"info": {"year": 2017}, "images": []}')
    (out / "data.yaml").write_text("names: [mine]")
    (out / "a.npz").write_text("mine")
    (tmp_path / "list.json").write_text("[]")
    refused(tmp_path, lambda: annotator.export("coco", tmp_path / "list.json"))
    photo(out / "a.png")
    for kind in ("coco", "yolo", "png", "npz"):
        refused(tmp_path, lambda kind=kind: annotator.export(kind, out))
    for kind, name in (("coco", "annotations.json"), ("png", "a.png"), ("npz", "a.npz")):
        refused(tmp_path, lambda kind=kind, name=name: annotator.export(kind, out / name))
    for kind in ("coco", "yolo", "png", "npz"):
        for _ in range(2):
            annotator.export(kind, tmp_path / kind)
    annotator.close()
