"""From prompts to masks and to what travels to the page: functions of values, no state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt32
from PIL import Image

from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.predictor import SamPredictor
from samjax.rle import rle_to_mask, to_coco_rle
from samjax.widget.session import Prompt, Recipe, paint
from samjax.widget.store import Result

Size = tuple[int, int]


@dataclass(frozen=True)
class Candidates:
    """The masks of one prompt at one size (h, w), as `row_runs`, in the network's order."""

    size: Size
    runs: tuple[UInt32[np.ndarray, _], ...]
    scores: Float32[np.ndarray, " c"]

    def ranked(self) -> Int[np.ndarray, " c"]:
        """Indices by falling score."""
        return np.argsort(-self.scores, kind="stable")

    def chosen(self, choice: int | None) -> int:
        """The index of the mask to show: the choice if there is such a mask, else the best."""
        if choice is not None and choice < len(self.scores):
            return choice
        return int(self.ranked()[0])

    def mask(self, index: int) -> Bool[np.ndarray, "h w"]:
        """The mask at ``index``."""
        return runs_to_mask(self.runs[index], self.size)


def predict(
    model: Segmenter, image: ImageEmbedding, prompt: Prompt, threshold: float, size: Size
) -> Candidates:
    """What ``SamPredictor.predict`` gives, at any size.

    At the image's own size these are the predictor's masks. A large photograph is shown much
    smaller than it is; then the predictor is told that this is its size, and the prompts are
    moved there, which changes the masks by no more than rounding.
    """
    arguments = prompt.arguments()
    if arguments is None:
        raise ValueError("nothing is asked: pass a prompt that holds points or a box")
    if size != image.original_size:
        scale = np.array(size[::-1]) / image.original_size[::-1]
        image = replace(image, original_size=size)
        if (points := arguments["point_coords"]) is not None:
            arguments["point_coords"] = np.array(points) * scale
        if (box := arguments["box"]) is not None:
            arguments["box"] = np.array(box) * np.tile(scale, 2)
    # One of its own: the predictor's image and threshold are state, and threads share nothing.
    predictor = SamPredictor(model)
    predictor.set_embedding(image)
    predictor.mask_threshold = threshold
    masks, scores, _ = predictor.predict(**arguments)
    return Candidates(size, tuple(row_runs(mask) for mask in masks), scores)


def mask_of(
    candidates: Candidates | None, recipe: Recipe, size: Size, image_size: Size
) -> Bool[np.ndarray, "h w"]:
    """The mask of a recipe: the chosen candidate, with the strokes painted over it.

    Args:
        candidates: of the recipe's prompt, at ``size``; None for an object only painted.
        size: (h, w) of the mask.
        image_size: (H, W) of the image, in whose pixels the strokes are.
    """
    if candidates is None:
        mask = np.zeros(size, bool)
    else:
        mask = candidates.mask(candidates.chosen(recipe.choice))
    scale = (size[1] / image_size[1], size[0] / image_size[0])
    return paint(mask, recipe.strokes, scale) if recipe.strokes else mask


def result_of(candidates: Candidates | None, recipe: Recipe, image_size: Size) -> Result:
    """The finished mask, of candidates at the image's own size."""
    mask = to_coco_rle(mask_of(candidates, recipe, image_size, image_size))
    if candidates is None:
        return Result(mask, None, None)
    index = candidates.chosen(recipe.choice)
    return Result(mask, float(candidates.scores[index]), index)


def result_mask(result: Result, size: Size) -> Bool[np.ndarray, "h w"]:
    """A finished mask at another size, by its nearest pixels."""
    return resized(rle_to_mask(result.segmentation), size)


def resized(mask: Bool[np.ndarray, "H W"], size: Size) -> Bool[np.ndarray, "h w"]:
    """A mask at another size, by its nearest pixels."""
    if mask.shape == size:
        return mask
    picture = Image.fromarray(mask.view(np.uint8))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST)).astype(bool)


def nearest_candidate(candidates: Candidates, score: float) -> int:
    """The index of the candidate of that score.

    Automatic masks were decoded in batches, whose scores differ from a click's in the last digits.
    """
    return int(np.argmin(np.abs(candidates.scores - score)))


def row_runs(mask: Bool[np.ndarray, "h w"]) -> UInt32[np.ndarray, " r"]:
    """Lengths of the runs of zeros and ones in turn, zeros first, along the rows."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(bounds).astype(np.uint32)
    return np.concatenate([np.zeros(1, np.uint32), runs]) if flat[0] else runs


def runs_to_mask(runs: UInt32[np.ndarray, " r"], size: Size) -> Bool[np.ndarray, "h w"]:
    """The mask of `row_runs`."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def fitted(size: Size, longest: int) -> Size:
    """The size (h, w) with the longest side ``longest`` at most, never larger than ``size``."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
