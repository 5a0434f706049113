import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from samjax.errors import ImageError
from samjax.image import read as image_module
from samjax.image.longest_side import (
    apply_boxes,
    apply_coords,
    resize,
    resize_longest_side,
    scale_coords,
)
from samjax.image.read import read_image


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Make a picture of 24 x 40 in which every corner, channel and axis is different."""
    y, x = np.mgrid[:24, :40]
    return np.stack([x * 6, y * 10, (x + y) * 3], axis=-1).astype(np.uint8)


def hopper() -> Path:
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def save(array: np.ndarray, path: Path, mode: str | None = None, **options) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


# Files


def test_a_photograph_equals_pillows_decoding():
    array = read_image(hopper())
    assert array.shape == (600, 512, 3)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.asarray(Image.open(hopper())))
    np.testing.assert_array_equal(array, read_image(str(hopper())))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "ppm", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path, rgb, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(rgb, tmp_path / f"a.{suffix}", **options)
    np.testing.assert_array_equal(read_image(path), rgb)


def test_the_content_counts_not_the_suffix(tmp_path, rgb):
    path = save(rgb, tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(path), rgb)


def test_grey_and_one_bit_become_three_equal_channels(tmp_path, rgb):
    grey = rgb[..., 0]
    read = read_image(save(grey, tmp_path / "grey.png"))
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=-1))
    bits = grey > 100
    read = read_image(save(bits.astype(np.uint8) * 255, tmp_path / "bits.png", "1"))
    np.testing.assert_array_equal(read, np.stack([bits] * 3, axis=-1) * np.uint8(255))


def test_palette_and_gif_show_the_palettes_colours(tmp_path):
    palette = Image.new("P", (4, 2))
    palette.putpalette([0, 0, 0, 250, 10, 20, 30, 240, 50])
    palette.putdata([1, 1, 2, 2, 2, 2, 1, 1])
    palette.save(tmp_path / "a.png")
    expected = np.array([[250, 10, 20]] * 2 + [[30, 240, 50]] * 2, np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], expected)
    other = Image.new("RGB", (4, 2), (1, 2, 3))
    palette.save(tmp_path / "a.gif", save_all=True, append_images=[other])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif")[0], expected)  # first frame


def test_transparency_shows_white_in_every_encoding(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]
    # 128 / 255 of the colour over white.
    expected = np.array([[200, 100, 50], [255, 255, 255], [227, 177, 152]])
    for source in (save(rgba, tmp_path / "a.png"), Image.fromarray(rgba), rgba):
        np.testing.assert_allclose(read_image(source)[0], expected, atol=1)

    grey_alpha = Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8))
    grey_alpha.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[0, :, 0], [90, 255])

    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    for name, transparency in (("bytes", b"\xff\x00"), ("index", 1)):
        path = tmp_path / f"{name}.png"
        palette.save(path, transparency=transparency)
        np.testing.assert_array_equal(read_image(path)[0], [[10, 20, 30], [255] * 3])


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (3, 2), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, 0], [0, 255, 255])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_windowed(tmp_path, suffix):
    deep = np.linspace(1000, 5000, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    deep[0, 0] = 65535  # a hot pixel must not darken the rest
    read = read_image(save(deep, tmp_path / f"a.{suffix}"))
    low, high = np.percentile(deep, (0.1, 99.9))
    expected = np.rint(np.clip((deep - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(read[..., 1], expected, atol=1)
    assert read[0, 0, 0] == 255
    assert abs(int(read[32, 0, 0]) - 128) < 4
    np.testing.assert_array_equal(read, read_image(deep))  # file and array: one rule


def test_float_files(tmp_path):
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    read = read_image(save(unit, tmp_path / "unit.tif"))
    np.testing.assert_array_equal(read[..., 0], np.rint(unit * 255))
    wide = unit * 4000 - 1000  # e.g. Hounsfield units: nobody can change the file's values here
    read = read_image(save(wide, tmp_path / "wide.tif"))
    assert read.min() == 0
    assert read.max() == 255
    assert (np.diff(read[..., 0].ravel().astype(int)) >= 0).all()
    wide[3, 3] = np.nan
    with pytest.raises(ImageError, match=r"nan\.tif: has NaN"):
        read_image(save(wide, tmp_path / "nan.tif"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, rgb, orientation):
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(rgb, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), turns[orientation](rgb))
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(read_image(lazy), turns[orientation](rgb))


def test_broken_exif_does_not_hide_the_picture(tmp_path, rgb):
    path = save(rgb, tmp_path / "a.png", exif=b"Exif\0\0garbage that is no TIFF header")
    np.testing.assert_array_equal(read_image(path), rgb)


def test_a_panorama_opens_without_warning_and_pillows_limit_stays(tmp_path, monkeypatch):
    # As 20000 x 10000 pixels are to Pillow's real limit: beyond twice it, where it raises.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = save(np.zeros((50, 60, 3), np.uint8), tmp_path / "wide.png")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read_image(path).shape == (50, 60, 3)
        with pytest.raises(ImageError):
            read_image(tmp_path / "missing.png")
    assert not seen
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_threads_leave_pillows_limit_as_it_was(tmp_path, rgb):
    before = Image.MAX_IMAGE_PIXELS
    path = save(rgb, tmp_path / "a.png")
    threads = [threading.Thread(target=read_image, args=(path,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before is not None
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))
    (tmp_path / "bomb.png").write_bytes(body + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match=r"bomb\.png: 40000 x 40000 pixels are more than"):
        read_image(tmp_path / "bomb.png")
    assert image_module.MAX_PIXELS >= 20_000 * 3_000


def test_file_errors_say_what_and_what_to_do(tmp_path):
    def message(source) -> str:
        with pytest.raises(ImageError) as caught:
            read_image(source)
        text = str(caught.value)
        assert "\n" not in text
        return text

    assert "nothing.png: no such file" in message(tmp_path / "nothing.png")
    assert "https://example.org/a.png: an address" in message("https://example.org/a.png")
    assert "download it" in message("https://example.org/a.png")
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for a writer, for ever
    assert "pipe.png: is a pipe, no regular file" in message(tmp_path / "pipe.png")
    assert "/dev/zero: is a device" in message("/dev/zero")
    assert "is a folder: pass the path of one image" in message(tmp_path)
    (tmp_path / "a.txt").write_text("not pixels")
    assert "a.txt: is not an image that can be read: pass a JPEG" in message(tmp_path / "a.txt")
    (tmp_path / "empty.png").touch()
    assert "is empty (0 bytes)" in message(tmp_path / "empty.png")
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    assert "is not an image that can be read" in message(tmp_path / "a.eps")
    assert "a NUL character: no file can have that name" in message("a\0b.png")
    assert "cannot read an image from list: pass a path" in message([1, 2])
    assert "cannot read an image from NoneType" in message(None)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "bmp", "webp"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = save(read_image(hopper())[:200, :200], tmp_path / f"a.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    # Some formats fail at the header already; none may return half a picture.
    with pytest.raises(ImageError, match=r"damaged or cut short|not an image that can be read"):
        read_image(path)


# Arrays and PIL images


def test_uint8_arrays_pass_through_without_a_copy(rgb):
    np.testing.assert_array_equal(read_image(rgb), rgb)
    assert np.shares_memory(read_image(rgb), rgb)


def test_channel_order_of_arrays(tmp_path, rgb):
    np.testing.assert_array_equal(read_image(rgb, "BGR"), rgb[..., ::-1])
    assert read_image(rgb, "BGR").flags.c_contiguous
    opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)
    np.testing.assert_array_equal(read_image(opaque, "BGR"), rgb[..., ::-1])
    path = save(rgb, tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path, "BGR"), rgb)  # files know their order
    with pytest.raises(ImageError, match="use 'RGB' or 'BGR'"):
        read_image(rgb, "rgb")


def test_values_of_each_dtype(rgb):
    np.testing.assert_array_equal(read_image(rgb / 255.0), rgb)
    np.testing.assert_array_equal(read_image((rgb / 255).astype(np.float32)), rgb)
    np.testing.assert_array_equal(read_image(rgb > 60), (rgb > 60) * np.uint8(255))
    np.testing.assert_array_equal(read_image(rgb[..., 0])[..., 2], rgb[..., 0])
    np.testing.assert_array_equal(read_image(rgb[..., :1])[..., 2], rgb[..., 0])


def test_sixteen_bit_colour_keeps_its_colours_and_its_opacity():
    deep = np.zeros((8, 8, 4), np.uint16)
    deep[..., 0], deep[:, 4:, 1], deep[..., 3] = 2000, 1000, 65535
    read = read_image(deep)
    np.testing.assert_array_equal(read[0, 0], [255, 0, 0])
    np.testing.assert_allclose(read[0, 7], [255, 128, 0], atol=1)  # one window for all channels
    deep[..., 3] = 0
    assert (read_image(deep) == 255).all()


def test_windows_of_odd_data():
    assert (read_image(np.full((4, 4), 700, np.uint16)) == 0).all()
    sparse = np.zeros((100, 100), np.uint16)
    sparse[50, 50] = 9  # fewer pixels than the percentile keeps
    assert read_image(sparse)[50, 50, 0] == 255
    swapped = np.arange(64, dtype=">u2").reshape(8, 8)
    np.testing.assert_array_equal(read_image(swapped), read_image(swapped.astype(np.uint16)))


def test_objects_with_array_are_arrays(rgb):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return rgb

    np.testing.assert_array_equal(read_image(Tensor()), rgb)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((0, 5, 3), np.uint8), "shape 0x5x3 has no pixels"),
        (np.zeros((3, 20, 30), np.uint8), "channels come last"),
        (np.zeros((1, 20, 30, 3), np.uint8), "one image at a time"),
        (np.zeros((20, 30, 2), np.uint8), "shape 20x30x2 is not an image"),
        (np.zeros(7, np.uint8), "shape 7 is not an image"),
        (np.zeros((4, 4), object), "dtype object"),
        (np.zeros((4, 4), complex), "dtype complex128 is not an image"),
        (np.zeros((4, 4), "V4"), "is not an image"),
        (np.zeros((4, 4, 4), np.int16) - 1, "alpha, of int16 values from -1 to -1"),
        (np.full((4, 4), np.nan), "NaN or infinite"),
        (np.full((4, 4), np.inf), "NaN or infinite"),
    ],
)
def test_unusable_arrays(array, text):
    with pytest.raises(ImageError, match=text):
        read_image(array)


def test_pil_images(rgb):
    np.testing.assert_array_equal(read_image(Image.fromarray(rgb)), rgb)
    premultiplied = Image.fromarray(rgb).convert("RGBA").convert("RGBa")
    np.testing.assert_array_equal(read_image(premultiplied), rgb)
    with pytest.raises(ImageError, match="PIL image: has 0 x 5 pixels"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_pil_mode_becomes_rgb(mode):
    assert read_image(Image.new(mode, (3, 2))).shape == (2, 3, 3)


# Geometry


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((600, 512), 1024, (1024, 874)),  # 873.8
        ((1024, 1024), 1024, (1024, 1024)),
        ((1200, 1800), 1024, (683, 1024)),  # 682.67
        ((3000, 20000), 1024, (154, 1024)),
        ((1, 5000), 1024, (1, 1024)),  # the official code: 0 rows, then a crash
        ((2, 8), 2, (1, 2)),  # 0.5 rounds up
    ],
)
def test_resize_longest_side(shape, target, expected):
    assert resize_longest_side(shape, target) == expected


@pytest.mark.parametrize(("shape", "target"), [((0, 4), 8), ((4, 4), 0), ((4, -1), 8)])
def test_resize_longest_side_needs_pixels(shape, target):
    with pytest.raises(ImageError, match="sizes must be 1 or more"):
        resize_longest_side(shape, target)


@pytest.mark.parametrize("size", [(151, 129), (1024, 874), (600, 512), (1, 7)])
def test_resize_is_pillows_bilinear(size):
    photo = read_image(hopper())
    expected = Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR)
    resized = resize(photo, size)
    assert resized.shape == (*size, 3)
    np.testing.assert_array_equal(resized, np.asarray(expected))


def test_resize_takes_views(rgb):
    flipped = rgb[:, ::-1, ::-1]
    np.testing.assert_array_equal(resize(flipped, (9, 7)), resize(flipped.copy(), (9, 7)))


def test_coordinates_follow_the_resized_image():
    original, target = (1200, 1799), 1024
    h, w = resize_longest_side(original, target)
    coords = np.array([[[500, 375], [0, 0]], [[1799, 1200], [3.25, 7.5]]])
    moved = apply_coords(coords, original, target)
    expected = np.stack([coords[..., 0] * (w / 1799), coords[..., 1] * (h / 1200)], axis=-1)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, expected.astype(np.float32))
    np.testing.assert_array_equal(moved[1, 0], np.float32([w, h]))
    np.testing.assert_array_equal(coords[1, 1], [3.25, 7.5])  # the input is left alone
    np.testing.assert_array_equal(scale_coords(coords, original, (h, w)), moved)


def test_integer_coordinates_and_boxes():
    box = np.array([75, 275, 1725, 850])
    moved = apply_boxes(box, (1200, 1800), 1024)
    assert moved.shape == (4,)
    np.testing.assert_allclose(moved, [42.667, 156.52, 981.33, 483.79], atol=5e-3)
    corners = apply_coords(np.array([[75, 275], [1725, 850]]), (1200, 1800), 1024)
    np.testing.assert_array_equal(moved, corners.ravel())
    assert apply_boxes(np.zeros((0, 4)), (10, 20), 64).shape == (0, 4)
    assert apply_boxes(np.zeros((2, 3, 4)), (10, 20), 64).shape == (2, 3, 4)


def test_a_row_that_pillow_cannot_hold_is_told(tmp_path):
    """Pillow's own error is one of memory, whatever is free."""
    path = tmp_path / "wide.png"
    header = struct.pack(">IIBBBBB", 10**9, 1, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    with pytest.raises(ImageError, match="1000000000 x 1 pixels are more than the limit"):
        read_image(path)
