"""Bytes and file objects are read as the files that they come from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import samjax
from samjax.errors import ImageError
from tests.support.pictures import write_png


def _files(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).convert("RGB").save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.stack([grey] * 4, -1)).save(folder / "alpha.png")
    write_png(folder / "deep.png", rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16))
    tifffile.imwrite(folder / "planar.tif", rng.integers(0, 65536, (3, 20, 30), dtype=np.uint16),
                     planarconfig="separate", photometric="rgb")  # fmt: skip
    return sorted(folder.iterdir())


def test_bytes_and_file_objects_give_the_pixels_of_the_file(tmp_path: Path):
    files = _files(tmp_path)
    assert len(files) == 4
    for path in files:
        expected = samjax.read_image(path)
        data = path.read_bytes()
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
            np.testing.assert_array_equal(samjax.read_image(source), expected)
        with path.open("rb") as file:
            np.testing.assert_array_equal(samjax.read_image(file), expected)


def test_bands_and_pages_of_bytes(tmp_path: Path):
    bands = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "bands.tif", bands, photometric="minisblack", planarconfig="contig")
    data = (tmp_path / "bands.tif").read_bytes()
    expected = samjax.read_image(tmp_path / "bands.tif", bands=(4, 0, 1), page=1)
    np.testing.assert_array_equal(samjax.read_image(data, bands=(4, 0, 1), page=1), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", r"image bytes: is empty \(0 bytes\)"),
        (b"nothing", r"image bytes: is not an image that can be read"),
        (io.StringIO("text"), r"file object: gives text, not bytes: open it with 'rb'"),
    ],
)
def test_unusable_bytes(source: object, message: str):
    with pytest.raises(ImageError, match=message):
        samjax.read_image(source)


def test_broken_and_closed_files(tmp_path: Path):
    path = _files(tmp_path)[0]
    with pytest.raises(ImageError, match=r"image bytes: is damaged or cut short"):
        samjax.read_image(path.read_bytes()[:100])
    with path.open("rb") as file:
        pass
    with pytest.raises(ImageError, match=r"alpha.png: cannot be read .*closed"):
        samjax.read_image(file)
