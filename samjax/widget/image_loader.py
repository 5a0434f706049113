"""Reading and encoding of images in one background thread.

The current image comes first, then the next one ahead. What the user no longer looks at is
dropped before it is begun.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jaxtyping import UInt8

from samjax.embedding import ImageEmbedding
from samjax.errors import ImageError, SamjaxError
from samjax.image.preset import read_for
from samjax.image.read import read_image
from samjax.predictor import SamPredictor
from samjax.widget.decode import predict
from samjax.widget.images import DISPLAY, Picture, display_copy
from samjax.widget.sizes import fitted
from samjax.widget.state import Prompt

_KEPT = 4  # images that stay encoded: the last, the current, the next, and one more

Phase = Literal["waiting", "loading", "encoding", "ready", "error"]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class ImageLoader:
    """Makes pictures and embeddings of the images, in one background thread.

    Args:
        predictor: whose ``encode_image`` is called; it keeps no state here.
        sources: paths, arrays or PIL images.
        changed: called from the thread, with the image's number, after each change of phase.
    """

    def __init__(
        self, predictor: SamPredictor, sources: Sequence[Any], changed: Callable[[int], None]
    ):
        self._predictor, self._sources, self._changed = predictor, sources, changed
        self._pictures: OrderedDict[int, Picture] = OrderedDict()
        self._embeddings: OrderedDict[int, ImageEmbedding] = OrderedDict()
        self._errors: dict[int, str] = {}
        self._wanted: tuple[int, ...] = ()
        self._working: int | None = None
        self._running = False
        self._warm = False
        self._condition = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samjax-encode")

    def phase(self, index: int) -> Phase:
        """Return how far an image has come."""
        with self._condition:
            return self._phase(index)

    def _phase(self, index: int) -> Phase:
        if index in self._errors:
            return "error"
        if index in self._embeddings and index in self._pictures:
            return "ready"
        if self._working == index:
            return "encoding" if index in self._pictures else "loading"
        return "waiting"

    def error(self, index: int) -> str | None:
        """Return why an image cannot be used, if it cannot."""
        with self._condition:
            return self._errors.get(index)

    def picture(self, index: int) -> Picture | None:
        """Return the display copy, if it is there."""
        with self._condition:
            return self._pictures.get(index)

    def embedding(self, index: int) -> ImageEmbedding | None:
        """Return the embedding, if it is there."""
        with self._condition:
            return self._embeddings.get(index)

    def pixels(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read an image, as the display copy shows it.

        Raises:
            ImageError: it cannot be read.
        """
        preset, source = self._predictor.model.preset, self._sources[index]
        return read_for(preset, source) if preset.values == "given" else read_image(source)

    def want(self, *indices: int) -> None:
        """Make these images ready, in this order, before all others; failed ones are retried."""
        with self._condition:
            self._wanted = indices
            if indices:
                self._errors.pop(indices[0], None)
            self._start()
            self._condition.notify_all()  # who waits for another one asks for it again

    def wait(self, index: int) -> ImageEmbedding:
        """Return the embedding of an image, as soon as it is there.

        Raises:
            ImageError: it cannot be read or encoded.
        """
        return self._wait(index, lambda: self._embeddings.get(index))

    def wait_picture(self, index: int) -> Picture:
        """Return the display copy of an image, as soon as it is there.

        Raises:
            ImageError: it cannot be read.
        """
        return self._wait(index, lambda: self._pictures.get(index))

    def _wait(self, index: int, found: Callable[[], _T | None]) -> _T:
        with self._condition:
            asked = index in self._wanted
            while (value := found()) is None:
                if index in self._errors:
                    raise ImageError(self._errors[index])
                if index not in self._wanted:
                    self._wanted = (index, *self._wanted)
                self._start()
                self._condition.wait()
            self._wanted = self._wanted if asked else tuple(i for i in self._wanted if i != index)
            return value

    def close(self) -> None:
        """End the thread after the image that it works on; others are not begun."""
        with self._condition:
            self._wanted = ()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._thread.submit(self._run)

    def _next(self) -> int | None:
        with self._condition:
            self._working = next(
                (i for i in self._wanted if self._phase(i) not in ("ready", "error")), None
            )
            self._running = self._working is not None
            return self._working

    def _run(self) -> None:
        while (index := self._next()) is not None:
            try:
                self._make(index)
            except SamjaxError as error:
                self._fail(index, str(error))
            except Exception as error:  # no memory on the device, a broken disk, ...
                _log.exception("image %d could not be encoded", index)
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._fail(index, f"cannot be encoded ({reason[:200]}): try a smaller image")
            self._changed(index)

    def _make(self, index: int) -> None:
        self._changed(index)
        source = self._sources[index]
        pixels = read_for(self._predictor.model.preset, source)
        with self._condition:
            known = index in self._pictures
        if not known:
            given = self._predictor.model.preset.values == "given"
            picture = display_copy(pixels if given else read_image(source))
            self._keep(self._pictures, index, picture)
            self._changed(index)
        embedding = self._predictor.encode_pixels(pixels)
        jax.block_until_ready(embedding.features)
        if not self._warm:
            # The first click compiles, which takes longer than encoding: done before it comes.
            predict(
                self._predictor.model,
                embedding,
                Prompt(((0.0, 0.0, 1),)),
                self._predictor.mask_threshold,
                fitted(embedding.original_size, DISPLAY),
            )
            self._warm = True
        self._keep(self._embeddings, index, embedding)

    def _keep(self, kept: OrderedDict[int, _T], index: int, value: _T) -> None:
        with self._condition:
            kept[index] = value
            kept.move_to_end(index)
            for old in [i for i in kept if i not in self._wanted and i != index]:
                if len(kept) > _KEPT:
                    del kept[old]
            self._condition.notify_all()

    def _fail(self, index: int, reason: str) -> None:
        with self._condition:
            self._errors[index] = reason
            self._condition.notify_all()
