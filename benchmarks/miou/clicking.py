"""Segment many objects of an image interactively at once, by simulated clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.miou.clickers import Click, centre_click, ritm_click, sam_click
from benchmarks.miou.protocol import Predictor
from benchmarks.miou.samples import Target


@dataclass(frozen=True)
class Rules:
    """Specifies how clicks are chosen and the model is prompted.

    Attributes:
        clicker: "sam" or "ritm".
        feed_back: pass the low-res logits of the chosen mask as mask prompt from the second click
            on.
        three_always: predict three masks after every click, instead of after the first only, and
            choose the most confident.
    """

    clicker: str
    feed_back: bool
    three_always: bool


class Session:
    """Clicks on objects of the current image, once more per object with each ``step``.

    Attributes:
        chosen: the most confident mask of each object after its last step.
        candidates: all masks of each object's last step.
        scores: predicted IoU of the candidates.
        clicks: the clicks on each object.
    """

    def __init__(self, predictor: Predictor, targets: Sequence[Target], rules: Rules):
        self._predictor, self._targets, self._rules = predictor, targets, rules
        self._low_res: list[Any] = [None] * len(targets)  # m x m logits from the first step on
        self._done = [False] * len(targets)
        self.clicks: list[list[Click]] = [[] for _ in targets]
        self.chosen = [np.zeros(t.mask.shape, bool) for t in targets]
        self.candidates: list[Bool[np.ndarray, "c H W"]] = [m[None] for m in self.chosen]
        self.scores: list[Float[np.ndarray, " c"]] = [np.zeros(1) for _ in targets]

    def finish(self, index: int) -> None:
        """Stop clicking on this object."""
        self._done[index] = True

    def next_click(self, index: int) -> Click | None:
        """Return the next click on this object, or None if its mask has no error left."""
        target, predicted = self._targets[index], self.chosen[index]
        if self._rules.clicker == "ritm":
            clicked = np.zeros(target.mask.shape, bool)
            for click in self.clicks[index]:
                clicked[click.y, click.x] = True
            return ritm_click(target.mask, predicted, clicked, target.ignore)
        if not self.clicks[index]:
            return centre_click(target.mask)
        return sam_click(target.mask, predicted, target.ignore)

    def step(self) -> None:
        """Click once more on each unfinished object and predict its masks."""
        asked = []
        for index in range(len(self._targets)):
            click = None if self._done[index] else self.next_click(index)
            if click is None:
                self.finish(index)
            else:
                self.clicks[index].append(click)
                asked.append(index)
        if not asked:
            return
        later = len(self.clicks[asked[0]]) > 1
        prompts = [self.clicks[i] for i in asked]
        feed = later and self._rules.feed_back
        masks, scores, low_res = self._predictor.predict_many(
            [[(c.x, c.y) for c in clicks] for clicks in prompts],
            [[c.label for c in clicks] for clicks in prompts],
            mask_inputs=np.stack([self._low_res[i] for i in asked])[:, None] if feed else None,
            multimask_output=not later or self._rules.three_always,
        )
        for place, index in enumerate(asked):
            best = int(np.argmax(scores[place]))
            self.candidates[index], self.scores[index] = masks[place], scores[place]
            self.chosen[index], self._low_res[index] = masks[place, best], low_res[place, best]
