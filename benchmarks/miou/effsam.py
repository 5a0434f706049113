"""Measure random clicks inside the mask, and boxes (``effsam``; EfficientSAM's table 4)."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Bool, Int

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

CLICKS = (1, 3)


def random_clicks(
    mask: Bool[np.ndarray, "H W"], count: int, seed: int, name: str
) -> Int[np.ndarray, "n 2"]:
    """Draw ``count`` pixels (x, y) of the mask uniformly, reproducibly by seed and name.

    Pixels are drawn without replacement if the mask has enough of them.
    """
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    y, x = np.nonzero(mask)
    chosen = rng.choice(len(x), count, replace=len(x) < count)
    return np.stack([x[chosen], y[chosen]], axis=1)


def measure(predictor: Predictor, case: Case, options: Options) -> list[Row]:
    """Measure the IoU of the most confident of three masks, for a box and 1 and 3 random clicks."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        boxes = np.array([t.box or tight_box(t.mask) for t in targets])
        points = np.stack(
            [
                random_clicks(t.mask, max(CLICKS), options.seed, f"{case.image_id}/{t.id}")
                for t in targets
            ]
        )
        chosen = {"box": confident(predictor.predict_many(boxes=boxes))}
        for count in CLICKS:
            labels = np.ones((len(targets), count), np.int32)
            answer = predictor.predict_many(points[:, :count], labels)
            chosen[f"clicks_{count}"] = confident(answer)
        for i, target in enumerate(targets):
            values = {name: iou(masks[i], target.mask) for name, masks in chosen.items()}
            prompt = {"points": [[*map(int, points[i, 0]), 1]]}
            rows.append(row(target, values, prompt=prompt, rle=encode_mask(chosen["clicks_1"][i])))
    return rows


_SOURCE = "EfficientSAM paper (arXiv 2312.00863), table 4"

NOTES = """\
- Clicks are drawn uniformly at random inside the mask (seeded by --seed, image and annotation);
  three clicks are all inside it, none corrects an error. Boxes are the annotation's own.
- Most confident of three masks at the original size; crowds left out; mean per mask. The paper
  does not say how it chooses among the masks, nor the seed: expect agreement to a point.
- These are not the clicks of `evit` or `sam-point`: never mix the rows."""

METHOD = Method(
    name="effsam",
    about="a box, and 1 and 3 clicks at random inside the mask (EfficientSAM's table 4)",
    measure=measure,
    columns={"box": "box", "clicks_1": "1 random click", "clicks_3": "3 random clicks"},
    main="clicks_1",
    published=(
        Published(
            "SAM", "COCO val2017", {"box": 0.784, "clicks_1": 0.556, "clicks_3": 0.741}, _SOURCE
        ),
        Published(
            "MobileSAM",
            "COCO val2017",
            {"box": 0.742, "clicks_1": 0.437, "clicks_3": 0.597},
            _SOURCE,
        ),
    ),
    notes=NOTES,
)
