"""The link to the page: answers its messages and sends what it does not hold yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from samjax.errors import PromptError, SamjaxError
from samjax.masks.rle import Record
from samjax.widget import messages, view
from samjax.widget.actions import Actions
from samjax.widget.background import Latest
from samjax.widget.controller import Controller
from samjax.widget.decode import predict
from samjax.widget.images import Picture
from samjax.widget.page_decoder import PageDecoder
from samjax.widget.project_export import Choice, packed
from samjax.widget.state import Prompt

Send = Callable[[dict[str, Any], list[bytes]], None]
_log = logging.getLogger(__name__)


class PageLink:
    """Connects a controller with the pages that show it.

    Args:
        controller: of the annotator.
        actions: which the page calls by messages.
        send: of the widget.
        decoder: what the page decodes with; None leaves that to the kernel.
    """

    def __init__(
        self, controller: Controller, actions: Actions, send: Send, decoder: PageDecoder | None
    ):
        self._controller, self._actions, self._send = controller, actions, send
        self._decoder = decoder
        self._viewed = False  # a page has asked for the picture
        self._image: int | None = None  # whose picture the page holds
        self._automatic: list[Record] | None = None  # the masks to pick from that it holds
        self._masks = view.PageMasks()
        self._thread = threading.local()  # .request: what this thread answers
        self.previews = Latest("samjax-hover")

    def receive(self, content: Any) -> None:
        """Answer a message; whatever it holds, the kernel goes on and the page hears why not."""
        self._thread.request = messages.request_of(content)
        try:
            with self._controller.answering_page():
                self._answer(messages.parse(content))
        except SamjaxError as error:
            self._controller.complain(str(error))
        except Exception as error:
            _log.exception("a message of the page failed")
            self._controller.complain(f"{type(error).__name__}: {error}; the kernel's log has more")
        finally:
            self._thread.request = None

    def _answer(self, message: messages.Message) -> None:
        if message.kind == "hello":
            with self._controller.lock:
                self._viewed, self._image = True, None
                self.push()
        elif message.kind == "list_images":
            with self._controller.lock:
                self.push()
                self._push_images()
        elif message.kind == "thumbnails":
            self._controller.images.thumbnails(message.arguments["indices"], self._push_thumbnail)
        elif message.kind == "export":
            given = dict(message.arguments)
            self._actions.export(given.pop("format"), given.pop("path"), **given)
        elif message.kind == "download":
            given = dict(message.arguments)
            self._download(given.pop("format"), Choice(**given))
        elif message.kind == "hover":
            x, y = message.arguments["x"], message.arguments["y"]
            self.previews.submit(lambda: self._preview(message.request, x, y))
        elif message.kind == "page_decoder":
            self._push_decoder(message.arguments["gpu"])
        elif message.kind == "embedding":
            self._push_embedding(message.arguments["index"])
        else:
            if message.kind in messages.BY_NUMBER:
                self._check_revision(message.revision)
            elif message.kind in messages.IN_IMAGE:
                self._check_image(message.revision)
            getattr(self._actions, message.kind)(**message.arguments)

    def _check_revision(self, revision: str | None) -> None:
        """Refuse numbers from a page that has not seen the objects' last renumbering.

        Raises:
            PromptError: ``revision`` is an earlier one, or of another image.
        """
        controller = self._controller
        with controller.lock:
            if revision not in (None, controller.project.revision(controller.index)):
                raise PromptError(
                    "not done: the objects got other numbers meanwhile, by another annotator on "
                    "this folder, or the image changed: look again and repeat it"
                )

    def _check_image(self, revision: str | None) -> None:
        """Refuse what was done on another image: a click may follow "next image" at once.

        Raises:
            PromptError: ``revision`` is of another image.
        """
        controller = self._controller
        if revision is not None and revision.split(".")[0] != str(controller.index):
            raise PromptError("not done: the image changed meanwhile: look again and repeat it")

    def push(self) -> None:
        """Send what the page does not hold yet; called with the controller's lock held."""
        if not self._viewed:
            return
        controller = self._controller
        index, project, loader = controller.index, controller.project, controller.loader
        history, picture = project.history(index), loader.picture(index)
        image = loader.embedding(index)
        if self._image != index:
            self._masks.clear()
            self._automatic = None
            self._push_picture(index, picture)
        self._push_automatic(index)
        masks, buffers = view.mask_buffers(
            self._masks, index, history, project.masks, picture, image
        )
        candidates, pictures = view.candidate_buffers(
            self._masks, index, history.present.current, project.masks, image
        )
        running = controller.automatic_masks.progress
        following = index + 1 < len(controller.names)
        content = {
            "kind": "update",
            "request": getattr(self._thread, "request", None),
            "replies": self._masks.replies,
            "revision": project.revision(index),
            "masks": masks,
            "image": {
                "index": index,
                "count": len(controller.names),
                "name": controller.names[index],
                "phase": loader.phase(index),
                "next": loader.phase(index + 1) if following else None,
                "done": controller.images.done(),
            },
            "review": self._review(index),
            "status": controller.status._asdict(),
            "automatic": None if running is None else running[1],
            "candidates": candidates,
            "detector": controller.has_detector,
            "export_folder": str(controller.export_folder),
            **view.state_entry(history, controller.classes, self._masks, index, project.masks),
        }
        self._send(content, [*buffers, *pictures])

    def _review(self, index: int) -> dict[str, list[int]] | None:
        here, everywhere = self._controller.images.review(index), self._controller.images.review()
        return {"here": list(here), "all": list(everywhere)} if everywhere.total else None

    def _push_picture(self, index: int, picture: Picture | None) -> None:
        if picture is None:
            return
        self._image = index
        (height, width), (h, w) = picture.size, picture.display_size
        content = {"index": index, "width": width, "height": height, "display": [w, h]}
        self._send({"kind": "image", **content}, [picture.jpeg])

    def _push_automatic(self, index: int) -> None:
        automatic = self._controller.automatic_masks
        records = automatic.of(index)
        if records is None or self._image != index or self._automatic is records:
            return
        self._automatic = records
        content, buffers = view.automatic_buffers(records, automatic.shown_from, automatic.least)
        self._send({"kind": "automatic_masks", "index": index, **content}, buffers)

    def _download(self, kind: str, choice: Choice) -> None:
        name, content = packed(self._controller, kind, choice)
        self._send({"kind": "download", "name": name}, [content])
        self._controller.report(f"{name} was handed to the browser")

    def _push_images(self) -> None:
        controller = self._controller
        counts = [list(controller.images.counts(i)) for i in range(len(controller.names))]
        self._send({"kind": "images", "names": controller.names, "counts": counts}, [])

    def _push_thumbnail(self, index: int, jpeg: bytes) -> None:
        self._send({"kind": "thumbnail", "index": index}, [jpeg])

    def _push_decoder(self, gpu: bool) -> None:
        """Send decoder and runtime, or why there is none."""
        if self._decoder is None:
            return
        try:
            content, buffers = self._decoder.decoder(gpu)
        except Exception as error:
            _log.exception("the page's decoder cannot be made")
            content, buffers = {"error": f"{type(error).__name__}: {error}"}, []
        self._send({"kind": "page_decoder", **content}, buffers)

    def _push_embedding(self, index: int) -> None:
        """Send the embedding of the current image; a page that has left it gets none."""
        controller = self._controller
        with controller.lock:
            image = controller.loader.embedding(index) if index == controller.index else None
        if self._decoder is not None and image is not None:
            content, buffers = self._decoder.embedding(image)
            self._send({"kind": "embedding", "index": index, **content}, buffers)

    def _preview(self, request: str | None, x: float, y: float) -> None:
        """Send the mask that a click here would give."""
        controller = self._controller
        with controller.lock:
            index, state = controller.index, controller.state
            image = controller.loader.embedding(index)
            picture = controller.loader.picture(index)
        content: dict[str, Any] = {"kind": "hover", "request": request, "index": index}
        buffers = []
        if image is not None and picture is not None:
            prompt = Prompt(((x, y, 1),), multimask=state.multimask)
            found = predict(controller.model, image, prompt, state.threshold, picture.display_size)
            best = found.chosen(None)
            content["score"] = round(float(found.scores[best]), 4)
            buffers = [found.runs[best].tobytes()]
        self._send(content, buffers)
