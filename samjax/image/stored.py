"""Hold an encoded image file in memory, for images that come from no local file."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from samjax.errors import ImageError


class _Stat(NamedTuple):
    st_size: int


@dataclass(frozen=True)
class StoredImage:
    """Hold the bytes of an image file, with the methods of a `Path` that the readers use.

    Attributes:
        data: the encoded file, such as a JPEG.
        name: name in messages, such as an address.
    """

    data: bytes = field(repr=False)
    name: str = "image bytes"

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Return a new file object; only for reading."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r}: bytes are read only")
        return io.BytesIO(self.data)

    def stat(self) -> _Stat:
        """Return the size in bytes."""
        return _Stat(len(self.data))


def stored(source: Any) -> StoredImage | None:
    """Return bytes, or what is left of a binary file object, as a StoredImage; None for others.

    Raises:
        ImageError: the file object gives text, or cannot be read.
    """
    if isinstance(source, StoredImage):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return StoredImage(bytes(source))
    if not callable(getattr(source, "read", None)) or hasattr(source, "__array__"):
        return None
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) else "file object"
    try:
        data = source.read()
    except (OSError, ValueError) as error:  # closed, or open for writing only
        raise ImageError(f"{name}: cannot be read ({error}): open it again with 'rb'") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: gives text, not bytes: open it with 'rb'")
    return StoredImage(data, name)
