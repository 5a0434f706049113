"""Measure Dice and normalised surface distance as MedSAM does its SAM baseline (``med``)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from benchmarks.miou.metrics import dice, surface_dice
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Row,
    encode_mask,
    prompts_at_once,
)

SIDE = 1024
MARGIN = 20  # pixels of the stretched image
TOLERANCE = 2.0
LEAST_DICE = 0.2


def cubic_weights(inputs: int, outputs: int) -> Float[np.ndarray, "o i"]:
    """Compute OpenCV's INTER_CUBIC weights of one axis: a = -0.75, no antialias, edge padding."""
    source = (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5
    low = np.floor(source).astype(int)
    weights = np.zeros((outputs, inputs))
    a = -0.75
    for tap in range(-1, 3):
        t = np.abs(source - (low + tap))
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((t - 5) * t + 8) * t * a - 4 * a
        value = np.where(t <= 1, near, far)
        np.add.at(weights, (np.arange(outputs), np.clip(low + tap, 0, inputs - 1)), value)
    return weights


def stretch(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """Resize an image to SIDE x SIDE by bicubic interpolation, ignoring the aspect ratio."""
    rows, columns = (cubic_weights(n, SIDE) for n in image.shape[:2])
    wide = np.einsum("hwc,vw->hvc", image.astype(np.float64), columns, optimize=True)
    full = np.einsum("hvc,uh->uvc", wide, rows, optimize=True)
    return np.clip(np.rint(full), 0, 255).astype(np.uint8)


def _nearest(inputs: int, outputs: int, shift: float) -> Int[np.ndarray, " o"]:
    index = np.floor((np.arange(outputs) + shift) * (inputs / outputs)).astype(int)
    return np.clip(index, 0, inputs - 1)


def stretch_labels(labels: Int[np.ndarray, "H W"]) -> Int[np.ndarray, "S S"]:
    """Resize labels to SIDE x SIDE as OpenCV's INTER_NEAREST does."""
    rows, columns = (_nearest(n, SIDE, 0.0) for n in labels.shape)
    return labels[rows][:, columns]


def shrink_mask(mask: Bool[np.ndarray, "S S"], shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Resize a mask of the stretched image to the original size, by the nearest pixel centre."""
    rows, columns = (_nearest(SIDE, n, 0.5) for n in shape)
    return mask[rows][:, columns]


def grown_box(mask: Bool[np.ndarray, "S S"]) -> tuple[float, float, float, float]:
    """Return the mask's bounding box, MARGIN pixels larger, clipped to the image."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        max(0, columns[0] - MARGIN),
        max(0, rows[0] - MARGIN),
        min(SIDE, columns[-1] + MARGIN),
        min(SIDE, rows[-1] + MARGIN),
    )


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Measure one row per image: Dice and NSD, each averaged over its labels."""
    predictor.set_image(stretch(case.image))
    height, width = case.image.shape[:2]
    truth = np.zeros((height, width), np.int64)
    for number, target in enumerate(case.targets, 1):
        truth[target.mask] = number
    large = stretch_labels(truth)
    kept = [n for n in range(1, len(case.targets) + 1) if (large == n).any()]
    painted = np.zeros_like(truth)
    step = prompts_at_once((SIDE, SIDE))
    for start in range(0, len(kept), step):
        part = kept[start : start + step]
        boxes = np.array([grown_box(large == n) for n in part], np.float64)
        masks = predictor.predict_many(boxes=boxes, multimask_output=False)[0]
        for number, mask in zip(part, masks, strict=True):  # later labels win, as theirs do
            painted[shrink_mask(mask[0], (height, width))] = number
    present = [n for n in np.unique(truth) if n]
    pairs = [(painted == n, truth == n) for n in present]
    dsc = float(np.mean([dice(p, t) for p, t in pairs]))
    values = {"dsc": dsc, "nsd": 0.0, "nsd_contour": 0.0}
    if dsc > LEAST_DICE:
        slab = [surface_dice(p, t, TOLERANCE, slab=True) for p, t in pairs]
        contour = [surface_dice(p, t, TOLERANCE) for p, t in pairs]
        values |= {"nsd": float(np.mean(slab)), "nsd_contour": float(np.mean(contour))}
    area = float(np.count_nonzero(truth))
    return [
        {
            "target": "all labels",
            "area": area,
            "category": None,
            "values": values,
            "rle": encode_mask(painted > 0),
            "truth": encode_mask(truth > 0),
        }
    ]


NOTES = """\
- MedSAM's SAM baseline: the image stretched to 1024 x 1024 (bicubic), the box of each label on
  the stretched ground truth grown by 20 px, single mask, back to the original size (nearest);
  where masks overlap the later label wins.
- Dice and NSD (tolerance 2 px) are means over the labels of an image, then over images; NSD is 0
  for an image whose mean Dice is at most 0.2. Labels without a pixel do not count.
- NSD as Google DeepMind's surface-distance defines it. MedSAM's script hands it H x W x 1 arrays,
  so that the flat faces of the slab count as surface: `NSD` is that. `NSD, contour` is the same
  on plane masks, where only the outline counts: it is stricter.
- MedSAM's paper has per-task figures for its own data sets only; none is quoted here."""

METHOD = Method(
    name="med",
    about="Dice and NSD with grown boxes, as MedSAM measures its SAM baseline",
    measure=measure,
    columns={"dsc": "DSC", "nsd": "NSD", "nsd_contour": "NSD, contour"},
    main="dsc",
    rows_are="images",
    notes=NOTES,
)
