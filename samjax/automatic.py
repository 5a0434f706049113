"""Automatic masks: a grid of points over the image, filtered and without duplicates.

The official SamAutomaticMaskGenerator's arguments, steps and records (paper, section 5 and
appendix B). Masks whose predicted IoU is too low are never made at full size; the others are made
in chunks of bounded memory, leave the device as packed bits, and are kept as run lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from samjax.crops import (
    Crop,
    crop_boxes,
    layer_grids,
    near_crop_edge,
    suppress,
    tile_boxes,
    uncropped,
)
from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.errors import PromptError
from samjax.image import scale_coords
from samjax.model.prompt_encoder import NOT_A_POINT, POSITIVE, Prompts
from samjax.predictor import SamPredictor
from samjax.preprocess import read_for
from samjax.prompts import bucket
from samjax.proposals import canvas
from samjax.regions import mask_box, remove_small_regions
from samjax.rle import area_from_rle, convert, masks_to_rle, rle_to_mask

Record = dict[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Proposals:
    """Masks found so far, one entry each, in the frame of the whole image."""

    rles: list[dict[str, Any]]
    boxes: Int[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    stability: Float32[np.ndarray, " n"]
    points: Float[np.ndarray, "n 2"]
    crops: Int[np.ndarray, "n 4"]

    def __len__(self) -> int:
        return len(self.rles)

    def take(self, index: Int[np.ndarray, " k"]) -> Proposals:
        """Those of ``index``, in its order."""
        return Proposals(
            [self.rles[i] for i in index],
            *(a[index] for a in (self.boxes, self.scores, self.stability, self.points, self.crops)),
        )

    @classmethod
    def join(cls, parts: Sequence[Proposals]) -> Proposals:
        """All of several, in order."""
        none, boxes = np.zeros(0, np.float32), np.zeros((0, 4), np.int64)
        empty = cls([], boxes, none, none, np.zeros((0, 2)), boxes)
        parts = [empty, *parts]
        names = ("boxes", "scores", "stability", "points", "crops")
        return cls(
            [rle for part in parts for rle in part.rles],
            *(np.concatenate([getattr(part, name) for part in parts]) for name in names),
        )


class SamAutomaticMaskGenerator:
    """Masks of everything in an image (official SamAutomaticMaskGenerator).

    >>> generator = samjax.SamAutomaticMaskGenerator(samjax.load())
    >>> records = generator.generate("photo.jpg")

    Args (the official ones, with their defaults):
        model: what samjax.load returns.
        points_per_side: the grid has its square of points; None: give ``point_grids``.
        points_per_batch: points decoded at once; memory, not results.
        pred_iou_thresh: masks of a predicted IoU above it stay.
        stability_score_thresh: masks stay whose binary masks at threshold plus and minus
            ``stability_score_offset`` have at least this IoU.
        box_nms_thresh: of two boxes in a crop with a higher IoU, the less certain goes.
        crop_n_layers: also look at (2 ** i) ** 2 crops for each layer i.
        crop_nms_thresh: the same between crops; smaller crops win.
        crop_overlap_ratio: overlap of the crops, as a part of the image's short side.
        crop_n_points_downscale_factor: the grid of layer i has 1 / factor ** i points a side.
        point_grids: N x 2 points (x, y) in the unit square for each layer, instead of the side.
        min_mask_region_area: holes and islands of fewer pixels are filled and removed. It does
            not remove small masks: that is ``min_area``.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".

    Args beyond them:
        min_area, max_area: masks of fewer or more pixels are left out.
        containment_thresh: of two masks of which one has at least this part inside the other,
            the less certain goes; None: nested masks stay.
        tile_size, tile_halo: look at tiles of this size, with a halo, instead of the whole
            image; for images much larger than the network's input.

    Raises:
        PromptError: arguments that do not fit together.
    """

    def __init__(
        self,
        model: Segmenter,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        *,
        min_area: int = 0,
        max_area: int | None = None,
        containment_thresh: float | None = None,
        tile_size: int | None = None,
        tile_halo: int = 64,
    ):
        if model.preset.output not in ("official", "best"):
            raise PromptError(
                f"automatic masks need a model that was trained with clicks, preset "
                f"{model.preset.name!r} is for others: use SamPredictor"
            )
        if (points_per_side is None) == (point_grids is None):
            raise PromptError("give either points_per_side or point_grids, and None for the other")
        if points_per_side is not None and points_per_side < 1:
            raise PromptError(f"points_per_side is {points_per_side}: at least 1")
        if points_per_batch < 1:
            raise PromptError(f"points_per_batch is {points_per_batch}: at least 1")
        if output_mode not in ("binary_mask", "uncompressed_rle", "coco_rle"):
            raise PromptError(
                f"output_mode {output_mode!r}: use binary_mask, uncompressed_rle or coco_rle"
            )
        if tile_size is not None and (tile_size < 1 or tile_halo < 0 or crop_n_layers):
            raise PromptError(
                f"tile_size {tile_size} with tile_halo {tile_halo} and crop_n_layers "
                f"{crop_n_layers}: tiles need a positive size, a halo of 0 or more, and no crops"
            )
        if points_per_side is not None:
            grids = layer_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)
        else:
            assert point_grids is not None
            grids = [np.asarray(grid, np.float64) for grid in point_grids]
        if len(grids) <= crop_n_layers or any(g.ndim != 2 or g.shape[1] != 2 for g in grids):
            raise PromptError(
                f"point_grids: give one N x 2 array for each of {crop_n_layers + 1} layers"
            )
        self.predictor = SamPredictor(model)
        self.model, self.point_grids = model, grids
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh, self.crop_nms_thresh = box_nms_thresh, crop_nms_thresh
        self.crop_n_layers, self.crop_overlap_ratio = crop_n_layers, crop_overlap_ratio
        self.min_mask_region_area, self.output_mode = min_mask_region_area, output_mode
        self.min_area, self.max_area = min_area, max_area
        self.containment_thresh = containment_thresh
        self.tile_size, self.tile_halo = tile_size, tile_halo

    def generate(
        self,
        image: Any,
        *,
        embedding: ImageEmbedding | None = None,
        progress: Progress | None = None,
    ) -> list[Record]:
        """Masks of an image (H x W x 3 uint8 array, PIL image or path).

        Args:
            image: the image; None with ``embedding``.
            embedding: of the whole image, from ``SamPredictor.encode_image`` or a file: it is not
                encoded again. Not with crops or tiles, which are encoded each for itself.
            progress: called with the number of points done and of all.

        Returns:
            The official records: ``segmentation`` (by output_mode), ``area`` in pixels, ``bbox``
            [x, y, w, h], ``predicted_iou``, ``point_coords`` [[x, y]], ``stability_score``,
            ``crop_box`` [x, y, w, h].

        Raises:
            ImageError: an unusable image. PromptError: an embedding together with crops.
        """
        if embedding is None:
            pixels = read_for(self.model.preset, image)
            size = (pixels.shape[0], pixels.shape[1])
        else:
            size = embedding.original_size
        crops = self._crops(size)
        if embedding is not None and len(crops) > 1:
            raise PromptError("an embedding covers the whole image: not with crops or tiles")
        total = sum(len(self.point_grids[crop.layer]) for crop in crops)
        done, found = 0, []
        for crop in crops:
            x0, y0, x1, y1 = crop.box
            if embedding is not None:
                encoded = embedding
            elif crop.size == size:
                encoded = self.predictor.encode_pixels(pixels)
            else:  # read anew: microsam stretches each tile for itself
                encoded = self.predictor.encode_image(pixels[y0:y1, x0:x1])
            parts = []
            for part, points in self._look(encoded, crop, size):
                parts.append(part)
                done += points
                if progress is not None:
                    progress(done, total)
            here = Proposals.join(parts)
            found.append(here.take(suppress(here.boxes, here.scores, self.box_nms_thresh)))
        masks = Proposals.join(
            [_placed(part, crop) for part, crop in zip(found, crops, strict=True)]
        )
        if len(crops) > 1:
            masks = masks.take(
                suppress(masks.boxes, self._crop_scores(masks), self.crop_nms_thresh)
            )
        if self.min_mask_region_area > 0:
            threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
            masks = clean_regions(masks, self.min_mask_region_area, threshold)
        if self.containment_thresh is not None:
            masks = masks.take(drop_contained(masks, self.containment_thresh))
        return list(self._records(masks))

    def _crops(self, size: tuple[int, int]) -> list[Crop]:
        if self.tile_size is not None:
            return tile_boxes(size, self.tile_size, self.tile_halo)
        return crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)

    def _crop_scores(self, masks: Proposals) -> Float32[np.ndarray, " n"]:
        """Small crops first, as the official; tiles are equal, there the better mask wins."""
        if self.tile_size is not None:
            return masks.scores
        width, height = (masks.crops[:, 2:] - masks.crops[:, :2]).T
        return (1 / (width * height)).astype(np.float32)

    def _look(
        self, image: ImageEmbedding, crop: Crop, size: tuple[int, int]
    ) -> Iterator[tuple[Proposals, int]]:
        """Proposals of one crop, batch by batch, with the number of points in each.

        The next batch is decoded on the device while the host works on the last.
        """
        points = self.point_grids[crop.layer] * np.array(crop.size[::-1])
        size_of_batch = min(self.points_per_batch, bucket(len(points), 1))
        batches = np.split(points, range(size_of_batch, len(points), size_of_batch))
        pending = None
        for batch in [*batches, None]:
            started = None if batch is None else (batch, self._decode(image, batch, size_of_batch))
            if pending is not None:
                yield self._filter(image, crop, size, *pending), len(pending[0])
            pending = started

    def _decode(self, image: ImageEmbedding, points: np.ndarray, count: int) -> tuple[Any, Any]:
        """Low-res logits and scores of one point each, filled up to ``count`` prompts."""
        coords = np.zeros((count, 2, 2), np.float32)
        coords[: len(points), 0] = scale_coords(points, image.original_size, image.input_size)
        kinds = np.tile(np.array([POSITIVE, NOT_A_POINT], np.int32), (count, 1))
        return self.model.decode(image.features, Prompts(coords, kinds), multimask=True)

    def _filter(
        self,
        image: ImageEmbedding,
        crop: Crop,
        size: tuple[int, int],
        points: np.ndarray,
        decoded: tuple[Any, Any],
    ) -> Proposals:
        """Masks of a batch that are good, stable and not cut off, in the frame of the crop."""
        low_res, iou = decoded
        scores = np.asarray(iou)[: len(points)].reshape(-1)
        chosen = np.flatnonzero(scores > self.pred_iou_thresh)
        if self.pred_iou_thresh <= 0:
            chosen = np.arange(len(scores))
        config = self.model.config
        area = canvas(config.low_res_size, config.image_size, image.input_size, image.original_size)
        kept = []
        for part, measured in self.model.measure(
            low_res, chosen, area, self.predictor.mask_threshold, self.stability_score_offset
        ):
            boxes = np.asarray(measured.boxes, np.int64)
            with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: an empty mask
                stability = np.divide(measured.above_high, measured.above_low, dtype=np.float32)
            stable = np.ones(len(part), bool)
            if self.stability_score_thresh > 0:
                stable = stability >= self.stability_score_thresh
            good = np.flatnonzero(stable & ~near_crop_edge(boxes, crop, size))
            height, width = crop.size
            masks = np.unpackbits(measured.bits[good], axis=-1, count=width).view(bool)
            rles = masks_to_rle(masks[:, :height])
            kept.append(
                Proposals(
                    [uncropped(rle, crop, size) for rle in rles],
                    boxes[good],
                    scores[part[good]],
                    stability[good],
                    points[part[good] // low_res.shape[1]],
                    np.tile(np.array(crop.box, np.int64), (len(good), 1)),
                )
            )
        return Proposals.join(kept)

    def _records(self, masks: Proposals) -> Iterator[Record]:
        for i, rle in enumerate(masks.rles):
            area = area_from_rle(rle)
            if area < self.min_area or (self.max_area is not None and area > self.max_area):
                continue
            yield {
                "segmentation": convert(rle, self.output_mode),
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


def _placed(masks: Proposals, crop: Crop) -> Proposals:
    """Boxes and points from the frame of the crop to that of the image."""
    corner = np.array(crop.box[:2])
    return replace(masks, boxes=masks.boxes + np.tile(corner, 2), points=masks.points + corner)


def clean_regions(masks: Proposals, min_area: int, nms_thresh: float) -> Proposals:
    """Fill holes and remove islands below ``min_area`` pixels, then suppress new duplicates.

    Source: official postprocess_small_regions; masks that needed no cleaning win.
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


def drop_contained(masks: Proposals, threshold: float) -> Int[np.ndarray, " kept"]:
    """Indices without the less certain of two masks of which one lies in the other."""
    from pycocotools import mask as coco

    from samjax.rle import coco_encode_rle

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
