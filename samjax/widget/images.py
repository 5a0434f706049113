"""The images of an annotator: their list, their names, and the copies that the page shows."""

from __future__ import annotations

import glob
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from samjax.errors import AnnotationError, ImageError
from samjax.files import given_path
from samjax.image.folder import absolute_path, find_images
from samjax.image.preset import Preset, hash_pixels, read_for
from samjax.widget.sizes import Size, fitted
from samjax.widget.state_file import read_image_key

DISPLAY = 2048  # longest side of the copy of an image that is shown, in pixels


@dataclass(frozen=True)
class Picture:
    """An image that was read has a size (H, W) and the copy that the page shows."""

    size: Size
    display_size: Size
    jpeg: bytes = field(repr=False)

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """Decode the display copy."""
        return np.array(Image.open(io.BytesIO(self.jpeg)).convert("RGB"))


def display_copy(pixels: UInt8[np.ndarray, "H W 3"]) -> Picture:
    """Make a JPEG of at most `DISPLAY` pixels a side."""
    size = (pixels.shape[0], pixels.shape[1])
    shown = fitted(size, DISPLAY)
    picture = Image.fromarray(pixels)
    if shown != size:
        picture = picture.resize(shown[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    # 4:4:4: edges between colours are what the user clicks along.
    picture.save(file, "JPEG", quality=92, subsampling=0)
    return Picture(size, shown, file.getvalue())


def stored_names(
    folder: str | os.PathLike[str] | None, sources: Sequence[Any], preset: Preset
) -> dict[int, str]:
    """Find the names that arrays and PIL images have in an annotator's folder, by their pixels.

    So they keep their saved states when others are put before them.

    Args:
        folder: of the saved states; None: there are none.
        sources: paths, arrays and PIL images.
        preset: of the model, which decides how pixels are read.

    Returns:
        The names by position, of those that are known.
    """
    arrays = [i for i, s in enumerate(sources) if not isinstance(s, (str, os.PathLike))]
    if folder is None or not arrays:
        return {}
    keys = map(read_image_key, sorted(given_path(folder, AnnotationError).glob("image_*.json")))
    known: dict[str, list[str]] = {}
    for key in filter(None, keys):
        known.setdefault(key[1], []).append(key[0])
    found: dict[int, str] = {}
    for i in arrays if known else ():
        try:
            names = known.get(hash_pixels(read_for(preset, sources[i])))
        except ImageError:
            continue  # it is told when the image is opened
        if names:
            found[i] = names.pop(0)
    return found


def image_names(sources: Sequence[Any], stored: Mapping[int, str] | None = None) -> list[str]:
    """Give each image a name of its own: its file's, with as many folders ("a/b.png") as it takes.

    Arrays and PIL images are called image_0000.png and so on, by their position, or as they are
    ``stored``.
    """
    stored = stored or {}
    taken = set(stored.values())
    paths = [
        given_path(s, ImageError).absolute() if isinstance(s, (str, os.PathLike)) else None
        for s in sources
    ]
    names = [
        path.name if path is not None else stored[i] if i in stored else _array_name(i, taken)
        for i, path in enumerate(paths)
    ]
    for depth in range(2, max((len(p.parts) for p in paths if p), default=0)):
        twice = _twice(names)
        for i in twice:
            if (path := paths[i]) is not None:
                names[i] = "/".join(part for part in path.parts[-depth:] if part != "..")
        if not twice:
            break
    for i in _twice(names):  # the same file again, or dog.jpg beside dog.png
        names[i] = f"{i:04d}_{names[i].replace('/', '_')}"
    return names


def _array_name(position: int, taken: set[str]) -> str:
    """Return the name of an array: by its position, or by the next number that is free."""
    names = (f"image_{i:04d}.png" for i in count(position))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def image_files(sources: Sequence[Any]) -> list[Path]:
    """Return the paths of the images that are files, PIL images that were opened included."""
    named = [getattr(s, "filename", None) if isinstance(s, Image.Image) else s for s in sources]
    return [given_path(each, ImageError) for each in named if isinstance(each, (str, os.PathLike))]


def _twice(names: Sequence[str]) -> list[int]:
    """Return the indices of names that differ from another one in case or suffix only."""
    stems = [str(PurePosixPath(name).with_suffix("")).casefold() for name in names]
    occurring = Counter(stems)
    return [i for i, stem in enumerate(stems) if occurring[stem] > 1]


def image_list(images: Any, left_out: str | os.PathLike[str] | None = None) -> list[Any]:
    """Return one image, or a sequence of them, as a list; folders and patterns become their files.

    Args:
        images: one image or several.
        left_out: folder of the annotator's own files, in which no images are looked for.

    Raises:
        ImageError: no images, or something that is none.
    """
    single = isinstance(images, (str, os.PathLike, Image.Image)) or hasattr(images, "__array__")
    if single and getattr(images, "ndim", 0) != 4:
        return _expanded(images, left_out)
    try:
        found = list(images)
    except TypeError:
        raise ImageError(
            f"images is {type(images).__name__}: pass one image (path, array, PIL image) or a list"
        ) from None
    if not found:
        raise ImageError("images is empty: pass at least one path, array or PIL image")
    return [each for image in found for each in _expanded(image, left_out)]


def _expanded(image: Any, left_out: str | os.PathLike[str] | None) -> list[Any]:
    """Return the files of a folder or pattern, sorted, and everything else as it is."""
    if not isinstance(image, (str, os.PathLike)):
        return [image]
    path = given_path(image, ImageError)
    several = path.is_dir() if path.exists() else glob.has_magic(str(path))
    if not several:
        return [image]  # a file that is missing is told when it is opened
    own = None if left_out is None else absolute_path(Path(left_out))
    _, found = find_images([str(path)], skip=lambda each: each == own)
    return [each.path for each in found]
