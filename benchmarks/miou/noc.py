"""Count the clicks to an IoU of 0.80, 0.85, 0.90 as in RITM's evaluation (``noc``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.miou.clicking import Rules, Session
from benchmarks.miou.metrics import iou
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Published,
    Row,
    chunks,
    column,
    encode_mask,
    row,
)
from benchmarks.miou.samples import Dataset

THRESHOLDS = (80, 85, 90)  # per cent
MOST = 20
RULES = Rules(clicker="ritm", feed_back=True, three_always=True)


def clicks_needed(ious: Sequence[float], threshold: float) -> tuple[int, bool]:
    """Find the first click at or over the threshold; MOST and False if there is none."""
    for count, value in enumerate(ious, 1):
        if value >= threshold:
            return count, True
    return MOST, False


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Count the clicks for each threshold; clicking ends at the highest one."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        session = Session(predictor, targets, RULES)
        ious: list[list[float]] = [[] for _ in targets]
        for _count in range(MOST):
            session.step()
            for i, target in enumerate(targets):
                if len(session.clicks[i]) > len(ious[i]):
                    ious[i].append(iou(session.chosen[i], target.mask, target.ignore))
                    if ious[i][-1] >= max(THRESHOLDS) / 100:
                        session.finish(i)
        for i, target in enumerate(targets):
            values: dict[str, float] = {"iou": ious[i][-1]}
            for threshold in THRESHOLDS:
                count, reached = clicks_needed(ious[i], threshold / 100)
                values |= {f"noc_{threshold}": count, f"failed_{threshold}": float(not reached)}
            prompt = {"points": session.clicks[i]}
            rows.append(row(target, values, prompt=prompt, rle=encode_mask(session.chosen[i])))
    return rows


def summarise(rows: Sequence[Row], _: Dataset) -> dict[str, Any]:
    """Count the failures (NoF): objects that do not reach the threshold in MOST clicks."""
    failed = {f"NoF@{t}": int(column(rows, f"failed_{t}").sum()) for t in THRESHOLDS}
    return {"counts": {**failed, "objects": len(rows)}}


def _published(model: str, data: str, source: str, *values: float | None) -> Published:
    named = zip(("noc_80", "noc_85", "noc_90"), values, strict=True)
    return Published(model, data, {k: v for k, v in named if v is not None}, source)


_RITM = "RITM paper (arXiv 2102.06583), HRNet32 on COCO+LVIS"
_SECOND_HAND = "second-hand, compiled from later papers' comparisons"

NOTES = """\
- Clicks by RITM's clicker, up to 20; missing and superfluous pixels are two regions, the deeper
  one is clicked, positive only if strictly deeper; ignored pixels (128) count nowhere.
- The first click at or over the threshold counts, else 20; NoF: objects that never got there.
- SAM is asked with all clicks, the low-res logits of the mask before, and chooses the most
  confident of three masks every time (as SegNext's comparison does)."""

METHOD = Method(
    name="noc",
    about="clicks to an IoU of .80, .85, .90 on GrabCut, Berkeley, DAVIS, SBD (RITM's evaluation)",
    measure=measure,
    columns={
        **{f"noc_{t}": f"NoC@{t}" for t in THRESHOLDS},
        "iou": "IoU at the end",
    },
    main="iou",
    published=(
        _published("RITM HRNet32", "GrabCut", _RITM, None, 1.46, 1.56),
        _published("RITM HRNet32", "Berkeley", _RITM, None, None, 2.10),
        _published("RITM HRNet32", "SBD", _RITM, None, 3.59, 5.71),
        _published("RITM HRNet32", "DAVIS, 345 frames", _RITM, None, 4.11, 5.34),
        _published(
            "SAM ViT-B",
            "DAVIS, 345 frames",
            "SegNext's notebook (github.com/uncbiag/SegNext)",
            None,
            None,
            5.148,
        ),
        _published("SAM ViT-H", "GrabCut", _SECOND_HAND, None, None, 1.88),
        _published("SAM ViT-H", "Berkeley", _SECOND_HAND, None, None, 2.09),
        _published("SAM ViT-H", "SBD", _SECOND_HAND, None, None, 7.62),
        _published("SAM ViT-H", "DAVIS, 345 frames", _SECOND_HAND, None, None, 5.19),
    ),
    summarise=summarise,
    notes=NOTES,
)
