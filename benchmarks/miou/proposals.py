"""Measure the recall of automatic masks, AR@1000 (``proposals``; SAM paper, section 7.3)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.miou.protocol import Case, Method, Options, Predictor, Published, Row, row
from benchmarks.miou.samples import Target

MOST = 1000
# Thresholds so low that they filter nothing
SETTINGS: dict[str, Any] = {
    "points_per_side": 64,
    "pred_iou_thresh": -1e9,
    "stability_score_thresh": -1e9,
    "box_nms_thresh": 0.9,
    "output_mode": "coco_rle",
}
_AREAS = {"all": "ar", "small": "ar_small", "medium": "ar_medium", "large": "ar_large"}


def measure(predictor: Predictor, case: Case, options: Options) -> list[Row]:
    """Measure each object's recall, the share of IoU thresholds .50, .55, ... .95 it reaches."""
    records = options.generate(predictor, case.image, **SETTINGS)
    ranked = sorted(records, key=lambda r: -(r["predicted_iou"] + r["stability_score"]) / 2)
    rles = [r["segmentation"] for r in ranked[:MOST]]
    found, best = recall(case.targets, rles)
    return [
        row(
            target,
            values | {"best_iou": float(iou)},
            rle=None if number < 0 else _text(rles, number),
        )
        for target, values, (number, iou) in zip(case.targets, found, best, strict=True)
    ]


def _text(rles: Sequence[dict], number: int) -> str:
    counts = rles[number]["counts"]
    return counts if isinstance(counts, str) else counts.decode("ascii")


def recall(
    targets: Sequence[Target], rles: Sequence[dict]
) -> tuple[list[dict[str, float]], list[tuple[int, float]]]:
    """Match the proposals of one image by pycocotools, class-agnostic, for each area range.

    Returns:
        Recalls by measure of each target, and its best proposal (-1 if none) with its IoU.
    """
    height, width = targets[0].mask.shape
    own = [coco_mask.encode(np.asfortranarray(t.mask.view(np.uint8))) for t in targets]
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "segmentation": own[i - 1],
            "area": target.area,
            "iscrowd": 0,
        }
        for i, target in enumerate(targets, 1)
    ]
    results = [
        # The rank is the score, so that pycocotools' sorting keeps ties in order.
        {"image_id": 1, "category_id": 1, "segmentation": rle, "score": float(-rank)}
        for rank, rle in enumerate(rles)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "height": height, "width": width}],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": annotations,
        }
        truth.createIndex()
        if not results:
            return [{"ar": 0.0} for _ in targets], [(-1, 0.0) for _ in targets]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
    values: list[dict[str, float]] = [{} for _ in targets]
    for label, name, found in zip(
        evaluation.params.areaRngLbl, _AREAS.values(), evaluation.evalImgs, strict=True
    ):
        assert _AREAS[label] == name
        matched = (found["gtMatches"] > 0).mean(0)
        for place, number in enumerate(found["gtIds"]):
            if not found["gtIgnore"][place]:
                values[number - 1][name] = float(matched[place])
    overlaps = coco_mask.iou(list(rles), own, [0] * len(own))  # proposals x targets
    best = [(int(n), float(overlaps[n, i])) for i, n in enumerate(overlaps.argmax(0))]
    return values, best


_PAPER = "SAM paper (arXiv 2304.02643), table 4"

NOTES = """\
- 64 x 64 points, no crops, no filters, NMS at 0.9 of boxes; of more than 1000 masks those of the
  highest mean of predicted IoU and stability.
- Recall averaged over the IoU thresholds .50 to .95, class-agnostic (pycocotools, useCats=0,
  maxDets 1000). Small, medium, large by the annotation's area (32^2, 96^2). Crowds are left out,
  which recall does not notice.
- Best overlap: mean IoU of the best proposal of each object, not a part of the paper's protocol."""

METHOD = Method(
    name="proposals",
    about="recall of automatic masks, AR@1000 (SAM paper, section 7.3)",
    measure=measure,
    columns={
        "ar": "AR@1000",
        "ar_small": "small",
        "ar_medium": "medium",
        "ar_large": "large",
        "best_iou": "best overlap",
    },
    main="best_iou",
    published=(
        Published(
            "SAM ViT-H",
            "LVIS v1 val",
            {"ar": 0.593, "ar_small": 0.455, "ar_medium": 0.816, "ar_large": 0.869},
            _PAPER,
        ),
    ),
    notes=NOTES,
)
