"""Annotator: click on images in a notebook; scripts drive the same code by its methods."""

from __future__ import annotations

import io
import logging
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import Bool
from PIL import Image

from samjax.annotations import AnnotatedImage
from samjax.annotations.records import Record
from samjax.engine import Segmenter
from samjax.errors import ImageError, SamjaxError
from samjax.rle import rle_to_mask
from samjax.widget import messages, view
from samjax.widget.background import Latest
from samjax.widget.decode import predict
from samjax.widget.desk import Desk
from samjax.widget.export import export, prompt_entry, record_of
from samjax.widget.session import Prompt

_STATIC = Path(__file__).parent / "static"
_UNSAVED = Path("samjax-annotations")  # where the page's button exports to without a path
_log = logging.getLogger(__name__)


class Annotator(Desk, anywidget.AnyWidget):
    """Click on images, get masks: a notebook widget, and the same from Python.

    >>> annotator = samjax.Annotator(samjax.load(), ["a.jpg", "b.jpg"], path="masks")
    >>> annotator                       # in a notebook: click, right-click, drag a box
    >>> annotator.click(320, 240)       # from a script: the same code
    >>> annotator.export("coco", "masks.json")

    Coordinates are pixels of the image as a viewer shows it; whole numbers are pixel centres.
    A mask is made by one ``SamPredictor.predict`` from all points and the box of its object,
    without a mask prompt: it depends on the prompts alone, not on the order of steps. Of several
    candidates the best score is taken until ``choose``; the choice then holds for further
    clicks. Strokes of the brush are painted over the network's mask.

    Args:
        sam: what samjax.load returns.
        images: one image or several: paths, arrays or PIL images.
        path: folder that keeps a file for each image, saved after every step, with the masks
            of committed objects; a new Annotator on the same folder goes on where it stopped.
            None keeps everything in memory.
        labels: names of the classes; the first is that of new objects.
        multimask: ask for three masks a prompt, to choose from, instead of one.
        height: of the picture on the page, in CSS pixels.
        automatic: arguments of SamAutomaticMaskGenerator for the automatic masks, without
            crops and tiles.

    Attributes:
        classes: names of the classes.
        names: of the images, all different; of the files that are written.
        image_index, object_count, status: traits to ``observe``.

    Raises:
        ImageError, PromptError, AnnotationError: no images, unusable labels, options or path.
        (An image that cannot be read is an error when it is opened.)
    """

    _esm = _STATIC / "widget.js"
    _css = _STATIC / "widget.css"

    height = traitlets.Int(560).tag(sync=True)
    image_index = traitlets.Int(0)
    object_count = traitlets.Int(0)
    status = traitlets.Unicode("")

    def __init__(
        self,
        sam: Segmenter,
        images: Any,
        *,
        path: str | os.PathLike[str] | None = None,
        labels: Sequence[str] = ("object",),
        multimask: bool = True,
        height: int = 560,
        automatic: Mapping[str, Any] | None = None,
    ):
        self._set_up(sam, images, path, labels, multimask, automatic)
        self._viewed = False  # a page has asked for the picture
        self._told: dict[str, Any] = {}  # image and proposals that the page holds
        self._shown = view.Shown()
        self._hover = Latest("samjax-hover")
        super().__init__(height=height)
        self.on_msg(self._on_message)
        self._open(0)

    def __repr__(self) -> str:
        count = f"{len(self.names)} image" + "s" * (len(self.names) != 1)
        return (
            f"Annotator({count}; {self.names[self.image_index]!r} "
            f"with {self.object_count} object{'s' * (self.object_count != 1)})"
        )

    # ------------------------------------------------------------------ results

    @property
    def masks(self) -> list[Bool[np.ndarray, "H W"]]:
        """The masks of the current image's objects, at its own resolution."""
        return [rle_to_mask(result.segmentation) for _, result in self._finished()]

    @property
    def scores(self) -> list[float]:
        """The predicted IoU of each; NaN where an object was only painted."""
        scores = [result.score for _, result in self._finished()]
        return [float("nan") if score is None else score for score in scores]

    @property
    def labels(self) -> list[str]:
        """The class of each."""
        return [each.label for each, _ in self._finished()]

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """How each was made: ``id``, ``label``, ``committed``, ``strokes``, and what makes it again

        >>> predictor.mask_threshold = entry["mask_threshold"]
        >>> mask = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
        >>> mask = samjax.widget.paint(mask, entry["strokes"])
        """
        return [prompt_entry(each, result) for each, result in self._finished()]

    @property
    def records(self) -> list[Record]:
        """The official records of the current image's objects, with ``label``."""
        return [record_of(each, result) for each, result in self._finished()]

    def export(self, kind: str, path: str | os.PathLike[str]) -> Path:
        """Write the objects of all images that were opened: "coco", "yolo", "png" or "npz".

        See `samjax.widget.export.export` for the files. Returns what was written.
        """
        images = []
        for index in self._book.known():
            try:
                done = self._finished(index)
            except ImageError:
                continue  # nothing can be drawn on an image that cannot be read
            if (size := self._book.size(index)) is not None:
                records = [record_of(each, result, "coco_rle") for each, result in done]
                images.append(AnnotatedImage(self.names[index], size, records))
        written = export(kind, path, images, self.classes)
        with self._lock:
            count = sum(len(image.records) for image in images)
            self._say(
                f"{count} mask{'s' * (count != 1)} of {len(images)} "
                f"image{'s' * (len(images) != 1)} written to {written}"
            )
            self._push()
        self._emit("export")
        return written

    def snapshot(self) -> Image.Image:
        """The current image with its masks, small, as a saved notebook shows it."""
        index = self.image_index
        picture = self._shelf.wait_picture(index)
        with self._lock:
            objects = self._book.session(index).present.objects
            image = self._shelf.embedding(index)
            return view.static_picture(picture, index, objects, self._book.results, image)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        try:
            file = io.BytesIO()
            self.snapshot().save(file, "PNG", optimize=True)
            data["image/png"] = b64encode(file.getvalue()).decode("ascii")
        except ImageError:
            pass  # the widget says what is wrong with it
        return data, metadata

    # ------------------------------------------------------------------ the page

    def _on_message(self, _: Any, content: Any, _buffers: Any) -> None:
        """Answer the page; whatever it sends, the kernel goes on and the page hears why not."""
        self._here.page = True
        self._here.request = content.get("request") if isinstance(content, dict) else None
        try:
            self._answer(messages.parse(content))
        except SamjaxError as error:
            self._complain(str(error))
        except Exception as error:
            _log.exception("a message of the page failed")
            self._complain(f"{type(error).__name__}: {error}; the kernel's log has more")
        finally:
            self._here.page, self._here.request = False, None

    def _answer(self, message: messages.Message) -> None:
        if message.kind == "hello":
            with self._lock:
                self._viewed = True
                self._told.clear()
                self._shown.clear()
                self._push()
        elif message.kind == "hover":
            x, y = message.arguments["x"], message.arguments["y"]
            self._hover.submit(lambda: self._preview(message.request, x, y))
        elif message.kind == "export":
            self.export("coco", (self._book.folder or _UNSAVED) / "annotations.json")
        else:
            getattr(self, message.kind)(**message.arguments)

    def _complain(self, text: str) -> None:
        with self._lock:
            self._say(text, "error")
            self._push()
        self._emit("error")

    def _push(self) -> None:
        """Send what the page does not hold yet; with the number of its request, if it asked."""
        if not self._viewed:
            return
        index, book = self.image_index, self._book
        log, picture = book.session(index), self._shelf.picture(index)
        image = self._shelf.embedding(index)
        self._push_picture(index, picture)
        self._push_proposals(index)
        masks, buffers = view.mask_buffers(self._shown, index, log, book.results, picture, image)
        candidates, pictures = view.candidate_buffers(
            self._shown, index, log.present.current, book.results, image
        )
        running = self._proposals.progress
        following = index + 1 < len(self.names)
        content = {
            "kind": "update",
            "request": getattr(self._here, "request", None),
            "replies": self._shown.replies,
            "masks": masks,
            "image": {
                "index": index,
                "count": len(self.names),
                "name": self.names[index],
                "phase": self._shelf.state(index),
                "next": self._shelf.state(index + 1) if following else None,
            },
            "status": {"text": self.status, "level": self._level},
            "automatic": None if running is None else running[1],
            "candidates": candidates,
            **view.session_entry(log, self.classes, self._shown, index, book.results),
        }
        self.send(content, [*buffers, *pictures])

    def _push_picture(self, index: int, picture: Any) -> None:
        if self._told.get("image") != index:
            self._shown.clear()
        if picture is None or self._told.get("image") == index:
            return
        self._told = {"image": index}
        (height, width), (h, w) = picture.size, picture.display_size
        content = {"index": index, "width": width, "height": height, "display": [w, h]}
        self.send({"kind": "image", **content}, [picture.jpeg])

    def _push_proposals(self, index: int) -> None:
        records = self._proposals.of(index)
        if records is None or self._told.get("image") != index or "proposals" in self._told:
            return
        self._told["proposals"] = True
        content, buffers = view.proposal_buffers(records)
        self.send({"kind": "proposals", "index": index, **content}, buffers)

    def _preview(self, request: str | None, x: float, y: float) -> None:
        """The mask that a click here would give, for the page only."""
        with self._lock:
            index, state = self.image_index, self._state
            image, picture = self._shelf.embedding(index), self._shelf.picture(index)
        content: dict[str, Any] = {"kind": "hover", "request": request, "index": index}
        buffers = []
        if image is not None and picture is not None:
            prompt = Prompt(((x, y, 1),), multimask=state.multimask)
            found = predict(self._model, image, prompt, state.threshold, picture.display_size)
            best = found.chosen(None)
            content["score"] = round(float(found.scores[best]), 4)
            buffers = [found.runs[best].tobytes()]
        self.send(content, buffers)
