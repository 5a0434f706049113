"""Measure edges of automatic masks on BSDS500 (``edges``): ODS, OIS, AP, R50.

The protocol is that of the SAM paper, section 7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.miou import classical
from benchmarks.miou.edge_maps import (
    THRESHOLDS,
    Counts,
    compare,
    mask_edges,
    outlines,
    thin,
    thin_map,
)
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Published,
    Row,
    encode_mask,
    prompts_at_once,
    tight_box,
)
from benchmarks.miou.samples import Dataset, Filters, Target

GRID = 16
NMS = 0.7


def grid(shape: tuple[int, ...]) -> Float[np.ndarray, "p 2"]:
    """Return GRID x GRID points (x, y) at the centres of their cells."""
    ticks = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(ticks * shape[1], ticks * shape[0])
    return np.stack([x.ravel(), y.ravel()], axis=1)


def suppress(boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"]) -> list[int]:
    """Apply box NMS and return the kept indices by descending score."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        first, rest = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        left = rest[shared / (areas[first] + areas[rest] - shared) <= NMS]
    return kept


def edge_map(predictor: Predictor, shape: tuple[int, ...]) -> Float[np.ndarray, "H W"]:
    """Compute the thinned edge map, 0 to 1, of the masks of a point grid on the current image."""
    points = grid(shape)
    boxes, scores, sparse = [], [], []
    step = max(1, prompts_at_once(shape) // 4)  # logits are four times as large as masks
    for start in range(0, len(points), step):
        part = points[start : start + step, None]
        labels = np.ones((len(part), 1), np.int32)
        logits, predicted, _ = predictor.predict_many(part, labels, return_logits=True)
        for image, score in zip(logits.reshape(-1, *shape[:2]), np.ravel(predicted), strict=True):
            if (image > 0).any():
                boxes.append(tight_box(image > 0))
                scores.append(float(score))
                sparse.append(mask_edges(image))
    result = np.zeros(shape[0] * shape[1])
    for i in suppress(np.array(boxes).reshape(-1, 4), np.array(scores)):
        index, values = sparse[i]
        result[index] = np.maximum(result[index], values)
    if result.max() > 0:
        result = (result - result.min()) / (result.max() - result.min())
    return thin_map(result.reshape(shape[:2]))


def people(targets: Sequence[Target]) -> list[np.ndarray]:
    """Make one outline map per annotator, whose segments share the name before the colon."""
    groups: dict[str, list[Target]] = {}
    for target in targets:
        groups.setdefault(target.id.rpartition(":")[0], []).append(target)
    maps = []
    for own in groups.values():
        labels = np.zeros(own[0].mask.shape, np.int64)
        for number, target in enumerate(own, 1):
            labels[target.mask] = number
        maps.append(outlines(labels))
    return maps


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Measure one row per image: the counts at all thresholds, and the image's best F."""
    classical.require()
    predictor.set_image(case.image)
    edges, truths = edge_map(predictor, case.image.shape), people(case.targets)
    found = compare(edges, truths)
    f = f_measure(*rates(found))
    best = THRESHOLDS[int(f.argmax())]
    return [
        {
            "target": "edges",
            "area": 0.0,
            "category": None,
            "values": {"best_f": float(f.max())},
            "counts": [column.tolist() for column in found],
            "rle": encode_mask(thin(edges >= best)),
            "truth": encode_mask(np.any(truths, axis=0)),
        }
    ]


def rates(counts: Counts) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Compute recall and precision at each threshold; 0 where nothing is marked or true."""
    recall = counts.found / np.maximum(counts.true, 1)
    precision = counts.correct / np.maximum(counts.marked, 1)
    return recall, precision


def f_measure(
    recall: Float[np.ndarray, " t"], precision: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """Compute the harmonic mean of recall and precision; 0 where both are 0."""
    total = recall + precision
    return 2 * recall * precision / np.where(total > 0, total, 1)


def scores(images: Sequence[Counts]) -> dict[str, float]:
    """Compute ODS (best F at one threshold for all images), OIS (at each image's best), AP, R50.

    As in the benchmark's own code, counts are summed over images before rates are computed; AP is
    the area under precision over recall, interpolated at steps of 0.01; R50 is the recall at
    precision 0.5.
    """
    total = Counts(*(np.sum([c[i] for c in images], axis=0) for i in range(4)))
    recall, precision = rates(total)
    ods = float(f_measure(recall, precision).max())
    best = [int(f_measure(*rates(c)).argmax()) for c in images]
    chosen = Counts(
        *(np.array([sum(c[i][b] for c, b in zip(images, best, strict=True))]) for i in range(4))
    )
    ois = float(f_measure(*rates(chosen))[0])
    marked = total.marked > 0  # where nothing is marked there is no precision
    recall, precision = recall[marked], precision[marked]
    if not marked.any():
        return {"ODS": 0.0, "OIS": 0.0, "AP": 0.0, "R50": 0.0}
    order = np.argsort(recall, kind="stable")
    steps = np.arange(0, 1.005, 0.01)
    inside = np.interp(steps, recall[order], precision[order], left=0, right=0)
    enough = recall[precision >= 0.5]
    return {
        "ODS": ods,
        "OIS": ois,
        "AP": float(inside.sum() * 0.01),
        "R50": float(enough.max()) if enough.size else 0.0,
    }


def summarise(rows: Sequence[Row], _: Dataset) -> dict[str, Any]:
    """Summarise the four scores of the benchmark."""
    return {"scores": scores([Counts(*map(np.array, r["counts"])) for r in rows])}


_PAPER = "SAM paper (arXiv 2304.02643), table 3"

NOTES = """\
- 16 x 16 points, 768 masks, no filters, box NMS at 0.7; Sobel magnitude of each mask's
  probability on the pixels just outside the mask; maximum over masks, scaled to 0..1, edge
  non-maximum suppression. The paper does not give every detail: an official checkpoint should
  come near its row, not hit it.
- BSDS500's benchmark: 99 thresholds, maps thinned, pixels matched one to one within 0.0075 of the
  diagonal (a largest matching; the original's assignment has as many pairs). Label maps have no
  outlines of their own: they are drawn between labels. All segments, however small.
- The paper measures the 200 test images."""

METHOD = Method(
    name="edges",
    about="edges of automatic masks on BSDS500: ODS, OIS, AP, R50 (SAM paper, section 7.2)",
    measure=measure,
    columns={"ODS": "ODS", "OIS": "OIS", "AP": "AP", "R50": "R50", "best_f": "mean best F"},
    main="best_f",
    filters=Filters(min_area=0),
    published=(
        Published(
            "SAM ViT-H",
            "BSDS500 test, 200 images",
            {"ODS": 0.768, "OIS": 0.786, "AP": 0.794, "R50": 0.928},
            _PAPER,
        ),
    ),
    summarise=summarise,
    rows_are="images",
    notes=NOTES,
)
