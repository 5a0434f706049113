"""Measure COCO AP of instance segmentation from a detector's boxes (protocol ``boxes``)."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.miou.coco_files import read_json
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Published,
    Row,
    encode_mask,
    prompts_at_once,
)
from benchmarks.miou.samples import Dataset, Filters
from samjax.errors import AnnotationError

_ENTRIES = ("image_id", "category_id", "bbox", "score")
_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def read_detections(path: Path, dataset: Dataset) -> dict[str, list[dict]]:
    """Read a detector's COCO results (image_id, category_id, bbox x y w h, score) by image.

    Raises:
        AnnotationError: the file holds something else, or no detection on the data set's images.
    """
    if dataset.source is None:
        raise AnnotationError(
            f"{dataset.name}: a detector's boxes are scored against a COCO file: give it as --data"
        )
    content = read_json(path)
    if not isinstance(content, list) or not all(map(_is_detection, content)):
        raise AnnotationError(
            f"{path}: not COCO results: a list of objects with {', '.join(_ENTRIES)}, the box as "
            "four finite numbers"
        )
    found: dict[str, list[dict]] = defaultdict(list)
    for detection in content:
        found[str(detection["image_id"])].append(detection)
    if not any(e.id in found for e in dataset.entries):
        raise AnnotationError(
            f"{path}: none of its {len(content)} detections is on an image of {dataset.name}"
        )
    return dict(found)


def _is_detection(found: Any) -> bool:
    if not isinstance(found, dict) or not found.keys() >= set(_ENTRIES):
        return False
    try:
        numbers = np.array([*found["bbox"], found["score"]], np.float64)
    except (TypeError, ValueError):
        return False
    return numbers.shape == (5,) and bool(np.isfinite(numbers).all())


def measure(predictor: Predictor, case: Case, options: Options) -> list[Row]:
    """Predict a mask for each detection: the most confident of three, then refined if asked."""
    detections = options.detections.get(case.image_id, [])
    if not detections:
        return []
    predictor.set_image(case.image)
    rows = []
    size = prompts_at_once(case.image.shape)
    for start in range(0, len(detections), size):
        part = detections[start : start + size]
        corners = np.array([d["bbox"] for d in part], np.float64)
        corners[:, 2:] += corners[:, :2]
        masks, scores, low_res = predictor.predict_many(boxes=corners)
        best = scores.argmax(1)
        chosen = masks[np.arange(len(part)), best]
        if options.refine:
            again = low_res[np.arange(len(part)), best][:, None]
            masks = predictor.predict_many(
                boxes=corners, mask_inputs=again, multimask_output=False
            )[0]
            chosen = masks[:, 0]
        for number, (detection, mask) in enumerate(zip(part, chosen, strict=True), start):
            rows.append(
                {
                    "target": f"detection {number}",
                    "area": float(np.count_nonzero(mask)),
                    "category": detection["category_id"],
                    "values": {"score": float(detection["score"])},
                    "size": list(mask.shape),
                    "prompt": {"box": corners[number - start].tolist()},
                    "rle": encode_mask(mask),
                }
            )
    return rows


def summarise(rows: Sequence[Row], dataset: Dataset) -> dict[str, Any]:
    """Compute COCO's mask AP by pycocotools, on the images of the data set."""
    assert dataset.source is not None  # read_detections has seen to it
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = read_json(dataset.source)
        truth.dataset.setdefault("info", {})
        for annotation in truth.dataset["annotations"]:
            annotation.setdefault("iscrowd", 0)  # LVIS has no crowds
        truth.createIndex()
        ids = {str(i): i for i in truth.getImgIds()}
        results = [
            {
                "image_id": ids[r["image"]],
                "category_id": r["category"],
                "segmentation": {"size": r["size"], "counts": r["rle"]},
                "score": r["values"]["score"],
            }
            for r in rows
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.imgIds = sorted(ids[e.id] for e in dataset.entries)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 is pycocotools' word for "no such object"
    values = (None if v < 0 else float(v) for v in evaluation.stats[: len(_NAMES)])
    return {"scores": dict(zip(_NAMES, values, strict=True))}


_PAPER = "SAM paper (arXiv 2304.02643), table 5: ViTDet-H boxes, one refinement pass"

NOTES = """\
- A mask for every box of the detector, with the detector's score and class; COCO AP of masks by
  pycocotools (maxDets 100), on the images that were measured, all annotations.
- Without refinement: the most confident of three masks. With --refine: that mask's low-res logits
  and the box once more, single mask.
- On LVIS this is COCO's AP, not LVIS's federated one."""

METHOD = Method(
    name="boxes",
    about="instance segmentation from a detector's boxes (--detections), COCO AP",
    measure=measure,
    columns={"AP": "AP"},
    main="score",
    filters=Filters(crowd=True, min_area=0),
    published=(
        Published("SAM ViT-H, refined", "COCO val2017", {"AP": 0.465}, _PAPER),
        Published("SAM ViT-H, refined", "LVIS v1 val", {"AP": 0.447}, _PAPER),
        Published("SAM ViT-H, not refined", "COCO val2017", {"AP": 0.461}, "EdgeSAM's README"),
        Published(
            "SAM ViT-H", "COCO val2017", {"AP": 0.465}, "EfficientViT-SAM paper, ViTDet boxes"
        ),
        Published(
            "SAM ViT-H", "LVIS v1 val", {"AP": 0.442}, "EfficientViT-SAM paper, ViTDet boxes"
        ),
    ),
    summarise=summarise,
    rows_are="detections",
    needs_targets=False,
    notes=NOTES,
)
