"""Automatic masks come from a grid of points over the image, filtered and without duplicates.

Arguments, steps and records are those of the official SamAutomaticMaskGenerator (paper, section 5
and appendix B). Masks of too low predicted IoU are never upscaled; the others are upscaled to be
measured, in chunks of bounded memory. Those that survive NMS leave the device as packed bits, and
are kept as run lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from samjax.arguments import function, instance
from samjax.automatic.crops import (
    Crop,
    crop_boxes,
    near_crop_edge,
    point_grids,
    tile_boxes,
    uncropped,
)
from samjax.automatic.near_misses import NearMisses
from samjax.automatic.options import AutomaticOptions, takes_options
from samjax.embedding import ImageEmbedding
from samjax.engine.measuring import Measuring, Started
from samjax.engine.prompts import bucket
from samjax.engine.registry import Model, as_segmenter
from samjax.errors import PromptError
from samjax.image.longest_side import scale_coords
from samjax.image.preset import read_for
from samjax.masks.nms import suppress
from samjax.masks.regions import mask_box, remove_small_regions
from samjax.masks.rle import (
    Record,
    Rle,
    area_from_rle,
    convert_segmentation,
    masks_to_rle,
    rle_to_mask,
)
from samjax.migration import GENERATOR, answers
from samjax.model.prompt_encoder import NOT_A_POINT, POSITIVE, Prompts
from samjax.predictor import SamPredictor

Progress = Callable[[int, int], None]
_answer = answers(GENERATOR)


@dataclass(frozen=True)
class FoundMasks:
    """Hold the masks found so far, one entry each, in the frame of the whole image."""

    rles: list[dict[str, Any]]
    boxes: Int[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    stability: Float32[np.ndarray, " n"]
    points: Float[np.ndarray, "n 2"]
    crops: Int[np.ndarray, "n 4"]

    def __len__(self) -> int:
        return len(self.rles)

    def take(self, index: Int[np.ndarray, " k"]) -> FoundMasks:
        """Return the masks of ``index``, in its order."""
        return FoundMasks(
            [self.rles[i] for i in index],
            *(a[index] for a in (self.boxes, self.scores, self.stability, self.points, self.crops)),
        )

    @classmethod
    def join(cls, parts: Sequence[FoundMasks]) -> FoundMasks:
        """Concatenate the masks of several parts, in order."""
        none, boxes = np.zeros(0, np.float32), np.zeros((0, 4), np.int64)
        empty = cls([], boxes, none, none, np.zeros((0, 2)), boxes)
        parts = [empty, *parts]
        names = ("boxes", "scores", "stability", "points", "crops")
        return cls(
            [rle for part in parts for rle in part.rles],
            *(np.concatenate([getattr(part, name) for part in parts]) for name in names),
        )


@dataclass(frozen=True)
class MeasuredMasks:
    """Holds measured masks of one crop, in its frame, before NMS: their pixels wait.

    ``slots`` are theirs in the crop's Measuring.
    """

    slots: Int[np.ndarray, " n"]
    boxes: Int[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    stability: Float32[np.ndarray, " n"]
    points: Float[np.ndarray, "n 2"]

    def take(self, index: Int[np.ndarray, " k"]) -> MeasuredMasks:
        """Return the candidates of ``index``, in its order."""
        return MeasuredMasks(*(column[index] for column in vars(self).values()))

    @classmethod
    def join(cls, parts: Sequence[MeasuredMasks]) -> MeasuredMasks:
        """Concatenate the candidates of one or more batches, in order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


class SamAutomaticMaskGenerator:
    """SamAutomaticMaskGenerator segments everything in an image, as the official class.

    >>> generator = samjax.SamAutomaticMaskGenerator(samjax.load())
    >>> records = generator.generate("photo.jpg")

    Args:
        model: the model that ``samjax.load`` returns, or the name or path of one.
        options: the arguments of AutomaticOptions, each by its name or in the official order.

    Attributes:
        options: the AutomaticOptions, also by their names (``generator.pred_iou_thresh``), with
            the thresholds of the model where none were given.
        point_grids: points (x, y) in the unit square for each layer of crops.

    Raises:
        PromptError: options that do not fit together, or a model that was not trained with clicks.
    """

    @takes_options(AutomaticOptions)
    def __init__(self, model: Model, options: AutomaticOptions):
        model = as_segmenter(model)
        if not model.preset.masks.automatic:
            raise PromptError(
                f"automatic masks need a model that was trained with clicks, preset "
                f"{model.preset.name!r} is for others: use SamPredictor"
            )
        self.model, self.options = model, options.resolved(model.automatic_thresholds)
        self.point_grids = point_grids(options)
        self.predictor = SamPredictor(model)

    def __getattr__(self, name: str) -> Any:
        """Return an option by its official attribute name."""
        if name != "options" and hasattr(options := self.options, name):
            return getattr(options, name)
        return _answer(self, name)

    def generate(
        self,
        image: Any,
        *,
        embedding: ImageEmbedding | None = None,
        progress: Progress | None = None,
        on_empty: Callable[[str], None] | None = None,
    ) -> list[Record]:
        """Segment everything in an image (H x W x 3 uint8 array, PIL image or path).

        Args:
            image: the image; None with ``embedding``.
            embedding: embedding of the whole image, from ``SamPredictor.encode_image`` or a file,
                used instead of encoding it; not with crops or tiles, which need their own.
            progress: function called with the number of points done and of all points.
            on_empty: function called with the reason if there is no mask, and with thresholds
                that would have kept some; None: a NoMasksWarning says it.

        Returns:
            The official records: ``segmentation`` (by output_mode), ``area`` in pixels, ``bbox``
            [x, y, w, h], ``predicted_iou``, ``point_coords`` [[x, y]], ``stability_score``,
            ``crop_box`` [x, y, w, h].

        Raises:
            ImageError: an unusable image.
            PromptError: an embedding together with crops or tiles.
        """
        function(progress, "progress")
        function(on_empty, "on_empty")
        if embedding is None:
            pixels = read_for(self.model.preset, image)
            size = (pixels.shape[0], pixels.shape[1])
        else:
            instance(embedding, ImageEmbedding, "embedding", of="what encode_image returns")
            size = embedding.original_size
        crops = self._crops(size)
        if embedding is not None and len(crops) > 1:
            raise PromptError(
                "an embedding covers the whole image, not with crops or tiles: leave either out"
            )
        total = sum(len(self.point_grids[crop.layer]) for crop in crops)
        found: list[FoundMasks] = []
        done, near = 0, NearMisses(self.options)
        for crop in crops:
            x0, y0, x1, y1 = crop.box
            if embedding is not None:
                encoded = embedding
            elif crop.size == size:
                encoded = self.predictor.encode_pixels(pixels)
            else:  # read anew: microsam stretches each tile for itself
                encoded = self.predictor.encode_image(pixels[y0:y1, x0:x1])
            parts = []
            measuring = self.model.measuring(
                encoded.input_size,
                encoded.original_size,
                self.predictor.mask_threshold,
                self.options.stability_score_offset,
            )
            for part, points in self._look(encoded, crop, size, measuring, near):
                parts.append(part)
                done += points
                if progress is not None:
                    progress(done, total)
            here = MeasuredMasks.join(parts)
            if not len(here.slots) and not any(map(len, found)):
                self._measure_rejected(crop, size, measuring, near)
            kept = here.take(suppress(here.boxes, here.scores, self.options.box_nms_thresh))
            found.append(_in_image(kept, measuring.run_lengths(kept.slots), crop, size))
        masks = FoundMasks.join(found)
        if len(crops) > 1:
            masks = masks.take(
                suppress(masks.boxes, self._crop_scores(masks), self.options.crop_nms_thresh)
            )
        if self.options.min_mask_region_area > 0:
            threshold = max(self.options.box_nms_thresh, self.options.crop_nms_thresh)
            masks = clean_regions(masks, self.options.min_mask_region_area, threshold)
        if self.options.containment_thresh is not None:
            masks = masks.take(drop_contained(masks, self.options.containment_thresh))
        records = list(self._records(masks))
        if not records:
            near.tell([area_from_rle(rle) for rle in masks.rles], on_empty)
        return records

    def _crops(self, size: tuple[int, int]) -> list[Crop]:
        if self.options.tile_size is not None:
            return tile_boxes(size, self.options.tile_size, self.options.tile_halo)
        return crop_boxes(size, self.options.crop_n_layers, self.options.crop_overlap_ratio)

    def _crop_scores(self, masks: FoundMasks) -> Float32[np.ndarray, " n"]:
        """Return scores that prefer small crops, as the official; of tiles, the masks' own."""
        if self.options.tile_size is not None:
            return masks.scores
        width, height = (masks.crops[:, 2:] - masks.crops[:, :2]).T
        return (1 / (width * height)).astype(np.float32)

    def _look(
        self,
        image: ImageEmbedding,
        crop: Crop,
        size: tuple[int, int],
        measuring: Measuring,
        near: NearMisses,
    ) -> Iterator[tuple[MeasuredMasks, int]]:
        """Yield the candidates of one crop, batch by batch, with the number of points in each.

        A batch is decoded and measured on the device while the host works on the one before.
        """
        points = self.point_grids[crop.layer] * np.array(crop.size[::-1])
        size_of_batch = min(self.options.points_per_batch, bucket(len(points), 1))
        batches = np.split(points, range(size_of_batch, len(points), size_of_batch))
        pending = None
        for batch in [*batches, None]:
            started = None
            if batch is not None:
                decoded = self._decode(image, batch, size_of_batch)
                least, _ = self.options.thresholds
                started = batch, measuring.start(*decoded, len(batch), least), decoded[1]
            if pending is not None:
                yield self._filter(crop, size, measuring, near, *pending), len(pending[0])
            pending = started

    def _decode(self, image: ImageEmbedding, points: np.ndarray, count: int) -> tuple[Any, Any]:
        """Return low-res logits and scores of one point each, padded to ``count`` prompts."""
        coords = np.zeros((count, 2, 2), np.float32)
        coords[: len(points), 0] = scale_coords(points, image.original_size, image.input_size)
        kinds = np.tile(np.array([POSITIVE, NOT_A_POINT], np.int32), (count, 1))
        return self.model.decode(image.features, Prompts(coords, kinds), multimask=True)

    def _filter(
        self,
        crop: Crop,
        size: tuple[int, int],
        measuring: Measuring,
        near: NearMisses,
        points: np.ndarray,
        started: Started,
        iou: Any,
    ) -> MeasuredMasks:
        """Return candidates of a batch that are good, stable and not cut off."""
        batch = measuring.finish(started)
        boxes, stability = np.asarray(batch.measured.boxes, np.int64), batch.measured.stability
        stable, least = np.ones(len(boxes), bool), self.options.thresholds[1]
        if least > 0:
            stable = stability >= least
        inside = ~near_crop_edge(boxes, crop, size)
        scores = np.asarray(batch.scores)
        near.add(scores[batch.which], stability, inside & ~stable)
        near.offer((started.low_res, iou), scores[: iou.shape[1] * len(points)])
        good = np.flatnonzero(stable & inside)
        index = np.asarray(batch.which)[good]
        return MeasuredMasks(
            measuring.keep(started, index),
            boxes[good],
            scores[index],
            stability[good],
            points[index // started.low_res.shape[1]],
        )

    def _measure_rejected(
        self, crop: Crop, size: tuple[int, int], measuring: Measuring, near: NearMisses
    ) -> None:
        """Measure the best candidates of a crop that ``pred_iou_thresh`` dropped."""
        if (rejected := near.take_rejected()) is None:
            return
        decoded, prompts, least = rejected
        batch = measuring.finish(measuring.start(*decoded, prompts, least))
        boxes, stability = np.asarray(batch.measured.boxes, np.int64), batch.measured.stability
        scores = np.asarray(batch.scores)[batch.which]
        near.add(scores, stability, ~near_crop_edge(boxes, crop, size))

    def _records(self, masks: FoundMasks) -> Iterator[Record]:
        for i, rle in enumerate(masks.rles):
            area = area_from_rle(rle)
            if area < self.options.min_area or (
                self.options.max_area is not None and area > self.options.max_area
            ):
                continue
            yield {
                "segmentation": convert_segmentation(rle, self.options.output_mode),
                "area": area,
                "bbox": _xywh(masks.boxes[i]),
                "predicted_iou": float(masks.scores[i]),
                "point_coords": [masks.points[i].tolist()],
                "stability_score": float(masks.stability[i]),
                "crop_box": _xywh(masks.crops[i]),
            }


def _xywh(box: Int[np.ndarray, " 4"]) -> list[int]:
    x0, y0, x1, y1 = (int(v) for v in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _in_image(
    masks: MeasuredMasks, rles: list[Rle], crop: Crop, size: tuple[int, int]
) -> FoundMasks:
    """Move a crop's masks to the frame of the image."""
    corner = np.array(crop.box[:2])
    return FoundMasks(
        [uncropped(rle, crop, size) for rle in rles],
        masks.boxes + np.tile(corner, 2),
        masks.scores,
        masks.stability,
        masks.points + corner,
        np.tile(np.array(crop.box, np.int64), (len(rles), 1)),
    )


def clean_regions(masks: FoundMasks, min_area: int, nms_thresh: float) -> FoundMasks:
    """Fill holes and remove islands below ``min_area`` pixels, then suppress new duplicates.

    Masks that needed no cleaning win. Source: official postprocess_small_regions.
    """
    cleaned, boxes, intact = [], [], []
    for rle in masks.rles:
        mask, filled = remove_small_regions(rle_to_mask(rle), min_area, "holes")
        mask, removed = remove_small_regions(mask, min_area, "islands")
        intact.append(not (filled or removed))
        cleaned.append(rle if intact[-1] else masks_to_rle(mask[None])[0])
        boxes.append(mask_box(mask))
    if not boxes:
        return masks
    corners = np.array(boxes, np.int64)
    keep = suppress(corners, np.array(intact, np.float32), nms_thresh)
    unchanged = np.array(intact)[:, None]
    fresh = replace(masks, rles=cleaned, boxes=np.where(unchanged, masks.boxes, corners))
    return fresh.take(keep)


def drop_contained(masks: FoundMasks, threshold: float) -> Int[np.ndarray, " kept"]:
    """Return indices without the lower-scoring of two masks if one contains the other."""
    from pycocotools import mask as coco

    from samjax.masks.rle import coco_encode_rle

    order = np.argsort(-masks.scores, kind="stable")
    coded = [coco_encode_rle(masks.rles[i]) for i in order]
    area = coco.area(coded).astype(np.float64) if coded else np.zeros(0)
    kept: list[int] = []
    for i, rle in enumerate(coded):
        if kept:
            inside = coco.iou([rle], [coded[k] for k in kept], [1] * len(kept))[0]
            shared = inside * area[i]
            part = shared / np.maximum(np.minimum(area[kept], area[i]), 1)
            if part.max() >= threshold:
                continue
        kept.append(i)
    return order[np.array(kept, np.int64)] if kept else np.zeros(0, np.int64)
