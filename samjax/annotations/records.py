"""What all formats share: records, category names, reading files with one-line errors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from samjax.errors import AnnotationError
from samjax.rle import Segmentation, convert, crop, segmentation_area, segmentation_size

Record: TypeAlias = dict[str, Any]

DEFAULT_LABEL = "object"  # category of records without a label


class AnnotatedImage(NamedTuple):
    """The records of one image; a plain tuple does as well.

    Attributes:
        file_name: of the image, relative to the data set's folder of images.
        size: (h, w) in pixels.
        records: official records, each of that size.
    """

    file_name: str
    size: tuple[int, int]
    records: Sequence[Record]


# What the writers of data sets take: `AnnotatedImage` or plain tuples.
Images: TypeAlias = Iterable[tuple[str, tuple[int, int], Sequence[Record]]]


def convert_records(records: Iterable[Record], output_mode: str) -> list[Record]:
    """The same records with segmentations in another form.

    "binary_mask" is what ``supervision.Detections.from_sam`` takes.

    Raises:
        AnnotationError: no or unusable segmentation, or another output mode.
    """
    return [
        {**record, "segmentation": convert(segmentation_of(record), output_mode)}
        for record in records
    ]


def segmentation_of(record: Record, size: tuple[int, int] | None = None) -> Segmentation:
    """The segmentation of a record; it must be there and of the image's size."""
    if "segmentation" not in record:
        raise AnnotationError(
            f"record with keys {sorted(record)} has no segmentation: "
            "pass the records of SamAutomaticMaskGenerator or dicts like them"
        )
    found = segmentation_size(record["segmentation"])
    if size is not None and found != tuple(size):
        raise AnnotationError(
            f"mask of {found[0]} x {found[1]} pixels in an image of {size[0]} x {size[1]}: "
            "pass (height, width) and masks of the original image"
        )
    return record["segmentation"]


def new_record(
    segmentation: Segmentation, output_mode: str, extra: Mapping[str, Any] = {}
) -> Record:
    """A record with the area and box of its mask."""
    return {
        "segmentation": convert(segmentation, output_mode),
        "area": segmentation_area(segmentation),
        "bbox": crop(segmentation).box,
        **extra,
    }


class Categories:
    """Names to indices 0, 1, ...: the given ones, or new ones in order of appearance."""

    def __init__(self, names: Sequence[str] | None):
        if isinstance(names, str) or len(set(names or ())) != len(names or ()):
            raise AnnotationError(f"categories are {names!r}: pass a list of different names")
        self.fixed = names is not None
        self.index = {name: i for i, name in enumerate(names or ())}

    def of(self, record: Record) -> int:
        name = record.get("label", DEFAULT_LABEL)
        if not isinstance(name, str):
            raise AnnotationError(f"label is {name!r}: pass the category's name as a str")
        if self.fixed and name not in self.index:
            raise AnnotationError(
                f"label {name!r} is not among the categories {', '.join(self.index)}: add it"
            )
        return self.index.setdefault(name, len(self.index))


def plain(value: Any) -> Any:
    """NumPy scalars and arrays as Python's own numbers and lists, for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[Path]:
    """Turn what goes wrong inside into one line that names the file.

    ``kind`` is what the file should be, as in "a COCO JSON file".
    """
    path = Path(path).expanduser()
    try:
        yield path
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
