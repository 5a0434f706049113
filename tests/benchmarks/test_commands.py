"""Run the commands with a network, from data on disk to files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import samjax
from benchmarks import embedded
from benchmarks.miou import cli
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.fast_coco import fast_click
from benchmarks.miou.metrics import iou
from benchmarks.miou.samples import Filters
from samjax.errors import SamjaxError
from tests.support.benchmarks.drawn import (
    OBJECTS,
    Knowing,
    contents,
    draw_coco,
    draw_folder,
    echo,
    label_map,
)

# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
    large = ["--out", str(tmp_path / "large"), "--classical", "0", "--min-area", "400"]
    embedded.main([*data, *large])
    assert "masks of at least 400 pixels" in (tmp_path / "large" / "table.md").read_text()
    tables = json.loads((tmp_path / "large" / "table.json").read_text())
    areas = [w * h for own in OBJECTS for _, _, w, h in own]
    assert 0 < tables["coco-val"]["masks"] == sum(a >= 400 for a in areas) < len(areas)
