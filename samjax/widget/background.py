"""Background work: hover previews, of which only the latest counts, and automatic masks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from samjax.arguments import shown
from samjax.automatic.generator import SamAutomaticMaskGenerator
from samjax.automatic.options import AutomaticOptions
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.errors import PromptError, SamjaxError
from samjax.masks.rle import Record
from samjax.widget.sizes import fitted

SIDE = 1024  # automatic masks are looked for in a copy of this size at most
OPTIONS = (
    *("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh"),
    *("stability_score_offset", "box_nms_thresh", "min_area", "max_area", "containment_thresh"),
)
# The page's slider starts at the model's threshold of the predicted IoU and reaches down to this
# part of it without another run.
SLIDER_REACH = 0.5
MOST = 500  # masks of an image, by falling predicted IoU
_log = logging.getLogger(__name__)

Told = Callable[[int, str | None], None]


class Latest:
    """Runs the latest task; a newer one replaces any not yet started."""

    def __init__(self, name: str):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: Callable[[], None] | None = None
        self._running = False
        self.dropped = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run a task as soon as the thread is free, unless a newer one comes before."""
        with self._lock:
            self.dropped += self._waiting is not None
            self._waiting = work
            if not self._running:
                self._running = True
                self._thread.submit(self._run)

    def close(self) -> None:
        """End the thread; tasks that have not begun are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

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


class AutomaticMasks:
    """Makes the automatic masks of the images, once for each.

    Args:
        model: of the image embeddings.
        options: `OPTIONS` of SamAutomaticMaskGenerator. Without ``pred_iou_thresh`` masks are made
            from `SLIDER_REACH` times the model's own threshold on, for the page's slider.

    Attributes:
        shown_from: predicted IoU from which on the page shows masks at first: the threshold that
            was named, else the model's own.
        least: predicted IoU from which on masks are made.
        progress: image and part done, while masks are made.

    Raises:
        PromptError: other options, or values that do not fit.
    """

    def __init__(self, model: Segmenter, options: Mapping[str, Any]):
        if not isinstance(options, Mapping):
            raise PromptError(f"automatic is {shown(options)}: pass {{option: value}}")
        if unknown := [name for name in options if name not in OPTIONS]:
            raise PromptError(f"automatic has {unknown}: use {', '.join(OPTIONS)}")
        AutomaticOptions(**options)  # refuses what does not fit, before anything is done
        named = options.get("pred_iou_thresh")
        own = model.automatic_thresholds.pred_iou_thresh
        self.shown_from = own if named is None else float(named)
        self.least = min(own, SLIDER_REACH * own) if named is None else self.shown_from
        self._model, self._options = model, {**options, "pred_iou_thresh": self.least}
        self._generated: dict[int, list[Record]] = {}
        self._records: dict[int, list[Record]] = {}  # that are shown: these, or those of a text
        self._advice: dict[int, str] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samjax-automatic")
        self._lock = threading.Lock()
        self.progress: tuple[int, float] | None = None

    def close(self) -> None:
        """End the thread; tasks that have not begun are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def of(self, index: int) -> list[Record] | None:
        """Return the masks of an image, if they were made."""
        return self._records.get(index)

    def advice(self, index: int) -> str:
        """Return why an image got no mask, and what would keep some; "" if it has."""
        return self._advice.get(index, "")

    def get(self, index: int, which: int) -> Record:
        """Return one mask of an image.

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
        """Make the masks now, or return those made before; ``told`` hears of progress."""
        if index in self._generated:
            records = self._generated[index]
        else:
            records = self._generated[index] = self._generate(image, index, told)
        self._records[index] = records
        return records

    def put(self, index: int, records: list[Record]) -> None:
        """Let other masks take the place of an image's."""
        self._records[index] = records

    def _generate(self, image: ImageEmbedding, index: int, told: Told) -> list[Record]:
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
            self._advice.pop(index, None)
            records = generator.generate(
                None,
                embedding=small,
                progress=progress,
                on_empty=lambda advice: self._advice.__setitem__(index, advice),
            )
        finally:
            self.progress = None
        records = sorted(records, key=lambda each: -each["predicted_iou"])[:MOST]
        (height, width), (h, w) = image.original_size, size
        for record in records:
            record["point_coords"] = [
                [x * width / w, y * height / h] for x, y in record["point_coords"]
            ]
        return records

    def start(self, make: Callable[[], object], index: int, told: Told) -> bool:
        """Run ``make`` in the thread; ``told`` hears of the end, too. False: it is busy."""
        with self._lock:
            if self.progress is not None:
                return False
            self.progress = (index, 0.0)

        def run() -> None:
            error = None
            try:
                make()
            except SamjaxError as reason:
                error = str(reason)
            except Exception as reason:
                _log.exception("masks to pick from failed")
                error = f"masks to pick from failed ({type(reason).__name__}: {reason})"
            self.progress = None
            told(index, error)

        self._thread.submit(run)
        return True
