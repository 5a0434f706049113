"""Memory of large images: bounded while they are read, refused in words when they do not fit."""

import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from samjax.errors import ImageError
from samjax.image import memory
from samjax.image.read import read_image
from tests.support.pictures import chunk

_PEAK = """
import resource, sys
from samjax.image.read import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = read_image(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / pixels[..., 0].size)
"""


def flat_png(path, side, colour=2):
    """A PNG of one colour, small as a file however large it is in memory."""
    row = b"\0" + bytes(side * (3 if colour == 2 else 1))
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("colour", [0, 2])
def test_reading_takes_at_most_the_bytes_a_pixel_that_are_promised(tmp_path, colour):
    path = flat_png(tmp_path / "a.png", 6000, colour)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < memory.READ_BYTES + 0.5


def test_an_image_beyond_the_free_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = flat_png(tmp_path / "a.png", 1000)
    monkeypatch.setattr(memory, "free_memory", lambda: 6_900_000)
    with pytest.raises(ImageError, match=r"a\.png: 1000 x 1000 pixels need 0\.0 GiB of memory and"):
        read_image(path)
    monkeypatch.setattr(memory, "free_memory", lambda: 7_100_000)
    assert read_image(path).shape == (1000, 1000, 3)
    monkeypatch.setattr(memory, "free_memory", lambda: None)  # where nobody tells
    assert read_image(path).shape == (1000, 1000, 3)


def test_the_machine_tells_its_free_memory():
    free = memory.free_memory()
    assert free is not None
    assert 2**24 < free < 2**50


def test_the_budget_lets_through_what_fits_and_always_one():
    budget = memory.PixelBudget(pixels=100)
    budget.take(60)
    budget.take(40)
    order = []
    waiting = threading.Thread(target=lambda: (budget.take(500), order.append("large")))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    budget.give(60)
    waiting.join(0.2)
    assert waiting.is_alive()  # 500 fits beside nothing
    budget.give(40)
    waiting.join(5)
    assert order == ["large"]
    assert budget.held == 500


def test_strips_give_the_same_pixels():
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 255, (1500, 1400, 4), np.uint8)
    for mode in ("RGBA", "RGB", "L", "CMYK", "P"):
        picture = Image.fromarray(rgba[..., :3]).convert(mode) if mode != "RGBA" else (
            Image.fromarray(rgba))  # fmt: skip
        white = Image.new("RGB", picture.size, (255, 255, 255))
        if mode == "RGBA":
            white.paste(picture, mask=picture.getchannel("A"))
        expected = white if mode == "RGBA" else picture.convert("RGB")
        np.testing.assert_array_equal(read_image(picture), np.asarray(expected))
