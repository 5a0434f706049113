"""Draw data sets in every layout, and make predictors that know their masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import samjax
from benchmarks.miou import med
from benchmarks.miou.protocol import Options, encode_mask, tight_box
from benchmarks.miou.samples import Dataset, Entry, Filters

HEIGHT, WIDTH = 60, 80
# (x, y, width, height) of the objects of each image, apart from each other
OBJECTS = (
    ((4, 6, 20, 10), (40, 20, 32, 30)),
    ((10, 10, 40, 20),),
    ((2, 2, 16, 16), (30, 4, 12, 40), (50, 30, 24, 24)),
)


def rectangle(x: int, y: int, width: int, height: int) -> np.ndarray:
    """Draw a filled rectangle, bool HEIGHT x WIDTH."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def draw_image(path: Path, number: int, objects: Sequence[Sequence[int]]) -> None:
    """Draw the objects on noise that differs for each number."""
    rng = np.random.default_rng(number)
    image = rng.integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index, (x, y, w, h) in enumerate(objects):
        image[y : y + h, x : x + w, index % 3] += 100
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def polygon(x: int, y: int, width: int, height: int) -> list[list[int]]:
    """Return a rectangle's outline as a COCO polygon."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def draw_coco(
    root: Path,
    objects: Sequence[Sequence[Sequence[int]]] = OBJECTS,
    crowd: bool = False,
) -> Path:
    """Write ``root/annotations/instances_val.json`` and ``root/val``; return the JSON's path."""
    images, annotations = [], []
    for number, own in enumerate(objects, 1):
        draw_image(root / "val" / f"{number}.png", number, own)
        images.append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 80})
        for x, y, w, h in own:
            segmentation: Any = polygon(x, y, w, h)
            if crowd:
                segmentation = {"size": [HEIGHT, WIDTH], "counts": _counts(x, y, w, h)}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + len(annotations) % 2,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(crowd),
                    "segmentation": segmentation,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    }
    path = root / "annotations" / "instances_val.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _counts(x: int, y: int, width: int, height: int) -> list[int]:
    """Compute uncompressed run lengths in column-major order, zeros first."""
    flat = rectangle(x, y, width, height).ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *ends, flat.size]).tolist()


def draw_folder(
    root: Path,
    images: str,
    labels: str,
    maps: Callable[[Sequence[Sequence[int]]], Sequence[np.ndarray]],
    suffix: str = "_{}",
) -> Path:
    """Draw images with the label maps that ``maps`` makes of the objects; return ``root``."""
    (root / labels).mkdir(parents=True)
    for number, own in enumerate(OBJECTS, 1):
        draw_image(root / images / f"{number}.png", number, own)
        for index, label_map in enumerate(maps(own)):
            name = f"{number}{suffix.format(index)}.png"
            Image.fromarray(label_map).save(root / labels / name)
    return root


def label_map(objects: Sequence[Sequence[int]]) -> np.ndarray:
    """Draw a uint8 label map with 0 for the background and 1, 2, ... for the objects."""
    result = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, given in enumerate(objects, 1):
        result[rectangle(*given)] = number
    return result


Answer = Callable[[np.ndarray, int], np.ndarray]  # of a mask, after so many clicks


class Knowing:
    """Predicts ``answer(mask, clicks)`` of the prompted target, which it looks up.

    Of three masks the first is the complement, the last is empty and the middle one, the most
    confident, is the answer. A single mask is the answer.
    """

    def __init__(self, dataset: Dataset, answer: Answer):
        self._known = {}
        for entry in dataset.entries:
            targets = entry.targets(Filters(crowd=True, min_area=0))
            self.learn(entry.image(), [t.mask for t in targets])
        self._answer = answer
        self.masks: list[np.ndarray] = []
        self.images = 0

    def learn(self, image: np.ndarray, masks: Sequence[np.ndarray]) -> None:
        """Remember the objects of an image."""
        self._known[image.tobytes()] = list(masks)

    def set_image(self, image: np.ndarray) -> None:
        self.images += 1
        self.masks = self._known[image.tobytes()]

    def predict_many(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask_inputs: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> samjax.Prediction:
        count = len(boxes) if point_coords is None else len(point_coords)
        assert mask_inputs is None or mask_inputs.shape == (count, 1, 4, 4)
        answers = []
        for i in range(count):
            if boxes is not None:
                mask, clicks = self._by_box(boxes[i]), 0
            else:
                mask, clicks = self._by_point(point_coords[i][0]), len(point_coords[i])
                assert point_labels[i][0] == 1
            answers.append(self._answer(mask, clicks))
        masks = np.array(answers)[:, None]
        if multimask_output:
            masks = np.concatenate([~masks, masks, np.zeros_like(masks)], axis=1)
        scores = np.tile(np.float32([0.2, 0.9, 0.1] if multimask_output else [0.9]), (count, 1))
        low_res = np.zeros((count, masks.shape[1], 4, 4), np.float32)
        return samjax.Prediction(
            np.where(masks, 8.0, -8.0) if return_logits else masks, scores, low_res
        )

    def _by_point(self, point: Sequence[float]) -> np.ndarray:
        x, y = (int(v) for v in point)
        return next((m for m in self.masks if m[y, x]), np.zeros_like(self.masks[0]))

    def _by_box(self, box: Sequence[float]) -> np.ndarray:
        distances = [np.abs(np.subtract(tight_box(m), box)).max() for m in self.masks]
        return self.masks[int(np.argmin(distances))]


def echo(mask: np.ndarray, _: int) -> np.ndarray:
    """Return the true mask."""
    return mask.copy()


def without_columns(part: float) -> Answer:
    """Answer the truth without a share of its right columns: IoU 1 - part on rectangles."""

    def answer(mask: np.ndarray, _: int) -> np.ndarray:
        columns = np.flatnonzero(mask.any(0))
        result = mask.copy()
        result[:, columns[len(columns) - round(part * len(columns)) :]] = False
        return result

    return answer


def knowing(name: str, dataset: Dataset, answer: Answer) -> Knowing:
    """Make a predictor that knows the images as the protocol sets them; ``med`` stretches them."""
    predictor = Knowing(dataset, answer)
    if name == "med":
        for entry in dataset.entries:
            masks = [t.mask.astype(np.int64) for t in entry.targets(Filters())]
            large = [med.stretch_labels(m).astype(bool) for m in masks]
            predictor.learn(med.stretch(entry.image()), large)
    return predictor


def options(name: str, dataset: Dataset, answer: Answer = echo) -> Options:
    """Make the options that ``boxes`` and ``proposals`` need besides a predictor."""
    if name == "boxes":
        return Options(detections={e.id: _detections(e) for e in dataset.entries})
    if name == "proposals":
        return Options(generate=lambda *given, **settings: _records(answer, *given, **settings))
    return Options()


def _detections(entry: Entry) -> list[dict[str, Any]]:
    """Make detections of the objects of an image, as a detector would return them."""
    return [
        {"category_id": t.category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.9}
        for t in entry.targets(Filters(crowd=True, min_area=0))
        for x0, y0, x1, y1 in [t.box]
    ]


def _records(answer: Answer, predictor: Any, image: np.ndarray, **settings: Any) -> list[dict]:
    """Make automatic-mask records: one of the whole image, and two of each object."""
    assert settings["points_per_side"] == 64
    predictor.set_image(image)
    own = [answer(m, 1) for m in predictor.masks]
    return [
        {
            "segmentation": {"size": list(m.shape), "counts": encode_mask(m)},
            "predicted_iou": 0.5,
            "stability_score": 0.9,
        }
        for m in (np.ones_like(own[0]), *own, *own)
    ]


def contents(out: Path) -> dict[str, bytes]:
    """Read the files of a finished run, without those that differ from run to run."""
    names = ["masks.csv", "summary.json", "report.md"]
    names += [f"pictures/{p.name}" for p in sorted((out / "pictures").iterdir())]
    return {name: (out / name).read_bytes() for name in names}
