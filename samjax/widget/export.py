"""Results of a session as records, and the records into files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samjax.annotations import (
    AnnotatedImage,
    to_label_map,
    write_coco,
    write_label_png,
    write_npz,
    write_yolo,
)
from samjax.annotations.records import Record, new_record
from samjax.errors import AnnotationError
from samjax.widget.session import Object
from samjax.widget.store import Result

FORMATS = ("coco", "yolo", "png", "npz")


def record_of(each: Object, result: Result, output_mode: str = "binary_mask") -> Record:
    """The official record of an object, with its ``label``.

    ``point_coords`` are its clicks; ``predicted_iou`` is missing where it was only painted.
    """
    height, width = result.segmentation["size"]
    extra: dict[str, Any] = {
        "point_coords": [[x, y] for x, y, _ in each.prompt.points],
        "crop_box": [0, 0, width, height],
        "label": each.label,
    }
    if result.score is not None:
        extra["predicted_iou"] = result.score
    return new_record(result.segmentation, output_mode, extra)


def prompt_entry(each: Object, result: Result) -> dict[str, Any]:
    """How an object was made: enough to make its mask again with ``SamPredictor.predict``."""
    return {
        "id": each.id,
        "label": each.label,
        "committed": each.committed,
        "predict": each.prompt.arguments(),
        "candidate": result.candidate,
        "mask_threshold": each.threshold,
        "strokes": list(each.strokes),
    }


def export(
    kind: str,
    path: str | os.PathLike[str],
    images: Sequence[AnnotatedImage],
    categories: Sequence[str],
) -> Path:
    """Write records in one of `FORMATS`, each file whole or not at all.

    Args:
        kind: "coco": one JSON file (for a folder: annotations.json in it); "yolo": a folder;
            "png": label maps, smaller objects on top; "npz": run lengths with all fields.
            The last two are a folder with a file for each image, or the file of a single image.
        path: of the file or folder.
        images: with their records.
        categories: names of the classes in order; others that occur follow.

    Returns:
        The file or folder that was written (for "yolo" the path of data.yaml).

    Raises:
        AnnotationError: an unknown kind, or a path that cannot be written.
    """
    if kind not in FORMATS:
        raise AnnotationError(f"export {kind!r}: use one of {', '.join(FORMATS)}")
    if not images:
        raise AnnotationError("nothing to export: no image was opened yet")
    path = Path(path).expanduser()
    used = [record["label"] for image in images for record in image.records]
    names = list(dict.fromkeys([*categories, *used]))
    try:
        if kind == "coco":
            file = path if path.suffix and not path.is_dir() else path / "annotations.json"
            return write_coco(file, images, names)
        if kind == "yolo":
            return write_yolo(path, images, names)
        if len(images) == 1 and path.suffix == f".{kind}":
            _write_one(kind, path, images[0])
            return path
        for image in images:
            _write_one(kind, path / Path(image.file_name).with_suffix(f".{kind}"), image)
    except OSError as error:
        raise AnnotationError(
            f"{path}: cannot be written ({error.strerror or error}): "
            "choose another path, or check permissions and free space"
        ) from error
    return path


def _write_one(kind: str, path: Path, image: AnnotatedImage) -> None:
    if kind == "png":
        labels = to_label_map(image.records, image.size)
        write_label_png(path, labels)
    else:
        write_npz(path, image.size, image.records)
