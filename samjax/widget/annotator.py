"""Annotator: click on images in a notebook; scripts drive the same code by its methods."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, SupportsFloat, TypeVar

import anywidget
import numpy as np
import traitlets
from jaxtyping import Bool
from PIL import Image

from samjax.arguments import whole_number
from samjax.engine.registry import Model, as_segmenter
from samjax.errors import ImageError, PromptError
from samjax.masks.rle import Record, rle_to_mask
from samjax.text.segment import Detector
from samjax.widget import view
from samjax.widget.actions import Actions
from samjax.widget.controller import Controller
from samjax.widget.export import prompt_entry, record_of
from samjax.widget.page_decoder import make_page_decoder
from samjax.widget.page_link import PageLink
from samjax.words import counted

_STATIC = Path(__file__).parent / "static"
P = ParamSpec("P")
R = TypeVar("R")
EVENTS = ("mask", "commit", "image", "ready", "automatic", "export", "error")


def _action(
    method: Callable[Concatenate[Actions, P], R],
) -> Callable[Concatenate[Annotator, P], R]:
    """Make a method of the annotator of one of its actions."""

    @wraps(method)
    def call(self: Annotator, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self._actions, *args, **kwargs)

    return call


class Annotator(anywidget.AnyWidget):
    """Makes masks from clicks on images: a notebook widget, and the same from Python.

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
        sam: what samjax.load returns, or the name or path of a model.
        images: one image or several: paths, arrays or PIL images. A path may be a folder, which is
            searched to any depth, or a pattern such as ``"photos/*.jpg"``; ``path`` is left out.
        path: folder that keeps a file for each image, saved after every step, with the masks
            of committed objects; a new Annotator on the same folder goes on where it stopped.
            None keeps everything in memory.
        annotations: masks and boxes to correct, which become the images' first objects: a path
            (COCO, YOLO, instance or class PNGs, labelme, output of samjax automask), records of
            the single image, a list of records for each image, {name: records}, or what a reader
            of samjax.annotations returns. The files are never replaced. Clicks on such an object
            correct its mask (`samjax.widget.correct`); a box replaces it.
        labels: names of the classes; the first is that of new objects. Those of the annotations
            follow; None takes these alone, or "object".
        multimask: ask for three masks a prompt, to choose from, instead of one.
        height: of the picture on the page, in CSS pixels.
        automatic: arguments of SamAutomaticMaskGenerator for the automatic masks, without
            crops and tiles.
        detector: finds the boxes of what a text names (see samjax.segment_text): a function, or
            the name of a detector; the page then has a field for the text.
        decode_in_page: decode previews in the page, too, for a kernel that is far away (Colab, a
            server): they then follow the mouse. True takes onnxruntime-web, 14 MB (27 MB with
            WebGPU), from `samjax.widget.page_decoder.ADDRESS`; a folder holds its files. What is
            kept is always the kernel's mask.

    Attributes:
        classes: names of the classes.
        names: of the images, all different; of the files that are written.
        image_index, object_count, status: traits to ``observe``.

    Raises:
        ImageError, PromptError, AnnotationError: no images, unusable labels, options or path.
        ExportError: ``decode_in_page`` without the package onnx (``samjax[export]``).
        (An image that cannot be read is an error when it is opened.)
    """

    # As text: for a path anywidget starts a watcher that keeps every annotator alive.
    _esm = (_STATIC / "widget.js").read_text(encoding="utf-8")
    _css = (_STATIC / "widget.css").read_text(encoding="utf-8")

    height = traitlets.Int(560).tag(sync=True)
    decode_in_page = traitlets.Bool(False).tag(sync=True)
    image_index = traitlets.Int(0)
    object_count = traitlets.Int(0)
    status = traitlets.Unicode("")

    def __init__(
        self,
        sam: Model,
        images: Any,
        *,
        path: str | os.PathLike[str] | None = None,
        annotations: Any = None,
        labels: Sequence[str] | None = None,
        multimask: bool = True,
        height: int = 560,
        automatic: Mapping[str, Any] | None = None,
        detector: Detector | str | None = None,
        decode_in_page: bool | str | os.PathLike[str] = False,
    ):
        self._callbacks: dict[str, list[Callable[[Annotator], Any]]] = {e: [] for e in EVENTS}
        model = as_segmenter(sam)
        page_decoder = make_page_decoder(model, decode_in_page)
        self._controller = Controller(
            model,
            images,
            path=path,
            labels=labels,
            annotations=annotations,
            multimask=multimask,
            automatic=automatic or {},
            detector=detector,
            changed=self._on_change,
            emit=self._emit,
        )
        self._actions = Actions(self._controller)
        self._link = PageLink(self._controller, self._actions, self._send_to_page, page_decoder)
        super().__init__(
            height=whole_number(height, "height", 1, 10_000),
            decode_in_page=page_decoder is not None,
        )
        self.on_msg(self._on_message)
        self._controller.start()

    def __repr__(self) -> str:
        return (
            f"Annotator({counted(len(self.names), 'image')}; {self.names[self.image_index]!r} "
            f"with {counted(self.object_count, 'object')})"
        )

    @property
    def names(self) -> list[str]:
        """Return the names of the images, all different; of the files that are written."""
        return self._controller.names

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return self._controller.classes

    # ------------------------------------------------------------------ prompts

    click = _action(Actions.click)
    box = _action(Actions.box)
    brush = _action(Actions.brush)
    choose = _action(Actions.choose)
    label = _action(Actions.label)
    set_multimask = _action(Actions.set_multimask)
    set_threshold = _action(Actions.set_threshold)

    @property
    def multimask(self) -> bool:
        """Return whether a prompt gives three candidates instead of one mask; can be set."""
        state = self._controller.state
        return state.multimask if state.current is None else state.current.prompt.multimask

    @multimask.setter
    def multimask(self, on: bool) -> None:
        self.set_multimask(on)

    @property
    def mask_threshold(self) -> float:
        """Return the logit above which a pixel is in the mask; can be set."""
        state = self._controller.state
        return state.threshold if state.current is None else state.current.threshold

    @mask_threshold.setter
    def mask_threshold(self, threshold: SupportsFloat) -> None:
        self.set_threshold(threshold)

    # ------------------------------------------------------------------ objects

    commit = _action(Actions.commit)
    new_object = _action(Actions.new_object)
    select = _action(Actions.select)
    delete = _action(Actions.delete)
    duplicate = _action(Actions.duplicate)
    grow = _action(Actions.grow)
    split = _action(Actions.split)
    merge = _action(Actions.merge)
    subtract = _action(Actions.subtract)
    accept = _action(Actions.accept)
    reject = _action(Actions.reject)
    next_review = _action(Actions.next_review)
    undo = _action(Actions.undo)
    redo = _action(Actions.redo)

    @property
    def review(self) -> tuple[int, int]:
        """Return how many objects of the annotations are reviewed, and how many there are."""
        self._controller.images.wait()
        done, total = self._controller.images.review()
        return done, total

    # ------------------------------------------------------------------ images

    next_image = _action(Actions.next_image)
    previous_image = _action(Actions.previous_image)
    go = _action(Actions.go)
    rename_class = _action(Actions.rename_class)

    def wait(self) -> Annotator:
        """Wait until the current image is encoded, or raise why it cannot be.

        Raises:
            ImageError: the image cannot be read or encoded.
        """
        self._controller.loader.wait(self.image_index)
        return self

    # ------------------------------------------------------------------ automatic masks

    automatic = _action(Actions.automatic)
    find = _action(Actions.find)
    pick = _action(Actions.pick)
    pick_many = _action(Actions.pick_many)

    def on(self, event: str, callback: Callable[[Annotator], Any]) -> Callable[[], None]:
        """Call ``callback(annotator)`` after each `EVENTS`; returns a function that ends it.

        It may be called from another thread, one call at a time for steps of the user.

        Raises:
            PromptError: there is no such event.
        """
        if event not in EVENTS:
            raise PromptError(f"no event {event!r}: use one of {', '.join(EVENTS)}")
        self._callbacks[event].append(callback)
        return lambda: self._callbacks[event].remove(callback)

    # ------------------------------------------------------------------ results

    @property
    def masks(self) -> list[Bool[np.ndarray, "H W"]]:
        """Return the masks of the current image's objects, at its own resolution."""
        return [rle_to_mask(mask.segmentation) for _, mask in self._controller.finished()]

    @property
    def scores(self) -> list[float]:
        """Return the predicted IoU of each; NaN where an object was only painted."""
        scores = [mask.score for _, mask in self._controller.finished()]
        return [float("nan") if score is None else score for score in scores]

    @property
    def labels(self) -> list[str]:
        """Return the class of each."""
        return [each.label for each, _ in self._controller.finished()]

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Describe how each was made: id, label, committed, strokes, and the call of ``predict``.

        >>> predictor.mask_threshold = entry["mask_threshold"]
        >>> mask = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
        >>> mask = samjax.widget.paint(mask, entry["strokes"])

        Of an object that annotations gave, ``base`` is the mask that it was opened with and
        ``source_id`` its id there; between the two lines its clicks correct the mask:

        >>> mask = samjax.widget.correct(entry["base"], mask, entry["clicks"])
        """
        model = self._controller.model
        return [prompt_entry(each, mask, model) for each, mask in self._controller.finished()]

    @property
    def records(self) -> list[Record]:
        """Return the official records of the current image's objects, with ``label``."""
        return [record_of(each, mask) for each, mask in self._controller.finished()]

    export = _action(Actions.export)

    def snapshot(self) -> Image.Image:
        """Draw the current image with its masks, small, as a saved notebook shows it."""
        controller = self._controller
        index = controller.index
        picture = controller.loader.wait_picture(index)
        with controller.lock:
            objects = controller.state.objects
            image = controller.loader.embedding(index)
            return view.static_picture(picture, index, objects, controller.project.masks, image)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        try:
            file = io.BytesIO()
            # The front end shows it where it cannot show the widget.
            view.captioned(self.snapshot()).save(file, "PNG", optimize=True)
            data["image/png"] = b64encode(file.getvalue()).decode("ascii")
        except ImageError:
            pass  # the widget says what is wrong with it
        return data, metadata

    def close(self) -> None:
        """End the annotator and its threads; what was done is saved."""
        if "_link" in vars(self):  # Python deletes those, too, whose arguments were refused
            self._controller.close()
            self._link.previews.close()
        super().close()

    # ------------------------------------------------------------------ inside

    def _send_to_page(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.send(content, buffers)

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        self._link.receive(content)

    def _on_change(self) -> None:
        controller = self._controller
        self.image_index = controller.index
        self.object_count = sum(map(bool, controller.state.objects))
        self.status = controller.status.text
        self._link.push()

    def _emit(self, event: str) -> None:
        for callback in list(self._callbacks[event]):
            callback(self)
