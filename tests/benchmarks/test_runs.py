"""Runs: killed and resumed, wrong input, layouts of data, files and the command line."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import samjax
from benchmarks import embedded
from benchmarks.miou import cli
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.fast_coco import fast_click
from benchmarks.miou.methods import METHODS
from benchmarks.miou.metrics import iou
from benchmarks.miou.protocol import Options, decode_mask
from benchmarks.miou.samples import Filters
from samjax.errors import AnnotationError, SamjaxError
from tests.benchmarks.drawn import (
    OBJECTS,
    Knowing,
    draw_coco,
    draw_folder,
    echo,
    label_map,
    rectangle,
    without_columns,
)
from tests.models import PLAIN

RESULTS = ("masks.csv", "summary.json", "report.md")


# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def run(dataset, predictors, out, name="sam-point", **options):
    method = METHODS[name]
    asked = {"protocol": name, "data": dataset.name, "model": "drawn"}
    return cli.run(
        method, dataset, predictors, method.filters, Options(**options), asked, out, pictures=2
    )


def contents(out) -> dict[str, bytes]:
    names = [*RESULTS, *(f"pictures/{p.name}" for p in sorted((out / "pictures").iterdir()))]
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture
def coco(tmp_path):
    return open_dataset(draw_coco(tmp_path / "coco"))


@pytest.fixture
def whole(coco, tmp_path):
    """A run that nothing interrupted."""
    out = tmp_path / "whole"
    run(coco, [Knowing(coco, without_columns(0.25))], out)
    return out


def test_killed_anywhere_a_run_ends_with_identical_files(coco, whole, tmp_path):
    """A kill leaves the journal cut at any byte and no other file."""
    journal = (whole / "journal.jsonl").read_bytes()
    header = journal.index(b"\n") + 1
    for number, cut in enumerate([header, header + 9, len(journal) // 2, len(journal) - 1]):
        out = tmp_path / f"cut{number}"
        out.mkdir()
        (out / "journal.jsonl").write_bytes(journal[:cut])
        predictor = Knowing(coco, without_columns(0.25))
        run(coco, [predictor], out)
        assert contents(out) == contents(whole)
        assert predictor.images == 3 - journal[header:cut].count(b"\n")


def test_a_run_that_fails_keeps_what_it_has(coco, whole, tmp_path):
    out = tmp_path / "out"

    class Failing(Knowing):
        def set_image(self, image):
            if self.images == 2:
                raise MemoryError
            super().set_image(image)

    with pytest.raises(MemoryError):
        run(coco, [Failing(coco, without_columns(0.25))], out)
    assert not (out / "summary.json").exists()
    again = Knowing(coco, without_columns(0.25))
    run(coco, [again], out)
    assert again.images == 1
    assert contents(out) == contents(whole)


def test_a_finished_run_measures_nothing_again(coco, whole):
    before = contents(whole)
    predictor = Knowing(coco, without_columns(0.25))
    run(coco, [predictor], whole)
    assert predictor.images == 0
    assert contents(whole) == before


def test_several_devices_give_the_same_files(coco, whole, tmp_path):
    predictors = [Knowing(coco, without_columns(0.25)) for _ in range(3)]
    run(coco, predictors, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def test_another_run_in_the_folder_is_refused(coco, whole):
    with pytest.raises(SamjaxError, match=r"another protocol \(sam-point, now evit\)"):
        run(coco, [Knowing(coco, echo)], whole, "evit")


def test_files(whole):
    lines = (whole / "masks.csv").read_text().splitlines()
    assert lines[0] == (
        "image,target,area,category,oracle_1,clicks_1,clicks_2,clicks_3,clicks_5,clicks_9"
    )
    assert len(lines) == 1 + sum(map(len, OBJECTS))
    assert lines[1].startswith("1,1,200,1,0.750000,")
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["means"]["clicks_1"] == {"mean": 0.75, "low": 0.75, "high": 0.75, "count": 6}
    report = (whole / "report.md").read_text()
    assert ".750 [.750, .750]" in report
    assert "SAM 2 paper" in report  # beside the published row, with its source
    assert "| SAM ViT-H | SA-23 | .581 |" in report
    machine = json.loads((whole / "machine.json").read_text())
    assert machine["images measured"] == 3
    assert machine["images a second"] > 0


def test_pictures_show_truth_and_prediction(whole):
    with Image.open(whole / "pictures" / "worst_1.jpg") as picture:
        assert picture.size == (160, 60)
    assert len(list((whole / "pictures").iterdir())) == 4


def test_pictures_of_detections_have_no_truth(coco, tmp_path):
    found = [{"category_id": 1, "bbox": [4, 6, 20, 10], "score": 0.5}]
    run(coco, [Knowing(coco, echo)], tmp_path / "out", "boxes", detections={"1": found})
    assert "score 0.500: image 1, detection 0" in (tmp_path / "out" / "report.md").read_text()
    with Image.open(tmp_path / "out" / "pictures" / "best_1.jpg") as picture:
        colours = np.asarray(picture, np.float64)[8:14, [10, 90]].mean(0)
    assert colours[1, 2] < colours[0, 2] - 20  # orange on the right only


def test_journal_keeps_the_masks(coco, whole):
    lines = (whole / "journal.jsonl").read_text().splitlines()
    first = json.loads(lines[1])
    by_id = {r["target"]: r for r in first["rows"]}
    assert first["image"] in {"1", "2", "3"}
    target = coco.entries[int(first["image"]) - 1].targets(Filters())[0]
    expected = without_columns(0.25)(target.mask, 1)
    assert (decode_mask(by_id[target.id]["rle"], (60, 80)) == expected).all()


# --------------------------------------------------------------------- layouts


def test_bsds_layout_has_every_person(tmp_path):
    def maps(own):
        return [label_map(own), label_map(own[:1])]

    root = draw_folder(tmp_path / "b", "images", "segments", maps)
    dataset = open_dataset(root)
    assert dataset.kind == "bsds"
    targets = dataset.entries[0].targets(Filters())
    assert [t.id for t in targets] == ["1_0:0", "1_0:1", "1_0:2", "1_1:0", "1_1:1"]
    assert (targets[1].mask == rectangle(*OBJECTS[0][0])).all()
    first = open_dataset(root, first_only=True).entries[0].targets(Filters())
    assert [t.id for t in first] == ["1_0:0", "1_0:1", "1_0:2"]
    small = dataset.entries[0].targets(Filters(min_fraction=0.1))
    assert [t.id for t in small] == ["1_0:0", "1_0:2", "1_1:0"]


def test_instances_of_16_bit_labels(tmp_path):
    root = draw_folder(
        tmp_path / "n", "images", "labels", lambda own: [label_map(own).astype(np.uint16) * 700], ""
    )
    dataset = open_dataset(root)
    assert dataset.kind == "labels"
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1:700", "1:1400"]


def test_davis_merges_all_objects(tmp_path):
    root = draw_folder(tmp_path / "d", "img", "gt", lambda own: [label_map(own)], "")
    (target,) = open_dataset(root).entries[0].targets(Filters())
    assert target.mask.sum() == sum(w * h for _, _, w, h in OBJECTS[0])


def test_berkeley_has_several_masks_an_image(tmp_path):
    def maps(own):
        return [rectangle(*o).astype(np.uint8) * 255 for o in own]

    root = draw_folder(tmp_path / "b", "images", "masks", maps, "#{:03d}")
    dataset = open_dataset(root)
    assert dataset.kind == "berkeley"
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1#000", "1#001"]


def test_sbd_and_bsds_matlab_files(tmp_path):
    from scipy.io import savemat

    root = tmp_path / "sbd"
    draw_folder(root, "img", "inst", lambda _: [])
    labels = label_map(OBJECTS[0])
    labels[0, 0] = 255
    savemat(root / "inst" / "1.mat", {"GTinst": {"Segmentation": labels}})
    dataset = open_dataset(root, kind="sbd")
    assert [t.id for t in dataset.entries[0].targets(Filters())] == ["1:1", "1:2"]
    assert dataset.note == "2 images without label maps left out"
    people = np.empty((1, 2), object)
    people[0] = [{"Segmentation": labels + 1.0}, {"Segmentation": labels * 0 + 1.0}]
    bsds = tmp_path / "bsds"
    draw_folder(bsds, "images", "groundTruth", lambda _: [])
    savemat(bsds / "groundTruth" / "2.mat", {"groundTruth": people})
    (entry,) = open_dataset(bsds).entries
    assert len({t.id.partition(":")[0] for t in entry.targets(Filters())}) == 2


def test_lvis_files_name_addresses(tmp_path):
    path = draw_coco(tmp_path / "coco")
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.example.org/val/{image.pop('file_name')}"
    path.write_text(json.dumps(content))
    assert len(open_dataset(path, images=tmp_path / "coco")) == 3
    assert len(open_dataset(tmp_path / "coco" / "val")) == 3  # found beside the images


# ----------------------------------------------------------------- wrong input


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
    """Wrong data is noticed before a model is asked."""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--limit", "0"], "--limit 0: at least 1"),
        (["--detections", "d.json"], "belongs to the protocol boxes"),
        (["--refine"], "belongs to the protocol boxes"),
        (["--devices", "99"], "JAX sees"),
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "none of its 0 detections"),
        ("{}", "not COCO results"),
        ('[{"image_id": 1}]', "not COCO results"),
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


# ------------------------------------------------------------------ end to end


def test_the_command_with_a_network(tmp_path, monkeypatch, small, capsys):
    path = draw_coco(tmp_path / "coco")
    monkeypatch.setattr(cli, "load_models", lambda _: [small])
    out = tmp_path / "out"
    arguments = ["fast-coco", "--data", str(path), "--out", str(out), "--limit", "1"]
    cli.command(arguments)
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["masks"]) == (1, 2)
    assert summary["asked"]["weights"] == small.fingerprint
    predictor = samjax.SamPredictor(small)
    (entry,) = open_dataset(path).entries[:1]
    predictor.set_image(entry.image())
    expected = []
    for target in entry.targets(Filters()):
        masks, scores, _ = predictor.predict([fast_click(target.mask)], [1])
        expected.append(iou(masks[scores.argmax()], target.mask))
    assert summary["means"]["iou"]["mean"] == pytest.approx(np.mean(expected), abs=0.002)
    assert "# fast-coco" in printed
    before = contents(out)
    cli.command(arguments)
    assert contents(out) == before


def test_table_of_several_data_sets(tmp_path, monkeypatch, small):
    draw_coco(tmp_path / "coco")
    root = draw_folder(tmp_path / "b", "images", "segments", lambda own: [label_map(own)])
    predictor = Knowing(open_dataset(root), echo)
    monkeypatch.setattr(cli, "load_models", lambda _: [small])
    monkeypatch.setattr(samjax, "SamPredictor", lambda _: predictor)
    out = tmp_path / "out"
    data = ["--data", str(tmp_path / "coco" / "val"), "--data", str(root)]
    more = ["--out", str(out), "--limit", "1", "--classical", "0"]
    embedded.main([*data, *more])
    text = (out / "table.md").read_text()
    assert f"coco-val (1 images, 2 masks) | {tmp_path.name}-b (1 images, 3 masks)" in text
    assert "| 1 click | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |" in text
    assert "Spearman" in text
    tables = json.loads((out / "table.json").read_text())
    assert set(tables) == {"coco-val", f"{tmp_path.name}-b"}
    with pytest.raises(SamjaxError, match="give each data set once"):
        embedded.main([*data, *data, *more])


def test_unknown_kind():
    with pytest.raises(AnnotationError, match="is not known"):
        open_dataset("x", kind="voc")
