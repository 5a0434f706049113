"""Compare automatic masks with the official generator on the embedded checkpoint.

A full run on more images and settings prints a report:

    python -m tests.parity.test_automatic
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage

import samjax
from convert.official import OfficialGenerator, load_official
from samjax.automatic.crops import point_grid
from samjax.checkpoint.parameters import to_official
from samjax.masks.rle import to_mask

# The embedded checkpoint is unsure of most masks: thresholds that keep at least 20 of them.
LOW = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.2, "box_nms_thresh": 0.9}
SETTINGS = {
    "grid 16": {"points_per_side": 16, **LOW},
    "coco_rle": {"points_per_side": 12, "output_mode": "coco_rle", **LOW},
    "crops": {
        "points_per_side": 8,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "crop_nms_thresh": 0.8,
        **LOW,
    },
    "small regions": {"points_per_side": 12, "min_mask_region_area": 100, **LOW},
    "point grid": {
        "points_per_side": None,
        "point_grids": [point_grid(11)[::2] ** 1.1],
        "output_mode": "uncompressed_rle",
        **LOW,
    },
    "other offsets": {
        "points_per_side": 12,
        "points_per_batch": 50,
        "stability_score_offset": 0.5,
        "pred_iou_thresh": 0.25,
        "stability_score_thresh": 0.6,
        "box_nms_thresh": 0.9,
    },
}
IMAGES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "ihc.png", "coins.png")
# How near to a threshold a record must be for rounding to decide whether it stays
TIE = 1e-4
BOX, STABILITY = 1, 1e-3  # largest differences, in pixels and of the score


@dataclass
class Agreement:
    """Counts the official records that were found, with their largest differences."""

    official: int
    ours: int
    matched: int
    iou: float
    score: float
    stability: float
    area: float
    box: int
    by_a_pixel: list[str]
    unmatched: list[str]


def image_of(name: str) -> np.ndarray:
    return samjax.read_image(Path(skimage.__file__).parent / "data" / name)


def compare(ours: list[dict], theirs: list[dict], settings: dict) -> Agreement:
    """Pair records by point, crop and nearest score; the rest must lie at a threshold."""

    def key(record: dict) -> tuple:
        (point,) = record["point_coords"]
        return (*(round(v, 3) for v in point), *record["crop_box"])

    found: dict[tuple, list[dict]] = {}
    for record in ours:
        found.setdefault(key(record), []).append(record)
    result = Agreement(len(theirs), len(ours), 0, 1.0, 0.0, 0.0, 0.0, 0, [], [])
    for record in theirs:
        near = found.get(key(record), [])
        score = record["predicted_iou"]
        pair = min(near, key=lambda r: abs(r["predicted_iou"] - score), default=None)
        if pair is None or abs(pair["predicted_iou"] - score) > 1e-3:
            result.unmatched.append(tie(record, settings))
            continue
        near[:] = [each for each in near if each is not pair]
        a, b = to_mask(pair["segmentation"]), to_mask(record["segmentation"])
        union = (a | b).sum()
        result.matched += 1
        result.iou = min(result.iou, (a & b).sum() / union if union else 1.0)
        result.score = max(result.score, abs(pair["predicted_iou"] - score))
        box = int(np.abs(np.subtract(pair["bbox"], record["bbox"])).max())
        stability = abs(pair["stability_score"] - record["stability_score"])
        if (box > BOX or stability > STABILITY) and by_a_pixel(a, b, pair, record):
            result.by_a_pixel.append(f"box {box} px, stability {stability:.1e}")
        else:
            area = abs(pair["area"] - record["area"]) / record["area"]
            result.box, result.stability = max(result.box, box), max(result.stability, stability)
            result.area = max(result.area, area)
        assert pair["crop_box"] == record["crop_box"]
    result.unmatched += [tie(r, settings) for rest in found.values() for r in rest]
    return result


def by_a_pixel(a: np.ndarray, b: np.ndarray, ours: dict, theirs: dict) -> bool:
    """Tell whether one pixel at each threshold explains the difference of two records.

    Its logit rounds to the other side of 0, and it may lie far from all others. Another one's may
    round to the other side of 0 plus or minus the offset: one of those that stability counts, at
    least as many as the mask has.
    """
    own = [list(r["bbox"]) for r in (ours, theirs)] == [extent(a), extent(b)]
    counted = abs(ours["stability_score"] - theirs["stability_score"]) * theirs["area"]
    return own and (a ^ b).sum() <= 1 and counted <= 1 + TIE


def extent(mask: np.ndarray) -> list[int]:
    """Compute the official records' XYWH, from the first to the last pixel."""
    ys, xs = np.nonzero(mask)
    return [int(v) for v in (xs.min(), ys.min(), np.ptp(xs), np.ptp(ys))]


def tie(record: dict, settings: dict) -> str:
    """Measure how far a record that only one side has is from the thresholds."""
    score = record["predicted_iou"] - settings["pred_iou_thresh"]
    stability = record["stability_score"] - settings["stability_score_thresh"]
    near = min(abs(score), abs(stability)) <= TIE
    return f"{'tie' if near else 'LOST'} at {record['point_coords']}: {score:.1e}, {stability:.1e}"


def check(agreement: Agreement) -> None:
    assert agreement.official >= 20
    assert agreement.iou >= 0.99
    assert agreement.score <= 1e-4
    assert agreement.stability <= STABILITY
    assert agreement.area <= 1e-3
    assert agreement.box <= BOX
    assert len(agreement.by_a_pixel) <= max(1, 0.01 * agreement.official), agreement.by_a_pixel
    assert len(agreement.unmatched) <= 0.01 * agreement.official, agreement.unmatched
    assert not any(line.startswith("LOST") for line in agreement.unmatched), agreement.unmatched


@pytest.fixture(scope="module")
def both():
    sam = samjax.load()
    return sam, load_official(sam.config, to_official(sam.parameters(), sam.config))


@pytest.mark.parity
# The official postprocess_small_regions puts a torch tensor into a NumPy array.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", IMAGES[:2])
@pytest.mark.parametrize("setting", ["crops", "small regions", "point grid"])
def test_records_are_the_official_ones(both, name: str, setting: str) -> None:
    sam, official = both
    image, settings = image_of(name), SETTINGS[setting]
    ours = samjax.SamAutomaticMaskGenerator(sam, **settings).generate(image)
    check(compare(ours, OfficialGenerator(official, **settings).generate(image), settings))


def main() -> None:
    """Compare every image with every setting, and print agreement and time."""
    sam = samjax.load()
    official = load_official(sam.config, to_official(sam.parameters(), sam.config))
    for name in IMAGES:
        image = image_of(name)
        for setting, settings in SETTINGS.items():
            generator = samjax.SamAutomaticMaskGenerator(sam, **settings)
            generator.generate(image)  # compiles
            start = time.perf_counter()
            ours = generator.generate(image)
            middle = time.perf_counter()
            theirs = OfficialGenerator(official, **settings).generate(image)
            end = time.perf_counter()
            a = compare(ours, theirs, settings)
            print(
                f"{name:14s} {setting:14s} {a.official:4d} official, {a.matched:4d} matched: "
                f"IoU {a.iou:.5f}, score {a.score:.0e}, stability {a.stability:.0e}, "
                f"area {a.area:.0e}, box {a.box} px; {middle - start:5.1f} s, "
                f"official {end - middle:5.1f} s ({(end - middle) / (middle - start):.1f}x)",
                *a.by_a_pixel,
                *a.unmatched,
                sep="\n    ",
                flush=True,
            )
            check(a)


if __name__ == "__main__":
    main()
