"""Write and read class maps: PNG files whose pixels number categories, with a legend beside them.

Semantic segmentation trains on such files. They do not tell objects of one category apart;
`write_label_png` writes instances.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from samjax.annotations.label_files import stem_names
from samjax.annotations.label_map import (
    label_map_to_records,
    png_palette,
    read_label_png,
    to_label_map,
    write_label_png,
)
from samjax.annotations.records import (
    AnnotatedImage,
    Categories,
    CategoryNames,
    Images,
    Size,
    checked_images,
    checked_records,
    integer_or_none,
    new_record,
    reading,
)
from samjax.errors import AnnotationError
from samjax.files import check_outputs, given_path, replacing
from samjax.masks.rle import Record, to_mask
from samjax.palette import css

BACKGROUND = "background"
LEGENDS = ("json", "csv")

_LARGEST = int(np.iinfo(np.uint16).max)


def to_class_map(
    records: Sequence[Record],
    categories: CategoryNames,
    size: Size | None = None,
    *,
    order: str = "area",
) -> Integer[np.ndarray, "H W"]:
    """Rasterize records to a class map: pixels hold the id of their record's category, else 0.

    Args:
        records: at most 65535 records; those without a label are of the category "object".
        categories: names in order of their ids 1, 2, ..., {name: id} or {id: name}.
        size: (H, W) in pixels; needed only if there are no records.
        order: which record lies on top where they overlap, as in `to_label_map`.

    Returns:
        Class map, uint8, or uint16 for ids above 255.

    Raises:
        AnnotationError: a label is not among the categories, ids are not 1 to 65535, or records
            cannot be used.
    """
    return _class_map(checked_records(records), _known(categories), size, order)


def write_semantic(
    folder: str | os.PathLike[str],
    images: Images,
    categories: CategoryNames = None,
    *,
    legend: str = "json",
    order: str = "area",
) -> Path:
    """Write ``NAME.png`` for each image, then the legend, and return the legend's path.

    The legend lists id, name and colour of each category; 0 is the background. ``legend.json`` is
    a list of objects, ``legend.csv`` has the columns ``id,name,color``. Colours are those of the
    indexed PNG; files with ids above 255 are 16-bit greyscale.

    Args:
        folder: folder to write.
        images: (file_name, (h, w), records) of each image.
        categories: names in order of their ids 1, 2, ..., {name: id} or {id: name}; None takes
            those of `read_coco`'s images, and the labels in order of appearance.
        legend: "json" or "csv".
        order: which record lies on top where they overlap, as in `to_label_map`.

    Raises:
        AnnotationError: as `to_class_map`, or file names lead outside the folder or differ in
            the suffix only.
    """
    if legend not in LEGENDS:
        raise AnnotationError(f"legend is {legend!r}: use one of {', '.join(LEGENDS)}")
    folder, given = given_path(folder, AnnotationError), getattr(images, "categories", None)
    images = checked_images(images)
    known = _known(categories, given)
    names = stem_names((image[0] for image in images), ".png")
    for _, _, records in images:
        for record in records:
            known.of(record)
    _check(known.ids)
    path = folder / f"legend.{legend}"
    check_outputs([*(folder / name for name in names), path])
    wide = max(known.ids.values(), default=0) > 255
    for name, (_, size, records) in zip(names, images, strict=True):
        classes = _class_map(records, known, size, order)
        # All files of a data set are of one kind.
        write_label_png(folder / name, classes, wide=wide)
    _write_legend(path, known.ids)
    return path


class SemanticImages(list[AnnotatedImage]):
    """Lists the images of a folder of class maps.

    Attributes:
        categories: name to id of all categories of the legend but the background.
    """

    def __init__(self, images: Iterable[AnnotatedImage], categories: dict[str, int]):
        super().__init__(images)
        self.categories = categories


def read_semantic(
    folder: str | os.PathLike[str],
    legend: str | os.PathLike[str] | None = None,
    output_mode: str = "coco_rle",
    *,
    split: bool = False,
) -> SemanticImages:
    """Read a folder of class maps as images with a record for each category that occurs.

    Args:
        folder: folder of PNG files, searched to any depth; the images' names end in ``.png``.
        legend: JSON or CSV as `write_semantic` writes it; None takes ``legend.json`` or
            ``legend.csv`` in the folder. Id 0, and the name "background", are no category.
        output_mode: form of the segmentations.
        split: make a record for each 8-connected part of a category.

    Raises:
        AnnotationError: files are missing or damaged, or a pixel's number is not in the legend.
    """
    folder = given_path(folder, AnnotationError)
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder of class maps: check the path")
    ids = read_legend(_find_legend(folder) if legend is None else legend)
    names = {number: name for name, number in ids.items()}
    images = []
    for path in sorted(folder.rglob("*.png")):
        if path.name.startswith("."):
            continue
        classes = read_label_png(path)
        values = np.unique(classes)
        if unknown := [v for v in values.tolist() if v and v not in names]:
            raise AnnotationError(f"{path}: number {unknown[0]} is not in the legend: add it")
        records: list[Record] = []
        for value, record in zip(
            values[values != 0].tolist(), label_map_to_records(classes, "coco_rle"), strict=True
        ):
            if names[value] == BACKGROUND:
                continue
            parts = _parts(record) if split else [record["segmentation"]]
            records += [new_record(part, output_mode, {"label": names[value]}) for part in parts]
        name = path.relative_to(folder).as_posix()
        height, width = classes.shape
        images.append(AnnotatedImage(name, (height, width), records))
    if not images:
        raise AnnotationError(f"{folder}: no PNG file in this folder: check the path")
    return SemanticImages(images, {n: i for n, i in ids.items() if i and n != BACKGROUND})


def read_legend(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a legend's {name: id} from JSON or CSV, as `write_semantic` writes it.

    JSON may also be {id: name} or {name: id}.

    Raises:
        AnnotationError: the file is missing or damaged, or names or ids occur twice.
    """
    with reading(path, "a legend in JSON or CSV") as file:
        text = file.read_text(encoding="utf-8-sig")
        pairs: list[tuple[Any, Any]]
        if file.suffix.lower() == ".csv":
            rows = csv.DictReader(io.StringIO(text))
            pairs = [(row["name"], row["id"]) for row in rows]
        else:
            content = json.loads(text)
            if isinstance(content, dict):
                pairs = [(v, k) if re.fullmatch(r"\d+", k) else (k, v) for k, v in content.items()]
            else:
                pairs = [(entry["name"], entry["id"]) for entry in content]
        ids = {str(name): int(number) for name, number in pairs}
        if len(ids) < len(pairs) or len(set(ids.values())) < len(pairs):
            raise AnnotationError("has a name or id twice: give each category one line")
        if any(not 0 <= number <= _LARGEST for number in ids.values()):
            raise AnnotationError(f"has ids outside 0 to {_LARGEST}")
    return ids


def _known(categories: CategoryNames, given: Any = None) -> Categories:
    known = Categories(categories, 1, given)
    _check(known.ids)
    return known


def _check(ids: dict[str, int]) -> None:
    for name, number in ids.items():
        whole = integer_or_none(number)
        if whole is None or not 1 <= whole <= _LARGEST:
            raise AnnotationError(
                f"category {name!r} has id {number}: 0 is the background, use 1 to {_LARGEST}"
            )
        if name == BACKGROUND:
            raise AnnotationError(f'category "{BACKGROUND}" has id {number}: it is 0 always')


def _class_map(
    records: Sequence[Record], known: Categories, size: Size | None, order: str
) -> Integer[np.ndarray, "H W"]:
    table = np.array([0, *(known.of(record) for record in records)])
    wide = max(known.ids.values(), default=0) > 255
    return table.astype(np.uint16 if wide else np.uint8)[to_label_map(records, size, order=order)]


def _parts(record: Record) -> list[np.ndarray]:
    from scipy import ndimage

    labels, _ = ndimage.label(to_mask(record["segmentation"]), np.ones((3, 3)))
    return [part["segmentation"] for part in label_map_to_records(labels)]


def _write_legend(path: Path, ids: dict[str, int]) -> None:
    colours = png_palette().tolist()
    rows = [
        (number, name, css((r, g, b)))
        for name, number in [(BACKGROUND, 0), *sorted(ids.items(), key=lambda item: item[1])]
        for r, g, b in [colours[number] if number < len(colours) else [number >> 8] * 3]
    ]
    buffer = io.StringIO(newline="")
    if path.suffix == ".csv":
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("id", "name", "color"))
        writer.writerows(rows)
    else:
        entries = [{"id": i, "name": name, "color": colour} for i, name, colour in rows]
        json.dump(entries, buffer, indent=1, ensure_ascii=False)
        buffer.write("\n")
    with replacing(path) as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8", newline="\n")


def _find_legend(folder: Path) -> Path:
    found = [folder / f"legend.{kind}" for kind in LEGENDS if (folder / f"legend.{kind}").exists()]
    if len(found) != 1:
        which = "legend.json and legend.csv" if found else "no legend.json or legend.csv"
        raise AnnotationError(f"{folder}: has {which}: pass the legend")
    return found[0]
