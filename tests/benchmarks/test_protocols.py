"""Score every protocol with predictors that know the masks, against values computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.miou import overview
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.journal import Journal
from benchmarks.miou.methods import METHODS
from benchmarks.miou.protocol import Options, encode_mask
from benchmarks.miou.report import summarise
from benchmarks.miou.runner import measure_dataset
from benchmarks.miou.samples import Filters, draw
from tests.support.benchmarks.drawn import (
    OBJECTS,
    Knowing,
    draw_coco,
    draw_folder,
    echo,
    knowing,
    label_map,
    options,
    polygon,
    without_columns,
)

# Of pycocotools, which the newest NumPy warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OBJECT_COUNT = sum(map(len, OBJECTS))


def run(name, dataset, predictor, folder: Path, given=None) -> dict:
    """Run a protocol and return its summary."""
    method = METHODS[name]
    journal = Journal(folder / "journal.jsonl", {"protocol": name})
    measured = measure_dataset(
        method, dataset, [predictor], method.filters, given or Options(), journal
    )
    return summarise(method, measured, dataset, {"data": dataset.name})


def means(summary: dict) -> dict[str, float]:
    return {name: entry["mean"] for name, entry in summary["means"].items()}


@pytest.fixture
def coco(tmp_path):
    return open_dataset(draw_coco(tmp_path / "coco"))


IOU = ("sam-point", "gt-boxes", "fast-coco", "evit", "effsam", "overview")


@pytest.mark.parametrize("name", IOU)
def test_truth_scores_one(name, coco, tmp_path):
    summary = run(name, coco, Knowing(coco, echo), tmp_path)
    found = means(summary)
    found.pop("rectangle", None)
    assert found
    assert all(value == 1 for value in found.values()), found
    assert summary["masks"] == OBJECT_COUNT
    assert summary["images"] == 3


@pytest.mark.parametrize("name", IOU)
def test_known_error_scores_what_is_computed_by_hand(name, coco, tmp_path):
    found = means(run(name, coco, Knowing(coco, without_columns(0.25)), tmp_path))
    boundary = found.pop("boundary", None)
    assert found.pop("rectangle", 1) == 1  # drawn rectangles fill their boxes
    assert found == {key: pytest.approx(0.75, abs=1e-12) for key in found}
    assert boundary is None or boundary < 0.75


def test_boundary_iou_by_hand(coco, tmp_path):
    """Bands of 2 px (0.02 of 100 px): of w x h, shrunk to v columns, h and v are left of w."""

    def band(w, h):
        return w * h - (w - 4) * (h - 4)

    expected = []
    for objects in OBJECTS:
        for _, _, w, h in objects:
            v = w - w // 4
            # Both bands have the left side, and the rows of top and bottom up to column v;
            # the right band of the shrunk mask lies inside the true one's hole but for its rows.
            shared = band(w, h) - (band(w, h) - _left_of(v, w, h))
            expected.append(shared / (band(w, h) + band(v, h) - shared))
    found = means(run("gt-boxes", coco, Knowing(coco, without_columns(0.25)), tmp_path))
    assert found["boundary"] == pytest.approx(np.mean(expected), abs=1e-12)


def _left_of(v: int, w: int, h: int) -> int:
    """Count the band's pixels of a w x h rectangle within its first v columns."""
    full = min(v, 2) + max(0, v - (w - 2))
    return full * h + (v - full) * 4


def test_evit_bins_by_the_annotations_area(coco, tmp_path):
    summary = run("evit", coco, Knowing(coco, echo), tmp_path)
    areas = [w * h for objects in OBJECTS for _, _, w, h in objects]
    assert summary["means"]["box_small"]["count"] == sum(a <= 32**2 for a in areas)
    assert "box_large" not in summary["means"]


def test_the_oracle_chooses_what_the_scores_do_not(coco, tmp_path):
    """The most certain mask is wrong everywhere; its complement, the first of three, is right."""
    inverse = Knowing(coco, lambda mask, _: ~mask)
    found = means(run("gt-boxes", coco, inverse, tmp_path))
    assert (found["single"], found["confident"], found["oracle"]) == (0, 0, 1)


def noc_data(tmp_path):
    objects = (((10, 10, 20, 30),),)
    return open_dataset(draw_coco(tmp_path / "one", objects))


def test_noc_of_the_truth_is_one(coco, tmp_path):
    summary = run("noc", coco, Knowing(coco, echo), tmp_path)
    found = means(summary)
    assert [found[f"noc_{t}"] for t in (80, 85, 90)] == [1, 1, 1]
    assert summary["counts"] == {"NoF@80": 0, "NoF@85": 0, "NoF@90": 0, "objects": OBJECT_COUNT}


def test_noc_counts_the_clicks_to_each_threshold(tmp_path):
    dataset = noc_data(tmp_path)
    kept = {1: 12, 2: 14, 3: 16, 4: 17, 5: 18}  # of 20 columns: .60 .70 .80 .85 .90

    def answer(mask, clicks):
        result = mask.copy()
        result[:, 10 + kept[clicks] :] = False
        return result

    found = means(run("noc", dataset, Knowing(dataset, answer), tmp_path))
    assert [found[f"noc_{t}"] for t in (80, 85, 90)] == [3, 4, 5]
    assert found["iou"] == pytest.approx(0.9)


def test_noc_failures_count_twenty_clicks(tmp_path):
    dataset = noc_data(tmp_path)
    summary = run("noc", dataset, Knowing(dataset, without_columns(0.15)), tmp_path)
    found = means(summary)
    assert [found[f"noc_{t}"] for t in (80, 85, 90)] == [1, 1, 20]
    assert summary["counts"] == {"NoF@80": 0, "NoF@85": 0, "NoF@90": 1, "objects": 1}


@pytest.mark.parametrize(("part", "dsc"), [(0, 1), (0.25, 2 * 0.75 / 1.75), (0.5, 2 / 3)])
def test_med(part, dsc, tmp_path):
    root = draw_folder(tmp_path / "d", "images", "labels", lambda own: [label_map(own)], "")
    dataset = open_dataset(root)
    predictor = knowing("med", dataset, without_columns(part) if part else echo)
    summary = run("med", dataset, predictor, tmp_path)
    found = means(summary)
    assert found["dsc"] == pytest.approx(dsc, abs=1e-12)
    assert summary["images"] == 3
    assert "masks" not in summary
    if part:
        assert 0 < found["nsd_contour"] < 1
        assert 0 < found["nsd"] < 1
    else:
        assert found["nsd"] == found["nsd_contour"] == 1


def test_med_nsd_is_zero_where_dice_is_low(tmp_path):
    root = draw_folder(tmp_path / "d", "images", "labels", lambda own: [label_map(own)], "")
    dataset = open_dataset(root)
    predictor = knowing("med", dataset, without_columns(0.9))
    found = means(run("med", dataset, predictor, tmp_path))
    assert 0 < found["dsc"] < 0.2
    assert found["nsd"] == found["nsd_contour"] == 0


@pytest.mark.parametrize(("part", "recall"), [(0, 1), (0.25, 0.6), (0.5, 0.1)])
def test_proposals(part, recall, coco, tmp_path):
    """IoU .75 is found at .50, .55, ... .75: 6 of 10 thresholds; .5 at one."""
    answer = without_columns(part) if part else echo
    given = options("proposals", coco, answer)
    summary = run("proposals", coco, Knowing(coco, answer), tmp_path, given)
    found = means(summary)
    assert found["ar"] == pytest.approx(recall)
    assert found["best_iou"] == pytest.approx(1 - part)
    assert summary["masks"] == OBJECT_COUNT


@pytest.mark.parametrize(("sure", "recall"), [(0.9, 1), (0.1, 0)])
def test_proposals_keeps_the_thousand_best(sure, recall, tmp_path):
    """The right mask is one of 1001; all others are a pixel."""
    dataset = noc_data(tmp_path)
    (target,) = dataset.entries[0].targets(Filters())
    wrong = np.zeros_like(target.mask)
    wrong[0, 0] = True

    def record(mask, score):
        rle = {"size": list(mask.shape), "counts": encode_mask(mask)}
        return {"segmentation": rle, "predicted_iou": score, "stability_score": score}

    def generate(*_, **__):
        return [record(target.mask, sure), *([record(wrong, 0.5)] * 1000)]

    found = means(run("proposals", dataset, None, tmp_path, Options(generate=generate)))
    assert found["ar"] == recall


def test_proposals_without_a_mask_recall_nothing(coco, tmp_path):
    given = Options(generate=lambda *_, **__: [])
    found = means(run("proposals", coco, Knowing(coco, echo), tmp_path, given))
    assert found["ar"] == 0


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize(("part", "ap"), [(0, 1.0), (0.5, 0.1)])
def test_boxes(part, ap, refine, coco, tmp_path):
    """IoU .5 counts at one of ten thresholds."""
    predictor = Knowing(coco, without_columns(part) if part else echo)
    given = replace(options("boxes", coco), refine=refine)
    summary = run("boxes", coco, predictor, tmp_path, given)
    assert summary["scores"]["AP"] == pytest.approx(ap)
    assert summary["scores"]["AP50"] == pytest.approx(1)
    assert summary["detections"] == OBJECT_COUNT


def test_boxes_count_detections_on_images_without_objects(tmp_path):
    objects = (((4, 6, 20, 10),), ())
    dataset = open_dataset(draw_coco(tmp_path / "coco", objects))
    right = options("boxes", dataset).detections
    false = {"category_id": 1, "bbox": [1, 1, 30, 30], "score": 0.99}
    given = Options(detections={**right, "2": [false]})
    predictor = Knowing(dataset, echo)
    empty = next(e for e in dataset.entries if e.id == "2")
    predictor.learn(empty.image(), [np.ones((60, 80), bool)])
    summary = run("boxes", dataset, predictor, tmp_path, given)
    assert summary["detections"] == 2
    assert summary["scores"]["AP"] == pytest.approx(0.5)  # the first of two is wrong


def test_boxes_on_lvis_which_has_no_crowds(tmp_path):
    path = draw_coco(tmp_path / "coco")
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    path.write_text(json.dumps(content))
    dataset = open_dataset(path)
    summary = run("boxes", dataset, Knowing(dataset, echo), tmp_path, options("boxes", dataset))
    assert summary["scores"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["sam-point", "noc", "proposals"])
def test_images_without_annotations_are_counted_apart(name, tmp_path):
    dataset = open_dataset(draw_coco(tmp_path / "coco", (*OBJECTS, ())))
    predictor = Knowing(dataset, echo)
    summary = run(name, dataset, predictor, tmp_path, options(name, dataset))
    assert (summary["images"], summary["images without a target"]) == (4, 1)
    assert summary["masks"] == OBJECT_COUNT
    assert predictor.images == 3  # the model never sees the fourth


def test_crowds_take_part_where_the_protocol_says_so(tmp_path):
    dataset = open_dataset(draw_coco(tmp_path / "coco", crowd=True))
    summary = run("fast-coco", dataset, Knowing(dataset, echo), tmp_path)
    assert summary["masks"] == OBJECT_COUNT
    assert means(summary)["iou"] == 1


@pytest.mark.parametrize(
    ("kind", "images", "labels"),
    [("grabcut", "data_GT", "boundary_GT"), ("berkeley", "images", "masks")],
)
def test_ignored_pixels_count_for_nothing(kind, images, labels, tmp_path):
    """The band of 128 around the object is neither missed nor superfluous."""

    def maps(own):
        trimap = np.zeros((60, 80), np.uint8)
        x, y, w, h = own[0]
        trimap[max(0, y - 2) : y + h + 2, max(0, x - 2) : x + w + 2] = 128
        trimap[y : y + h, x : x + w] = 255
        return [trimap]

    dataset = open_dataset(draw_folder(tmp_path / "g", images, labels, maps, ""))
    assert dataset.kind == kind

    def answer(mask, _):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        return grown

    summary = run("noc", dataset, Knowing(dataset, answer), tmp_path)
    found = means(summary)
    assert (found["noc_90"], found["iou"]) == (1, 1)
    assert summary["counts"]["objects"] == 3


def test_overview_ranks_the_quality_head(coco, tmp_path):
    """Scores .2, .9, .1 of masks with IoU 0, 1, 0: the best has the highest."""
    summary = run("overview", coco, Knowing(coco, echo), tmp_path)
    ranked = summary["spearman"]
    assert ranked["click, three masks"]["masks"] == 3 * OBJECT_COUNT
    assert 0.8 < ranked["click, three masks"]["value"] < 1  # IoUs tie, scores do not
    assert ranked["click, the chosen mask"]["value"] is None  # all are 1: nothing to rank
    assert "sample" not in summary


def test_samples_do_not_depend_on_the_order():
    keys = [str(i) for i in range(50)]
    assert draw(keys, 5) == draw(keys[::-1], 5)
    assert len(draw(keys, 5)) == 5
    assert draw(keys, 5) != draw(keys, 5, seed=1)
    assert overview.METHOD.columns.keys() >= {"click", "click_oracle", "box_confident"}


def test_drawn_polygons_are_their_rectangles(coco):
    for entry, objects in zip(coco.entries, OBJECTS, strict=True):
        for target, (x, y, w, h) in zip(entry.targets(Filters()), objects, strict=True):
            assert target.mask.sum() == w * h
            assert target.box == (x, y, x + w, y + h)
            assert polygon(x, y, w, h)
