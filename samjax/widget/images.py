"""The images of a session: their names, display copies and embeddings, encoded in a thread.

The current image is read and encoded first, then the next one ahead. What the user no longer
looks at is dropped before it is begun.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from samjax.embeddings import ImageEmbedding
from samjax.errors import ImageError, SamjaxError
from samjax.image import read_image
from samjax.predictor import SamPredictor
from samjax.preprocess import read_for
from samjax.widget.decode import Size, fitted, predict
from samjax.widget.results import DISPLAY
from samjax.widget.session import Prompt

_KEPT = 4  # images that stay encoded: the last, the current, the next, and one more

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image that was read: its size (H, W) and the copy that the page shows."""

    size: Size
    display_size: Size
    jpeg: bytes = field(repr=False)

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """The display copy."""
        return np.array(Image.open(io.BytesIO(self.jpeg)).convert("RGB"))


def display_copy(pixels: UInt8[np.ndarray, "H W 3"]) -> Picture:
    """A JPEG of at most `DISPLAY` pixels a side."""
    size = (pixels.shape[0], pixels.shape[1])
    shown = fitted(size, DISPLAY)
    picture = Image.fromarray(pixels)
    if shown != size:
        picture = picture.resize(shown[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    # 4:4:4: edges between colours are what the user clicks along.
    picture.save(file, "JPEG", quality=92, subsampling=0)
    return Picture(size, shown, file.getvalue())


def image_names(sources: Sequence[Any]) -> list[str]:
    """A different name for each image: the file's, with as many folders ("a/b.png") as it takes.

    Arrays and PIL images are called image_0000.png and so on, by their position.
    """
    paths = [
        Path(s).expanduser().absolute() if isinstance(s, (str, os.PathLike)) else None
        for s in sources
    ]
    names = [f"image_{i:04d}.png" if p is None else p.name for i, p in enumerate(paths)]
    for depth in range(2, max((len(p.parts) for p in paths if p), default=0)):
        twice = _twice(names)
        for i in twice:
            if (path := paths[i]) is not None:
                names[i] = "/".join(part for part in path.parts[-depth:] if part != "..")
        if not twice:
            break
    for i in _twice(names):  # the same file again, or dog.jpg beside dog.png
        names[i] = f"{i:04d}_{names[i].replace('/', '_')}"
    return names


def _twice(names: Sequence[str]) -> list[int]:
    """Indices of names that differ from another one in case or suffix only, if at all."""
    stems = [str(PurePosixPath(name).with_suffix("")).casefold() for name in names]
    count = Counter(stems)
    return [i for i, stem in enumerate(stems) if count[stem] > 1]


def image_list(images: Any) -> list[Any]:
    """One image, or a sequence of them, as a list.

    Raises:
        ImageError: no images, or something that is none.
    """
    single = isinstance(images, (str, os.PathLike, Image.Image)) or hasattr(images, "__array__")
    if single and getattr(images, "ndim", 0) != 4:
        return [images]
    try:
        found = list(images)
    except TypeError:
        raise ImageError(
            f"images is {type(images).__name__}: pass one image (path, array, PIL image) or a list"
        ) from None
    if not found:
        raise ImageError("images is empty: pass at least one path, array or PIL image")
    return found


class Shelf:
    """Pictures and embeddings of the images, made in one background thread.

    Args:
        predictor: whose ``encode_image`` is called; it keeps no state here.
        sources: paths, arrays or PIL images.
        changed: called from the thread, with the image's number, after each change of state.
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

    def state(self, index: int) -> str:
        """ "waiting", "loading", "encoding", "ready" or "error"."""
        with self._condition:
            return self._state(index)

    def _state(self, index: int) -> str:
        if index in self._errors:
            return "error"
        if index in self._embeddings and index in self._pictures:
            return "ready"
        if self._working == index:
            return "encoding" if index in self._pictures else "loading"
        return "waiting"

    def error(self, index: int) -> str | None:
        """Why an image cannot be used."""
        with self._condition:
            return self._errors.get(index)

    def picture(self, index: int) -> Picture | None:
        """The display copy, if it is there."""
        with self._condition:
            return self._pictures.get(index)

    def embedding(self, index: int) -> ImageEmbedding | None:
        """The embedding, if it is there."""
        with self._condition:
            return self._embeddings.get(index)

    def want(self, *indices: int) -> None:
        """Make these images ready, in this order, before all others; what failed is tried again."""
        with self._condition:
            self._wanted = indices
            if indices:
                self._errors.pop(indices[0], None)
            self._start()
            self._condition.notify_all()  # who waits for another one asks for it again

    def wait(self, index: int) -> ImageEmbedding:
        """The embedding of an image, as soon as it is there.

        Raises:
            ImageError: it cannot be read or encoded.
        """
        return self._wait(index, lambda: self._embeddings.get(index))

    def wait_picture(self, index: int) -> Picture:
        """The display copy of an image, as soon as it is there.

        Raises:
            ImageError: it cannot be read.
        """
        return self._wait(index, lambda: self._pictures.get(index))

    def _wait(self, index: int, found: Callable[[], Any]) -> Any:
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

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._thread.submit(self._run)

    def _next(self) -> int | None:
        with self._condition:
            self._working = next(
                (i for i in self._wanted if self._state(i) not in ("ready", "error")), None
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

    def _keep(self, kept: OrderedDict, index: int, value: Any) -> None:
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
