"""Test runs that are killed and resumed, several devices, and the files of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.miou import cli
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.methods import METHODS
from benchmarks.miou.protocol import Options, decode_mask
from benchmarks.miou.samples import Filters
from samjax.errors import SamjaxError
from tests.support.benchmarks.drawn import (
    OBJECTS,
    Knowing,
    contents,
    draw_coco,
    echo,
    without_columns,
)

# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def run(dataset, predictors, out, name="sam-point", **options):
    method = METHODS[name]
    asked = {"protocol": name, "data": dataset.name, "model": "drawn"}
    return cli.run(
        method, dataset, predictors, method.filters, Options(**options), asked, out, pictures=2
    )


@pytest.fixture
def coco(tmp_path):
    return open_dataset(draw_coco(tmp_path / "coco"))


@pytest.fixture
def whole(coco, tmp_path):
    """Run without interruption."""
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
