"""Work beside the clicks: hover previews, of which only the latest counts, and automatic masks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from samjax.annotations.records import Record
from samjax.automatic import SamAutomaticMaskGenerator
from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.errors import PromptError, SamjaxError
from samjax.widget.decode import fitted

SIDE = 1024  # automatic masks are looked for in a copy of this size at most
OPTIONS = (
    *("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh"),
    *("stability_score_offset", "box_nms_thresh", "min_area", "max_area", "containment_thresh"),
)
_log = logging.getLogger(__name__)

Told = Callable[[int, str | None], None]


class Latest:
    """A thread with one place to wait in: what comes in takes the place of what waits there."""

    def __init__(self, name: str):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: Callable[[], None] | None = None
        self._running = False
        self.dropped = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Do this as soon as the thread is free, unless something newer comes before."""
        with self._lock:
            self.dropped += self._waiting is not None
            self._waiting = work
            if not self._running:
                self._running = True
                self._thread.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                work, self._waiting = self._waiting, None
                if work is None:
                    self._running = False
                    return
            try:
                work()
            except Exception:  # a preview that fails is not worth a message
                _log.exception("a preview failed")


class Proposals:
    """Automatic masks of the images, made once for each.

    Args:
        model: of the image embeddings.
        options: `OPTIONS` of SamAutomaticMaskGenerator.

    Raises:
        PromptError: other options, or values that do not fit.
    """

    def __init__(self, model: Segmenter, options: Mapping[str, Any]):
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise PromptError(f"automatic has {unknown}: use {', '.join(OPTIONS)}")
        self._model, self._options = model, dict(options)
        self._records: dict[int, list[Record]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samjax-automatic")
        self._lock = threading.Lock()
        self.progress: tuple[int, float] | None = None  # image and part done, while it runs

    def of(self, index: int) -> list[Record] | None:
        """The masks of an image, if they were made."""
        return self._records.get(index)

    def get(self, index: int, which: int) -> Record:
        """One mask of an image.

        Raises:
            PromptError: there is none.
        """
        records = self._records.get(index)
        if records is None:
            raise PromptError("no automatic masks of this image: call automatic() first")
        if not 0 <= which < len(records):
            raise PromptError(f"no automatic mask {which}: there are {len(records)}")
        return records[which]

    def make(self, image: ImageEmbedding, index: int, told: Told) -> list[Record]:
        """Make them now, or return those made before; ``told`` hears of progress."""
        if index in self._records:
            return self._records[index]
        size = fitted(image.original_size, SIDE)
        small = replace(image, original_size=size)
        steps = 0

        def progress(done: int, total: int) -> None:
            nonlocal steps
            self.progress = (index, done / total)
            if done * 10 // total > steps:  # ten messages, not hundreds
                steps = done * 10 // total
                told(index, None)

        try:
            generator = SamAutomaticMaskGenerator(
                self._model, output_mode="coco_rle", **self._options
            )
            records = generator.generate(None, embedding=small, progress=progress)
        finally:
            self.progress = None
        (height, width), (h, w) = image.original_size, size
        for record in records:
            record["point_coords"] = [
                [x * width / w, y * height / h] for x, y in record["point_coords"]
            ]
        self._records[index] = records
        return records

    def start(self, wait: Callable[[int], ImageEmbedding], index: int, told: Told) -> bool:
        """Make them in the thread; ``told`` hears of the end too. False: it is busy."""
        with self._lock:
            if self.progress is not None:
                return False
            self.progress = (index, 0.0)

        def run() -> None:
            error = None
            try:
                self.make(wait(index), index, told)
            except SamjaxError as reason:
                error = str(reason)
            except Exception as reason:
                _log.exception("automatic masks failed")
                error = f"automatic masks failed ({type(reason).__name__}: {reason})"
            self.progress = None
            told(index, error)

        self._thread.submit(run)
        return True
