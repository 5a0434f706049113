"""Read and prepare images in threads, ahead of the device that encodes them, in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from samjax.errors import ImageError
from samjax.image.memory import PixelBudget
from samjax.image.preset import PreparedImage, Preset, hash_pixels, prepare, read_for
from samjax.image.read import image_size

MOST_WORKERS = 16  # more images a second than any device encodes


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_images(
    images: Iterable[Any],
    size: int,
    preset: Preset,
    *,
    hashed: bool = True,
    workers: int | None = None,
) -> Generator[PreparedImage, None, None]:
    """Read and prepare many images, files in threads, and yield them in their order.

    Decoding, resizing and hashing let other threads run, so that they take as many cores as there
    are. Only sources that nobody else changes meanwhile are left to threads: files, and arrays
    that a list or tuple holds. A PIL image, or an array that an iterator may fill again, is
    prepared before the next image is asked for.

    Images are asked for ahead, at most two for each worker, and no more than one beyond the first
    that is ready: an iterator that waits for images to arrive delays nothing but the last one. The
    images that are being read share half of the free memory.

    Args:
        images: sources of `samjax.image.read.read_image`, in RGB.
        size: side S of the network's square input, in pixels.
        preset: how images are read and fitted into the square.
        hashed: whether the prepared images have their `image_hash`.
        workers: number of threads; None takes the cores of this process, up to 16.

    Raises:
        ImageError: an image is unreadable, after those before it were yielded; the message gives
            its index.
    """
    count = workers or min(MOST_WORKERS, usable_cores())
    lasting = isinstance(images, (list, tuple))
    budget = PixelBudget()
    waiting: deque[Future[PreparedImage]] = deque()

    def one(number: int, source: Any) -> PreparedImage:
        try:
            pixels = read_for(preset, source, "RGB")
        except ImageError as error:
            raise type(error)(f"image {number}: {error}") from error
        prepared = prepare(pixels, size, preset)
        return prepared._replace(image_hash=hash_pixels(pixels)) if hashed else prepared

    def within_memory(number: int, source: Any) -> PreparedImage:
        pixels = _pixels(source)
        budget.take(pixels)
        try:
            return one(number, source)
        finally:
            budget.give(pixels)

    def started() -> Iterator[Future[PreparedImage]]:
        for number, source in enumerate(images):
            if isinstance(source, str | os.PathLike):
                yield pool.submit(within_memory, number, source)
            elif lasting and isinstance(source, np.ndarray):
                yield pool.submit(one, number, source)
            else:
                ready: Future[PreparedImage] = Future()
                ready.set_result(one(number, source))
                yield ready

    pool = ThreadPoolExecutor(count, thread_name_prefix="samjax-prepare")
    try:
        for future in _failing_last(started()):
            waiting.append(future)
            if len(waiting) < 2 * count and not waiting[0].done():
                continue
            yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        budget.close()
        pool.shutdown(cancel_futures=True)


def _failing_last(futures: Iterator[Future[PreparedImage]]) -> Iterator[Future[PreparedImage]]:
    """Turn an iterator's error into a last future that raises it, so that those before count."""
    try:
        yield from futures
    except Exception as error:
        failed: Future[PreparedImage] = Future()
        failed.set_exception(error)
        yield failed


def _pixels(path: str | os.PathLike[str]) -> int:
    """Return the number of pixels of a file, 0 for one that cannot be read: reading tells why."""
    try:
        height, width = image_size(path)
    except ImageError:
        return 0
    return height * width
