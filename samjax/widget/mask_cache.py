"""A cache of the objects' masks, made when they are needed."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from jaxtyping import Bool

from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.widget.decode import Candidates, finished_mask, mask_of, predict, resized_finished
from samjax.widget.images import DISPLAY
from samjax.widget.sizes import Size, fitted, resized
from samjax.widget.state import Prompt, Recipe, Stamp
from samjax.widget.state_file import FinishedMask

_Key = tuple[int, Prompt, float, Stamp | None]
_KEPT = 64  # prompts whose candidates are kept, some 50 kB each


class MaskCache:
    """Keeps masks by image and recipe; not thread-safe, its owner locks.

    Candidates, at the size of the display, are kept for the latest prompts; finished masks for
    all. For an image no larger than the display they are the same masks.
    """

    def __init__(self, model: Segmenter):
        self._model = model
        self._candidates: OrderedDict[_Key, Candidates] = OrderedDict()
        self._finished: dict[tuple[int, Recipe], FinishedMask] = {}
        self._foreign: set[tuple[int, Recipe]] = set()

    def candidates(
        self, index: int, image: ImageEmbedding | None, recipe: Recipe
    ) -> Candidates | None:
        """Return the masks to choose from, at the size of the display.

        None while the image is encoded, for an object that was only painted, and for a mask that
        other weights made.
        """
        if image is None or not recipe.prompt or (index, recipe) in self._foreign:
            return None
        key = _key(index, recipe)
        if key not in self._candidates:
            size = fitted(image.original_size, DISPLAY)
            self._candidates[key] = self._predict(image, recipe, size)
        self._candidates.move_to_end(key)
        while len(self._candidates) > _KEPT:
            self._candidates.popitem(last=False)
        return self._candidates[key]

    def shown(
        self, index: int, image: ImageEmbedding | None, recipe: Recipe, size: Size
    ) -> Bool[np.ndarray, "H W"] | None:
        """Return the mask at the size of the display or less; None until the image is encoded."""
        finished = self._finished.get((index, recipe))
        if finished is not None:
            return resized_finished(finished, size)
        if image is None:
            return None
        candidates = self.candidates(index, image, recipe)
        full = fitted(image.original_size, DISPLAY)
        return resized(mask_of(candidates, recipe, full, image.original_size), size)

    def known(self, index: int, recipe: Recipe) -> FinishedMask | None:
        """Return the finished mask, if it was ever made."""
        return self._finished.get((index, recipe))

    def score(self, index: int, recipe: Recipe) -> float | None:
        """Return the predicted IoU, if it is known by now."""
        finished = self._finished.get((index, recipe))
        if finished is not None:
            return finished.score
        found = self._candidates.get(_key(index, recipe))
        return None if found is None else float(found.scores[found.chosen(recipe.choice)])

    def finish(self, index: int, image: ImageEmbedding, recipe: Recipe) -> FinishedMask:
        """Return the mask at the image's resolution."""
        key = (index, recipe)
        if key not in self._finished:
            candidates, size = self.candidates(index, image, recipe), image.original_size
            if candidates is not None and candidates.size != size:
                candidates = self._predict(image, recipe, size)
            self._finished[key] = finished_mask(candidates, recipe, size)
        return self._finished[key]

    def restore(self, index: int, recipe: Recipe, mask: FinishedMask, *, foreign: bool) -> None:
        """Keep a mask that was read from a file; ``foreign`` if other weights made it.

        Such a mask stays what it was until its prompts change.
        """
        self._finished[index, recipe] = mask
        if foreign:
            self._foreign.add((index, recipe))

    def _predict(self, image: ImageEmbedding, recipe: Recipe, size: Size) -> Candidates:
        prompt, threshold, base = recipe.prompt, recipe.threshold, recipe.base
        return predict(self._model, image, prompt, threshold, size, base)

    def forget(self, index: int) -> None:
        """Drop the masks of an image."""
        for key in [key for key in self._candidates if key[0] == index]:
            del self._candidates[key]
        for recipe in [recipe for recipe in self._finished if recipe[0] == index]:
            del self._finished[recipe]
        self._foreign = {key for key in self._foreign if key[0] != index}


def _key(index: int, recipe: Recipe) -> _Key:
    return index, recipe.prompt, recipe.threshold, recipe.base
