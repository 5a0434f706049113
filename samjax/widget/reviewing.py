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

    def accept(self, object_id: int | None = None) -> int | None:
        """Accept an opened object, the active one if none is named, and go to the next.

        Returns the number of the next object, None after the last.

        Raises:
            PromptError: there is no such object, or it was not opened from annotations.
        """
        self._controller.step("accept", lambda s: accept(s, object_id), event="commit")
        return self._tell()

    def reject(self, object_id: int | None = None) -> int | None:
        """Remove an opened object, the active one if none is named, and go to the next.

        Returns the number of the next object, None after the last.

        Raises:
            PromptError: there is no such object, or it was not opened from annotations.
        """
        self._controller.step("reject", lambda s: reject(s, object_id), event="commit")
        return self._tell()

    def next_review(self) -> int | None:
        """Select the next object to review, by falling doubt within an image.

        After the image's last one it is that of the image with the next most doubtful annotation.

        Returns its number (``id`` in ``prompts``), None where nothing is left to review.

        Raises:
            PromptError: no annotations were opened.
        """
        controller = self._controller
        if controller.waits:
            controller.images.wait()
        if not controller.images.review().total:
            raise PromptError("no annotations were opened: pass Annotator(..., annotations=...)")
        controller.step("select", select_next, logged=False)
        return self._tell()

    def _tell(self) -> int | None:
        """Go to another image where this one has no more, and say what is to be reviewed."""
        controller = self._controller
        warned = False
        if controller.state.current is None:
            other = controller.images.next_to_review(controller.index)
            if other is not None and other != controller.index:
                controller.go(other)
                warned = controller.status.level == "warning"
            controller.select_at_once(select_next)
        current = controller.state.current
        done = controller.images.review()
        if current is None or current.origin is None:
            controller.report(f"{done}: nothing is left to review")
            return None
        doubt = current.origin.doubt
        score = "" if doubt is None else f", lowest score {doubt:.2f}"
        if not warned:
            controller.report(f"{done}. Object {current.id}, {current.label}{score}")
        return current.id
