"""Make COCO, YOLO, label maps and NPZ files of the results of a job, or of a part of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from samjax.annotations import (
    coco_dataset,
    to_label_map,
    write_coco,
    write_label_png,
    write_npz,
    write_yolo,
)
from samjax.annotations.coco import made_alike
from samjax.annotations.records import FORMATS, AnnotatedImage
from samjax.annotations.yolo import is_own_yolo
from samjax.errors import AnnotationError
from samjax.files import (
    check_foreign,
    given_path,
    protecting,
    writing,
)
from samjax.jobs.results import local_files, read_results


class Exported(NamedTuple):
    """Hold the numbers of images and masks that were written."""

    images: int
    masks: int


def export_results(
    path: str | Path,
    out: str | Path,
    formats: Sequence[str] = ("coco",),
    *,
    where: Callable[[str], bool] | None = None,
) -> Exported:
    """Write annotation files of the images of a job's results.

    Writes ``annotations.json`` (coco), ``labels/`` and ``data.yaml`` (yolo), ``label_maps/``
    (png) and ``npz/``, as ``samjax automask`` does. COCO and YOLO hold all images in memory:
    take a part with ``where``.

    Args:
        path: the destination of a job, or one of its Parquet files.
        out: a local folder; files of an earlier export are replaced, others never.
        formats: some of "coco", "yolo", "png" and "npz".
        where: function of an image's name; images for which it is false are left out.

    Raises:
        AnnotationError: an unknown format, no results, no image left, a damaged file, or a file
            that would replace an image or the results.
    """
    for name in formats:
        if name not in FORMATS:
            raise AnnotationError(f"format {name!r} is not known: use {', '.join(FORMATS)}")
    folder = given_path(out, AnnotationError)
    together = "coco" in formats or "yolo" in formats
    kept: list[AnnotatedImage] = []
    images = masks = 0
    taken: dict[str, str] = {}
    with writing(folder, AnnotationError), protecting(local_files(path), AnnotationError):
        _check_ours(folder, formats)
        for image in read_results(path, where=where):
            images += 1
            masks += len(image.records)
            _write_alone(folder, image, formats, taken)
            if together:
                kept.append(image)
        if not images:
            raise AnnotationError(f"{path}: no image is left to export: check the selection")
        if "coco" in formats:
            write_coco(folder / "annotations.json", kept, ["object"])
        if "yolo" in formats:
            write_yolo(folder, kept, ["object"])
    return Exported(images, masks)


def _check_ours(folder: Path, formats: Sequence[str]) -> None:
    """Refuse a folder with a data set of somebody else, before anything is written."""
    if "coco" in formats:
        own = coco_dataset([])
        file = folder / "annotations.json"
        check_foreign([file], lambda there: made_alike(there, own), AnnotationError)
    if "yolo" in formats:
        check_foreign([folder / "data.yaml"], is_own_yolo, AnnotationError)


def _write_alone(
    folder: Path, image: AnnotatedImage, formats: Sequence[str], taken: dict[str, str]
) -> None:
    """Write the files of one image."""
    for name, place, suffix in (("png", "label_maps", ".png"), ("npz", "npz", ".npz")):
        if name not in formats:
            continue
        path = PurePosixPath(image.file_name)
        file = folder / place / path.with_suffix(suffix)
        other = taken.setdefault(str(file).casefold(), image.file_name)
        if other != image.file_name:
            raise AnnotationError(f"{other} and {image.file_name} would share {file}: rename one")
        file.parent.mkdir(parents=True, exist_ok=True)
        if name == "png":
            write_label_png(file, to_label_map(image.records, image.size))
        else:
            write_npz(file, image.size, image.records)
