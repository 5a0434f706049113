"""Open a data set from the path that the user gives."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.miou.cell_folders import has_cell_folders, open_cell_folders
from benchmarks.miou.coco_files import open_coco
from benchmarks.miou.folder_files import LAYOUTS, open_folder
from benchmarks.miou.samples import Dataset
from samjax.errors import AnnotationError

KINDS = ("coco", "bbbc038", *LAYOUTS)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``open_dataset``, and --limit, to a command line."""
    parser.add_argument(
        "--data", required=True, help="COCO or LVIS JSON, or a folder of images and label maps"
    )
    parser.add_argument("--images", help="the images, where they are not in the usual place")
    parser.add_argument("--kind", choices=KINDS, help="the data's layout, where unclear")
    parser.add_argument("--first-annotator", action="store_true", help="BSDS500: only the first")
    parser.add_argument("--limit", type=int, help="the first images only")


def asked_dataset(given: argparse.Namespace) -> Dataset:
    """Open the data set that the options of ``add_data_arguments`` name.

    Raises:
        AnnotationError: as ``open_dataset``, or the limit is below 1.
    """
    if given.limit is not None and given.limit < 1:
        raise AnnotationError(f"--limit {given.limit}: at least 1")
    dataset = open_dataset(given.data, given.images, given.kind, given.first_annotator)
    return dataset.first(given.limit)


def open_dataset(
    path: str | Path,
    images: str | Path | None = None,
    kind: str | None = None,
    first_only: bool = False,
) -> Dataset:
    """Open a data set in any of the known layouts.

    Args:
        path: a COCO or LVIS annotation file; a folder of images such as ``coco/val2017``, with
            the file in ``annotations`` beside it; BBBC038's folder of folders; or a folder in one
            of the layouts of folder_files.
        images: folder of images, if it is not the usual one.
        kind: one of KINDS, if the path is ambiguous.
        first_only: use only the first label map of each image.

    Raises:
        AnnotationError: there is no such data set, or it is empty.
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
    if kind == "bbbc038" or (kind is None and has_cell_folders(given)):
        return open_cell_folders(given)
    return open_folder(given, kind, pictures, first_only)
