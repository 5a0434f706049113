"""Measure clicks, boxes, the quality head and classical methods (``overview``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.miou import classical
from benchmarks.miou.clickers import Click
from benchmarks.miou.clicking import Session
from benchmarks.miou.metrics import iou, spearman
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Row,
    chunks,
    encode_mask,
    means,
    row,
    tight_box,
)
from benchmarks.miou.sam_point import RULES
from benchmarks.miou.samples import Dataset, Target

CLASSICAL = {
    "grabcut": "GrabCut, box",
    "walker_1": "random walker, 1 click",
    "flood": "flood fill, 1 click",
    "walker_5": "random walker, the model's 5 clicks",
}


def measure(predictor: Predictor, case: Case, options: Options) -> list[Row]:
    """Measure all prompts of each target, and classical methods on those of options.classical."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        clicked, clicks = _clicks(predictor, targets)
        boxed, masks = _boxes(predictor, targets)
        for i, target in enumerate(targets):
            values = clicked[i]["values"] | boxed[i]["values"]
            if f"{case.image_id}/{target.id}" in options.classical:
                values |= _classical(case.image, target, clicks[i])
            more = {"click_pairs": clicked[i]["pairs"], "box_pairs": boxed[i]["pairs"]}
            prompt = {"box": list(tight_box(target.mask))}
            rows.append(row(target, values, prompt=prompt, rle=encode_mask(masks[i]), **more))
    return rows


def _pairs(scores: np.ndarray, ious: Sequence[float]) -> list[list[float]]:
    """Pair the predicted and the true IoU of each candidate."""
    return [[float(s), float(v)] for s, v in zip(scores, ious, strict=True)]


def _clicks(predictor: Predictor, targets: list[Target]) -> tuple[list[dict], list[list[Click]]]:
    session = Session(predictor, targets, RULES)
    found: list[dict[str, Any]] = [{} for _ in targets]
    for count in range(1, 6):
        session.step()
        for i, target in enumerate(targets):
            chosen = iou(session.chosen[i], target.mask, target.ignore)
            if count == 1:
                ious = [iou(m, target.mask, target.ignore) for m in session.candidates[i]]
                found[i]["pairs"] = _pairs(session.scores[i], ious)
                found[i]["values"] = {"click": chosen, "click_oracle": max(ious)}
            elif count in (3, 5):
                found[i]["values"][f"clicks_{count}"] = chosen
    return found, session.clicks


def _boxes(predictor: Predictor, targets: list[Target]) -> tuple[list[dict], list[np.ndarray]]:
    boxes = np.array([tight_box(t.mask) for t in targets])
    single = predictor.predict_many(boxes=boxes, multimask_output=False)[0]
    masks, scores, _ = predictor.predict_many(boxes=boxes, multimask_output=True)
    found, chosen = [], []
    for i, target in enumerate(targets):
        ious = [iou(m, target.mask, target.ignore) for m in masks[i]]
        best = int(np.argmax(scores[i]))
        filled = classical.rectangle(target.mask.shape, boxes[i])
        values = {
            "box": iou(single[i, 0], target.mask, target.ignore),
            "box_confident": ious[best],
            "box_oracle": max(ious),
            "rectangle": iou(filled, target.mask, target.ignore),
        }
        found.append({"values": values, "pairs": _pairs(scores[i], ious)})
        chosen.append(masks[i, best])
    return found, chosen


def _classical(image: np.ndarray, target: Target, clicks: Sequence[Click]) -> dict[str, float]:
    cut, failed = classical.grabcut(image, tight_box(target.mask))
    masks = {
        "grabcut": cut,
        "walker_1": classical.random_walker(image, clicks[:1]),
        "flood": classical.flood_fill(image, clicks[0]),
        "walker_5": classical.random_walker(image, clicks[:5]),
    }
    values = {name: iou(mask, target.mask, target.ignore) for name, mask in masks.items()}
    return values | {"grabcut_failed": float(failed)}


def _correlation(pairs: Sequence[Sequence[float]]) -> float | None:
    value = spearman(*zip(*pairs, strict=True))
    return None if math.isnan(value) else value


def summarise(rows: Sequence[Row], _: Dataset) -> dict[str, Any]:
    """Summarise the rank correlation of predicted and true IoU, and the classical sample."""
    result: dict[str, Any] = {}
    groups = {
        "click, three masks": [p for r in rows for p in r["click_pairs"]],
        "box, three masks": [p for r in rows for p in r["box_pairs"]],
    }
    groups["all of these"] = [p for pairs in groups.values() for p in pairs]
    for name, key in (
        ("click, the chosen mask", "click_pairs"),
        ("box, the chosen mask", "box_pairs"),
    ):
        groups[name] = [max(r[key], key=lambda pair: pair[0]) for r in rows]
    result["spearman"] = {
        name: {"value": _correlation(pairs), "masks": len(pairs)} for name, pairs in groups.items()
    }
    sample = [r for r in rows if "grabcut" in r["values"]]
    if sample:
        names = [*METHOD.columns, *CLASSICAL, "grabcut_failed"]
        result["sample"] = means(sample, names)
    return result


NOTES = f"""\
- Clicks as in `sam-point`; boxes as in `gt-boxes`. Mean per mask.
- On a random sample, classical methods. GrabCut: OpenCV, 5 iterations from the same box, the
  filled box where it fails. Random walker: scikit-image, beta 130, the image's rim as background,
  shrunk to {classical.WALKER_SIDE} px; with the same click, and with the 5 clicks that the model
  was given. Flood fill: connected pixels within a CIE Lab difference of
  {classical.FLOOD_TOLERANCE:.0f} of the clicked colour."""

METHOD = Method(
    name="overview",
    about="clicks, boxes and the quality head, beside classical methods on the same prompts",
    measure=measure,
    columns={
        "click": "1 click",
        "click_oracle": "1 click, best of three",
        "clicks_3": "3 clicks",
        "clicks_5": "5 clicks",
        "box": "box, single mask",
        "box_confident": "box, most confident",
        "box_oracle": "box, best of three",
        "rectangle": "filled box",
    },
    main="box_confident",
    summarise=summarise,
    notes=NOTES,
)
