"""Measure boxes and 1, 3, 5 clicks as in EfficientViT-SAM's evaluation (``evit``)."""

from __future__ import annotations

import numpy as np

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
    confident,
    encode_mask,
    row,
    tight_box,
)
from benchmarks.miou.samples import Filters

CLICKS = (1, 3, 5)
RULES = Rules(clicker="ritm", feed_back=False, three_always=True)
_SMALL, _LARGE = 32**2, 96**2


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Measure the IoU of the most confident of three masks, for annotated boxes and clicks."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        boxes = np.array([t.box or tight_box(t.mask) for t in targets])
        chosen = confident(predictor.predict_many(boxes=boxes))
        values = [{"box": iou(m, t.mask)} for m, t in zip(chosen, targets, strict=True)]
        for target, found in zip(targets, values, strict=True):
            # An area on the limit of two size classes counts in both, as in their code.
            sizes = {
                "box_small": target.area <= _SMALL,
                "box_medium": _SMALL <= target.area <= _LARGE,
                "box_large": target.area >= _LARGE,
            }
            found |= {name: found["box"] for name, inside in sizes.items() if inside}
        session = Session(predictor, targets, RULES)
        for count in range(1, max(CLICKS) + 1):
            session.step()
            if count in CLICKS:
                for i, target in enumerate(targets):
                    values[i][f"clicks_{count}"] = iou(session.chosen[i], target.mask)
        for i, target in enumerate(targets):
            prompt = {"box": [float(v) for v in boxes[i]]}
            rows.append(row(target, values[i], prompt=prompt, rle=encode_mask(chosen[i])))
    return rows


_SOURCE = "EfficientViT-SAM paper (arXiv 2402.05008)"

NOTES = """\
- Boxes are the annotation's own; the most confident of three masks at the original size.
- Clicks by RITM's clicker, all clicks so far as prompt, no mask prompt, most confident of three
  after every click.
- Annotations of an area of at least 1, crowds too; mean per mask. Small, medium, large: borders
  at 32^2 and 96^2 of the annotation's area, inclusive on both sides."""

METHOD = Method(
    name="evit",
    about="boxes (by size) and 1, 3, 5 clicks, as EfficientViT-SAM's evaluation has them",
    measure=measure,
    columns={
        "box": "box",
        "box_small": "box, small",
        "box_medium": "box, medium",
        "box_large": "box, large",
        **{f"clicks_{n}": f"{n} click{'s' if n > 1 else ''}" for n in CLICKS},
    },
    main="box",
    filters=Filters(crowd=True, min_area=1),
    published=(
        Published(
            "SAM ViT-H",
            "COCO val2017",
            {
                "box": 0.774,
                "box_small": 0.723,
                "box_medium": 0.804,
                "box_large": 0.818,
                "clicks_1": 0.584,
                "clicks_3": 0.696,
                "clicks_5": 0.714,
            },
            _SOURCE,
        ),
        Published(
            "SAM ViT-H",
            "LVIS v1 val",
            {
                "box": 0.770,
                "box_small": 0.706,
                "box_medium": 0.875,
                "box_large": 0.899,
                "clicks_1": 0.592,
                "clicks_3": 0.660,
                "clicks_5": 0.668,
            },
            _SOURCE,
        ),
        Published(
            "EfficientViT-SAM XL1",
            "COCO val2017",
            {"box": 0.799, "clicks_1": 0.598, "clicks_3": 0.713, "clicks_5": 0.753},
            _SOURCE,
        ),
        Published(
            "EfficientViT-SAM XL1",
            "LVIS v1 val",
            {"box": 0.799, "clicks_1": 0.566, "clicks_3": 0.670, "clicks_5": 0.717},
            _SOURCE,
        ),
    ),
    notes=NOTES,
)
