"""Masks to pick from: automatic ones, and those of what a text names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from samjax.arguments import whole_numbers
from samjax.errors import PromptError
from samjax.masks.rle import Record
from samjax.text.segment import parse_phrases
from samjax.widget import steps, view
from samjax.widget.controller import Controller
from samjax.widget.decode import nearest_candidate
from samjax.widget.state import State
from samjax.widget.text_masks import text_masks
from samjax.words import counted


class Picking:
    """Makes masks to pick from, and objects of those that are picked.

    Args:
        controller: of the annotator.
    """

    def __init__(self, controller: Controller):
        self._controller = controller

    def automatic(self) -> list[Record]:
        """Make automatic masks of the current image, to pick from; the page shows them.

        Their segmentations are of a copy of at most 1024 pixels; what is picked is decoded
        again at the image's own resolution.
        """
        controller = self._controller
        index, masks = controller.index, controller.automatic_masks

        def make() -> list[Record]:
            return masks.make(controller.loader.wait(index), index, self._on_automatic)

        return self._offer(index, make, "Automatic masks: starting")

    def find(self, text: str) -> list[Record]:
        """Find the objects that phrases name, as masks to pick from; needs a detector.

        >>> annotator = samjax.Annotator(sam, "pets.jpg", detector=my_detector)
        >>> annotator.find("a dog . a cat .")
        >>> annotator.pick(0)

        Args:
            text: phrases separated by dots; a picked mask gets its phrase as class.

        Raises:
            PromptError: the annotator has no detector, or there is no phrase.
            DetectorError: the detector cannot be loaded, or does not return boxes.
        """
        controller, phrases = self._controller, parse_phrases(text)
        index = controller.index
        if controller.detector is None:
            raise PromptError(
                "no detector: pass Annotator(..., detector=) to find what a text names"
            )

        def make() -> list[Record]:
            assert controller.detector is not None
            image, pixels = controller.loader.wait(index), controller.loader.pixels(index)
            records = text_masks(controller.model, image, pixels, phrases, controller.detector)
            controller.automatic_masks.put(index, records)
            return records

        return self._offer(index, make, f"Finding {', '.join(phrases)}")

    def _offer(self, index: int, make: Callable[[], list[Record]], text: str) -> list[Record]:
        controller = self._controller
        if controller.waits:
            records = make()
            self._on_automatic(index, None)
            return records
        if not controller.automatic_masks.start(make, index, self._on_automatic):
            raise PromptError("masks to pick from are being made already: wait for them")
        controller.say(text)
        controller.changed()
        return []

    def pick(self, index: int) -> None:
        """Make an object of automatic mask ``index``: its point and its candidate.

        Raises:
            PromptError: there is no such automatic mask.
        """
        self.pick_many([index])

    def pick_many(self, indices: Sequence[int]) -> None:
        """Make objects of several automatic masks, in one step.

        Raises:
            PromptError: there is no such automatic mask.
        """
        controller, indices = self._controller, whole_numbers(indices, "indices")
        records = [controller.automatic_masks.get(controller.index, i) for i in indices]
        image = controller.loader.wait(controller.index)

        def step(state: State) -> State:
            done = steps.new_object(state)
            for record in records:
                start = steps.set_multimask(done, True)
                if "prompt_box" in record:
                    start = replace(start, label=controller.with_class(record["label"]))
                    fresh = steps.box(start, *record["prompt_box"])
                else:
                    fresh = steps.click(start, *record["point_coords"][0])
                assert fresh.current is not None
                recipe = fresh.current.recipe
                found = controller.project.masks.candidates(controller.index, image, recipe)
                assert found is not None
                choice = nearest_candidate(found, record["predicted_iou"])
                done = steps.commit(steps.choose(fresh, choice))
            return replace(done, multimask=state.multimask, label=state.label)

        controller.step("pick", step, event="commit")

    def _on_automatic(self, index: int, error: str | None) -> None:
        """Hear from the thread of the automatic masks: progress, the end, or an error."""
        controller = self._controller
        with controller.lock:
            running = controller.automatic_masks.progress
            records = controller.automatic_masks.of(index)
            if error is not None:
                controller.say(error, "error")
            elif running is not None:
                controller.say(f"Automatic masks: {100 * running[1]:.0f}%")
            elif records and index == controller.index:
                text = "click on one, or draw a lasso around many"
                controller.say(f"{self._offered(records)} to pick from: {text}")
            elif records is not None and index == controller.index:
                advice = controller.automatic_masks.advice(index) or "nothing was found"
                controller.say(f"No automatic masks: {advice}; pass automatic={{...}}", "warning")
            controller.changed()
        if running is None and error is None:
            controller.emit("automatic")

    def _offered(self, records: Sequence[Record]) -> str:
        """Count the masks that the page shows, and those that its slider hides at first."""
        automatic = self._controller.automatic_masks
        start, _ = view.slider_range(records, automatic.shown_from, automatic.least)
        shown = sum(float(each["predicted_iou"]) >= start for each in records)
        more = len(records) - shown
        return counted(shown, "mask") + (f" (and {more} of a lower score)" if more else "")
