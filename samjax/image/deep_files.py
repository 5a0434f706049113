"""Read files whose pixels Pillow cuts to 8 bits or cannot open: deep colour, TIFFs of many bands.

Pillow decodes 16-bit colour to one byte of each value, the upper one. Decoding a second time with
the opposite byte order gives the lower one: no decoder of our own is needed. TIFFs that Pillow
cannot open go through tifffile (the extra ``tiff``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt16
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from samjax.errors import ImageError
from samjax.image.stored import StoredImage

# Raw modes of 16-bit colour: the mode and raw mode of the upper and of the lower bytes.
_UPPER_LOWER = {
    f"{raw};16{order}": ((mode, f"{raw};16{order}"), (mode, f"{raw};16{other}"))
    for raw, mode in (("RGB", "RGB"), ("RGBA", "RGBA"), ("RGBX", "RGB"))
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}
_SAMPLES, _BITS, _WIDTH, _HEIGHT, _PLANAR = 277, 258, 256, 257, 284  # tags of TIFF
_TRANSPARENT = "transparency"


def is_deep_colour(image: Image.Image) -> bool:
    """Tell whether a file that was opened, not loaded, has colours or an alpha of 16 bits."""
    return _raw_mode(image) in (*_UPPER_LOWER, "LA;16B")


def is_deep_planar(image: Image.Image) -> bool:
    """Tell whether an opened TIFF has deep bands one after another, which Pillow misreads."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (1,))
    deep = max(bits if isinstance(bits, tuple) else (bits,)) > 8
    return deep and tags.get(_SAMPLES, 1) > 1 and tags.get(_PLANAR, 1) == 2


def read_deep_colour(
    open_file: Callable[[], Image.Image], page: int
) -> UInt16[np.ndarray, "H W c"]:
    """Return the values of a 16-bit colour file, 3 or 4 channels, EXIF orientation applied.

    Args:
        open_file: opens the file anew; it is called twice.
        page: of the file.
    """
    with open_file() as image:
        image.seek(page)
        raw = _raw_mode(image)
        key = image.info.get(_TRANSPARENT) if raw.startswith("RGB;") else None
        if raw == "LA;16B":  # four bytes a pixel, as RGBA has
            grey_high, grey_low, high, low = np.moveaxis(_decoded(image, ("RGBA", "RGBA")), 2, 0)
            grey, alpha = _joined(grey_high, grey_low), _joined(high, low)
            return np.stack([grey, grey, grey, alpha], axis=-1)
        upper = _decoded(image, _UPPER_LOWER[raw][0])
    with open_file() as image:
        image.seek(page)
        values = _joined(upper, _decoded(image, _UPPER_LOWER[raw][1]))
    if isinstance(key, tuple):  # one colour of a PNG is transparent
        opaque = ~(values == np.array(key, np.uint16)).all(-1, keepdims=True)
        values = np.concatenate([values, opaque * np.uint16(65535)], axis=-1)
    return values


def tiff_bands(path: Path | StoredImage) -> tuple[int, int, int, int] | None:
    """Return bands, bits, height and width of a TIFF's first page; None for other files."""
    try:
        with path.open("rb") as file:
            header = file.read(8)
            if header[:4] not in (b"II*\0", b"MM\0*"):
                return None
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            bits = tags.get(_BITS, 1)
            bits = max(bits) if isinstance(bits, tuple) else bits
            return int(tags.get(_SAMPLES, 1)), int(bits), int(tags[_HEIGHT]), int(tags[_WIDTH])
    except Exception:  # as broken as files can be: no TIFF then
        return None


def read_tiff(path: Path | StoredImage, page: int) -> Shaped[np.ndarray, "H W c"]:
    """Read a page of a TIFF with all its bands through tifffile.

    Raises:
        ImageError: tifffile is not installed, the page is missing or the file is damaged.
    """
    try:
        import tifffile
    except ImportError:
        raise ImageError(
            f"{path}: bands of a TIFF need tifffile: pip install 'samjax[tiff]'"
        ) from None
    try:
        with tifffile.TiffFile(path if isinstance(path, Path) else path.open()) as file:
            count = len(file.pages)
            if not 0 <= page < count:
                raise _no_page(str(path), page, count)
            found = file.pages[page]
            values, axes = found.asarray(), found.axes
    except ImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # tifffile and its decoders raise many kinds
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{path}: TIFF that cannot be read ({why}): save it uncompressed, or "
            "pip install 'samjax[tiff]'"
        ) from error
    if values.ndim == 2:
        return values[..., None]
    if values.ndim == 3 and axes in ("SYX", "CYX"):
        return np.moveaxis(values, 0, -1)
    if values.ndim == 3:
        return values
    raise ImageError(f"{path}: page of axes {axes} is not an image: pass one of Y, X and bands")


def seek(image: Image.Image, page: int, name: str) -> None:
    """Go to a page or frame of a file.

    Raises:
        ImageError: the file has fewer.
    """
    count = getattr(image, "n_frames", 1)
    if page >= count:
        raise _no_page(name, page, count)
    image.seek(page)


def _no_page(name: str, page: int, count: int) -> ImageError:
    return ImageError(
        f"{name}: has no page {page}: choose one of 0 to {count - 1}"
        if count > 1
        else f"{name}: has no page {page}: it has one, page 0"
    )


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles or getattr(image, "format", None) not in ("PNG", "TIFF"):
        return ""
    raws = {args if isinstance(args, str) else args[0] for *_, args in tiles}
    return raws.pop() if len(raws) == 1 else ""  # several: planes, one after another


def _decoded(image: Image.Image, modes: tuple[str, str]) -> np.ndarray:
    """Decode with another raw mode than the file's own."""
    image._mode, raw = modes
    tiles: Any = []
    for codec, extents, offset, args in image.tile:  # type: ignore[attr-defined]
        changed = raw if isinstance(args, str) else (raw, *args[1:])
        tiles.append(ImageFile._Tile(codec, extents, offset, changed))
    image.tile = tiles  # type: ignore[attr-defined]
    image.info.pop(_TRANSPARENT, None)
    image.load()
    try:
        return np.asarray(ImageOps.exif_transpose(image))
    except Exception:  # unreadable EXIF says nothing about the pixels
        return np.asarray(image)


def _joined(upper: np.ndarray, lower: np.ndarray) -> UInt16[np.ndarray, "*shape"]:
    return (upper.astype(np.uint16) << 8) | lower
