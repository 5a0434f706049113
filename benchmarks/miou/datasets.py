"""A data set from the path that the user gives."""

from __future__ import annotations

from pathlib import Path

from benchmarks.miou.coco_files import open_coco
from benchmarks.miou.folder_files import LAYOUTS, open_folder
from benchmarks.miou.samples import Dataset
from samjax.errors import AnnotationError

KINDS = ("coco", *LAYOUTS)


def open_dataset(
    path: str | Path,
    images: str | Path | None = None,
    kind: str | None = None,
    first_only: bool = False,
) -> Dataset:
    """A data set.

    Args:
        path: a COCO or LVIS annotation file; a folder of images beside whose parent's
            ``annotations`` folder such a file lies (``coco/val2017``); or a folder in one of
            the layouts of folder_files.
        images: the folder of images, where it is not the usual one.
        kind: one of KINDS, where the path alone does not tell.
        first_only: only the first label map of each image.

    Raises:
        AnnotationError: no such data set, or an empty one.
    """
    given = Path(path).expanduser()
    pictures = None if images is None else Path(images).expanduser()
    if kind is not None and kind not in KINDS:
        raise AnnotationError(f"kind {kind!r} is not known: use {', '.join(KINDS)}")
    if given.suffix.lower() == ".json":
        return open_coco(given, pictures)
    beside = given.parent / "annotations" / f"instances_{given.name}.json"
    if kind == "coco" or (kind is None and beside.is_file()):
        return open_coco(beside, pictures or given)
    return open_folder(given, kind, pictures, first_only)
