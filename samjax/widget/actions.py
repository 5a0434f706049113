"""Actions of the user on the current image, for scripts and for the page's messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import SupportsFloat

import numpy as np
from jaxtyping import Bool

from samjax.arguments import real_number, whole_number, whole_numbers
from samjax.errors import AnnotationError, PromptError
from samjax.files import given_path
from samjax.masks.rle import rle_to_mask
from samjax.widget import messages, steps
from samjax.widget.editing import MAX_GROWTH, Rings, difference, grown, parts, reshaped, stamp
from samjax.widget.history import History
from samjax.widget.picking import Picking
from samjax.widget.project_export import Choice, write_export
from samjax.widget.reviewing import Reviewing
from samjax.widget.state import Object, State


class Actions(Picking, Reviewing):
    """Does what the user asks for; the page names these methods in its messages."""

    # ------------------------------------------------------------------ prompts

    def click(self, x: SupportsFloat, y: SupportsFloat, label: int = 1) -> None:
        """Add a point at pixel (x, y): on the object (1) or beside it (0).

        Raises:
            PromptError: outside of the image, another label, or too many points.
            ImageError: the image cannot be read.
        """
        self._controller.step("click", lambda s: steps.click(s, *self._inside(x, y), label))

    def box(
        self,
        x0: SupportsFloat,
        y0: SupportsFloat,
        x1: SupportsFloat,
        y1: SupportsFloat,
        *,
        new: bool = False,
    ) -> None:
        """Set the box around the object, by opposite corners in pixels.

        With ``new`` it is an object of its own, done at once: many boxes take one call each.
        """
        event = "commit" if new else "mask"
        self._controller.step("box", lambda s: steps.box(s, x0, y0, x1, y1, new), event=event)

    def brush(
        self, points: Sequence[Sequence[SupportsFloat]], radius: SupportsFloat, add: bool = True
    ) -> None:
        """Paint a stroke along points (x, y) that adds to the mask or erases from it."""
        self._controller.step("brush", lambda s: steps.brush(s, points, radius, add))

    def choose(self, index: int) -> None:
        """Take another candidate: 0 is the one of the best score, 1 the next.

        Raises:
            PromptError: there is no such candidate.
        """
        controller, index = self._controller, whole_number(index, "index")

        def step(state: State) -> State:
            image, current = (
                controller.loader.embedding(controller.index),
                state.current,
            )
            found = None
            if current is not None:
                found = controller.project.masks.candidates(controller.index, image, current.recipe)
            if found is None or not 0 <= index < len(found.scores):
                raise PromptError(f"no candidate {index}: click on the image first, or wait")
            return steps.choose(state, int(found.ranked()[index]))

        controller.step("choose", step)

    def label(self, name: str) -> None:
        """Set the class of the active object and of those begun from now on; it may be new."""
        controller = self._controller
        name = controller.with_class(messages.check_name(name))
        controller.step("label", lambda s: steps.set_label(s, name))

    def set_multimask(self, on: bool) -> None:
        """Ask for three candidates or one mask, for the active object and new ones."""
        self._controller.step("multimask", lambda s: steps.set_multimask(s, on))

    def set_threshold(self, threshold: SupportsFloat) -> None:
        """Set the logit above which a pixel is in the mask, for the active object and new ones."""
        self._controller.step("threshold", lambda s: steps.set_threshold(s, threshold), merge=True)

    # ------------------------------------------------------------------ objects

    def commit(self) -> None:
        """Commit the active object: it is saved, and the next prompt starts another.

        Raises:
            PromptError: no object is active.
        """
        self._controller.step("commit", steps.commit, event="commit")

    def new_object(self) -> None:
        """Let the next prompt start another object; the active one stays as it is."""
        self._controller.step("select", steps.new_object, logged=False)

    def select(self, object_id: int) -> None:
        """Let prompts go to that object (``id`` in ``prompts``).

        Raises:
            PromptError: there is no such object.
        """
        object_id = whole_number(object_id, "object_id")
        self._controller.step("select", lambda s: steps.select(s, object_id), logged=False)

    def delete(self, object_id: int | None = None) -> None:
        """Remove an object, the active one if none is named."""
        if object_id is not None:
            object_id = whole_number(object_id, "object_id")
        self._controller.step("delete", lambda s: steps.delete(s, object_id))

    def duplicate(self) -> None:
        """Make a copy of the active object, which becomes the active one."""
        self._controller.step("duplicate", steps.duplicate)

    def grow(self, pixels: int) -> None:
        """Grow the active object's mask by so many pixels, or shrink it if negative.

        Raises:
            PromptError: no whole number, or more than `editing.MAX_GROWTH` pixels.
        """
        pixels = whole_number(pixels, "pixels", -MAX_GROWTH, MAX_GROWTH)
        self._edit("grow", lambda mask: grown(mask, pixels))

    def reshape(self, before: Rings, after: Rings) -> None:
        """Move the outline of the active object from rings to others."""
        self._edit("reshape", lambda mask: reshaped(mask, before, after))

    def split(self) -> None:
        """Make an object of each connected part of the active one, which keeps the largest.

        Raises:
            PromptError: no object is active, or it is in one part.
        """

        def step(state: State) -> State:
            current = self._active(state)
            mask = self._mask(current)
            largest, *others = parts(mask)
            stamps = [stamp(part, True) for part in others]
            state = steps.paint_over(state, current.id, difference(mask, largest))
            return steps.painted_objects(state, current, stamps)

        self._controller.step("split", step)

    def merge(self, object_ids: Sequence[int]) -> None:
        """Unite objects: the first one gets the masks of the others, which go.

        Raises:
            PromptError: fewer than two objects, or one that does not exist.
        """

        object_ids = whole_numbers(object_ids, "object_ids")

        def step(state: State) -> State:
            target, others = self._targets(state, object_ids)
            stamps = [stamp(self._mask(each), True) for each in others]
            state = steps.paint_over(state, target.id, stamps)
            for each in others:
                state = steps.delete(state, each.id)
            return steps.select(state, target.id)

        self._controller.step("merge", step)

    def subtract(self, object_ids: Sequence[int]) -> None:
        """Cut objects out of the first one, as holes; they stay.

        Raises:
            PromptError: fewer than two objects, or nothing would be left.
        """

        object_ids = whole_numbers(object_ids, "object_ids")

        def step(state: State) -> State:
            target, others = self._targets(state, object_ids)
            mask = self._mask(target)
            left = mask.copy()
            for each in others:
                left &= ~self._mask(each)
            return steps.paint_over(state, target.id, difference(mask, left))

        self._controller.step("subtract", step)

    def undo(self) -> None:
        """Go one step back, through everything that was done to this image.

        Raises:
            PromptError: nothing was done.
        """
        self._controller.change(History.undo)

    def redo(self) -> None:
        """Go one step forward again.

        Raises:
            PromptError: nothing was undone.
        """
        self._controller.change(History.redo)

    # ------------------------------------------------------------------ images

    def next_image(self) -> None:
        """Go on to the next image."""
        self._controller.go(self._controller.index + 1)

    def previous_image(self) -> None:
        """Go back to the image before."""
        self._controller.go(self._controller.index - 1)

    def go(self, index: int) -> None:
        """Go to image ``index``, counted from 0.

        Raises:
            PromptError: there is no such image.
        """
        self._controller.go(whole_number(index, "index"))

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name in all images; one that exists gets its objects.

        Raises:
            PromptError: there is no such class, or the name is unusable.
        """
        self._controller.rename_class(old, messages.check_name(new))

    # ------------------------------------------------------------------ export

    def export(
        self,
        kind: str = "coco",
        path: str | os.PathLike[str] | None = None,
        *,
        unfinished: bool = True,
        reviewed: bool = False,
    ) -> Path:
        """Write the objects of all images that were opened: "coco", "yolo", "png" or "npz".

        See `samjax.widget.export.export` for the files. Returns the path that was written.
        Objects of ``annotations`` keep their ids, also of images that were never shown; COCO
        annotations that nobody changed are those of the file.

        Args:
            kind: of the files.
            path: of the file or folder; None: annotations.json in the annotator's own folder.
            unfinished: whether objects that were not committed are exported, too.
            reviewed: whether of the objects of ``annotations`` only those are exported that were
                accepted or finished.

        Raises:
            AnnotationError: an unknown kind, or a path that cannot be written.
        """
        controller = self._controller
        if path is None:
            path = controller.export_folder / "annotations.json"
            if path in controller.kept_files:  # of an image that is called annotations
                path = path.with_name("annotations_coco.json")
        path, choice = given_path(path, AnnotationError), Choice(unfinished, reviewed)
        written, told = write_export(controller, kind, path, choice, controller.kept_files)
        controller.report(f"{told} written to {written}")
        controller.emit("export")
        return written

    # ------------------------------------------------------------------ inside

    def _edit(
        self, kind: str, change: Callable[[Bool[np.ndarray, "H W"]], Bool[np.ndarray, "H W"]]
    ) -> None:
        def step(state: State) -> State:
            current = self._active(state)
            mask = self._mask(current)
            return steps.paint_over(state, current.id, difference(mask, change(mask)))

        self._controller.step(kind, step)

    def _active(self, state: State) -> Object:
        if state.current is None:
            raise PromptError("no object is active: select one of the list")
        return state.current

    def _targets(self, state: State, object_ids: Sequence[int]) -> tuple[Object, list[Object]]:
        if len(set(object_ids)) < 2:
            raise PromptError("two objects are needed: click on the others with Shift")
        first, *others = (state.get(i) for i in dict.fromkeys(object_ids))
        return first, others

    def _mask(self, each: Object) -> Bool[np.ndarray, "H W"]:
        """Return the finished mask of an object of the current image."""
        controller = self._controller
        masks, index = controller.project.masks, controller.index
        finished = masks.known(index, each.recipe)
        if finished is None:
            image = controller.loader.embedding(index)
            if image is None:
                raise PromptError("the image is still being encoded: wait a moment")
            finished = masks.finish(index, image, each.recipe)
        return rle_to_mask(finished.segmentation)

    def _inside(self, x: SupportsFloat, y: SupportsFloat) -> tuple[float, float]:
        controller = self._controller
        x, y = real_number(x, "x"), real_number(y, "y")
        size = controller.project.size(controller.index)
        if size is None:
            picture = controller.loader.picture(controller.index)
            if picture is None:
                raise PromptError("the image is still being read: wait a moment")
            size = picture.size
        height, width = size
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise PromptError(
                f"({x}, {y}) lies outside of the image: x is 0 to {width - 1}, "
                f"y is 0 to {height - 1}"
            )
        return x, y
