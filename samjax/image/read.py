"""Read images as uint8 RGB arrays.

This file needs NumPy and Pillow only. All later code sees one kind of image: H x W x 3, uint8, RGB,
turned the way a viewer shows it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from samjax.errors import ImageError
from samjax.files import check_regular, given_path, refuse_address
from samjax.image.deep_files import (
    is_deep_colour,
    is_deep_planar,
    read_deep_colour,
    read_tiff,
    seek,
    tiff_bands,
)
from samjax.image.memory import READ_BYTES, check_memory
from samjax.image.stored import StoredImage, stored
from samjax.image.values import Deep, alpha_to_uint8, to_uint8
from samjax.words import counted

# Far above any camera or panorama; 7 GiB while it is decoded, 3 GiB then.
MAX_PIXELS = 2**30
MAX_SIDE = 2**28  # Pillow has no wider rows
_STRIP_PIXELS = 2**16  # that are converted at once: their memory is used again, not new
_ORIENTATION = 0x0112  # tag of EXIF

# Raster formats only: Pillow would start Ghostscript for an EPS. HEIF needs a plugin of the user's.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM"),
    *("JPEG2000", "AVIF", "HEIF"),
)
_FORMATS_TEXT = "JPEG, PNG, TIFF, BMP, WebP or GIF"

_open_lock = threading.Lock()


def read_image(
    source: Any,
    image_format: str = "RGB",
    *,
    bands: int | Sequence[int] | None = None,
    page: int | None = None,
    deep: Deep | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Read one image as H x W x 3 uint8 RGB, in the orientation a viewer shows.

    Args:
        source: a path (str or `Path`), the bytes of an image file, a binary file object, a PIL
            image, or an array (anything with `__array__`) of shape H x W, H x W x 1, H x W x 3 or
            H x W x 4 (the fourth channel is alpha).
        image_format: order of the channels, "RGB" or "BGR"; for arrays only.
        bands: indices of the one or three bands that are read as grey or as red, green and blue,
            counted from 0; an array may then have any number of channels. TIFFs of other than
            1, 3 or 4 bands need it, and tifffile (the extra ``tiff``).
        page: of a file with several pages or frames, counted from 0; None reads the first.
        deep: function that turns values other than uint8 and bool into uint8, instead of the
            rules below; it gets the colour channels, H x W or H x W x C, finite and of any range.

    Files and PIL images: EXIF orientation applied; greyscale, palette, CMYK and 1-bit become RGB;
    transparent pixels are laid over white, as viewers and notebooks show them (dropping alpha
    would uncover hidden colours).

    Values, one rule per dtype, the same for files and arrays:

    - uint8: as they are.
    - bool: 0 and 255.
    - float within [0, 1]: [0, 1] becomes [0, 255], rounded.
    - all others (integers of 16 bits and more, also signed, and floats outside [0, 1]): windowed.
      The 0.1 and 99.9 percentiles over all colour channels together become 0 and 255, and a
      constant image becomes 0. For another window, as of CT, pass uint8:
      ``np.clip((ct + 160) / 400, 0, 1)`` shows -160 to 240 HU.

    Returns:
        The image; it may share memory with an array that needed no change.

    Raises:
        ImageError: missing, broken, oversized (above 2**30 pixels, or the free memory) or
            unsupported files; empty arrays, unusable shapes or dtypes, NaN or infinite values;
            bands or pages that are not there.
    """
    if image_format not in ("RGB", "BGR"):
        raise ImageError(f"image_format is {image_format!r}: use 'RGB' or 'BGR'")
    chosen = _check_bands(bands)
    if page is not None and (isinstance(page, bool) or not isinstance(page, int) or page < 0):
        raise ImageError(f"page is {page!r}: pass its number, counted from 0")
    if isinstance(source, (str, os.PathLike)):
        refuse_address(source, ImageError)
        path = given_path(source, ImageError)
        return _read_file(path, str(source), chosen, page, deep)
    if isinstance(source, Image.Image):
        if page is not None:
            seek(source, page, "PIL image")
        return _pil_to_rgb(source, "PIL image", chosen, deep)
    if (held := stored(source)) is not None:
        return _read_file(held, held.name, chosen, page, deep)
    if page is not None:
        raise ImageError("page is for files: choose the page of an array by its index")
    if hasattr(source, "__array__"):
        return _array_to_rgb(np.asarray(source), image_format, "array", chosen, deep)
    raise ImageError(
        f"cannot read an image from {type(source).__name__}: "
        "pass a path, bytes, a PIL image or an H x W x 3 uint8 array"
    )


def image_size(path: str | os.PathLike[str] | StoredImage) -> tuple[int, int]:
    """Return the (H, W) of an image file before EXIF orientation, from its header alone.

    Raises:
        ImageError: the file is none that `read_image` reads, or has too many pixels.
    """
    found = path if isinstance(path, StoredImage) else given_path(path, ImageError)
    with _reading(found, str(path)):
        try:
            with _open(found) as image:
                width, height = image.size
        except UnidentifiedImageError:
            bands = tiff_bands(found)
            if bands is None:
                raise
            height, width = bands[2:]
    _check_size(str(found), width, height)
    return height, width


def _check_bands(bands: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if bands is None:
        return None
    chosen = tuple(np.atleast_1d(np.asarray(bands)).tolist())
    if len(chosen) not in (1, 3) or not all(type(i) is int and i >= 0 for i in chosen):
        raise ImageError(f"bands is {bands!r}: pass one index, or three, counted from 0")
    return chosen


def _read_file(
    path: Path | StoredImage,
    given: str,
    bands: tuple[int, ...] | None,
    page: int | None,
    deep: Deep | None,
) -> UInt8[np.ndarray, "H W 3"]:
    name = str(path)
    with _reading(path, given):
        if bands is not None and (found := tiff_bands(path)) is not None:
            return _read_tiff(path, found, bands, page, deep)
        try:
            opened = _open(path)
        except UnidentifiedImageError:
            if (found := tiff_bands(path)) is None:
                raise
            return _read_tiff(path, found, bands, page, deep)
        with opened as image:
            if page:
                seek(image, page, name)
            width, height = image.size
            _check_size(name, width, height)
            if is_deep_planar(image) and (found := tiff_bands(path)) is not None:
                return _read_tiff(path, found, bands, page, deep)
            if is_deep_colour(image):
                values = _read_deep(path, name, page or 0)
                return _array_to_rgb(values, "RGB", name, bands, deep)
            return _pil_to_rgb(image, name, bands, deep)


@contextmanager
def _reading(path: Path | StoredImage, given: str) -> Iterator[None]:
    """Turn the errors of opening and decoding a file into one line."""
    if "\0" in given:
        raise ImageError(f"{given!r}: has an embedded null byte: no file has such a name")
    try:
        yield
    except FileNotFoundError:
        is_url = isinstance(path, Path) and path.parts[:1] in (("http:",), ("https:",))
        hint = "download it first" if is_url else "check the path"
        name = given if is_url else str(path)  # a path makes one slash of two
        raise ImageError(f"{name}: no such file (looked from {Path.cwd()}): {hint}") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder: pass the path of one image file") from None
    except UnidentifiedImageError:
        if path.stat().st_size == 0:
            reason = "is empty (0 bytes): copy or download it again"
        else:
            reason = f"is not an image that can be read: pass a {_FORMATS_TEXT} file"
        raise ImageError(f"{path}: {reason}") from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read: check its owner and mode") from None
    except OSError as error:
        if error.errno is None:  # the decoder's complaint, not the system's
            raise _broken(str(path), error) from error
        raise ImageError(f"{path}: cannot be read ({error}): check the path and disk") from error


def _read_tiff(
    path: Path | StoredImage,
    found: tuple[int, int, int, int],
    bands: tuple[int, ...] | None,
    page: int | None,
    deep: Deep | None,
) -> UInt8[np.ndarray, "H W 3"]:
    count, bits, height, width = found
    if bands is None and count not in (1, 3):
        raise ImageError(
            f"{path}: TIFF of {counted(count, 'band')}: choose one or three, as bands=(0, 1, 2)"
        )
    _check_size(str(path), width, height, READ_BYTES + count * bits // 8)
    return _array_to_rgb(read_tiff(path, page or 0), "RGB", str(path), bands, deep)


def _read_deep(path: Path | StoredImage, name: str, page: int) -> np.ndarray:
    try:
        return read_deep_colour(lambda: _open(path), page)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # decoders meet broken data with nearly any exception
        raise _broken(name, error) from error


def _check_size(name: str, width: int, height: int, bytes_per_pixel: int = READ_BYTES) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than the limit of {MAX_PIXELS}, or a side "
            f"has more than {MAX_SIDE}: "
            "scale it down or cut it into tiles first"
        )
    check_memory(name, width, height, bytes_per_pixel)


def _open(path: Path | StoredImage) -> Image.Image:
    """Open an image without Pillow's limit of 89 million pixels, which panoramas exceed.

    The limit is a global of Pillow, which reads it only while opening; the lock keeps two threads
    from restoring each other's value.
    """
    if isinstance(path, Path):
        if path.is_dir():  # Windows would call it a missing permission
            raise IsADirectoryError(path)
        check_regular(path, ImageError)
    with _open_lock:
        Image.init()
        formats = [name for name in _FORMATS if name in Image.OPEN]
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = path if isinstance(path, Path) else path.open()
            return Image.open(file, formats=formats)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise _broken(str(path), error) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _broken(name: str, error: Exception) -> ImageError:
    reason = str(error).rstrip(".") or type(error).__name__
    return ImageError(
        f"{name}: is damaged or cut short ({reason}): copy or download it again, "
        "or open and save it with another program"
    )


def _pil_to_rgb(
    image: Image.Image,
    name: str,
    bands: tuple[int, ...] | None = None,
    deep: Deep | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    if 0 in image.size:
        raise ImageError(f"{name}: has {image.width} x {image.height} pixels: pass a filled image")
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders meet broken data with nearly any exception
        raise _broken(name, error) from error
    with suppress(Exception):  # unreadable EXIF says nothing about the pixels: viewers ignore it
        image = ImageOps.exif_transpose(image) if _is_turned(image) else image

    if bands is not None or image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _array_to_rgb(np.asarray(image), "RGB", name, bands, deep)
    if image.mode in ("La", "RGBa"):  # premultiplied alpha converts to its straight twin only
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        return _in_strips(image, lambda strip: _over_white(strip.convert("RGBA")))
    return _in_strips(image, lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB"))


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) != 1


def _in_strips(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image]
) -> UInt8[np.ndarray, "H W 3"]:
    """Convert strip by strip, so that no second copy of a large image is made."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, min(_STRIP_PIXELS, Image.MAX_IMAGE_PIXELS or _STRIP_PIXELS) // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(convert(image.crop((0, top, width, bottom))))
    return pixels


def _over_white(image: Image.Image) -> Image.Image:
    background = Image.new("RGB", image.size, (255, 255, 255))
    background.paste(image, mask=image.getchannel("A"))
    return background


def _array_to_rgb(
    array: np.ndarray,
    image_format: str,
    name: str,
    bands: tuple[int, ...] | None = None,
    deep: Deep | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    shape = "x".join(map(str, array.shape))
    label = f"{name} of shape {shape}" if name == "array" else f"{name}: its shape {shape}"
    if array.ndim == 2:
        array = array[..., None]
    if bands is not None and array.ndim == 3:
        if max(bands) >= array.shape[2]:
            kind = "array" if name == "array" else "image"
            raise ImageError(
                f"{name}: no band {max(bands)} in an {kind} of {counted(array.shape[2], 'band')}: "
                "bands are counted from 0"
            )
        array = array[..., list(bands)]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        if array.ndim == 4:
            advice = "pass one image at a time"
        elif array.ndim == 3 and array.shape[0] in (1, 3, 4):
            advice = "channels come last, use np.moveaxis(image, 0, -1)"
        else:
            advice = (
                "pass H x W, H x W x 1, H x W x 3 or H x W x 4, or choose bands, as bands=(0, 1, 2)"
            )
        raise ImageError(f"{label} is not an image: {advice}")
    if array.size == 0:
        raise ImageError(f"{label} has no pixels: pass a filled image")

    colour = to_uint8(array[..., :3], name, deep)
    if image_format == "BGR":
        colour = colour[..., ::-1]
    if array.shape[2] == 1:
        return np.repeat(colour, 3, axis=-1)
    if array.shape[2] == 4:
        rgba = np.concatenate([colour, alpha_to_uint8(array[..., 3:], name)], axis=-1)
        return _in_strips(Image.fromarray(rgba), _over_white)
    return np.ascontiguousarray(colour)
