"""Define a protocol: how one image is measured, and how rows are summarised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8
from pycocotools import mask as coco_mask

import samjax
from benchmarks.miou.metrics import mean_interval
from benchmarks.miou.samples import Dataset, Filters, Target
from samjax.masks.rle import to_mask

# Pixels of full-size masks held at the same time: those of 32 prompts on a photograph
_PIXELS = 32 * 3 * 640 * 480

Row = dict[str, Any]


class Predictor(Protocol):
    """Predicts masks: samjax.SamPredictor, or any other class with these two methods."""

    def set_image(self, image: Any) -> None:
        """Encode an RGB image, H x W x 3 uint8."""

    def predict_many(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        mask_inputs: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> samjax.Prediction:
        """Predict masks of P prompts; with ``return_logits``, logits instead of bool masks."""


def automatic_masks(predictor: Any, image: Any, **settings: Any) -> list[dict[str, Any]]:
    """Run samjax's automatic mask generator with the predictor's model and return its records."""
    return samjax.SamAutomaticMaskGenerator(predictor.model, **settings).generate(image)


@dataclass(frozen=True)
class Options:
    """Holds the settings of all protocols beyond data and model; each protocol reads its own."""

    seed: int = 0
    classical: frozenset[str] = frozenset()
    detections: Mapping[str, list[dict]] = field(default_factory=dict)
    refine: bool = False
    generate: Callable[..., Any] = automatic_masks


class Case(NamedTuple):
    """Holds an image with the targets that pass the filters."""

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]
    targets: Sequence[Target]


@dataclass(frozen=True)
class Published:
    """Holds numbers that others published under the same protocol, with their source."""

    model: str
    data: str
    values: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Method:
    """Describes a protocol.

    Attributes:
        measure: turns an image into rows; it sets the image itself.
        columns: measures that are averaged, with their titles.
        main: measure by which best and worst cases are chosen; their pictures show the mask in a
            row's ``rle`` beside its target, or beside the mask in its ``truth``.
        summarise: computes further entries of the summary.
        rows_are: unit of the rows, such as "masks".
        needs_targets: whether images without targets have no rows.
    """

    name: str
    about: str
    measure: Callable[[Predictor, Case, Options], list[Row]]
    columns: Mapping[str, str]
    main: str
    filters: Filters = field(default_factory=Filters)
    published: Sequence[Published] = ()
    summarise: Callable[[Sequence[Row], Dataset], dict[str, Any]] | None = None
    notes: str = ""
    rows_are: str = "masks"
    needs_targets: bool = True


def prompts_at_once(shape: tuple[int, ...]) -> int:
    """Compute for how many prompts three full-size masks fit into memory."""
    return max(1, min(64, _PIXELS // (3 * shape[0] * shape[1])))


def chunks(case: Case) -> Iterator[list[Target]]:
    """Split the targets of a case into groups that are prompted at once."""
    size = prompts_at_once(case.image.shape)
    for start in range(0, len(case.targets), size):
        yield list(case.targets[start : start + size])


def confident(answer: samjax.Prediction) -> list[Bool[np.ndarray, "H W"]]:
    """Select the mask with the highest predicted IoU for each prompt."""
    return [m[int(np.argmax(s))] for m, s in zip(answer.masks, answer.scores, strict=True)]


def tight_box(mask: Bool[np.ndarray, "H W"]) -> tuple[float, float, float, float]:
    """Return the (x0, y0, x1, y1) of the mask at outer pixel edges, as COCO's boxes."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def encode_mask(mask: Bool[np.ndarray, "H W"]) -> str:
    """Encode a mask as COCO's compressed RLE."""
    return coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode("ascii")


def decode_mask(counts: str, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Decode a mask of ``encode_mask``; ``size`` is (H, W)."""
    return to_mask({"counts": counts, "size": list(size)})


def row(target: Target, values: Mapping[str, float], **more: Any) -> Row:
    """Make a row of one target; NaN, which JSON lacks, becomes None."""
    return {
        "target": target.id,
        "area": target.area,
        "category": target.category,
        "values": {k: None if math.isnan(v) else float(v) for k, v in values.items()},
        **more,
    }


def column(rows: Sequence[Row], name: str) -> Float[np.ndarray, " n"]:
    """Return one measure of all rows, NaN where it is missing."""
    found = (r["values"].get(name) for r in rows)
    return np.array([math.nan if v is None else v for v in found], np.float64)


def means(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Compute the mean, its 95% interval over images and the count of each measure in rows."""
    images = [r["image"] for r in rows]
    result = {}
    for name in names:
        values = column(rows, name)
        if not np.isnan(values).all():
            mean, low, high = mean_interval(values, images)
            count = int((~np.isnan(values)).sum())
            result[name] = {"mean": mean, "low": low, "high": high, "count": count}
    return result
