"""Pictures in, uint8 RGB arrays out: reading, resizing and the coordinates that go with it.

NumPy and Pillow only. Everything after this file sees one kind of image: H x W x 3, uint8, RGB,
turned the way a viewer shows it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from samjax.errors import ImageError

# Far above any camera or panorama, and about 3 GB once decoded.
MAX_PIXELS = 2**30

# Window for data deeper than 8 bits: the percentiles that become 0 and 255.
WINDOW_PERCENT = (0.1, 99.9)

# Raster formats only: Pillow would start Ghostscript for an EPS. HEIF needs a plugin of the user's.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM"),
    *("JPEG2000", "AVIF", "HEIF"),
)
_FORMATS_TEXT = "JPEG, PNG, TIFF, BMP, WebP or GIF"

_open_lock = threading.Lock()


Deep = Callable[[np.ndarray], np.ndarray]  # values deeper than 8 bits to uint8, same shape


def read_image(
    source: Any, image_format: str = "RGB", *, deep: Deep | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Read one image as H x W x 3 uint8 RGB, in the orientation a viewer shows.

    Args:
        source: a path (str or `Path`), a PIL image, or an array (anything with `__array__`) of
            shape H x W, H x W x 1, H x W x 3 or H x W x 4 (the fourth channel is alpha).
        image_format: order of the channels, "RGB" or "BGR"; for arrays only.
        deep: how values other than uint8 and bool become uint8, instead of the rules below; it
            gets the colour channels, H x W or H x W x C, finite and of any range.

    Files and PIL images: the first frame or page; EXIF orientation applied; greyscale, palette,
    CMYK and 1-bit become RGB; transparent pixels are laid over white, as viewers and notebooks
    show them (dropping alpha would uncover hidden colours).

    Values, one rule per dtype, the same for files and arrays:
        uint8: as they are.
        bool: 0 and 255.
        float: [0, 1] becomes [0, 255], rounded. An array outside [0, 1] is refused, since its
            scale can only be guessed; a file of floats outside it is windowed.
        uint16, and files of 16 or 32 bits: windowed. The 0.1 and 99.9 percentiles over all colour
            channels together become 0 and 255, and a constant image becomes 0. (Pillow itself
            cuts 16-bit *colour* files down to their upper 8 bits.)

    Returns:
        The image; it may share memory with an array that needed no change.

    Raises:
        ImageError: missing, broken, oversized (above 2**30 pixels) or unsupported files; empty
            arrays, unusable shapes or dtypes, NaN or infinite values.
    """
    if image_format not in ("RGB", "BGR"):
        raise ImageError(f"image_format is {image_format!r}: use 'RGB' or 'BGR'")
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source).expanduser(), deep)
    if isinstance(source, Image.Image):
        return _pil_to_rgb(source, "PIL image", deep)
    if hasattr(source, "__array__"):
        return _array_to_rgb(np.asarray(source), image_format, deep)
    raise ImageError(
        f"cannot read an image from {type(source).__name__}: "
        "pass a path, a PIL image or an H x W x 3 uint8 array"
    )


def resize_longest_side(shape_hw: tuple[int, int], target: int) -> tuple[int, int]:
    """Size (h, w) whose longest side is `target` pixels, with the aspect of `shape_hw` (H, W).

    Source: `ResizeLongestSide.get_preprocess_shape`, which lets the short side of a very narrow
    image fall to 0 (and then fails); here it is at least 1 pixel.

    Raises:
        ImageError: a side or target below 1.
    """
    height, width = shape_hw
    if min(height, width, target) < 1:
        raise ImageError(
            f"cannot resize {height} x {width} pixels to {target}: sizes must be 1 or more"
        )
    scale = target * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(
    image: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to `size_hw` (h, w) pixels with Pillow's bilinear filter, antialiased.

    Source: `ResizeLongestSide.apply_image`, i.e. torchvision's `resize(to_pil_image(image), size)`.
    """
    height, width = size_hw
    pil = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(pil)


def scale_coords(
    coords: Num[np.ndarray, "*n 2"], old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> Float32[np.ndarray, "*n 2"]:
    """Move (x, y) pixel coordinates from an image of size `old_hw` to one of `new_hw`.

    The arithmetic is float64, rounded once to float32 at the end, as in the official code.
    """
    (old_h, old_w), (new_h, new_w) = old_hw, new_hw
    # The quotient first, then the product: the official order of rounding.
    factors = np.array([new_w / old_w, new_h / old_h], dtype=np.float64)
    return (coords.astype(np.float64) * factors).astype(np.float32)


def apply_coords(
    coords: Num[np.ndarray, "*n 2"], original_hw: tuple[int, int], target: int
) -> Float32[np.ndarray, "*n 2"]:
    """Move (x, y) pixels of the original image into the one resized to `target`.

    Source: `ResizeLongestSide.apply_coords`, followed by the cast to float32 in `SamPredictor`.
    """
    return scale_coords(coords, original_hw, resize_longest_side(original_hw, target))


def apply_boxes(
    boxes: Num[np.ndarray, "*n 4"], original_hw: tuple[int, int], target: int
) -> Float32[np.ndarray, "*n 4"]:
    """Move (x0, y0, x1, y1) boxes in pixels into the image resized to `target`.

    Source: `ResizeLongestSide.apply_boxes`; here the leading axes are kept.
    """
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return apply_coords(corners, original_hw, target).reshape(boxes.shape)


def _read_file(path: Path, deep: Deep | None) -> UInt8[np.ndarray, "H W 3"]:
    try:
        with _open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: {width} x {height} pixels are more than the limit of {MAX_PIXELS}: "
                    "scale it down or cut it into tiles first"
                )
            return _pil_to_rgb(image, str(path), deep)
    except FileNotFoundError:
        is_url = path.parts[0] in ("http:", "https:") if path.parts else False
        hint = "download it first" if is_url else "check the path"
        raise ImageError(f"{path}: no such file (looked from {Path.cwd()}): {hint}") from None
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


def _open(path: Path) -> Image.Image:
    """`Image.open` without Pillow's limit of 89 million pixels, which panoramas exceed.

    The limit is a global of Pillow and only looked at while opening; the lock keeps two threads
    of ours from restoring each other's value.
    """
    if path.is_dir():  # Windows would call it a missing permission
        raise IsADirectoryError(path)
    with _open_lock:
        Image.init()
        formats = [name for name in _FORMATS if name in Image.OPEN]
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=formats)
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
    image: Image.Image, name: str, deep: Deep | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    if 0 in image.size:
        raise ImageError(f"{name}: has {image.width} x {image.height} pixels: pass a filled image")
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders meet broken data with nearly any exception
        raise _broken(name, error) from error
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the pixels, and viewers ignore it
        image = image.copy()

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ImageError(f"{name}: {_NOT_FINITE}")
        if deep is not None:
            return _grey_to_rgb(deep(values))
        if image.mode == "F" and _within_unit(values):
            return _grey_to_rgb(_unit_to_uint8(values))
        return _grey_to_rgb(_window(values))
    if image.mode in ("La", "RGBa"):  # premultiplied alpha converts to its straight twin only
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        return np.array(_over_white(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


_NOT_FINITE = "has NaN or infinite values: replace them first, e.g. with np.nan_to_num"


def _over_white(image: Image.Image) -> Image.Image:
    background = Image.new("RGB", image.size, (255, 255, 255))
    background.paste(image, mask=image.getchannel("A"))
    return background


def _array_to_rgb(
    array: np.ndarray, image_format: str, deep: Deep | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    shape = "x".join(map(str, array.shape))
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        if array.ndim == 4:
            advice = "pass one image at a time"
        elif array.ndim == 3 and array.shape[0] in (1, 3, 4):
            advice = "channels come last, use np.moveaxis(image, 0, -1)"
        else:
            advice = "pass H x W, H x W x 1, H x W x 3 or H x W x 4"
        raise ImageError(f"array of shape {shape} is not an image: {advice}")
    if array.size == 0:
        raise ImageError(f"array of shape {shape} has no pixels: pass a filled image")

    colour = _array_to_uint8(array[..., :3], deep)
    if image_format == "BGR":
        colour = colour[..., ::-1]
    if array.shape[2] == 1:
        return _grey_to_rgb(colour[..., 0])
    if array.shape[2] == 4:
        alpha = array[..., 3:]
        # Opacity has an absolute scale: a window would make a half-transparent image opaque.
        alpha = alpha / 65535 if alpha.dtype.kind == "u" and alpha.itemsize == 2 else alpha
        rgba = np.concatenate([colour, _array_to_uint8(alpha)], axis=-1)
        return np.array(_over_white(Image.fromarray(rgba)))
    return np.ascontiguousarray(colour)


def _array_to_uint8(values: np.ndarray, deep: Deep | None = None) -> UInt8[np.ndarray, "H W C"]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if deep is not None and values.dtype.kind in "uif":
        if not np.isfinite(values).all():
            raise ImageError(f"array {_NOT_FINITE}")
        return deep(values)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return _window(values)
    if values.dtype.kind != "f":
        raise ImageError(
            f"array of dtype {values.dtype} is not an image: for values of 0 to 255 pass "
            "image.astype(np.uint8), for deeper data uint16"
        )
    if not np.isfinite(values).all():
        raise ImageError(f"array {_NOT_FINITE}")
    if not _within_unit(values):
        raise ImageError(
            f"float array has values from {values.min():.4g} to {values.max():.4g}, expected "
            "0 to 1: divide by the maximum, or for 0 to 255 pass image.astype(np.uint8)"
        )
    return _unit_to_uint8(values)


def _within_unit(values: np.ndarray) -> bool:
    slack = 1e-3  # interpolation overshoots by a rounding error
    return bool(values.min() >= -slack and values.max() <= 1 + slack)


def _unit_to_uint8(values: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _window(values: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    """Stretch the range between the percentiles of `WINDOW_PERCENT` to 0..255."""
    low, high = map(float, np.percentile(values, WINDOW_PERCENT))
    if low == high:  # all but a few pixels are alike: keep those few
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, np.uint8)
    # float32 holds 16 bits exactly; 32-bit data would lose its small differences.
    wide: np.ndarray = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    return np.rint(np.clip((wide - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


def _grey_to_rgb(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.repeat(grey[..., None], 3, axis=-1)
