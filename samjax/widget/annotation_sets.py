"""Read annotations of any format for the annotator, image by image, with all that they say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from samjax.annotations.coco import coco_record, load_coco
from samjax.annotations.label_map import label_map_to_records, read_label_png
from samjax.annotations.records import (
    AnnotatedImage,
    check_file_name,
    json_value,
    reading,
)
from samjax.annotations.sources import open_annotations
from samjax.annotations.yolo import read_names, yolo_record
from samjax.arguments import several
from samjax.errors import AnnotationError
from samjax.masks.rle import Record, to_coco_rle
from samjax.widget.sizes import Size

Box = tuple[float, float, float, float]


class Entry(NamedTuple):
    """Holds one annotation.

    Attributes:
        label: name of its category.
        record: its record, with run lengths; without ``segmentation`` if it is a box alone.
        box: (x0, y0, x1, y1) in pixels, of a box alone; None if neither mask nor box is usable.
        coco: the annotation of a COCO file as it is there; None for other formats.
    """

    label: str
    record: Record
    box: Box | None = None
    coco: dict[str, Any] | None = None


@dataclass(frozen=True)
class AnnotatedSource:
    """Holds the annotations of one image, which are made into entries when they are needed.

    Attributes:
        name: of the image, as the annotations call it.
        size: (h, w) in pixels; None if only the image tells.
        count: number of its annotations.
        labels: names of the categories that occur.
        raw: what `entries` reads, as JSON values; two equal ones give equal entries.
        entries: makes them, for an image of size (h, w).
        coco: the image's entry of a COCO file.
    """

    name: str
    size: Size | None
    count: int
    labels: frozenset[str]
    raw: Any = field(repr=False)
    entries: Callable[[Size], list[Entry]] = field(repr=False)
    coco: dict[str, Any] | None = None


@dataclass(frozen=True)
class AnnotationSet:
    """Holds the annotations of many images.

    Attributes:
        title: name of the file or folder, for messages.
        format: "coco", "yolo", "png" and so on; "records" if they are not of a file.
        images: with annotations or without.
        categories: name to id of all categories, used or not.
        files: that were read, none of which may ever be replaced.
        positional: whether images belong by their position, not by their names.
        header: the keys of a COCO file besides images and annotations.
        order: the ids of its annotations, as they follow one another.
    """

    title: str
    format: str
    images: Sequence[AnnotatedSource]
    categories: dict[str, int]
    files: Sequence[Path] = ()
    positional: bool = False
    header: Mapping[str, Any] = field(default_factory=dict)
    order: Sequence[Any] = ()


def read_annotation_set(annotations: Any) -> AnnotationSet:
    """Read annotations of a path, or take records of Python.

    Args:
        annotations: path of a COCO file, of a YOLO data set, of instance or class PNGs, of
            labelme files or of the output of ``samjax automask``; records of one image; a list of
            records for each image; {name: records}; or what a reader of `samjax.annotations`
            returns. A record without ``segmentation`` is a box, by its ``bbox``.

    Raises:
        AnnotationError: nothing is there, or it cannot be used.
    """
    if not isinstance(annotations, (str, os.PathLike)):
        return _of_python(annotations)
    source = open_annotations(annotations)
    files = [source.path] if source.path.is_file() else _files_of(source.path)
    title = source.path.name
    if source.format == "coco":
        return _coco(source.path)
    if source.format == "yolo":
        return _yolo(source.path, files)
    if source.format == "png":
        images = [_png(path, source.path) for path in files if path.suffix.lower() == ".png"]
        return AnnotationSet(title, "png", images, {}, files)
    with_reasons = [_of_records(found.image) for found in source]
    if source.skipped:
        more = f" (and {len(source.skipped) - 1} more)" if len(source.skipped) > 1 else ""
        raise AnnotationError(f"{source.skipped[0]}{more}: mend it")
    return AnnotationSet(title, source.format, with_reasons, _occurring(with_reasons), files)


def _files_of(folder: Path) -> list[Path]:
    hidden = ("images", ".git")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in hidden
    )


def _occurring(images: Sequence[AnnotatedSource]) -> dict[str, int]:
    labels = dict.fromkeys(label for image in images for label in sorted(image.labels))
    return {label: number for number, label in enumerate(labels, 1)}


# -------------------------------------------------------------------- COCO


def _coco(path: Path) -> AnnotationSet:
    with reading(path, "a COCO JSON file") as file:
        dataset = load_coco(file)
        header = {k: v for k, v in dataset.items() if k not in ("images", "annotations")}
        names = {entry["id"]: str(entry["name"]) for entry in dataset.get("categories", ())}
        by_image: dict[Any, list[dict[str, Any]]] = {e["id"]: [] for e in dataset["images"]}
        if len(by_image) < len(dataset["images"]):
            raise AnnotationError("two images have the same id: give each its own")
        for annotation in dataset.get("annotations", ()):
            which = f"annotation {annotation.get('id')}"
            if annotation.get("image_id") not in by_image:
                raise AnnotationError(
                    f"{which} is of image {annotation.get('image_id')}: not listed"
                )
            if annotation.get("category_id") not in names:
                raise AnnotationError(
                    f"{which} is of category {annotation.get('category_id')}: not listed"
                )
            by_image[annotation["image_id"]].append(annotation)
        images = [_coco_image(e, by_image[e["id"]], names) for e in dataset["images"]]
    categories: dict[str, int] = {}
    for number, name in names.items():
        categories.setdefault(name, number)
        order = [each.get("id") for each in dataset.get("annotations", ())]
    files = [path]
    return AnnotationSet(path.name, "coco", images, categories, files, False, header, order)


def _coco_image(
    entry: dict[str, Any], annotations: list[dict[str, Any]], names: Mapping[Any, str]
) -> AnnotatedSource:
    def entries(size: Size) -> list[Entry]:
        return [_coco_entry(each, names[each["category_id"]], size) for each in annotations]

    return AnnotatedSource(
        check_file_name(entry["file_name"]),
        (int(entry["height"]), int(entry["width"])),
        len(annotations),
        frozenset(names[each["category_id"]] for each in annotations),
        [[names[each["category_id"]], each] for each in annotations],
        entries,
        entry,
    )


def _coco_entry(annotation: dict[str, Any], label: str, size: Size) -> Entry:
    try:
        return Entry(label, coco_record(annotation, label, size, "coco_rle"), None, annotation)
    except AnnotationError:
        whole = {"size": list(size), "counts": [size[0] * size[1]]}
        record = coco_record({**annotation, "segmentation": whole}, label, size, "coco_rle")
        return Entry(label, _maskless(record), _box(annotation.get("bbox"), size), annotation)


def _maskless(record: Record) -> Record:
    return {k: v for k, v in record.items() if k not in ("segmentation", "area", "bbox")}


def _box(bbox: Any, size: Size) -> Box | None:
    """Return the corners of COCO's [x, y, w, h], as far as they lie in the image."""
    try:
        x, y, w, h = (float(value) for value in bbox)
    except (TypeError, ValueError):
        return None
    corners = np.clip([x, y, x + w, y + h], 0, np.tile(size[::-1], 2))
    if not (np.isfinite(corners).all() and corners[0] < corners[2] and corners[1] < corners[3]):
        return None
    x0, y0, x1, y1 = corners.tolist()
    return x0, y0, x1, y1


# -------------------------------------------------------------------- YOLO, PNG


def _yolo(folder: Path, files: list[Path]) -> AnnotationSet:
    names = read_names(folder / "data.yaml")
    labels = folder / "labels"
    images = []
    for path in sorted(labels.rglob("*.txt")):
        with reading(path, "a text file of YOLO polygons or boxes") as file:
            lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
            for number, line in enumerate(lines, 1):
                try:
                    _yolo_entry(line, names, (1000, 1000))
                except AnnotationError as error:
                    raise AnnotationError(f"line {number}: {error}") from error
        images.append(_yolo_image(path.relative_to(labels).as_posix(), lines, names))
    if not images:
        raise AnnotationError(f"{labels}: no text files of YOLO in this folder: check the path")
    categories = {name: index for index, name in names.items()}
    return AnnotationSet(folder.name, "yolo", images, categories, files)


def _yolo_image(name: str, lines: list[str], names: Mapping[int, str]) -> AnnotatedSource:
    def entries(size: Size) -> list[Entry]:
        return [_yolo_entry(line, names, size) for line in lines]

    labels = frozenset(names[int(line.split()[0])] for line in lines)
    return AnnotatedSource(name, None, len(lines), labels, lines, entries)


def _yolo_entry(line: str, names: Mapping[int, str], size: Size) -> Entry:
    first, *rest = line.split()
    if len(rest) not in (4, 5):
        record = yolo_record(line, names, size, "coco_rle")
        return Entry(record["label"], record)
    try:
        index, (x, y, w, h, *score) = int(first), map(float, rest)
    except ValueError:
        raise AnnotationError("must be a category's index and numbers") from None
    if index not in names:
        raise AnnotationError(f"category {index} has no name in data.yaml: add it")
    shares = np.array([x - w / 2, y - h / 2, w, h]) * np.tile(size[::-1], 2)
    box = _box(shares, size)
    if box is None:
        raise AnnotationError("is a box outside of the image, or without area")
    return Entry(names[index], {"score": score[0]} if score else {}, box)


def _png(path: Path, top: Path) -> AnnotatedSource:
    labels = read_label_png(path)
    numbers = np.unique(labels)
    records = [
        {**record, "id": number, "label": "object"}
        for number, record in zip(
            numbers[numbers > 0].tolist(), label_map_to_records(labels, "coco_rle"), strict=True
        )
    ]
    name = path.name if path == top else path.relative_to(top).as_posix()
    height, width = labels.shape
    return _of_records(AnnotatedImage(name, (height, width), records))


# -------------------------------------------------------------------- records


def _of_records(image: AnnotatedImage, name: str | None = None) -> AnnotatedSource:
    return _source(image.file_name if name is None else name, image.size, image.records)


def _source(name: str, size: Any, records: Sequence[Any]) -> AnnotatedSource:
    several(records, "annotations", "records", AnnotationError)
    entries = [_record_entry(record, f"record {i} of {name}") for i, record in enumerate(records)]
    masks = (each.record["segmentation"]["size"] for each in entries if each.box is None)
    given = next(masks, None) if size is None else size

    def checked(size: Size) -> list[Entry]:
        for each in entries:
            mask = each.record.get("segmentation")
            if mask is not None and tuple(mask["size"]) != size:
                raise AnnotationError(
                    f"{name}: a mask of {mask['size'][1]} x {mask['size'][0]} pixels in an image "
                    f"of {size[1]} x {size[0]}: give the masks of this image"
                )
        return entries

    try:
        raw = json.loads(json.dumps([json_value(list(each)) for each in entries]))
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{name}: a record is not plain data ({error})") from None
    labels = frozenset(each.label for each in entries)
    known = None if given is None else (int(given[0]), int(given[1]))
    return AnnotatedSource(name, known, len(entries), labels, raw, checked)


def _record_entry(record: Any, which: str) -> Entry:
    if not isinstance(record, Mapping):
        raise AnnotationError(f"{which} is {type(record).__name__}: give dicts, as of read_coco")
    label = str(record.get("label", "object"))
    if record.get("segmentation") is not None:
        return Entry(label, {**record, "segmentation": to_coco_rle(record["segmentation"])})
    box = _box(record.get("bbox"), (1 << 24, 1 << 24))
    if box is None:
        raise AnnotationError(f"{which} has neither segmentation nor a usable bbox: give one")
    return Entry(label, _maskless(dict(record)), box)


def _of_python(annotations: Any) -> AnnotationSet:
    categories = dict(
        getattr(annotations, "categories", None) or getattr(annotations, "names", None) or {}
    )
    positional = False
    if isinstance(annotations, Mapping):
        images = [_source(str(name), None, records) for name, records in annotations.items()]
    else:
        try:
            listed = list(annotations)
        except TypeError:
            raise AnnotationError(
                f"annotations is {type(annotations).__name__}: give a path, records, or a list of "
                "records for each image"
            ) from None
        if listed and all(isinstance(each, Mapping) for each in listed):
            positional, images = True, [_source("image 0", None, listed)]
        elif all(_is_image(each) for each in listed):
            images = [_source(str(name), size, records) for name, size, records in listed]
        else:
            positional = True
            images = [_source(f"image {i}", None, each) for i, each in enumerate(listed)]
    found = categories or _occurring(images)
    return AnnotationSet("annotations", "records", images, found, (), positional)


def _is_image(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], (str, os.PathLike))
