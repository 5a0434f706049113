"""Handle records, category names and reading errors for all annotation formats."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np

from samjax.arguments import several, shown, whole_number
from samjax.errors import AnnotationError
from samjax.files import given_path
from samjax.masks.rle import (
    Record,
    Segmentation,
    convert_segmentation,
    crop,
    segmentation_area,
    segmentation_size,
)

FORMATS = ("coco", "yolo", "png", "npz")  # of annotation files
_LONGEST_NAME = 240  # bytes: disks take 255, and endings are added
DEFAULT_LABEL = "object"  # category of records without a label


class _AnnotatedImage(NamedTuple):
    file_name: str
    size: tuple[int, int]
    records: Sequence[Record]


class AnnotatedImage(_AnnotatedImage):
    """Holds the records of one image; unpacks to three, and writers take a plain tuple as well.

    Attributes:
        file_name: name of the image file, relative to the data set's folder of images.
        size: (h, w) in pixels.
        records: official records with masks of that size.
        id: number of the image in the data set that it was read from; None for a new one.
    """

    id: int | str | None

    def __new__(
        cls,
        file_name: str,
        size: tuple[int, int],
        records: Sequence[Record],
        id: int | str | None = None,
    ) -> AnnotatedImage:
        """Make one; the number is no part of the tuple."""
        made = super().__new__(cls, file_name, size, records)
        made.id = id
        return made

    def _replace(self, **changes: Any) -> AnnotatedImage:
        return AnnotatedImage(**{**self._asdict(), "id": self.id, **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        return AnnotatedImage, (*self, self.id)


# (h, w) in pixels, of Python or NumPy.
Size: TypeAlias = tuple[SupportsIndex, SupportsIndex]
# Names of categories: in order, {name: id} or {id: name}; None takes those of the images.
CategoryNames: TypeAlias = Sequence[str] | np.ndarray | Mapping[str, int] | Mapping[int, str] | None

# Writers of data sets take `AnnotatedImage` or plain tuples.
Images: TypeAlias = Iterable[tuple[str, Size, Sequence[Record]]]


def convert_records(records: Iterable[Record], output_mode: str) -> list[Record]:
    """Convert the segmentations of records to another form.

    ``supervision.Detections.from_sam`` takes "binary_mask".

    Raises:
        AnnotationError: a segmentation is missing or unusable, or the output mode is unknown.
    """
    return [
        {**record, "segmentation": convert_segmentation(segmentation_of(record), output_mode)}
        for record in checked_records(records)
    ]


def checked_records(records: Any) -> Sequence[Record]:
    """Return records as they are, if they are a list of dicts.

    Raises:
        AnnotationError: anything else.
    """
    found = several(records, "records", "dicts, as SamAutomaticMaskGenerator's", AnnotationError)
    found = found if isinstance(found, Sequence) else list(found)
    for index, record in enumerate(found):
        if not isinstance(record, Mapping):
            raise AnnotationError(
                f"record {index} is {shown(record)}: pass dicts with a segmentation"
            )
    return found


def checked_images(images: Any) -> list[Any]:
    """Return (file_name, (h, w), records) of images in a list, each as it is.

    Raises:
        AnnotationError: one that is something else.
    """
    found = list(several(images, "images", "(file_name, (h, w), records)", AnnotationError))
    for image in found:
        if not isinstance(image, (tuple, list)) or len(image) != 3:
            raise AnnotationError(f"an image is {shown(image)}: pass (file_name, (h, w), records)")
        checked_size(image[1])
        checked_records(image[2])
    return found


def checked_size(size: Any) -> tuple[int, int]:
    """Return the (h, w) of an image.

    Raises:
        AnnotationError: anything but two whole numbers above 0.
    """
    if not isinstance(size, (tuple, list, np.ndarray)) or len(size) != 2:
        raise AnnotationError(f"size is {shown(size)}: pass (height, width) in pixels")
    height, width = (whole_number(side, "size", 1, error=AnnotationError) for side in size)
    return height, width


def checked_numbers(labels: Any) -> np.ndarray:
    """Return a label map as it is.

    Raises:
        AnnotationError: anything but an array of H x W whole numbers.
    """
    if getattr(getattr(labels, "dtype", None), "kind", "?") not in "bui" or labels.ndim != 2:
        raise AnnotationError(f"label map is {shown(labels)}: pass an array of H x W whole numbers")
    return labels


def segmentation_of(record: Record, size: Size | None = None) -> Segmentation:
    """Return the segmentation of a record, after checking that it has the image's size.

    Raises:
        AnnotationError: the segmentation is missing or of another size.
    """
    if "segmentation" not in record:
        raise AnnotationError(
            f"record with keys {sorted(record)} has no segmentation: "
            "pass the records of SamAutomaticMaskGenerator or dicts like them"
        )
    found = segmentation_size(record["segmentation"])
    if size is not None and found != tuple(size):
        raise AnnotationError(
            f"mask of {found[0]} x {found[1]} pixels in an image of {size[0]} x {size[1]} (height "
            "x width): pass masks of this image, of its own size"
        )
    return record["segmentation"]


def new_record(
    segmentation: Segmentation, output_mode: str, extra: Mapping[str, Any] = {}
) -> Record:
    """Make a record from a segmentation, with the area and box of its mask."""
    return {
        "segmentation": convert_segmentation(segmentation, output_mode),
        "area": segmentation_area(segmentation),
        "bbox": crop(segmentation).box,
        **extra,
    }


class Categories:
    """Maps category names to ids: given ones, or numbers in order of appearance.

    Args:
        names: categories; None takes the labels of the records as they come.
        first: id of the first name of a list.
        known: name to id of a data set that was read; labels that occur besides are added.
    """

    def __init__(
        self, names: CategoryNames = None, first: int = 0, known: Mapping[str, int] | None = None
    ):
        self.fixed, self._first = names is not None, first
        self.ids = dict(known or {}) if names is None else _ids(names, first)

    def of(self, record: Record) -> int:
        name = record.get("label", DEFAULT_LABEL)
        if not isinstance(name, str):
            raise AnnotationError(f"label is {name!r}: pass the category's name as a str")
        if self.fixed and name not in self.ids:
            raise AnnotationError(
                f"label {str(name)!r} is not among the categories {', '.join(self.ids)}: add it"
            )
        return self.ids.setdefault(str(name), max(self.ids.values(), default=self._first - 1) + 1)


def _ids(names: Any, first: int) -> dict[str, int]:
    refused = AnnotationError(
        f"categories are {str(names)[:80]!r}: pass a list of different names, {{name: id}} or "
        "{id: name}, ids from 0"
    )
    if isinstance(names, str):
        raise refused
    if isinstance(names, Mapping):
        pairs = [(k, v) if isinstance(k, str) else (v, k) for k, v in names.items()]
    else:
        listed = np.asarray(names).tolist()
        if not isinstance(listed, list):
            raise refused
        pairs = [(name, i) for i, name in enumerate(listed, first)]
    whole = (int, np.integer)
    if not all(isinstance(n, str) and isinstance(i, whole) and i >= 0 for n, i in pairs):
        raise refused
    ids = {str(name): int(i) for name, i in pairs}
    if len(ids) < len(pairs) or len(set(ids.values())) < len(pairs):
        raise refused
    return ids


def check_file_name(file_name: Any) -> str:
    """Return an image's file name, relative to the data set's folder of images.

    Raises:
        AnnotationError: absolute, leads outside with "..", or is no name that a disk takes.
    """
    if not isinstance(file_name, str):
        raise AnnotationError(f"file name is {shown(file_name)}: pass a text")
    text = str(file_name)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise AnnotationError(
            f"file name {text[:80]!r} holds bytes that are no UTF-8 text: rename the file"
        )
    name = PurePosixPath(text.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise AnnotationError(f"file name {text!r}: pass it relative to the images' folder")
    if any(ord(c) < 32 for c in text):
        raise AnnotationError(f"file name {text[:80]!r} has control characters: rename the file")
    if max(len(part.encode()) for part in name.parts) > _LONGEST_NAME:
        raise AnnotationError(f"file name {text[:40]!r}... is too long: rename the file")
    return text


def plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays to Python numbers and lists, for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def json_value(value: Any) -> Any:
    """Convert to plain JSON values; NaN and infinity, which JSON lacks, become null."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def integer_or_none(value: Any) -> int | None:
    """Return a whole number of Python or NumPy as int; None for everything else, bool too."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return int(value) if whole else None


def _no_pipe(path: Path) -> Path:
    """Return the path, if reading it does not wait for somebody who writes."""
    if path.is_fifo() or path.is_socket() or path.is_char_device():
        raise AnnotationError("is a pipe, a socket or a device, no regular file: copy it to a file")
    return path


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[Path]:
    """Turn any exception raised inside into a one-line AnnotationError that names the file.

    Args:
        path: file to read.
        kind: expected kind of file, such as "a COCO JSON file".
    """
    path = given_path(path, AnnotationError)
    try:
        yield _no_pipe(path)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file: check the path") from None
    except IsADirectoryError:
        raise AnnotationError(f"{path}: is a folder: pass the path of {kind}") from None
    except PermissionError:
        raise AnnotationError(f"{path}: no permission to read: check its owner and mode") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise AnnotationError(f"{path}: is not {kind}, or is damaged ({reason})") from error
