"""The list of images on the page: thumbnails, and how far each image has come."""

from __future__ import annotations

import io
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from samjax.errors import SamjaxError
from samjax.image.read import read_image
from samjax.widget.project import Project
from samjax.widget.review import Progress, progress
from samjax.widget.sizes import fitted
from samjax.widget.state import State
from samjax.widget.state_file import read_state

THUMBNAIL = 96  # longest side, in pixels
Counts = tuple[int, int]  # objects of an image, and those of them that are done
_log = logging.getLogger(__name__)


class ImageList:
    """Knows the progress of all images and makes their thumbnails, in a thread of its own.

    Args:
        project: of the annotator.
        sources: paths, arrays or PIL images.
    """

    def __init__(self, project: Project, sources: Sequence[Any]):
        self._project, self._sources = project, sources
        self._saved: dict[int, Counts] = {}  # of files of images that were not opened
        self._reviewed: dict[int, Progress] = {}  # of the same files
        self.labels: dict[str, None] = {}  # of the objects of those files, as they occur
        self._seen: dict[int, tuple[State, Progress]] = {}
        self._read_all = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samjax-list")

    def start(self, changed: Callable[[], None]) -> None:
        """Read the progress of the saved states in the thread; ``changed`` hears of the end."""
        if self._project.folder is not None:
            self._thread.submit(self._read, changed)
        else:
            self._read_all.set()

    def wait(self) -> None:
        """Wait until the saved states are counted; they are read without a lock."""
        self._read_all.wait()

    def close(self) -> None:
        """End the thread; tasks that have not begun are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._read_all.set()

    def counts(self, index: int) -> Counts:
        """Return the objects of an image, and those that are done."""
        state = self._project.opened_state(index)
        if state is None:
            opened = self._project.annotations
            begun = (0, 0) if opened is None else (opened.count(index), 0)
            return self._saved.get(index, begun)
        objects = [each for each in state.objects if each]
        return len(objects), sum(each.done for each in objects)

    def review(self, index: int | None = None) -> Progress:
        """Count the opened objects of an image, or of all, and those that are reviewed."""
        if index is None:
            each = [self.review(i) for i in self._annotated()]
            return Progress(sum(p.reviewed for p in each), sum(p.total for p in each))
        state = self._project.opened_state(index)
        if state is None:
            opened = self._project.annotations
            begun = Progress(0, 0 if opened is None else opened.count(index))
            return self._reviewed.get(index, begun)
        if index not in self._seen or self._seen[index][0] is not state:
            self._seen[index] = state, progress(state)
        return self._seen[index][1]

    def next_to_review(self, index: int) -> int | None:
        """Return the next image after one that has objects to review, that one itself last.

        The image with the most doubtful annotation is the first, whether it is reviewed or not: so
        that who skips objects comes to all images.
        """
        waiting = [i for i in self._annotated() if self.review(i).reviewed < self.review(i).total]
        here = self._place(index)
        return min(waiting, key=lambda i: (self._place(i) <= here, self._place(i)), default=None)

    def _place(self, index: int) -> tuple[float, int]:
        opened = self._project.annotations
        has = opened is not None and opened.has(index)
        return (opened.doubt(index) if opened is not None and has else math.inf), index

    def _annotated(self) -> list[int]:
        opened = self._project.annotations
        known = self._reviewed.keys() | self._project.opened_indices()
        return sorted(known | set(() if opened is None else opened.indices()))

    def done(self) -> int:
        """Count the images that have objects, all of them done."""
        known = self._saved.keys() | self._project.opened_indices()
        counts = (self.counts(index) for index in list(known))
        return sum(0 < objects == committed for objects, committed in counts)

    def thumbnails(self, indices: Sequence[int], made: Callable[[int, bytes], None]) -> None:
        """Make thumbnails in the thread; ``made`` gets each as a JPEG."""
        for index in indices:
            if 0 <= index < len(self._sources):
                self._thread.submit(self._make, index, made)

    def _make(self, index: int, made: Callable[[int, bytes], None]) -> None:
        try:
            picture = Image.fromarray(read_image(self._sources[index]))
        except SamjaxError:
            return  # the image itself says so when it is opened
        except Exception:
            _log.exception("no thumbnail of image %d", index)
            return
        height, width = fitted((picture.height, picture.width), THUMBNAIL)
        file = io.BytesIO()
        small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        small.save(file, "JPEG", quality=80)
        made(index, file.getvalue())

    def _read(self, changed: Callable[[], None]) -> None:
        try:
            self._count_saved()
        finally:
            self._read_all.set()
        changed()

    def _count_saved(self) -> None:
        for index in range(len(self._sources)):
            file = self._project.file(index)
            try:
                if file is None or not file.exists():
                    continue
                state = read_state(file).state
                self._saved[index] = len(state.objects), sum(o.done for o in state.objects)
                self._reviewed[index] = progress(state)
                self.labels.update(dict.fromkeys(each.label for each in state.objects))
            except Exception:  # a file that cannot be used: the image says so when it is opened
                continue
