"""Check the prompts of one image, decode them, and finish the masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import ArrayLike

from samjax.arguments import several
from samjax.array_arguments import array
from samjax.embedding import ImageEmbedding
from samjax.engine.prompts import blocks, check_boxes, check_masks, check_points, pack
from samjax.engine.segmenter import Segmenter
from samjax.errors import PromptError
from samjax.masks.rle import Rle, coco_encode_rle, masks_to_rle
from samjax.model.prompt_encoder import Prompts

_FINISHED_PIXELS = 2**26  # of masks at full size that become run lengths together


class Prediction(NamedTuple):
    """Holds the masks of one or many prompts; unpacks like the official tuple.

    Attributes:
        masks: bool (or float32 logits), of the original image's size; with ``output="rle"`` lists
            of COCO's run lengths.
        scores: predicted IoU of each mask.
        low_res: low-resolution mask logits, to pass to the next call as ``mask_input``.
    """

    masks: Any
    scores: Float32[np.ndarray, "*p c"]
    low_res: Float32[np.ndarray, "*p c m m"]


def one_mask(mask: ArrayLike) -> np.ndarray:
    """Return the low-res logits of one mask as an array.

    Raises:
        PromptError: they are not 1 x m x m.
    """
    found = array(mask, "mask_input")
    if found.ndim != 3 or found.shape[0] != 1:
        raise PromptError(
            f"mask_input has shape {found.shape}: give the 1 x m x m low-res logits of one mask, "
            "such as low_res[i : i + 1]"
        )
    return found


def predict_prompts(
    model: Segmenter,
    image: ImageEmbedding,
    point_coords: np.ndarray | Sequence[ArrayLike] | None = None,
    point_labels: np.ndarray | Sequence[ArrayLike] | None = None,
    boxes: ArrayLike | None = None,
    mask_inputs: ArrayLike | None = None,
    *,
    multimask: bool,
    threshold: float | None,
    hq_token_only: bool = False,
    output: str = "masks",
    frame: tuple[int, int] | None = None,
) -> Prediction:
    """Check the prompts, decode, and bring the masks to the original size.

    ``frame`` is the (h, w) in whose pixels the coordinates are; None: the image's.
    """
    if hq_token_only and not model.config.hq:
        raise PromptError(
            f"hq_token_only is for SAM-HQ, this model is {model.family!r}: leave it out, or load "
            "a SAM-HQ checkpoint"
        )
    points = None
    if point_coords is not None:
        coords = list(several(point_coords, "point_coords", "points, one set an object"))
        labels: list[Any] = [None] * len(coords)
        if point_labels is not None:
            labels = list(several(point_labels, "point_labels", "labels, one set an object"))
        if len(coords) != len(labels):
            raise PromptError(f"{len(coords)} sets of points but {len(labels)} sets of labels")
        points = [check_points(c, marks) for c, marks in zip(coords, labels, strict=True)]
    size = model.config.low_res_size
    checked_boxes = None if boxes is None else check_boxes(boxes, image.original_size)
    masks = None if mask_inputs is None else check_masks(mask_inputs, size)
    given = {"points": points, "boxes": checked_boxes, "mask_inputs": masks}
    counts = {name: len(value) for name, value in given.items() if value is not None}
    preset = model.preset
    if not counts and not preset.without_prompt:
        raise PromptError("no prompt: give point_coords with point_labels, a box, or mask_input")
    if len(set(counts.values())) > 1:
        raise PromptError(f"prompts differ in number, {counts}: give one of each for each object")
    if output not in ("masks", "rle"):
        raise PromptError(f"output is {output!r}: use 'masks' or 'rle'")
    if output == "rle" and threshold is None:
        raise PromptError("output 'rle' has no logits: leave out return_logits")
    if 0 in counts.values():
        return _nothing(model, image.original_size, multimask, threshold, output)
    prompts = pack(points, checked_boxes, masks, frame or image.original_size, image.input_size)
    if model.config.hq:
        prompts = prompts._replace(hq_only=np.full(len(prompts.coords), hq_token_only))
    low_res, scores = _decode(model, image, prompts, preset.masks.tokens(multimask))

    def finish(part: slice) -> Prediction:
        return Prediction(
            *preset.masks.finish(
                low_res[part],
                scores[part],
                model.config.image_size,
                image.input_size,
                image.original_size,
                threshold,
                multimask,
            )
        )

    if output == "masks":
        return finish(slice(None))
    height, width = image.original_size
    step = max(1, _FINISHED_PIXELS // (height * width * low_res.shape[1]))
    finished = []
    for start in range(0, len(low_res), step):
        some = finish(slice(start, start + step))
        finished.append(some._replace(masks=[_run_lengths(each) for each in some.masks]))
    return Prediction(
        [rles for some in finished for rles in some.masks],
        np.concatenate([some.scores for some in finished]),
        np.concatenate([some.low_res for some in finished]),
    )


def _run_lengths(masks: Bool[np.ndarray, "c H W"]) -> list[Rle]:
    return [coco_encode_rle(rle) for rle in masks_to_rle(masks)]


def _nothing(
    model: Segmenter,
    size: tuple[int, int],
    multimask: bool,
    threshold: float | None,
    output: str,
) -> Prediction:
    """Return the prediction of no prompts."""
    count = model.preset.masks.count(model.config.mask_decoder.masks_given, multimask)
    side = model.config.low_res_size
    dtype = np.float32 if threshold is None else np.bool_
    return Prediction(
        [] if output == "rle" else np.zeros((0, count, *size), dtype),
        np.zeros((0, count), np.float32),
        np.zeros((0, count, side, side), np.float32),
    )


def _decode(
    model: Segmenter, image: ImageEmbedding, prompts: Prompts, multimask: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    """Decode one prompt as a click, or many in bounded blocks, and fetch the results to the host.

    Returns:
        Low-res logits and scores; with ``multimask=None`` those of all mask tokens.
    """
    count = len(prompts.coords)
    if count == 1:
        return model.click(image.features, prompts, multimask=multimask)
    decoded = []
    for kept, block in blocks(prompts):
        arrays = jax.device_get(model.decode(image.features, block, multimask=multimask))
        decoded.append([x[:kept] for x in arrays])
    low_res, scores = (np.concatenate(x) for x in zip(*decoded, strict=True))
    return low_res, scores
