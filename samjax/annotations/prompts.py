"""Read boxes and points of detectors and old data sets: COCO, YOLO and CSV.

Nothing is lost silently: what cannot be used is a `Problem` with the image, the object and why.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from samjax.annotations.coco import load_coco
from samjax.annotations.coco_entries import (
    JOIN_RESULTS,
    category_names,
    coco_extra,
    image_entries,
    is_results,
)
from samjax.annotations.label_files import image_sizes, stem_name
from samjax.annotations.prompt_set import (
    ImagePrompts,
    ObjectPrompt,
    Problem,
    PromptSet,
    Xyxy,
    kept_score,
    named_once,
    score_problems,
)
from samjax.annotations.prompt_table import read_table
from samjax.annotations.records import integer_or_none, reading
from samjax.annotations.yolo import read_names
from samjax.arguments import shown
from samjax.errors import AnnotationError
from samjax.files import check_regular, given_path, refuse_address
from samjax.words import counted

_NO_LIST = "is no list of results, as --images-json (images_json=) needs: leave that out"


def read_prompts(
    path: str | os.PathLike[str],
    image_folder: str | os.PathLike[str],
    *,
    normalised: bool = False,
    images_json: str | os.PathLike[str] | None = None,
) -> PromptSet:
    """Read boxes and points.

    - COCO: ``bbox``, and ``keypoints`` that are labelled as points on the object; crowds, ids,
      a detector's ``score``, ``attributes`` and keys of others are kept.
    - YOLO, a folder with ``labels/`` and ``data.yaml``: boxes, with their score where a line has
      one, and the boxes of polygons.
    - CSV, with a header: ``image``, then ``x0,y0,x1,y1`` or ``x0,y0,w,h`` for a box, or ``x,y``
      for a point; further ``label``, ``id``, ``score`` and ``point_label`` (1 or 0). Rows with the
      same image and id are one object.

    Args:
        path: the JSON or CSV file, or the folder.
        image_folder: folder of the images.
        normalised: values of a CSV or COCO file are fractions of the image's sides.
        images_json: COCO file with images and categories, of a list of results: a detector's
            ``[{"image_id", "category_id", "bbox", "score"}, ...]``.

    Raises:
        AnnotationError: the file is missing, damaged or of another kind.
    """
    refuse_address(path, AnnotationError)
    path, folder = given_path(path, AnnotationError), given_path(image_folder, AnnotationError)
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder: check the path")
    check_regular(path, AnnotationError)
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder of images: check the path")
    if images_json is not None and (path.is_dir() or path.suffix.lower() == ".csv"):
        raise AnnotationError(f"{path}: {_NO_LIST}")
    if path.is_dir():
        found = _read_yolo(path, folder)
        normalised = True
    elif path.suffix.lower() == ".csv":
        found = read_table(path)
    else:
        found = _read_coco(path, images_json)
    if not normalised:
        _refuse_fractions(path, found.images)
    return found


def _refuse_fractions(path: Path, images: Sequence[ImagePrompts]) -> None:
    boxes = [each.box for image in images for each in image.objects if each.box is not None]
    if boxes and all(0 <= v <= 1 for box in boxes for v in box):
        raise AnnotationError(
            f"{path}: all boxes lie between 0 and 1: if they are fractions of the images' sides, "
            "pass --normalised (normalised=True); else they are no boxes in pixels"
        )


def _read_coco(path: Path, images_json: str | os.PathLike[str] | None) -> PromptSet:
    known = None
    if images_json is not None:
        with reading(images_json, "a COCO JSON file with images") as file:
            known = load_coco(file)
            image_entries(known)
    with reading(path, "a COCO JSON file or CSV table of boxes") as file:
        dataset = json.loads(file.read_text(encoding="utf-8-sig"))
        if known is not None:
            if not isinstance(dataset, list):
                raise AnnotationError(_NO_LIST)
            dataset = {**known, "annotations": dataset}
        elif is_results(dataset):
            raise AnnotationError(JOIN_RESULTS)
        if not isinstance(dataset, dict) or "images" not in dataset:
            raise AnnotationError('is JSON without "images": pass a COCO data set')
        names, entries = category_names(dataset), image_entries(dataset)
        if repeated := len(entries) - len({entry.id for entry in entries}):
            raise AnnotationError(
                f"{counted(repeated, 'image')} with the id of an earlier one: give each its own"
            )
        problems = _same_names(names)
        objects: dict[Any, list[ObjectPrompt]] = {entry.id: [] for entry in entries}
        files = {entry.id: entry.file_name for entry in entries}
        annotations = list(dataset.get("annotations", ()))
        numbers = _own_numbers([integer_or_none(each.get("id")) for each in annotations])
        for annotation, (own, twice) in zip(annotations, numbers, strict=True):
            image = annotation.get("image_id")
            if image not in objects:
                problems.append(Problem("unknown image id", str(image), own))
                continue
            category = annotation.get("category_id")
            if category not in names:
                problems.append(Problem("unknown category id", files[image], own, str(category)))
                continue
            if twice is not None:
                detail = f"it was {twice}"
                problems.append(Problem("id: given twice, mended", files[image], own, detail))
            try:
                objects[image].append(_coco_object(own, names[category], annotation))
                problems += score_problems(files[image], own, annotation.get("score"))
            except (TypeError, ValueError):
                values = {k: annotation[k] for k in ("bbox", "keypoints") if k in annotation}
                problems.append(Problem("box: no numbers", files[image], own, shown(values)))
        images = [
            ImagePrompts(entry.file_name, tuple(objects[entry.id]), entry.id, entry.size)
            for entry in entries
        ]
        extra = coco_extra(dataset)
    categories = {name: number for number, name in names.items()}
    return PromptSet(named_once(images, problems), categories, problems, extra)


def _same_names(names: Mapping[int, str]) -> list[Problem]:
    """Tell which categories have the name of another: a name stands for one, the last."""
    used = {name: number for number, name in names.items()}
    return [
        Problem("category: name of another, mended", "", None, f"{name}: {number} is {used[name]}")
        for number, name in names.items()
        if used[name] != number
    ]


def _own_numbers(given: Sequence[int | None]) -> list[tuple[int, int | None]]:
    """Return each annotation's number, all different, and the one that it shared with an earlier.

    One without a number gets its place in the list, if that is free, else a new number.
    """
    taken = {number for number in given if number is not None}
    new = (number for number in itertools.count(len(given) + 1) if number not in taken)
    seen: set[int] = set()
    numbers: list[tuple[int, int | None]] = []
    for place, number in enumerate(given, 1):
        own = number
        if number is None:
            own = place if place not in taken else next(new)
        elif number in seen:
            own = next(new)
        assert own is not None
        numbers.append((own, number if own != number else None))
        seen.add(own)
        taken.add(own)
    return numbers


def _coco_object(number: int, label: str, annotation: Mapping[str, Any]) -> ObjectPrompt:
    box = None
    if annotation.get("bbox"):
        x, y, w, h = (float(value) for value in annotation["bbox"])
        box = (x, y, x + w, y + h)
    flat = annotation.get("keypoints") or []
    points = tuple(
        (float(x), float(y), 1)
        for x, y, seen in zip(flat[::3], flat[1::3], flat[2::3], strict=False)
        if seen > 0
    )
    own = {"id", "image_id", "category_id", "area", "bbox", "segmentation", "iscrowd", "score"}
    keys = ("attributes", "keypoints", "num_keypoints")
    kept: dict[str, Any] = {key: annotation[key] for key in keys if key in annotation}
    kept |= kept_score(annotation.get("score"))
    if annotation.get("iscrowd"):
        kept["iscrowd"] = 1
    if extra := {k: v for k, v in annotation.items() if k not in own and k not in keys}:
        kept["extra"] = extra
    return ObjectPrompt(number, label, box, points, kept)


def _read_yolo(folder: Path, image_folder: Path) -> PromptSet:
    names = read_names(folder / "data.yaml")
    labels = folder / "labels"
    if not labels.is_dir():
        raise AnnotationError(f"{labels}: no such folder: put the text files of the boxes there")
    problems = _same_names(names)
    images = []
    number = 0
    sizes = image_sizes(image_folder)
    found: set[PurePosixPath] = set()
    for file_name in sizes:
        label_name = stem_name(file_name, ".txt")
        found.add(label_name)
        objects = []
        for line in _lines(labels / label_name):
            number += 1
            index, *values = line.split()
            try:
                shares, category = [float(value) for value in values], int(index)
                box = _yolo_box(shares)
            except ValueError:
                problems.append(Problem("line: no box or polygon", file_name, number, line[:60]))
                continue
            if category not in names:
                problems.append(Problem("unknown category id", file_name, number, index))
                continue
            kept = kept_score(shares[4]) if len(shares) == 5 else {}
            objects.append(ObjectPrompt(number, names[category], box, (), kept))
        images.append(ImagePrompts(file_name, tuple(objects), None, sizes[file_name]))
    for path in sorted(labels.rglob("*.txt")):
        name = PurePosixPath(path.relative_to(labels).as_posix())
        if name not in found:
            lines = len(list(_lines(path)))
            detail = f"{counted(lines, 'object')} left out"
            problems.append(Problem("image: missing", str(name), None, detail))
    return PromptSet(images, {name: index for index, name in names.items()}, problems)


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with reading(path, "a text file of YOLO boxes") as file:
            yield from (line for line in file.read_text("utf-8-sig").splitlines() if line.strip())


def _yolo_box(shares: Sequence[float]) -> Xyxy:
    if len(shares) in (4, 5):  # the fifth is a detector's confidence
        x, y, w, h = shares[:4]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError
    return min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])
