"""The desk of an annotator without its widget: images, sessions, results, and every step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

from samjax.annotations.records import Record
from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.errors import ImageError, PromptError
from samjax.predictor import SamPredictor
from samjax.widget import messages, session, view
from samjax.widget.background import Proposals
from samjax.widget.decode import nearest_candidate
from samjax.widget.images import Shelf, image_list, image_names
from samjax.widget.session import Object, Session, State
from samjax.widget.store import Result
from samjax.widget.workbook import Workbook

EVENTS = ("mask", "commit", "image", "ready", "automatic", "export", "error")


class Desk:
    """All that `Annotator` does, but for the page: the base of the widget.

    Steps come from scripts, which wait for the image to be encoded, and from the page's thread,
    which must not wait: what it asks too early is kept and answered later. One lock guards it
    all; nobody waits for the image while holding it.
    """

    # Traits of the widget
    image_index: Any
    object_count: Any
    status: Any
    _push: Callable[[], None]  # tells the page what changed

    def _set_up(
        self,
        sam: Segmenter,
        images: Any,
        path: str | os.PathLike[str] | None,
        labels: Sequence[str],
        multimask: bool,
        automatic: Mapping[str, Any] | None,
    ) -> None:
        sources = image_list(images)
        self.classes = messages.check_names(labels)
        self.names = image_names(sources)
        start = State(label=self.classes[0], multimask=multimask, threshold=sam.mask_threshold)
        self._model = sam
        self._book = Workbook(sam, self.names, path, start)
        self._lock = threading.RLock()
        self._here = threading.local()  # .page: this thread answers the page
        self._callbacks: dict[str, list[Callable[[Any], Any]]] = {e: [] for e in EVENTS}
        self._level = "info"
        self._proposals = Proposals(sam, automatic or {})
        self._shelf = Shelf(SamPredictor(sam), sources, self._on_shelf)

    # ------------------------------------------------------------------ prompts

    def click(self, x: SupportsFloat, y: SupportsFloat, label: int = 1) -> None:
        """A point at pixel (x, y): on the object (1) or beside it (0)."""
        self._step("click", lambda s: session.click(s, *self._inside(x, y), label))

    def box(
        self, x0: SupportsFloat, y0: SupportsFloat, x1: SupportsFloat, y1: SupportsFloat
    ) -> None:
        """A box around the object, by opposite corners in pixels."""
        self._step("box", lambda s: session.box(s, x0, y0, x1, y1))

    def brush(
        self, points: Sequence[Sequence[SupportsFloat]], radius: SupportsFloat, add: bool = True
    ) -> None:
        """A stroke along points (x, y) that adds to the mask or erases from it."""
        self._step("brush", lambda s: session.brush(s, points, radius, add))

    def choose(self, index: int) -> None:
        """Take another candidate: 0 is the one of the best score, 1 the next."""

        def step(state: State) -> State:
            here = self.image_index
            image, current = self._shelf.embedding(here), state.current
            found = None
            if current is not None:
                found = self._book.results.candidates(here, image, current.recipe)
            if found is None or not 0 <= index < len(found.scores):
                raise PromptError(f"no candidate {index}: click on the image first, or wait")
            return session.choose(state, int(found.ranked()[index]))

        self._step("choose", step)

    def label(self, name: str) -> None:
        """The class of the active object, and of those begun from now on; a new name is added."""
        name = messages.check_name(name)
        if name not in self.classes:
            self.classes.append(name)
        self._step("label", lambda s: session.set_label(s, name))

    def set_multimask(self, on: bool) -> None:
        """Three candidates or one mask, for the active object and new ones."""
        self._step("multimask", lambda s: session.set_multimask(s, on))

    def set_threshold(self, threshold: SupportsFloat) -> None:
        """The logit above which a pixel is in the mask, for the active object and new ones."""
        self._step("threshold", lambda s: session.set_threshold(s, threshold), merge=True)

    @property
    def multimask(self) -> bool:
        """Three candidates a prompt instead of one mask; can be set."""
        state = self._state
        return state.multimask if state.current is None else state.current.prompt.multimask

    @multimask.setter
    def multimask(self, on: bool) -> None:
        self.set_multimask(on)

    @property
    def mask_threshold(self) -> float:
        """The logit above which a pixel is in the mask; can be set."""
        state = self._state
        return state.threshold if state.current is None else state.current.threshold

    @mask_threshold.setter
    def mask_threshold(self, threshold: SupportsFloat) -> None:
        self.set_threshold(threshold)

    # ------------------------------------------------------------------ objects

    def commit(self) -> None:
        """The active object is done: it is saved, and the next prompt starts another."""
        self._step("commit", session.commit, event="commit")

    def new_object(self) -> None:
        """The next prompt starts another object; the active one stays as it is."""
        self._step("select", session.new_object, logged=False)

    def select(self, object_id: int) -> None:
        """Prompts go to that object (``id`` in ``prompts``)."""
        self._step("select", lambda s: session.select(s, object_id), logged=False)

    def delete(self, object_id: int | None = None) -> None:
        """Remove an object, the active one if none is named."""
        self._step("delete", lambda s: session.delete(s, object_id))

    def undo(self) -> None:
        """One step back, through everything that was done to this image."""
        self._change(Session.undo)

    def redo(self) -> None:
        """One step forward again."""
        self._change(Session.redo)

    # ------------------------------------------------------------------ images

    def next_image(self) -> None:
        """Go on to the next image."""
        self.go(self.image_index + 1)

    def previous_image(self) -> None:
        """Go back to the image before."""
        self.go(self.image_index - 1)

    def go(self, index: int) -> None:
        """Go to image ``index``, counted from 0.

        Raises:
            PromptError: there is no such image.
        """
        if not 0 <= index < len(self.names):
            last = len(self.names) - 1
            raise PromptError(f"no image {index}: this is one of 0 to {last}")
        with self._lock:
            self._save()
            before = self._state
            self._book.carry(index, before)
            self._open(index)
            self._say(f"Image {index + 1} of {len(self.names)}, {self.names[index]}")
            self._push()
        self._emit("image")

    def wait(self) -> Annotator:
        """Wait until the current image is encoded, or raise why it cannot be."""
        self._shelf.wait(self.image_index)
        return self

    # ------------------------------------------------------------------ automatic masks

    def automatic(self) -> list[Record]:
        """Automatic masks of the current image, to pick from; the page shows them under the mouse.

        Their segmentations are of a copy of at most 1024 pixels; what is picked is decoded
        again at the image's own resolution.
        """
        index = self.image_index
        if not self._waits:
            if not self._proposals.start(self._shelf.wait, index, self._on_automatic):
                raise PromptError("automatic masks are being made already: wait for them")
            self._say("Automatic masks: starting")
            self._push()
            return []
        records = self._proposals.make(self._shelf.wait(index), index, self._on_automatic)
        self._on_automatic(index, None)
        return records

    def pick(self, index: int) -> None:
        """Automatic mask ``index`` becomes an object: its point and its candidate."""
        record = self._proposals.get(self.image_index, index)
        image = self._shelf.wait(self.image_index)

        def step(state: State) -> State:
            fresh = session.set_multimask(session.new_object(state), True)
            fresh = session.click(fresh, *record["point_coords"][0])
            assert fresh.current is not None
            found = self._book.results.candidates(self.image_index, image, fresh.current.recipe)
            assert found is not None
            choice = nearest_candidate(found, record["predicted_iou"])
            done = session.commit(session.choose(fresh, choice))
            return replace(done, multimask=state.multimask)

        self._step("pick", step, event="commit")

    def on(self, event: str, callback: Callable[[Any], Any]) -> Callable[[], None]:
        """Call ``callback(annotator)`` after each `EVENTS`; returns a function that ends it.

        It may be called from another thread, one call at a time for steps of the user.
        """
        if event not in EVENTS:
            raise PromptError(f"no event {event!r}: use one of {', '.join(EVENTS)}")
        self._callbacks[event].append(callback)
        return lambda: self._callbacks[event].remove(callback)

    # ------------------------------------------------------------------ inside

    @property
    def _waits(self) -> bool:
        """Scripts wait for the image; the page, whose kernel must stay free, does not."""
        return not getattr(self._here, "page", False)

    @property
    def _state(self) -> State:
        with self._lock:
            return self._book.session(self.image_index).present

    def _open(self, index: int) -> None:
        following = [index + 1] if index + 1 < len(self.names) else []
        self.image_index = index
        self._book.session(index)
        self._shelf.want(index, *following)
        self._ready(index)
        self._count()

    def _ready(self, index: int) -> ImageEmbedding | None:
        """The embedding, if it is there, with what was restored checked against it."""
        image = self._shelf.embedding(index)
        if image is not None:
            self._book.opened(index, image)
        if self._book.warning is not None:
            self._say(self._book.warning, "warning")
            self._book.warning = None
        return image

    def _inside(self, x: SupportsFloat, y: SupportsFloat) -> tuple[float, float]:
        x, y = float(x), float(y)
        size = self._book.size(self.image_index)
        if size is None:
            picture = self._shelf.picture(self.image_index)
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

    def _step(
        self,
        kind: str,
        step: Callable[[State], State],
        *,
        merge: bool = False,
        logged: bool = True,
        event: str = "mask",
    ) -> None:
        def change(before: Session) -> Session:
            after = step(before.present)
            return before.do(after, kind, merge=merge) if logged else before.look(after)

        self._change(change, event)

    def _change(self, change: Callable[[Session], Session], event: str = "mask") -> None:
        """The one way in which anything is done to an image."""
        if self._waits:
            self._shelf.wait(self.image_index)
        with self._lock:
            index = self.image_index
            if (reason := self._shelf.error(index)) is not None:
                raise ImageError(reason)
            image = self._ready(index)
            before = self._book.session(index)
            after = change(before)
            current = after.present.current
            if image is not None and current is not None:
                # A prompt that fails raises here, before it is part of the log.
                self._book.results.candidates(index, image, current.recipe)
            self._book.put(index, after)
            self._count()
            self._describe(image)
            self._push()
            self._save()
        self._emit(event)

    def _count(self) -> None:
        self.object_count = sum(map(bool, self._state.objects))

    def _describe(self, image: ImageEmbedding | None) -> None:
        if image is None:
            self._say("Kept: the mask follows as soon as the image is encoded")
            return
        log = self._book.session(self.image_index)
        current, results = log.present.current, self._book.results
        score = found = None
        if current is not None:
            found = results.candidates(self.image_index, image, current.recipe)
            score = results.score(self.image_index, current.recipe)
        self._say(view.describe(log, score, found))

    def _say(self, text: str, level: str = "info") -> None:
        self.status, self._level = text, level

    def _save(self) -> None:
        index = self.image_index
        self._book.save(index, self._shelf.embedding(index))

    def _finished(self, index: int | None = None) -> list[tuple[Object, Result]]:
        here = self.image_index if index is None else index
        try:
            image = None
            if here == self.image_index or self._book.needs_image(here):
                image = self._shelf.wait(here)
        except ImageError:
            if index is not None:
                raise
            return []
        with self._lock:
            if image is not None:
                self._book.opened(here, image)
            return self._book.finished(here, image)

    def _emit(self, event: str) -> None:
        for callback in list(self._callbacks[event]):
            callback(self)

    def _on_shelf(self, index: int) -> None:
        """Called from the thread that encodes: an image is being read, shown, ready, or failed."""
        with self._lock:
            here = index == self.image_index
            phase = self._shelf.state(index)
            if here:
                before = self._book.session(index).present
                if phase == "error":
                    self._say(self._shelf.error(index) or "", "error")
                elif phase == "ready":
                    self._say(f"{self.names[index]} is ready. Click or drag to start an object.")
                    image = self._ready(index)
                    if before.current is not None:
                        self._describe(image)
                else:
                    self._say(f"{self.names[index]} is being read and encoded")
                self._count()
            self._push()
            if here and phase == "ready":
                self._save()
        if here and phase in ("ready", "error"):
            self._emit(phase)

    def _on_automatic(self, index: int, error: str | None) -> None:
        """Called from the thread of the automatic masks: progress, the end, or an error."""
        with self._lock:
            running = self._proposals.progress
            records = self._proposals.of(index)
            if error is not None:
                self._say(error, "error")
            elif running is not None:
                self._say(f"Automatic masks: {100 * running[1]:.0f}%")
            elif records and index == self.image_index:
                self._say(f"{len(records)} automatic masks: point at one, click to keep it")
            elif records is not None and index == self.image_index:
                low = "automatic={'pred_iou_thresh': 0.7, 'stability_score_thresh': 0.8}"
                self._say(f"No automatic masks above the thresholds: pass {low}", "warning")
            self._push()
        if running is None and error is None:
            self._emit("automatic")
