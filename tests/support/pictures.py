"""Write PNG files that Pillow cannot: 16-bit colour, interlaced or with a transparent colour."""

import struct
import zlib
from pathlib import Path

import numpy as np

_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
           (1, 0, 2, 1))  # fmt: skip
_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def write_png(
    path: Path,
    values: np.ndarray,
    *,
    interlaced: bool = False,
    transparent: tuple[int, ...] | None = None,
) -> Path:
    """Write H x W x c values of 16 bits, with all five filters of PNG in turn."""
    height, width, channels = values.shape
    parts = [values]
    if interlaced:
        parts = [values[top::down, left::right] for top, left, down, right in _PASSES]
    rows = b"".join(map(_filtered, parts))
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR[channels], 0, 0, interlaced)
    key = b"" if transparent is None else chunk(b"tRNS", struct.pack(">3H", *transparent))
    body = chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def _filtered(part: np.ndarray) -> bytes:
    step = 2 * part.shape[2]
    raw = part.astype(">u2").tobytes()
    length = part.shape[1] * step
    rows, before = b"", np.zeros(length, int)
    for number in range(part.shape[0]):
        row = np.frombuffer(raw[number * length : (number + 1) * length], np.uint8).astype(int)
        left, upper = np.r_[np.zeros(step, int), row[:-step]], before
        corner = np.r_[np.zeros(step, int), before[:-step]]
        kind = number % 5
        guess = left + upper - corner
        near = np.stack([abs(guess - x) for x in (left, upper, corner)]).argmin(0)
        paeth = np.choose(near, [left, upper, corner])
        taken = (0, left, upper, (left + upper) // 2, paeth)[kind]
        rows += bytes([kind]) + ((row - taken) % 256).astype(np.uint8).tobytes()
        before = row
    return rows
