"""The ``overview`` protocol once more, with the official PyTorch classes and code of its own.

    python -m benchmarks.miou overview --data DATA --out OUT --classical 0
    python -m benchmarks.miou.independent --data DATA --run OUT

Reads the masks of a finished run, asks the official SamPredictor on the same weights with prompts
that it finds itself (OpenCV's distance transform, float32), and compares every IoU. Exit code 1
where the mean of a measure differs by more than 0.001, or more than 1% of its values by more than
0.01. Needs ``pip install '.[parity]'`` and ``pip install --no-deps segment-anything``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import samjax
from benchmarks.miou.datasets import KINDS, open_dataset
from benchmarks.miou.samples import Entry, Filters
from benchmarks.speed import source
from samjax.errors import SamjaxError

MEASURES = ("click", "click_oracle", "clicks_3", "clicks_5", "box", "box_confident", "box_oracle")
MEAN_LIMIT, SINGLE_LIMIT, SINGLE_PART = 0.001, 0.01, 0.99


class Agreement(NamedTuple):
    """Of one measure: both means, and the part of the masks within SINGLE_LIMIT."""

    ours: float
    theirs: float
    within: float
    masks: int

    @property
    def good(self) -> bool:
        return abs(self.ours - self.theirs) <= MEAN_LIMIT and self.within >= SINGLE_PART


def _deepest(region: np.ndarray) -> tuple[int, int]:
    import cv2

    padded = np.pad(region.astype(np.uint8), 1)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.logical_and(a, b).sum() / np.logical_or(a, b).sum())


def official_values(predictor: Any, mask: np.ndarray) -> dict[str, float]:
    """All MEASURES of one mask by the official predictor, whose image is set."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float64)
    single, _, _ = predictor.predict(box=box, multimask_output=False)
    three, scores, _ = predictor.predict(box=box, multimask_output=True)
    ious = [_overlap(m, mask) for m in three]
    values = {"box": _overlap(single[0], mask), "box_confident": ious[int(scores.argmax())]}
    values["box_oracle"] = max(ious)
    points, labels = [_deepest(mask)], [1]
    masks, scores, logits = predictor.predict(
        np.array(points, np.float64), np.array(labels), multimask_output=True
    )
    best = int(scores.argmax())
    values["click"] = _overlap(masks[best], mask)
    values["click_oracle"] = max(_overlap(m, mask) for m in masks)
    now, fed = masks[best], logits[best : best + 1]
    for count in range(2, 6):
        wrong = now != mask
        if wrong.any():
            x, y = _deepest(wrong)
            points.append((x, y))
            labels.append(int(mask[y, x]))
            masks, _, fed = predictor.predict(
                np.array(points, np.float64),
                np.array(labels),
                mask_input=fed,
                multimask_output=False,
            )
            now = masks[0]
        if count in (3, 5):
            values[f"clicks_{count}"] = _overlap(now, mask)
    return values


def read_run(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """The MEASURES of masks.csv by image and target.

    Raises:
        SamjaxError: no such run, or not of the protocol overview.
    """
    try:
        with (path / "masks.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {(r["image"], r["target"]): {m: float(r[m]) for m in MEASURES} for r in rows}
    except (OSError, KeyError, ValueError) as error:
        raise SamjaxError(
            f"{path}: not a finished run of `python -m benchmarks.miou overview` ({error!r})"
        ) from error


def compare(
    run: dict[tuple[str, str], dict[str, float]], entries: Iterable[Entry], predictor: Any
) -> dict[str, Agreement]:
    """Every measure of a run beside the official predictor's."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    wanted = {image for image, _ in run}
    for entry in entries:
        if entry.id not in wanted:
            continue
        predictor.set_image(entry.image())
        for target in entry.targets(Filters()):
            ours = run.get((entry.id, target.id))
            if ours is not None:
                theirs = official_values(predictor, target.mask)
                for name in MEASURES:
                    pairs[name].append((ours[name], theirs[name]))
    result = {}
    for name, values in pairs.items():
        ours, theirs = np.array(values).T
        within = float((np.abs(ours - theirs) <= SINGLE_LIMIT).mean())
        result[name] = Agreement(float(ours.mean()), float(theirs.mean()), within, len(ours))
    return result


def official_predictor(sam: samjax.Segmenter) -> Any:
    """The official SamPredictor with the weights of a loaded model."""
    from convert.official import OfficialPredictor, load_official
    from samjax.checkpoint.loading import to_official

    return OfficialPredictor(load_official(sam.config, to_official(sam.parameters(), sam.config)))


def table(result: dict[str, Agreement]) -> str:
    """Both means, their difference and the part of close masks."""
    lines = [
        f"| mIoU | samjax | official | difference | within {SINGLE_LIMIT} | masks |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {a.ours:.5f} | {a.theirs:.5f} | {a.ours - a.theirs:+.5f} | {a.within:.2%} "
        f"| {a.masks} |"
        for name, a in result.items()
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Compare and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.miou.independent", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--images")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--run", required=True, help="the --out of the overview run")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--limit", type=int, help="the first images only")
    given = parser.parse_args(arguments)
    run = read_run(Path(given.run).expanduser())
    dataset = open_dataset(given.data, given.images, given.kind).first(given.limit)
    predictor = official_predictor(samjax.load(source(given.model)))
    result = compare(run, tqdm(dataset.entries, unit="image", disable=None), predictor)
    if not result:
        raise SamjaxError(f"{given.run}: holds no mask of {dataset.name}: give its own --data")
    print(table(result))
    return 0 if all(a.good for a in result.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
