"""Controller of an annotator: its images, histories and masks; no widget, no page."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samjax.arguments import flag, shown
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.errors import AnnotationError, DetectorError, ImageError, PromptError
from samjax.files import made_folder, protecting
from samjax.image.preset import hash_pixels, read_for
from samjax.predictor import SamPredictor
from samjax.text.detectors import load_detector
from samjax.text.segment import Detector
from samjax.widget import steps, view
from samjax.widget.background import AutomaticMasks
from samjax.widget.class_list import FILE as CLASS_FILE
from samjax.widget.class_list import ClassList
from samjax.widget.history import History
from samjax.widget.image_list import ImageList
from samjax.widget.image_loader import ImageLoader
from samjax.widget.images import image_files, image_list, image_names, stored_names
from samjax.widget.opened import OpenedAnnotations, check_not_read, class_names
from samjax.widget.project import Project
from samjax.widget.state import Object, State
from samjax.widget.state_file import FinishedMask
from samjax.widget.status import BEGIN, Level, Status

_UNSAVED = Path("samjax-annotations")  # where exports go without a folder of saved states


class Controller:
    """Keeps the current image, the project and the loader of an annotator in step.

    Scripts wait for the image to be encoded. The page's thread must not wait: prompts that come
    inside of `answering_page` are kept, and their masks follow. One lock guards everything;
    nobody waits for the image while holding it.

    Args:
        sam: what samjax.load returns.
        images: one image or several: paths, arrays or PIL images.
        path: folder of the saved states; None keeps everything in memory.
        labels: names of the classes; None takes those of the annotations.
        annotations: whose objects the images begin with; see `read_annotation_set`.
        multimask: whether the first object asks for three masks.
        automatic: arguments for the automatic masks.
        detector: finds boxes of phrases; a name is loaded when it is first asked.
        changed: called with the lock held, after each change that a page should show.
        emit: called without the lock, with the name of what happened: "mask", "commit", "image",
            "ready", "automatic", "export" or "error".

    Attributes:
        names: of the images, all different.
        files: of the images that are files; nothing that is written may replace one.
        index: of the current image.
        status: the last line for the user.

    Raises:
        ImageError, PromptError, AnnotationError: no images, unusable labels, options or path.
    """

    def __init__(
        self,
        sam: Segmenter,
        images: Any,
        *,
        path: str | os.PathLike[str] | None,
        labels: Sequence[str] | None,
        annotations: Any,
        multimask: bool,
        automatic: Mapping[str, Any],
        detector: Detector | str | None,
        changed: Callable[[], None],
        emit: Callable[[str], None],
    ):
        multimask = flag(multimask, "multimask")
        if not (detector is None or isinstance(detector, str) or callable(detector)):
            raise DetectorError(f"detector is {shown(detector)}: pass a function or a name")
        sources = self._sources = image_list(images, path)
        self.model = sam
        self.names = image_names(sources, stored_names(path, sources, sam.preset))
        opened = OpenedAnnotations.of(annotations, self.names, sources)
        folder = None if path is None else made_folder(path, AnnotationError)
        file = None if folder is None else folder / CLASS_FILE
        self._classes = ClassList(class_names(labels, opened), file)
        self.files = [*image_files(sources), *(opened.set.files if opened else ())]
        self._detector = detector
        self.index = 0
        self.status = Status("" if opened is None else opened.notice, "info")
        if self._classes.warning:
            self.status = Status(self._classes.warning, "warning")
        start = State(label=self.classes[0], multimask=multimask, threshold=sam.mask_threshold)
        self.project = Project(sam, self.names, path, start, opened)
        check_not_read((self.project.file(i) for i in range(len(self.names))), opened)
        self.lock = threading.RLock()
        self.automatic_masks = AutomaticMasks(sam, automatic)
        self.images = ImageList(self.project, sources)
        self.loader = ImageLoader(SamPredictor(sam), sources, self._on_loader)
        self._thread = threading.local()  # .answers: this thread answers the page
        self.changed, self.emit = changed, emit

    @property
    def kept_files(self) -> list[Path]:
        """Return the files that no export may replace: the images and their saved states."""
        states = (self.project.file(index) for index in range(len(self.names)))
        return [*self.files, *filter(None, [*states, self._classes.file])]

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes; their order is that of the ids."""
        return self._classes.names

    def start(self) -> None:
        """Open the first image; callbacks come from now on."""
        with self.lock:
            self._open(0)
            self.changed()
        self.images.start(self._on_list)

    @property
    def detector(self) -> Detector | None:
        """Return the detector, if there is one; a name is loaded now.

        Raises:
            DetectorError: it cannot be loaded.
        """
        if isinstance(self._detector, str):
            self._detector = load_detector(self._detector)
        return self._detector

    @property
    def has_detector(self) -> bool:
        """Return whether a text can be looked for."""
        return self._detector is not None

    def with_class(self, name: str) -> str:
        """Return the name of a class, which is added to the classes if it is new."""
        with self.lock:
            self._classes.add(name)
        return name

    @property
    def export_folder(self) -> Path:
        """Return the folder of exports for which no path is named."""
        return self.project.folder or _UNSAVED

    def close(self) -> None:
        """End the threads; the state of the current image is saved before."""
        with self.lock:
            self._save()
        for part in (self.loader, self.automatic_masks, self.images):
            part.close()

    @contextmanager
    def answering_page(self) -> Iterator[None]:
        """Let steps of this thread not wait for the image: the kernel must stay free."""
        self._thread.answers = True
        try:
            yield
        finally:
            self._thread.answers = False

    @property
    def state(self) -> State:
        """Return the state of the current image."""
        with self.lock:
            return self.project.history(self.index).present

    # ------------------------------------------------------------------ images

    def go(self, index: int) -> None:
        """Go to image ``index``, counted from 0.

        Raises:
            PromptError: there is no such image.
        """
        if not 0 <= index < len(self.names):
            last = len(self.names) - 1
            raise PromptError(f"no image {index}: this is one of 0 to {last}")
        with self.lock:
            self._save()
            self.project.carry(index, self.state)
            self.say(f"Image {index + 1} of {len(self.names)}, {self.names[index]}")
            self._open(index)  # what its files have to say stays
            self.changed()
        self.emit("image")

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name in all images; an undo gives an image its names back.

        Raises:
            PromptError: there is no such class.
        """
        if old not in self.classes:
            raise PromptError(f"no class {shown(old)}: there are {', '.join(self.classes)}")
        with self.lock:
            merges = self._classes.rename(old, new)
            for index in self.project.known():
                before = self.project.history(index)
                after = before.do(steps.rename_class(before.present, old, new), "rename")
                if after is before:
                    continue
                self.project.put(index, after)
                if not self.project.has_pixels(index):
                    try:
                        self._check(index)  # its file tells of which pixels it is
                    except ImageError:
                        continue
                with protecting(self.files, AnnotationError):
                    self.project.save(index, self.loader.embedding(index))
            self._classes.save()
            self.say(f"{old} is part of {new} now" if merges else f"{old} is {new} now")
            self.changed()

    # ------------------------------------------------------------------ results

    def finished(self, index: int | None = None) -> list[tuple[Object, FinishedMask]]:
        """Return the objects of an image, the current one for None, with finished masks.

        Raises:
            ImageError: image ``index`` cannot be read; of the current one there are no masks then.
        """
        here = self.index if index is None else index
        as_opened = self.project.as_opened(here)
        if index is not None and not self.project.is_checked(index) and not as_opened:
            self._check(index)
        try:
            image = None
            if (here == self.index and not as_opened) or self.project.needs_image(here):
                image = self.loader.wait(here)
        except ImageError:
            if index is not None:
                raise
            return []
        with self.lock:
            if image is not None:
                self._opened(here, image)
            return self.project.finished(here, image)

    def _opened(self, index: int, image: ImageEmbedding) -> None:
        self.project.opened(index, image.original_size, image.image_hash or "")

    def _check(self, index: int) -> None:
        """Compare an image that was not opened with the pixels that its state was made for.

        Raises:
            ImageError: the image cannot be read.
        """
        pixels = read_for(self.model.preset, self._sources[index])
        size = (pixels.shape[0], pixels.shape[1])
        with self.lock:
            self.project.opened(index, size, hash_pixels(pixels))

    def report(self, text: str) -> None:
        """Tell the user what was done."""
        with self.lock:
            self.say(text)
            self.changed()

    def complain(self, text: str) -> None:
        """Tell the user what went wrong."""
        with self.lock:
            self.say(text, "error")
            self.changed()
        self.emit("error")

    # ------------------------------------------------------------------ inside

    @property
    def waits(self) -> bool:
        """Whether steps of this thread wait for the image, as those of scripts do."""
        return not getattr(self._thread, "answers", False)

    def _open(self, index: int) -> None:
        following = [index + 1] if index + 1 < len(self.names) else []
        self.index = index
        self.project.history(index)
        self.project.refresh(index)
        self._take_classes(self.project.history(index).present)
        self.loader.want(index, *following)
        self._ready(index)

    def _take_classes(self, state: State) -> None:
        """Take the classes of objects that are in no list."""
        self._classes.restore((each.label for each in state.objects), self._is_used)

    def _is_used(self, label: str) -> bool:
        states = filter(None, map(self.project.opened_state, self.project.opened_indices()))
        return any(each.label == label for state in states for each in state.objects)

    def _ready(self, index: int) -> ImageEmbedding | None:
        """Return the embedding, if it is there; the restored state is checked against it."""
        image = self.loader.embedding(index)
        if image is not None:
            self._opened(index, image)
        self._warn()
        return image

    def _warn(self) -> bool:
        """Tell the user what the project has to say about its files, if it has."""
        if self.project.warning is None:
            return False
        self.say(self.project.warning, "warning")
        self.project.warning = None
        return True

    def step(
        self,
        kind: str,
        step: Callable[[State], State],
        *,
        merge: bool = False,
        logged: bool = True,
        event: str = "mask",
    ) -> None:
        """Do a step to the state of the current image.

        Args:
            kind: of the step; with ``merge`` those of one kind in a row are undone as one.
            step: from the state to the next.
            logged: whether it can be undone.
            event: to emit.
        """

        def change(before: History) -> History:
            after = step(before.present)
            return before.do(after, kind, merge=merge) if logged else before.look(after)

        self.change(change, event)

    def change(self, change: Callable[[History], History], event: str = "mask") -> None:
        """Change the history of the current image: nothing is done to an image in another way."""
        if self.waits:
            self.loader.wait(self.index)
        with self.lock:
            index = self.index
            if (reason := self.loader.error(index)) is not None:
                raise ImageError(reason)
            image = self._ready(index)
            after = change(self.project.history(index))
            current = after.present.current
            if image is not None and current is not None:
                # A prompt that fails raises here, before it is part of the history.
                self.project.masks.candidates(index, image, current.recipe)
            self.project.put(index, after)
            self._take_classes(after.present)  # an undo may bring back one that was renamed
            self._describe(image)
            self.changed()
            self._save()
        self.emit(event)

    def select_at_once(self, select: Callable[[State], State]) -> None:
        """Change the selection of the current image, which need not be encoded for it."""
        with self.lock:
            self.project.put(self.index, self.project.history(self.index).look(select(self.state)))
            self.changed()

    def _describe(self, image: ImageEmbedding | None) -> None:
        if image is None:
            self.say("Kept: the mask follows as soon as the image is encoded")
            return
        history, masks = self.project.history(self.index), self.project.masks
        current = history.present.current
        score = found = None
        if current is not None:
            found = masks.candidates(self.index, image, current.recipe)
            score = masks.score(self.index, current.recipe)
        self.say(view.describe(history, score, found))

    def say(self, text: str, level: Level = "info") -> None:
        """Set the line for the user; `changed` shows it."""
        self.status = Status(text, level)

    def _say_unless_warned(self, text: str) -> None:
        """Leave a warning until the user does something."""
        if self.status.level != "warning":
            self.say(text)

    def _save(self) -> None:
        with protecting(self.files, AnnotationError):
            self.project.save(self.index, self.loader.embedding(self.index))
            if (file := self.project.file(self.index)) is not None and file.exists():
                self._classes.save()
        if self._warn():
            self.changed()  # another annotator's objects are here now

    def _on_list(self) -> None:
        with self.lock:
            self._classes.find(self.images.labels)
            self.changed()

    def _on_loader(self, index: int) -> None:
        """Hear from the loader's thread: an image is being read, shown, ready, or failed."""
        with self.lock:
            here = index == self.index
            phase = self.loader.phase(index)
            if here:
                before = self.project.history(index).present
                if phase == "error":
                    self.say(self.loader.error(index) or "", "error")
                elif phase == "ready":
                    self._say_unless_warned(f"{self.names[index]} is ready. {BEGIN}")
                    image = self._ready(index)
                    if before.current is not None and self.status.level != "warning":
                        self._describe(image)
                else:
                    self._say_unless_warned(f"{self.names[index]} is being read and encoded")
            self.changed()
            if here and phase == "ready":
                self._save()
        if here and phase in ("ready", "error"):
            self.emit(phase)
