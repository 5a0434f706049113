"""Export: objects become records, and records become files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from samjax.annotations import (
    AnnotatedImage,
    coco_dataset,
    to_label_map,
    write_label_png,
    write_npz,
    write_yolo,
)
from samjax.annotations.coco import made_alike, write_dataset
from samjax.annotations.records import FORMATS, new_record
from samjax.annotations.yolo import is_own_yolo
from samjax.engine.segmenter import Segmenter
from samjax.errors import AnnotationError
from samjax.files import (
    check_foreign,
    check_outputs,
    given_path,
    protecting,
    writing,
)
from samjax.masks.rle import Record
from samjax.widget.correction import base_mask, predict_arguments
from samjax.widget.opened import OF_THE_MASK, opened_fields
from samjax.widget.opened_export import own_numbers
from samjax.widget.state import Object
from samjax.widget.state_file import FinishedMask


def record_of(each: Object, mask: FinishedMask, output_mode: str = "binary_mask") -> Record:
    """Return the official record of an object, with its ``label``.

    ``point_coords`` are its clicks, ``point_labels`` 1 or 0 for each, ``prompt_box`` the box
    (x0, y0, x1, y1) that was drawn; ``predicted_iou`` is
    missing where it was only painted. An object of annotations keeps what they say of it: id,
    crowd flag, attributes and, while its mask is the same, scores and prompts.
    """
    height, width = mask.segmentation["size"]
    kept = opened_fields(each)
    if each.as_opened or (each.base and mask.segmentation["counts"] == each.base.counts):
        return new_record(mask.segmentation, output_mode, {**kept, "label": each.label})
    extra: dict[str, Any] = {
        **{key: value for key, value in kept.items() if key not in OF_THE_MASK},
        "point_coords": [[x, y] for x, y, _ in each.prompt.points],
        "point_labels": [label for _, _, label in each.prompt.points],
        **({} if each.prompt.box is None else {"prompt_box": list(each.prompt.box)}),
        "crop_box": [0, 0, width, height],
        "label": each.label,
    }
    if mask.score is not None:
        extra["predicted_iou"] = mask.score
    if mask.stability is not None and "stability_score" in kept:
        extra["stability_score"] = mask.stability
    return new_record(mask.segmentation, output_mode, extra)


def prompt_entry(each: Object, mask: FinishedMask, model: Segmenter) -> dict[str, Any]:
    """Describe how an object was made, so that ``SamPredictor.predict`` makes its mask again."""
    return {
        "id": each.id,
        "label": each.label,
        "committed": each.committed,
        "reviewed": each.reviewed,
        "base": base_mask(each.base),
        "source_id": opened_fields(each).get("id"),
        "clicks": list(each.prompt.points),
        "predict": predict_arguments(each.prompt, each.base, model),
        "candidate": mask.candidate,
        "mask_threshold": each.threshold,
        "strokes": list(each.strokes),
    }


def export(
    kind: str,
    path: str | os.PathLike[str],
    images: Sequence[AnnotatedImage],
    categories: Sequence[str] | Mapping[str, int],
    inputs: Sequence[Path] = (),
    dataset: dict[str, Any] | None = None,
    numbered: bool = False,
) -> Path:
    """Write records in one of `FORMATS`, each file whole or not at all.

    Args:
        kind: "coco": one JSON file (for a folder: annotations.json in it); "yolo": a folder;
            "png": label maps, smaller objects on top; "npz": run lengths with all fields.
            The last two are a folder with a file for each image, or the file of a single image.
        path: of the file or folder.
        images: with their records.
        categories: names of the classes in order, or {name: id}; others that occur follow.
        inputs: files that must stay, whatever the path: the images and their saved states.
        dataset: the COCO data set of the images, where it is to keep what another one says.
        numbered: whether label maps have the ids of the records as numbers.

    Returns:
        The file or folder that was written (for "yolo" the path of data.yaml).

    Raises:
        AnnotationError: an unknown kind, a path that cannot be written, one of the inputs, or a
            file that samjax did not write.
    """
    if kind not in FORMATS:
        raise AnnotationError(f"export {kind!r}: use one of {', '.join(FORMATS)}")
    if not images:
        raise AnnotationError("nothing to export: no image was opened yet")
    path = given_path(path, AnnotationError)
    used = [record["label"] for image in images for record in image.records]
    names = with_new_names(categories, used)
    advice = "choose another path, or check permissions and free space"
    with writing(path, AnnotationError, advice), protecting(inputs, AnnotationError):
        if kind == "coco":
            file = path if path.suffix and not path.is_dir() else path / "annotations.json"
            if not file.exists() and file.resolve() in {each.resolve() for each in inputs}:
                raise AnnotationError(f"{file} is the saved state of an image; choose another name")
            found = coco_dataset(images, names) if dataset is None else dataset
            check_foreign([file], lambda there: made_alike(there, found), AnnotationError)
            return write_dataset(file, found)
        if kind == "yolo":
            check_foreign([path / "data.yaml"], is_own_yolo, AnnotationError)
            return write_yolo(path, images, names)
        if len(images) == 1 and path.suffix == f".{kind}":
            _write_one(kind, path, images[0], numbered)
            return path
        files = [path / Path(image.file_name).with_suffix(f".{kind}") for image in images]
        check_outputs(files)  # all, before the first is written
        for file, image in zip(files, images, strict=True):
            _write_one(kind, file, image, numbered)
    return path


def with_new_names(
    categories: Sequence[str] | Mapping[str, int], used: Iterable[str]
) -> list[str] | dict[str, int]:
    """Return categories with those names that are used besides; ids of new ones follow the last."""
    if not isinstance(categories, Mapping):
        return list(dict.fromkeys([*categories, *used]))
    ids = dict(categories)
    for name in used:
        ids.setdefault(name, max(ids.values(), default=0) + 1)
    return ids


def _write_one(kind: str, path: Path, image: AnnotatedImage, numbered: bool) -> None:
    if kind == "png":
        labels = to_label_map(image.records, image.size)
        write_label_png(path, own_numbers(labels, image.records) if numbered else labels)
    else:
        write_npz(path, image.size, image.records)
