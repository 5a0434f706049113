"""Measure the masks of known boxes against the truth, beside the filled box and GrabCut.

    python -m benchmarks.box_quality DATA/balloons DATA/pigs DATA/bottles --out boxes.json

Each folder is a source: ``images/NAME.jpg`` and ``labels/NAME.png``, a label map whose numbers
above 0 are objects. Of each source the same number of objects is drawn by a seed, at most two an
image. Their masks are predicted as `samjax segment-dataset` does, one mask from one box, from the
box of the truth and from that box moved: by ten per cent of its width and of its height, to a side
that the seed draws. GrabCut is OpenCV's with five iterations from the same box; it needs pip
install 'samjax[bench]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.miou.classical import grabcut, rectangle, require
from samjax.annotations.label_map import read_label_png
from samjax.errors import AnnotationError
from samjax.image.read import read_image
from samjax.masks.regions import mask_box
from samjax.masks.upscale import mask_iou

LEAST = 400  # pixels of an object
PER_IMAGE = 2
MOVED = 0.1  # of the box's sides
METHODS = ("samjax", "filled box", "GrabCut")

Box = tuple[float, float, float, float]


class Sample(NamedTuple):
    """Holds an object: its image, its mask, its box and the moved box (x0, y0, x1, y1)."""

    image: Path
    mask: Bool[np.ndarray, "H W"]
    box: Box
    moved: Box


def samples(folder: Path, count: int, seed: int) -> list[Sample]:
    """Draw objects of a source.

    Raises:
        AnnotationError: a folder without images/ and labels/, or without large objects.
    """
    labels = sorted((folder / "labels").glob("*.png"))
    if not labels:
        raise AnnotationError(f"{folder}: no labels/*.png: give a folder with images/ and labels/")
    rng = np.random.default_rng(seed)
    found: list[Sample] = []
    for at in rng.permutation(len(labels)).tolist():
        numbers = read_label_png(labels[at])
        values, areas = np.unique(numbers, return_counts=True)
        large = values[(values > 0) & (areas >= LEAST)]
        image = next((folder / "images").glob(f"{labels[at].stem}.*"), None)
        if image is None:
            raise AnnotationError(f"{labels[at]}: its image is not in images/")
        for value in rng.permutation(large)[:PER_IMAGE].tolist():
            mask = numbers == value
            found.append(Sample(image, mask, *_boxes(mask, rng)))
        if len(found) >= count:
            return found[:count]
    if not found:
        raise AnnotationError(f"{folder}: no object of {LEAST} pixels or more")
    return found


def _boxes(mask: Bool[np.ndarray, "H W"], rng: np.random.Generator) -> tuple[Box, Box]:
    left, top, right, bottom = mask_box(mask)
    # At the pixels' edges, as the boxes of annotations are.
    x0, y0, x1, y1 = float(left), float(top), right + 1.0, bottom + 1.0
    height, width = mask.shape
    dx, dy = MOVED * np.array([x1 - x0, y1 - y0]) * rng.choice([-1, 1], 2)
    shifted = np.array([x0 + dx, y0 + dy, x1 + dx, y1 + dy])
    a, b, c, d = np.clip(shifted, 0, [width, height] * 2).tolist()
    return (x0, y0, x1, y1), (a, b, c, d)


def ious(each: Sample, predictor: samjax.SamPredictor) -> dict[tuple[str, str], float]:
    """Return the IoU of every method from both boxes; the predictor holds the object's image."""
    pixels: UInt8[np.ndarray, "H W 3"] = read_image(each.image)
    found = {}
    for kind, box in (("exact", each.box), ("moved", each.moved)):
        predicted = predictor.predict(box=box, multimask_output=False).masks[0]
        filled = rectangle(each.mask.shape, box)
        masks = (predicted, filled, grabcut(pixels, box)[0])
        for method, mask in zip(METHODS, masks, strict=True):
            found[kind, method] = float(mask_iou(mask, each.mask))
    return found


def measure(folders: Sequence[Path], count: int, seed: int, model: str) -> dict[str, Any]:
    """Measure all sources; the mean, the median and the share above 0.75 of the IoU of each."""
    require()
    predictor = samjax.SamPredictor(samjax.load(model))
    rows = []
    for folder in folders:
        scores: dict[tuple[str, str], list[float]] = {}
        drawn = sorted(samples(folder, count, seed), key=lambda each: each.image)
        shown = None
        for each in drawn:
            if each.image != shown:
                predictor.set_image(read_image(each.image))
                shown = each.image
            for key, value in ious(each, predictor).items():
                scores.setdefault(key, []).append(value)
        for (kind, method), values in scores.items():
            rows.append(
                {
                    "source": folder.name,
                    "objects": len(values),
                    "box": kind,
                    "method": method,
                    "mean": round(float(np.mean(values)), 3),
                    "median": round(float(np.median(values)), 3),
                    "above 0.75": round(float(np.mean(np.array(values) > 0.75)), 3),
                }
            )
        print(table([row for row in rows if row["source"] == folder.name]), flush=True)
    return {"model": model, "seed": seed, "least area": LEAST, "rows": rows}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as a Markdown table."""
    heads = list(rows[0])
    lines = [" | ".join(str(row[head]) for head in heads) for row in rows]
    text = [" | ".join(heads), "|".join("---" for _ in heads), *lines]
    return "\n".join(f"| {line} |" for line in text) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.box_quality", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("folders", type=Path, nargs="+", help="sources with images/ and labels/")
    parser.add_argument("--objects", type=int, default=60, help="of each source (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="embedded", help="name or path of a checkpoint")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    found = measure(given.folders, given.objects, given.seed, given.model)
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    exit_code(main)
