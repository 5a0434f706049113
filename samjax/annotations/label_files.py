"""Name the file that holds an image's annotations, and find the sizes of images."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from samjax.annotations.records import check_file_name, reading
from samjax.errors import AnnotationError

_EXIF_ORIENTATION = 0x0112


def stem_name(file_name: str, suffix: str) -> PurePosixPath:
    """Return the image's name with another suffix, relative to the folder of annotations."""
    return PurePosixPath(check_file_name(file_name).replace("\\", "/")).with_suffix(suffix)


def stem_names(file_names: Iterable[str], suffix: str) -> list[PurePosixPath]:
    """Return the `stem_name` of each image.

    Raises:
        AnnotationError: two images would have the same, or a name leads outside the folder.
    """
    owner: dict[PurePosixPath, str] = {}
    for file_name in file_names:
        name = stem_name(file_name, suffix)
        if name in owner:
            raise AnnotationError(
                f"{file_name} and {owner[name]} would share {name}: rename one of them"
            )
        owner[name] = file_name
    return list(owner)


def shown_size(source: Path | BytesIO) -> tuple[int, int]:
    """Return (h, w) of an image file with its EXIF orientation applied; reads no pixels."""
    with Image.open(source) as image:
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    return (width, height) if sideways else (height, width)


def image_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (h, w) of all images of a folder, by name relative to it.

    Raises:
        AnnotationError: no such folder, or a file that is no image.
    """
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder: put the images there or pass sizes")
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            with reading(path, "an image") as file:
                sizes[path.relative_to(folder).as_posix()] = shown_size(file)
    return sizes
