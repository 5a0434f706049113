"""Read boxes and points of detectors and old data sets: COCO, YOLO and CSV.

Nothing is lost silently: what cannot be used is a `Problem` with the image, the object and why.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from samjax.annotations.coco_entries import category_names, image_entries
from samjax.annotations.label_files import image_sizes, stem_name
from samjax.annotations.records import check_file_name, integer_or_none, reading
from samjax.annotations.yolo import read_names
from samjax.arguments import shown
from samjax.errors import AnnotationError
from samjax.files import check_regular, given_path, refuse_address
from samjax.words import counted

Xyxy: TypeAlias = tuple[float, float, float, float]

# Columns of a CSV file and the names that they also go by.
_COLUMNS = {
    "image": ("image", "file_name", "filename", "file", "path"),
    "label": ("label", "class", "category", "name"),
    "x0": ("x0", "xmin", "x_min", "left"),
    "y0": ("y0", "ymin", "y_min", "top"),
    "x1": ("x1", "xmax", "x_max", "right"),
    "y1": ("y1", "ymax", "y_max", "bottom"),
    "w": ("w", "width"),
    "h": ("h", "height"),
    "x": ("x",),
    "y": ("y",),
    "id": ("id", "object"),
    "point_label": ("point_label",),
}


_DIGITS = 18  # of an id of a CSV file


class Problem(NamedTuple):
    """Tells what was left out or mended, and why.

    Attributes:
        kind: a few words, the same for all of a kind; those that end in "mended" were used.
        image: file name of the image.
        object: id of the object; None for a problem of the image.
        detail: the values.
    """

    kind: str
    image: str
    object: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class ObjectPrompt:
    """Holds the prompts of one object, in pixels.

    Attributes:
        id: number of the object in its data set.
        label: name of the category; None where there are none.
        box: (x0, y0, x1, y1).
        points: (x, y, 1 or 0) of each point, 1 is on the object.
        kept: keys of a record to keep: iscrowd, attributes, keypoints, extra.
    """

    id: int
    label: str | None = None
    box: Xyxy | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagePrompts:
    """Holds the objects of one image; ``size`` is the (h, w) that the file gives, or None."""

    file_name: str
    objects: tuple[ObjectPrompt, ...]
    id: int | str | None = None
    size: tuple[int, int] | None = None


@dataclass
class PromptSet:
    """Holds the prompts of a data set, its categories by name, and what could not be read."""

    images: list[ImagePrompts]
    categories: dict[str, int] | None
    problems: list[Problem]


def read_prompts(
    path: str | os.PathLike[str],
    image_folder: str | os.PathLike[str],
    *,
    normalised: bool = False,
) -> PromptSet:
    """Read boxes and points.

    - COCO: ``bbox``, and ``keypoints`` that are labelled as points on the object; crowds, ids,
      ``attributes`` and keys of others are kept.
    - YOLO, a folder with ``labels/`` and ``data.yaml``: boxes, and the boxes of polygons.
    - CSV, with a header: ``image``, then ``x0,y0,x1,y1`` or ``x0,y0,w,h`` for a box, or ``x,y``
      for a point; further ``label``, ``id`` and ``point_label`` (1 or 0). Rows with the same image
      and id are one object.

    Args:
        path: the JSON or CSV file, or the folder.
        image_folder: folder of the images.
        normalised: values of a CSV or COCO file are fractions of the image's sides.

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
    if path.is_dir():
        found = _read_yolo(path, folder)
        normalised = True
    elif path.suffix.lower() == ".csv":
        found = _read_csv(path)
    else:
        found = _read_coco(path)
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


def _read_coco(path: Path) -> PromptSet:
    with reading(path, "a COCO JSON file or CSV table of boxes") as file:
        dataset = json.loads(file.read_text(encoding="utf-8-sig"))
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
            except (TypeError, ValueError):
                values = {k: annotation[k] for k in ("bbox", "keypoints") if k in annotation}
                problems.append(Problem("box: no numbers", files[image], own, shown(values)))
        images = [
            ImagePrompts(entry.file_name, tuple(objects[entry.id]), entry.id, entry.size)
            for entry in entries
        ]
    return PromptSet(_named_once(images, problems), {n: i for i, n in names.items()}, problems)


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
    own = {"id", "image_id", "category_id", "area", "bbox", "segmentation", "iscrowd"}
    keys = ("attributes", "keypoints", "num_keypoints")
    kept: dict[str, Any] = {key: annotation[key] for key in keys if key in annotation}
    if annotation.get("iscrowd"):
        kept["iscrowd"] = 1
    if extra := {k: v for k, v in annotation.items() if k not in own and k not in keys}:
        kept["extra"] = extra
    return ObjectPrompt(number, label, box, points, kept)


def _named_once(images: list[ImagePrompts], problems: list[Problem]) -> list[ImagePrompts]:
    """Leave out images whose name an earlier one has, or that no file can have."""
    seen: set[str] = set()
    kept = []
    for image in images:
        try:
            check_file_name(image.file_name)
        except AnnotationError as error:
            problems.append(Problem("image: unusable name", image.file_name, None, str(error)))
            continue
        # "./a.png" is "a.png", which has one record.
        name = PurePosixPath(image.file_name).as_posix()
        if name in seen:
            detail = f"{counted(len(image.objects), 'object')} left out"
            problems.append(Problem("image: listed twice", image.file_name, None, detail))
            continue
        seen.add(name)
        kept.append(image)
    return kept


def _read_csv(path: Path) -> PromptSet:
    problems: list[Problem] = []
    rows: dict[str, dict[Any, list[tuple[int, dict[str, str]]]]] = {}
    with reading(path, "a CSV table of boxes or points") as file:
        reader = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
        known = _columns(reader.fieldnames or ())
        for number, row in enumerate(reader, 1):
            values = {key: (row[column] or "").strip() for key, column in known.items()}
            if not values["image"]:
                problems.append(Problem("row: no image", "", number))
                continue
            objects = rows.setdefault(values["image"], {})
            objects.setdefault(values.get("id") or number, []).append((number, values))
    images = []
    own_ids = _csv_numbers(rows)
    for name, objects in rows.items():
        prompts = []
        for group in objects.values():
            own = next(own_ids)
            try:
                prompts.append(_csv_object(own, [values for _, values in group]))
            except (KeyError, ValueError):
                shown = ", ".join(group[0][1].values())
                problems.append(Problem("row: no numbers", name, own, shown))
        images.append(ImagePrompts(name, tuple(prompts)))
    return PromptSet(_named_once(images, problems), None, problems)


def _csv_numbers(rows: Mapping[str, Mapping[Any, Any]]) -> Iterator[int]:
    """Yield the number of each object: its id, if all are different whole numbers; else its row.

    Ids that begin anew in each image would meet the numbers of rows.
    """
    keys = [key for objects in rows.values() for key in objects]
    given = [int(k) for k in keys if isinstance(k, str) and k.isdecimal() and len(k) <= _DIGITS]
    if len(given) == len(keys) and len(set(given)) == len(keys):
        return iter(given)
    return (group[0][0] for objects in rows.values() for group in objects.values())


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Return the table's column of each of ours.

    Raises:
        AnnotationError: there is no image, or neither a box nor a point.
    """
    given = {name.strip().lower(): name for name in names if name}
    known = {
        key: given[other]
        for key, others in _COLUMNS.items()
        for other in reversed(others)
        if other in given
    }
    box = {"x0", "y0", "x1", "y1"} <= known.keys() or {"x0", "y0", "w", "h"} <= known.keys()
    if "image" not in known or not (box or {"x", "y"} <= known.keys()):
        raise AnnotationError(
            f"has the columns {', '.join(names) or 'none'}: it needs image and x0,y0,x1,y1 (or "
            "x0,y0,w,h) for boxes, or x,y for points"
        )
    return known


def _csv_object(number: int, rows: Sequence[Mapping[str, str]]) -> ObjectPrompt:
    box: Xyxy | None = None
    points: list[tuple[float, float, int]] = []
    for row in rows:
        if row.get("x0"):
            x0, y0 = float(row["x0"]), float(row["y0"])
            if "x1" in row and "y1" in row:  # width and height may be those of the image
                box = (x0, y0, float(row["x1"]), float(row["y1"]))
            else:
                box = (x0, y0, x0 + float(row["w"]), y0 + float(row["h"]))
        if row.get("x") and "y" in row:
            on = int(row.get("point_label") or 1)
            if on not in (0, 1):
                raise ValueError
            points.append((float(row["x"]), float(row["y"]), on))
    label = next((row["label"] for row in rows if row.get("label")), None)
    return ObjectPrompt(number, label, box, tuple(points))


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
            objects.append(ObjectPrompt(number, names[category], box))
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
