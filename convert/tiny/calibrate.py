"""Make predicted IoUs truthful: a line for each mask token, fitted on held-out pictures.

    python -m convert.tiny.calibrate OUT/last.safetensors calibrated.safetensors --data DIR

The quality head's last layer is linear, so that the lines go into its weights and the file stays
one of the official architecture. The lines are fitted on one half of the held-out pictures; the
printed figures, before and after, are of the other half: expected calibration error (15 bins of
equal width), and the mean IoU of the masks that the head trusts most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import samjax
from benchmarks.miou.clickers import centre_click
from convert.tiny.sources import Picture, read_sources
from samjax.checkpoint.formats.safetensors import read_safetensors, write_safetensors

LAYER = "mask_decoder.iou_prediction_head.layers.2"
BINS = 15


class Predictions(NamedTuple):
    """Predicted and true IoU of each mask token, a row for each prompt.

    Attributes:
        predicted: [N, T] float64; token 0 is the single mask, 1 and up are the candidates.
        true: [N, T] float64.
        prompts: [N] of "click" or "box".
    """

    predicted: np.ndarray
    true: np.ndarray
    prompts: np.ndarray


def calibration_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap between both, weighted by bin."""
    bins = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    gaps = [
        abs(predicted[bins == b].sum() - true[bins == b].sum())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps) / len(predicted))


def fit(found: Predictions) -> np.ndarray:
    """Return slope and offset of each token, [T, 2], by least squares."""
    lines = [
        np.polyfit(found.predicted[:, token], found.true[:, token], 1)
        for token in range(found.predicted.shape[1])
    ]
    return np.array(lines)


def fold(weight: np.ndarray, bias: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight [T, C] and bias [T] of a layer whose outputs go through the lines."""
    slope, offset = lines.T
    return (weight * slope[:, None]).astype(weight.dtype), (bias * slope + offset).astype(
        bias.dtype
    )


def measure(sam: samjax.Segmenter, pictures: Sequence[Picture], masks: int) -> Predictions:
    """Predict with a centre click and with the box of up to ``masks`` segments a picture."""
    predictor = samjax.SamPredictor(sam)
    rows: list[tuple[np.ndarray, np.ndarray, str]] = []
    for picture in pictures:
        predictor.set_image(picture.image())
        for target in _segments(picture, masks):
            ys, xs = np.nonzero(target)
            click = centre_click(target)
            prompts = {
                "click": {"point_coords": [[click.x, click.y]], "point_labels": [1]},
                "box": {"box": [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]},
            }
            for name, prompt in prompts.items():
                predicted, true = [], []
                for several in (False, True):
                    found, scores, _ = predictor.predict(**prompt, multimask_output=several)
                    predicted.append(scores)
                    true.append((found & target).sum((1, 2)) / (found | target).sum((1, 2)))
                rows.append((np.concatenate(predicted), np.concatenate(true), name))
    predicted, true, names = zip(*rows, strict=True)
    return Predictions(np.array(predicted, float), np.array(true, float), np.array(names))


def _segments(picture: Picture, most: int) -> Iterator[np.ndarray]:
    labels = picture.labels(0)
    values, areas = np.unique(labels[labels > 0], return_counts=True)
    chosen = values[areas >= max(100, labels.size / 2000)]
    for value in chosen[:: max(1, len(chosen) // most)][:most]:
        yield labels == value


def figures(found: Predictions) -> dict[str, float]:
    """Return calibration errors, and the mean IoU of the most confident candidate."""
    result = {"error": calibration_error(found.predicted.ravel(), found.true.ravel())}
    for name in ("click", "box"):
        here = found.prompts == name
        predicted, true = found.predicted[here], found.true[here]
        result[f"{name}_error"] = calibration_error(predicted.ravel(), true.ravel())
        best = 1 + predicted[:, 1:].argmax(1)
        result[f"{name}_most_confident"] = float(true[np.arange(len(best)), best].mean())
        result[f"{name}_oracle"] = float(true[:, 1:].max(1).mean())
    return {key: round(value, 4) for key, value in result.items()}


def main() -> None:
    """Measure, fit, write the calibrated file, and print the figures of the other half."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="as of convert.tiny.train")
    parser.add_argument("--packs", type=Path, nargs="*", default=[])
    parser.add_argument("--pictures", type=int, default=24, help="of each source, at most")
    parser.add_argument("--masks", type=int, default=6, help="of each picture, at most")
    given = parser.parse_args()
    sources = read_sources(given.data, [], [], True, given.packs).images
    pictures = [each for found in sources.values() for each in found[: given.pictures]]
    sam = samjax.load(given.checkpoint)
    halves = [measure(sam, pictures[i::2], given.masks) for i in range(2)]
    lines = fit(halves[0])
    after = halves[1]._replace(predicted=halves[1].predicted * lines[:, 0] + lines[:, 1])
    tensors, metadata = read_safetensors(np.fromfile(given.checkpoint, np.uint8))
    weight, bias = fold(tensors[f"{LAYER}.weight"], tensors[f"{LAYER}.bias"], lines)
    changed = dict(tensors) | {f"{LAYER}.weight": weight, f"{LAYER}.bias": bias}
    write_safetensors(given.out, changed, metadata)
    report = {
        "pictures": len(pictures),
        "prompts": len(halves[1].true),
        "lines": lines.round(4).tolist(),
        "before": figures(halves[1]),
        "after": figures(after),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
