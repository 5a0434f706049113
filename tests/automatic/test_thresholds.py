"""A checkpoint brings its own thresholds, and zero masks come with an explanation that is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.automatic.generator import SamAutomaticMaskGenerator
from samjax.automatic.options import AutomaticOptions
from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.describe import describe
from samjax.checkpoint.formats.safetensors import read_safetensors, write_safetensors
from samjax.checkpoint.thresholds import THRESHOLDS_KEY, AutomaticThresholds
from samjax.engine.load import embedded_path
from samjax.errors import CheckpointError, NoMasksWarning

OWN = AutomaticThresholds(0.31, 0.42)
_ADVICE = r"; pred_iou_thresh (\S+) and stability_score_thresh (\S+) would have kept some$"


@pytest.fixture
def empty(embedded, photo):
    """Generate with few points; return the masks, and what was told if there are none."""

    def generate(**options) -> tuple[list[dict], list[str]]:
        told: list[str] = []
        generator = SamAutomaticMaskGenerator(embedded, 6, **options)
        return generator.generate(photo, on_empty=told.append), told

    return generate


# Defaults


def test_weights_without_thresholds_have_the_official_ones(small):
    generator = SamAutomaticMaskGenerator(small)
    assert (generator.pred_iou_thresh, generator.stability_score_thresh) == (0.88, 0.95)
    assert "predicted IoU above 0.88, stability from 0.95 on" in repr(small)


def test_the_embedded_checkpoint_has_its_own_and_finds_objects(embedded, photo):
    assert embedded.automatic_thresholds != AutomaticThresholds()
    assert str(embedded.automatic_thresholds) in repr(embedded)
    generator = SamAutomaticMaskGenerator(embedded)
    own = embedded.automatic_thresholds
    assert generator.options.thresholds == (own.pred_iou_thresh, own.stability_score_thresh)
    assert 10 <= len(generator.generate(photo)) <= 150


def test_what_is_given_wins(embedded):
    generator = SamAutomaticMaskGenerator(embedded, pred_iou_thresh=0.0)
    stable = embedded.automatic_thresholds.stability_score_thresh
    assert generator.options.thresholds == (0.0, stable)
    with pytest.raises(ValueError, match="resolved"):
        AutomaticOptions().thresholds  # noqa: B018


# In files


@pytest.mark.parametrize("name", ["own.safetensors", "folder"])
def test_thresholds_go_along_with_the_weights(tmp_path: Path, name: str):
    first, second = tmp_path / "first.safetensors", tmp_path / name
    convert_checkpoint(embedded_path(), first, thresholds=OWN)
    if second.suffix:  # half the size, still with them
        convert_checkpoint(first, second, dtype=np.dtype(np.float16))
    else:
        convert_checkpoint(first, second)
    assert samjax.load(second).automatic_thresholds == OWN
    known = describe(second)
    assert known.thresholds == OWN
    assert known.as_dict()["automatic"] == OWN.as_dict()


def test_a_partial_file_takes_those_of_its_base(tmp_path: Path):
    base, whole, part = (tmp_path / f"{name}.safetensors" for name in ("base", "whole", "part"))
    convert_checkpoint(embedded_path(), base, thresholds=OWN)
    convert_checkpoint(embedded_path(), whole)
    tensors, _ = read_safetensors(np.fromfile(whole, np.uint8))
    decoder = {k: v for k, v in tensors.items() if k.startswith("mask_decoder.")}
    write_safetensors(part, decoder)
    for given in (base, samjax.load(base)):
        assert samjax.load(part, base=given).automatic_thresholds == OWN


@pytest.mark.parametrize("text", ["{", '{"pred_iou_thresh": 0.5}', "[1, 2]", '{"a": {}}'])
def test_damaged_thresholds_are_told(tmp_path: Path, text: str):
    path = tmp_path / "x.safetensors"
    tensors, _ = read_safetensors(np.fromfile(embedded_path(), np.uint8))
    write_safetensors(path, tensors, {THRESHOLDS_KEY: text})
    with pytest.raises(CheckpointError, match=r"x.safetensors: its thresholds .* convert it again"):
        samjax.load(path)


def test_thresholds_are_json_that_others_can_read(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    convert_checkpoint(embedded_path(), path, thresholds=OWN)
    metadata = read_safetensors(np.fromfile(path, np.uint8))[1]
    assert json.loads(metadata[THRESHOLDS_KEY]) == OWN.as_dict()


# Zero masks


@pytest.mark.parametrize(
    "options",
    [
        {"pred_iou_thresh": 2.0, "stability_score_thresh": 0.0},  # none is measured at first
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 2.0},  # all are
        {"pred_iou_thresh": 2.0, "stability_score_thresh": 2.0},
        {"pred_iou_thresh": 2.0, "stability_score_thresh": 2.0, "crop_n_layers": 1},
        {"pred_iou_thresh": 2.0, "stability_score_thresh": 2.0, "tile_size": 400},
    ],
)
def test_the_thresholds_named_would_keep_some(empty, options: dict):
    records, told = empty(**options)
    assert (records, len(told)) == ([], 1)
    found = re.search(_ADVICE, told[0])
    assert found is not None, told[0]
    named = {"pred_iou_thresh": float(found[1]), "stability_score_thresh": float(found[2])}
    for name, value in named.items():
        assert value <= options[name]
        assert f"{name} {options[name]:g}" in told[0]
    kept, told = empty(**options | named)
    assert kept
    assert not told


def test_masks_that_are_too_small_or_large_are_told(empty):
    everything = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    records, told = empty(**everything, min_area=10**7)
    assert records == []
    assert re.fullmatch(
        r"no mask is left by min_area 10000000: \d+ masks of \d+ to \d+ pixels", told[0]
    )
    assert "min_area 0 and max_area 1:" in empty(**everything, max_area=1)[1][0]


def test_a_warning_where_nobody_listens(embedded, photo):
    generator = SamAutomaticMaskGenerator(embedded, 2, pred_iou_thresh=2.0)
    with pytest.warns(NoMasksWarning, match="would have kept some"):
        assert generator.generate(photo) == []
