"""Measure ground-truth boxes (``gt-boxes``): one mask, most confident and best of three."""

from __future__ import annotations

import numpy as np

from benchmarks.miou.metrics import boundary_iou, iou
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Row,
    chunks,
    encode_mask,
    row,
    tight_box,
)


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Measure IoU and boundary IoU of the masks of each target's tight box."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        boxes = np.array([tight_box(t.mask) for t in targets])
        single = predictor.predict_many(boxes=boxes, multimask_output=False)[0]
        masks, scores, _low_res = predictor.predict_many(boxes=boxes, multimask_output=True)
        for i, target in enumerate(targets):
            ious = [iou(m, target.mask, target.ignore) for m in masks[i]]
            values = {
                "single": iou(single[i, 0], target.mask, target.ignore),
                "confident": ious[int(np.argmax(scores[i]))],
                "oracle": max(ious),
                "boundary": boundary_iou(single[i, 0], target.mask),
            }
            prompt = {"box": boxes[i].tolist()}
            rows.append(row(target, values, prompt=prompt, rle=encode_mask(single[i, 0])))
    return rows


NOTES = """\
- The box is the mask's own, at the outer edges of its pixels. No published table uses exactly
  this; `evit` has EfficientViT-SAM's.
- Boundary IoU (Cheng et al. 2021): bands of 0.02 of the image's diagonal. Mean per mask."""

METHOD = Method(
    name="gt-boxes",
    about="boxes from the ground truth: one mask, most confident and best of three",
    measure=measure,
    columns={
        "single": "single mask",
        "confident": "most confident of three",
        "oracle": "best of three",
        "boundary": "boundary IoU of the single mask",
    },
    main="single",
    notes=NOTES,
)
