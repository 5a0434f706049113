"""Review opened objects: one after the other, from image to image."""

from __future__ import annotations

from samjax.errors import PromptError
from samjax.widget.controller import Controller
from samjax.widget.review import accept, reject, select_next


class Reviewing:
    """Does what a reviewer asks for.

    Args:
        controller: of the annotator.
    """

    def __init__(self, controller: Controller):
        self._controller = controller

    def accept(self, object_id: int | None = None) -> None:
        """Accept an opened object, the active one if none is named, and go to the next.

        Raises:
            PromptError: there is no such object, or it was not opened from annotations.
        """
        self._controller.step("accept", lambda s: accept(s, object_id), event="commit")
        self._tell()

    def reject(self, object_id: int | None = None) -> None:
        """Remove an opened object, the active one if none is named, and go to the next.

        Raises:
            PromptError: there is no such object, or it was not opened from annotations.
        """
        self._controller.step("reject", lambda s: reject(s, object_id), event="commit")
        self._tell()

    def next_review(self) -> None:
        """Select the next object to review, by falling doubt; after the last go to another image.

        Raises:
            PromptError: no annotations were opened.
        """
        controller = self._controller
        if not controller.images.review().total:
            raise PromptError("no annotations were opened: pass Annotator(..., annotations=...)")
        controller.step("select", select_next, logged=False)
        self._tell()

    def _tell(self) -> None:
        """Go to another image where this one has no more, and say what is to be reviewed."""
        controller = self._controller
        if controller.state.current is None:
            other = controller.images.next_to_review(controller.index)
            if other is not None and other != controller.index:
                controller.go(other)
            controller.select_at_once(select_next)
        current = controller.state.current
        done = controller.images.review()
        if current is None or current.origin is None:
            controller.report(f"{done}: nothing is left to review")
            return
        doubt = current.origin.doubt
        score = "" if doubt is None else f", lowest score {doubt:.2f}"
        controller.report(f"{done}. Object {current.id}, {current.label}{score}")
