"""Repeat the ``overview`` protocol with the official PyTorch classes and independent code.

    python -m benchmarks.miou overview --data DATA --out OUT --classical 0
    python -m benchmarks.miou.independent --data DATA --run OUT

The command reads the masks of a finished run, runs the official SamPredictor on the same weights
with prompts that it computes itself (OpenCV's distance transform, float32), and compares every
IoU. The exit code is 1 if the mean of a measure differs by more than 0.001, or more than 1% of its
values by more than 0.01. The table is written to OUT/official.md; a run that was killed resumes
where it stopped. It needs ``pip install '.[parity]'`` and ``pip install --no-deps
segment-anything``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import samjax
from benchmarks.commands import RESUMES, exit_code
from benchmarks.miou.datasets import add_data_arguments, asked_dataset
from benchmarks.miou.journal import Journal
from benchmarks.miou.samples import Entry, Filters, Target
from benchmarks.models import source
from samjax.errors import SamjaxError
from samjax.files import replacing

MEASURES = ("click", "click_oracle", "clicks_3", "clicks_5", "box", "box_confident", "box_oracle")
MEAN_LIMIT, SINGLE_LIMIT, SINGLE_PART = 0.001, 0.01, 0.99


class Agreement(NamedTuple):
    """Holds both means of a measure, and the share of masks within SINGLE_LIMIT."""

    ours: float
    theirs: float
    within: float
    masks: int

    @property
    def good(self) -> bool:
        return abs(self.ours - self.theirs) <= MEAN_LIMIT and self.within >= SINGLE_PART


def require() -> None:
    """Raise SamjaxError if OpenCV, PyTorch or the official code is missing."""
    try:
        import cv2  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise SamjaxError(
            f"{error.name} is not installed: pip install 'samjax[parity]', and segment-anything "
            "with --no-deps"
        ) from None
    if find_spec("segment_anything") is None:
        raise SamjaxError(
            "segment-anything is not installed: pip install --no-deps segment-anything"
        )


def _deepest(region: np.ndarray) -> tuple[int, int]:
    import cv2

    padded = np.pad(region.astype(np.uint8), 1)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.logical_and(a, b).sum() / np.logical_or(a, b).sum())


def official_values(predictor: Any, target: Target) -> dict[str, float]:
    """Compute all MEASURES of one target by the official predictor, whose image is set."""
    mask = target.mask
    counted = np.ones_like(mask) if target.ignore is None else ~target.ignore

    def score(predicted: np.ndarray) -> float:
        return _overlap(predicted & counted, mask & counted)

    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float64)
    single, _, _ = predictor.predict(box=box, multimask_output=False)
    three, scores, _ = predictor.predict(box=box, multimask_output=True)
    ious = [score(m) for m in three]
    values = {"box": score(single[0]), "box_confident": ious[int(scores.argmax())]}
    values["box_oracle"] = max(ious)
    points, labels = [_deepest(mask)], [1]
    masks, scores, logits = predictor.predict(
        np.array(points, np.float64), np.array(labels), multimask_output=True
    )
    best = int(scores.argmax())
    values["click"] = score(masks[best])
    values["click_oracle"] = max(score(m) for m in masks)
    now, fed = masks[best], logits[best : best + 1]
    for count in range(2, 6):
        wrong = (now != mask) & counted
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
            values[f"clicks_{count}"] = score(now)
    return values


Values = dict[str, float]
Run = Mapping[tuple[str, str], Values]


def read_run(path: Path) -> tuple[Run, dict[str, Any]]:
    """Read the MEASURES of masks.csv by image and target, and the settings of the run.

    Raises:
        SamjaxError: there is no such run, or it is not of the protocol overview.
    """
    try:
        asked = json.loads((path / "summary.json").read_text(encoding="utf-8"))["asked"]
        with (path / "masks.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        run = {(r["image"], r["target"]): {m: float(r[m]) for m in MEASURES} for r in rows}
    except (OSError, KeyError, ValueError) as error:
        raise SamjaxError(
            f"{path}: not a finished run of `python -m benchmarks.miou overview` ({error!r})"
        ) from error
    return run, asked


def measure(run: Run, entry: Entry, predictor: Any) -> dict[str, Values]:
    """Compute the official values of the targets of an image that the run has."""
    targets = [t for t in entry.targets(Filters(True, 0)) if (entry.id, t.id) in run]
    if targets:
        predictor.set_image(entry.image())
    return {t.id: official_values(predictor, t) for t in targets}


def measure_all(
    run: Run,
    entries: Sequence[Entry],
    make: Callable[[], Any],
    journal: Journal,
    workers: int,
) -> dict[tuple[str, str], Values]:
    """Measure the images that the journal lacks, several at a time, and return all values.

    ``make`` makes an official predictor for each worker.
    """
    wanted = {image for image, _ in run}
    left = [e for e in entries if e.id in wanted and e.id not in journal.results]
    own = local()

    def job(entry: Entry) -> dict[str, Any]:
        if not hasattr(own, "predictor"):
            own.predictor = make()
        return {"image": entry.id, "values": measure(run, entry, own.predictor)}

    pool = ThreadPoolExecutor(workers)
    try:
        for found in tqdm(pool.map(job, left), total=len(left), unit="image", disable=None):
            journal.add(found)
    finally:
        pool.shutdown(cancel_futures=True)
    return {
        (e.id, target): values
        for e in entries
        if e.id in journal.results
        for target, values in journal.results[e.id]["values"].items()
    }


def compare(run: Run, official: Run) -> dict[str, Agreement]:
    """Compare every measure of a run with the official one, on the masks that both have."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, theirs in official.items():
        for name in MEASURES:
            pairs[name].append((run[key][name], theirs[name]))
    result = {}
    for name, values in pairs.items():
        ours, theirs = np.array(values).T
        within = float((np.abs(ours - theirs) <= SINGLE_LIMIT).mean())
        result[name] = Agreement(float(ours.mean()), float(theirs.mean()), within, len(ours))
    return result


def official_predictor(sam: samjax.Segmenter) -> Callable[[], Any]:
    """Return a maker of official SamPredictors that share the weights of a loaded model.

    PyTorch gets one thread: for such small products, threads cost more than they save.
    """
    import torch

    from convert.official import OfficialPredictor, load_official
    from samjax.checkpoint.parameters import to_official

    torch.set_num_threads(1)
    model = load_official(sam.config, to_official(sam.parameters(), sam.config))
    return lambda: OfficialPredictor(model)


def table(result: dict[str, Agreement]) -> str:
    """Tabulate both means, their difference and the share of masks within SINGLE_LIMIT."""
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


def verdict(result: Mapping[str, Agreement]) -> str:
    """State in one line whether all measures agree, or which do not."""
    wrong = [name for name, a in result.items() if not a.good]
    limits = f"means within {MEAN_LIMIT}, {SINGLE_PART:.0%} of the masks within {SINGLE_LIMIT}"
    return f"DISAGREES ({limits}): {', '.join(wrong)}" if wrong else f"Agrees: {limits}."


def main(arguments: list[str] | None = None) -> int:
    """Compare and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.miou.independent", description=__doc__.split("\n\n")[0]
    )
    add_data_arguments(parser)
    parser.add_argument("--run", required=True, help="the --out of the overview run")
    parser.add_argument("--model", default="embedded", help="embedded, vit_b, ..., or a checkpoint")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="images at a time")
    given = parser.parse_args(arguments)
    if given.workers < 1:
        raise SamjaxError(f"--workers {given.workers}: at least 1")
    folder = Path(given.run).expanduser()
    run, asked = read_run(folder)
    dataset = asked_dataset(given)
    require()
    weights = samjax.load(source(given.model), dtype=asked["dtype"]).fingerprint
    if weights != asked["weights"]:
        raise SamjaxError(f"{folder}: a run of other weights than {given.model}: give its --model")
    sam = samjax.load(source(given.model), dtype="float32")
    digest = hashlib.sha256((folder / "masks.csv").read_bytes()).hexdigest()[:12]
    header = {"masks.csv": digest, "weights": weights}
    journal = Journal(folder / "official.jsonl", header)
    official = measure_all(run, dataset.entries, official_predictor(sam), journal, given.workers)
    if not official:
        raise SamjaxError(f"{folder}: holds no mask of {dataset.name}: give its own --data")
    if given.limit is None and len(official) < len(run):
        raise SamjaxError(
            f"{folder}: {len(run) - len(official)} of its {len(run)} masks are not in "
            f"{dataset.name}: give its own --data"
        )
    result = compare(run, official)
    text = f"{table(result)}\n\n{verdict(result)}\n"
    with replacing(folder / "official.md") as temporary:
        temporary.write_text(text, "utf-8")
    print(text)
    return 0 if all(a.good for a in result.values()) else 1


if __name__ == "__main__":
    exit_code(lambda: sys.exit(main()), RESUMES)
