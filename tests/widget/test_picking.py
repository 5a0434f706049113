"""Automatic masks to pick from: one rule for their thresholds, and for the page's slider."""

from __future__ import annotations

from dataclasses import replace

import pytest

import samjax
from samjax.widget.background import SLIDER_REACH
from tests.support.models import drawn_image
from tests.widget.test_annotator import Wire


def scores(records) -> list[float]:
    """Return the predicted IoU of each, rounded."""
    return sorted(round(float(each["predicted_iou"]), 4) for each in records)


def told_by(annotator: samjax.Annotator) -> dict:
    """Make automatic masks as the page does, and return what it is told."""
    annotator.wait()
    wire = Wire(annotator)
    wire.send("hello")
    wire.send("automatic")
    return wire.wait_for(lambda content: content["kind"] == "automatic_masks")


def test_the_slider_starts_at_what_the_generator_makes_and_reaches_below(embedded):
    image = drawn_image(120, 160, seed=2)
    own = embedded.automatic_thresholds.pred_iou_thresh
    annotator = samjax.Annotator(embedded, image, automatic={"points_per_side": 6})
    records = annotator.automatic()
    generated = samjax.SamAutomaticMaskGenerator(embedded, points_per_side=6).generate(image)
    assert generated
    assert scores(each for each in records if each["predicted_iou"] > own) == scores(generated)
    assert len(records) > len(generated)  # for the slider
    assert min(scores(records)) >= round(SLIDER_REACH * own, 4)
    more = len(records) - len(generated)
    assert f"{len(generated)} masks (and {more} of a lower score)" in annotator.status
    told = told_by(annotator)
    assert told["floor"] == own
    assert told["least"] == pytest.approx(SLIDER_REACH * own, abs=0.01)


def test_a_threshold_that_is_named_is_where_slider_and_run_begin(embedded):
    image = drawn_image(120, 160, seed=2)
    own = embedded.automatic_thresholds.pred_iou_thresh
    options = {"points_per_side": 6, "pred_iou_thresh": own + 0.05}
    told = told_by(samjax.Annotator(embedded, image, automatic=options))
    assert told["floor"] == pytest.approx(own + 0.05)
    assert told["least"] == pytest.approx(own + 0.05, abs=0.01)
    assert min(told["scores"]) > own + 0.05


def test_where_no_mask_reaches_the_threshold_all_are_shown(embedded, monkeypatch):
    image = drawn_image(120, 160, seed=2)
    high = replace(embedded.automatic_thresholds, pred_iou_thresh=1.0)
    monkeypatch.setattr(embedded, "automatic_thresholds", high)
    told = told_by(samjax.Annotator(embedded, image, automatic={"points_per_side": 6}))
    assert told["scores"]
    assert told["floor"] == min(told["scores"]) < 1.0
