"""Masks of the objects of all images: made when they are needed, kept as long as they pay."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from jaxtyping import Bool

from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.widget.decode import (
    Candidates,
    Size,
    fitted,
    mask_of,
    predict,
    resized,
    result_mask,
    result_of,
)
from samjax.widget.session import Prompt, Recipe
from samjax.widget.store import Result

DISPLAY = 2048  # longest side of the copy of an image that is shown, in pixels
_KEPT = 64  # prompts whose candidates are kept, some 50 kB each


class Results:
    """A cache of masks by image and recipe; not thread-safe, its owner locks.

    Candidates, at the size of the display, are kept for the latest prompts; finished masks for
    all. For an image no larger than the display they are the same masks.
    """

    def __init__(self, model: Segmenter):
        self._model = model
        self._candidates: OrderedDict[tuple[int, Prompt, float], Candidates] = OrderedDict()
        self._finished: dict[tuple[int, Recipe], Result] = {}
        self._foreign: set[tuple[int, Recipe]] = set()

    def candidates(
        self, index: int, image: ImageEmbedding | None, recipe: Recipe
    ) -> Candidates | None:
        """What there is to choose from, at the size of the display.

        None while the image is encoded, for an object that was only painted, and for a mask that
        other weights made.
        """
        if image is None or not recipe.prompt or (index, recipe) in self._foreign:
            return None
        key = (index, recipe.prompt, recipe.threshold)
        if key not in self._candidates:
            size = fitted(image.original_size, DISPLAY)
            self._candidates[key] = predict(
                self._model, image, recipe.prompt, recipe.threshold, size
            )
        self._candidates.move_to_end(key)
        while len(self._candidates) > _KEPT:
            self._candidates.popitem(last=False)
        return self._candidates[key]

    def shown(
        self, index: int, image: ImageEmbedding | None, recipe: Recipe, size: Size
    ) -> Bool[np.ndarray, "H W"] | None:
        """The mask at the size of the display or less; None until the image is encoded."""
        finished = self._finished.get((index, recipe))
        if finished is not None:
            return result_mask(finished, size)
        if image is None:
            return None
        candidates = self.candidates(index, image, recipe)
        full = fitted(image.original_size, DISPLAY)
        return resized(mask_of(candidates, recipe, full, image.original_size), size)

    def known(self, index: int, recipe: Recipe) -> Result | None:
        """The finished mask, if it was ever made."""
        return self._finished.get((index, recipe))

    def score(self, index: int, recipe: Recipe) -> float | None:
        """The predicted IoU, if it is known by now."""
        finished = self._finished.get((index, recipe))
        if finished is not None:
            return finished.score
        found = self._candidates.get((index, recipe.prompt, recipe.threshold))
        return None if found is None else float(found.scores[found.chosen(recipe.choice)])

    def finish(self, index: int, image: ImageEmbedding, recipe: Recipe) -> Result:
        """The finished mask at the image's resolution."""
        key = (index, recipe)
        if key not in self._finished:
            candidates, size = self.candidates(index, image, recipe), image.original_size
            if candidates is not None and candidates.size != size:
                candidates = predict(self._model, image, recipe.prompt, recipe.threshold, size)
            self._finished[key] = result_of(candidates, recipe, size)
        return self._finished[key]

    def restore(self, index: int, recipe: Recipe, result: Result, *, foreign: bool) -> None:
        """A finished mask from a file; ``foreign`` if other weights made it.

        Such a mask stays what it was until its prompts change.
        """
        self._finished[index, recipe] = result
        if foreign:
            self._foreign.add((index, recipe))

    def forget(self, index: int) -> None:
        """Nothing of that image holds any more."""
        for key in [key for key in self._candidates if key[0] == index]:
            del self._candidates[key]
        for recipe in [recipe for recipe in self._finished if recipe[0] == index]:
            del self._finished[recipe]
        self._foreign = {key for key in self._foreign if key[0] != index}
