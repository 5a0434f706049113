"""Masks of prompts, as functions without state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt32

from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.masks.rle import rle_to_mask, to_coco_rle
from samjax.predictor import SamPredictor
from samjax.widget.brush import paint
from samjax.widget.correction import base_mask, correct, correction_of, followed, predict_arguments
from samjax.widget.row_runs import row_runs, runs_to_mask
from samjax.widget.sizes import Size, resized
from samjax.widget.state import Prompt, Recipe, Stamp
from samjax.widget.state_file import FinishedMask

_OFFSET = 1.0  # of the logits between whose levels a mask's stability is measured


@dataclass(frozen=True)
class Candidates:
    """The masks of one prompt have one size (h, w); they are `row_runs` in the network's order.

    ``obeyed`` counts the clicks of a correction that each mask follows; None for other prompts.
    ``stability`` is that of masks which take the place of an opened one.
    """

    size: Size
    runs: tuple[UInt32[np.ndarray, " _"], ...]
    scores: Float32[np.ndarray, " c"]
    obeyed: Int[np.ndarray, " c"] | None = None
    stability: Float32[np.ndarray, " c"] | None = None

    def ranked(self) -> Int[np.ndarray, " c"]:
        """Return the indices by falling score; of a correction by the clicks followed, first."""
        if self.obeyed is None:
            return np.argsort(-self.scores, kind="stable")
        return np.lexsort((-self.scores, -self.obeyed))

    def chosen(self, choice: int | None) -> int:
        """Return the index of the mask to show: the choice if it exists, else the best."""
        if choice is not None and choice < len(self.scores):
            return choice
        return int(self.ranked()[0])

    def mask(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Return the mask at ``index``."""
        return runs_to_mask(self.runs[index], self.size)


def predict(
    model: Segmenter,
    image: ImageEmbedding,
    prompt: Prompt,
    threshold: float,
    size: Size,
    base: Stamp | None = None,
) -> Candidates:
    """Return the masks of ``SamPredictor.predict`` at any size.

    At the image's own size these are the predictor's masks. A large photograph is shown much
    smaller than it is; then the predictor is told that this is its size, and the prompts are
    moved there, which changes the masks by no more than rounding. With ``base``, the mask that
    an object was opened with, points correct it (see `samjax.widget.correction`).
    """
    arguments, old = predict_arguments(prompt, base, model), correction_of(prompt, base)
    scale = np.array(size[::-1]) / image.original_size[::-1]
    if arguments is None:
        raise ValueError("nothing is asked: pass a prompt that holds points or a box")
    if size != image.original_size:
        image = replace(image, original_size=size)
        if (points := arguments["point_coords"]) is not None:
            arguments["point_coords"] = np.array(points) * scale
        if (box := arguments["box"]) is not None:
            arguments["box"] = np.array(box) * np.tile(scale, 2)
    # One of its own: the predictor's image and threshold are state, and threads share nothing.
    predictor = SamPredictor(model)
    predictor.set_embedding(image)
    predictor.mask_threshold = threshold
    masks, scores, low_res = predictor.predict(**arguments)
    obeyed = stability = None
    if base is not None:
        logits = model.preset.masks.full_size(
            low_res[None], model.config.image_size, image.input_size, image.original_size, None
        )[0]
        levels = [np.asarray(logits) > threshold + offset for offset in (-_OFFSET, _OFFSET)]
    if old is not None:
        old = resized(old, size)
        points = [(x * scale[0], y * scale[1], label) for x, y, label in prompt.points]
        masks = np.stack([correct(old, mask, points) for mask in masks])
        obeyed = np.array([followed(mask, points) for mask in masks])
        levels = [np.stack([correct(old, mask, points) for mask in level]) for level in levels]
    if base is not None:
        stability = _overlap(*levels)
    return Candidates(size, tuple(row_runs(mask) for mask in masks), scores, obeyed, stability)


def _overlap(
    a: Bool[np.ndarray, "c h w"], b: Bool[np.ndarray, "c h w"]
) -> Float32[np.ndarray, " c"]:
    """Return the IoU of masks, pair by pair; 0 for two empty ones."""
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return (both / np.maximum(either, 1)).astype(np.float32)


def mask_of(
    candidates: Candidates | None, recipe: Recipe, size: Size, image_size: Size
) -> Bool[np.ndarray, "h w"]:
    """Return the mask of a recipe: the chosen candidate, with the strokes painted over it.

    Args:
        candidates: of the recipe's prompt, at ``size``; None for an object that was only painted,
            or opened and never corrected.
        size: (h, w) of the mask.
        image_size: (H, W) of the image, in whose pixels the strokes are.
    """
    if candidates is None:
        base = base_mask(recipe.base)
        mask = np.zeros(size, bool) if base is None else resized(base, size)
    else:
        mask = candidates.mask(candidates.chosen(recipe.choice))
    scale = (size[1] / image_size[1], size[0] / image_size[0])
    return paint(mask, recipe.strokes, scale) if recipe.strokes else mask


def finished_mask(candidates: Candidates | None, recipe: Recipe, image_size: Size) -> FinishedMask:
    """Return the finished mask, of candidates at the image's own size."""
    mask = to_coco_rle(mask_of(candidates, recipe, image_size, image_size))
    if candidates is None:
        return FinishedMask(mask, None, None)
    index = candidates.chosen(recipe.choice)
    stability = None if candidates.stability is None else float(candidates.stability[index])
    return FinishedMask(mask, float(candidates.scores[index]), index, stability)


def resized_finished(finished: FinishedMask, size: Size) -> Bool[np.ndarray, "h w"]:
    """Resize a finished mask by its nearest pixels."""
    return resized(rle_to_mask(finished.segmentation), size)


def nearest_candidate(candidates: Candidates, score: float) -> int:
    """Return the index of the candidate of that score.

    Automatic masks were decoded in batches, whose scores differ from a click's in the last digits.
    """
    return int(np.argmin(np.abs(candidates.scores - score)))
