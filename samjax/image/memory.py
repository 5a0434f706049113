"""Bound the memory of images: how much is free, and how much one image takes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from samjax.errors import ImageError

# While a file becomes an array, Pillow holds 4 bytes of each pixel and the array 3.
READ_BYTES = 7
_SHARE = 0.5  # of the free memory, for the pixels of all images that are read at once

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def free_memory() -> int | None:
    """Return the free memory in bytes, of machine and container; None where nobody tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in _CGROUPS:
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # "max", or no such group
            continue
        found.append(max(0, left))
    return min(found, default=None)


def check_memory(name: str, width: int, height: int, bytes_per_pixel: int = READ_BYTES) -> None:
    """Refuse an image that does not fit into the free memory, before it is decoded.

    Raises:
        ImageError: says how much it needs.
    """
    need, free = width * height * bytes_per_pixel, free_memory()
    if free is not None and need > free:
        raise ImageError(
            f"{name}: {width} x {height} pixels need {need / 2**30:.1f} GiB of memory and "
            f"{free / 2**30:.1f} GiB are free: scale it down or cut it into tiles first"
        )


class PixelBudget:
    """Lets threads hold images up to so many pixels together; one image alone always fits.

    Args:
        pixels: of all images that are held at once; None takes half of the free memory.
        bytes_per_pixel: that an image takes while it is held.
    """

    def __init__(self, pixels: int | None = None, bytes_per_pixel: int = READ_BYTES):
        if pixels is None and (free := free_memory()) is not None:
            pixels = int(free * _SHARE / bytes_per_pixel)
        self.limit = pixels
        self.held = 0
        self._closed = False
        self._changed = threading.Condition(threading.RLock())  # give may come by a finalizer

    def take(self, pixels: int) -> None:
        """Wait until so many pixels fit, and count them.

        Raises:
            RuntimeError: the budget was closed.
        """
        with self._changed:
            while self.held and self.limit is not None and self.held + pixels > self.limit:
                if self._closed:
                    break
                self._changed.wait()
            if self._closed:
                raise RuntimeError("no more images are read")
            self.held += pixels

    def give(self, pixels: int) -> None:
        """Give pixels back, from any thread."""
        with self._changed:
            self.held -= pixels
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer: who does, and who comes, gets an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read(
        self, pixels: int, read: Callable[[], np.ndarray]
    ) -> UInt8[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"]:
        """Return the image that ``read`` returns; its pixels count as long as the array lives."""
        self.take(pixels)
        try:
            image = read()
        except BaseException:
            self.give(pixels)
            raise
        weakref.finalize(image, self.give, pixels)
        return image
