"""Write and read YOLO segmentation data sets: a text file per image, one object per line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from samjax.annotations.label_files import image_sizes, stem_name, stem_names
from samjax.annotations.records import (
    AnnotatedImage,
    Categories,
    CategoryNames,
    Images,
    Size,
    checked_images,
    new_record,
    reading,
    segmentation_of,
)
from samjax.arguments import instance
from samjax.errors import AnnotationError
from samjax.files import check_outputs, given_path, replacing
from samjax.masks.polygons import join_rings, mask_to_polygons, polygons_to_rle
from samjax.masks.rle import Record

_DEEPEST = 20  # lists and mappings of a data.yaml in one another

_HEAD = "train: images\nval: images\nnames:"  # of data.yaml


def write_yolo(
    folder: str | os.PathLike[str],
    images: Images,
    categories: CategoryNames = None,
    *,
    tolerance: float = 0.0,
) -> Path:
    """Write ``labels/NAME.txt`` for each image, then ``data.yaml`` with the categories' names.

    A line is the category's index and one polygon, ``i x1 y1 x2 y2 ...``, in fractions of the
    image's width and height. YOLO has neither holes nor several parts: they are joined to one
    ring by bridges of zero width, the shortest ones between corners (`join_rings`). Reading
    back is exact up to sides of 200000 pixels. Programs that draw the ring's outline too, as
    OpenCV's fillPoly does, add one pixel on the right, at the bottom and along the bridges.

    Put the images into ``images/``; ``data.yaml`` names that folder for training and validation.
    Scores are not written, empty masks are left out, images without objects get an empty file.

    Args:
        folder: folder of the data set.
        images: (file_name, (h, w), records) of each image; file names relative to ``images/``.
        categories: category names in order of index, {name: index} or {index: name}; None takes
            all of the images that a reader returned, and the labels of the records in order of
            appearance, "object" for records without one. Indices of `read_yolo`'s images, and ids
            of COCO that begin at 0, are kept; other ids are numbered from 0 in their order.
        tolerance: distance in pixels by which polygons may differ from the mask's edge; 0 is
            exact, 1 needs a quarter to a tenth of the vertices.

    Returns:
        The path of data.yaml.

    Raises:
        AnnotationError: records or labels are unusable, or file names lead outside the folder or
            differ in the suffix only.
    """
    import yaml

    folder = given_path(folder, AnnotationError)
    known = Categories(categories, known=_indices(images))
    images = checked_images(images)
    stems = stem_names((image[0] for image in images), ".txt")
    check_outputs([*(folder / "labels" / name for name in stems), folder / "data.yaml"])
    for name, (_, size, records) in zip(stems, images, strict=True):
        lines = [_line(record, size, known, tolerance) for record in records]
        with replacing(folder / "labels" / name) as temporary:
            temporary.write_text("".join(lines), encoding="ascii")
    path = folder / "data.yaml"
    names = {i: name for name, i in known.ids.items()}
    with replacing(path) as temporary:
        content = {"train": "images", "val": "images", "names": names}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
    return path


def _indices(images: Any) -> dict[str, int] | None:
    """Return name to index of all categories of the data set that images were read from."""
    names: dict[str, int] | None = getattr(images, "names", None)
    ids: dict[str, int] = getattr(images, "categories", None) or {}
    if names is not None or not ids:
        return names
    if 0 in ids.values():
        return ids
    return {name: index for index, name in enumerate(sorted(ids, key=ids.__getitem__))}


def is_own_yolo(path: Path) -> bool:
    """Tell whether a data.yaml is one that `write_yolo` wrote."""
    with path.open(encoding="utf-8") as file:
        return file.read(len(_HEAD)) == _HEAD


class YoloImages(list[AnnotatedImage]):
    """Lists the images of a YOLO data set; `write_yolo` writes them with the same indices.

    Attributes:
        names: name to index of all categories of the data set, used or not.
    """

    def __init__(self, images: Iterable[AnnotatedImage], names: dict[str, int]):
        super().__init__(images)
        self.names = names


def read_yolo(
    folder: str | os.PathLike[str],
    sizes: Mapping[str, tuple[int, int]] | None = None,
    output_mode: str = "coco_rle",
) -> YoloImages:
    """Read the images of a YOLO segmentation data set with their records.

    Args:
        folder: data set with ``labels/`` and ``data.yaml``.
        sizes: (h, w) in pixels by the image's file name; None takes the sizes of the files in
            ``images/``, with their EXIF orientation applied.
        output_mode: form of the segmentations.

    Returns:
        An entry for each image of ``sizes`` or ``images/``, without records where there is no
        text file. ``label`` is the category's name.

    Raises:
        AnnotationError: files are missing or damaged, hold boxes instead of polygons, or name
            unknown categories.
    """
    folder = given_path(folder, AnnotationError)
    names = read_names(folder / "data.yaml")
    if sizes is None:
        sizes = image_sizes(folder / "images")
    instance(sizes, Mapping, "sizes", AnnotationError, "{file name: (h, w)}")
    result: list[AnnotatedImage] = []
    for file_name, size in sizes.items():
        path = folder / "labels" / stem_name(file_name, ".txt")
        records: list[Record] = []
        if path.exists():
            with reading(path, "a text file of YOLO polygons") as file:
                for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), 1):
                    if line.strip():
                        try:
                            records.append(yolo_record(line, names, size, output_mode))
                        except AnnotationError as error:
                            raise AnnotationError(f"line {number}: {error}") from error
        result.append(AnnotatedImage(file_name, size, records))
    return YoloImages(result, {name: index for index, name in names.items()})


def _line(record: Record, size: Size, known: Categories, tolerance: float) -> str:
    polygons = mask_to_polygons(segmentation_of(record, size), tolerance=tolerance)
    index = known.of(record)
    if not polygons:
        return ""
    ring = join_rings([ring for part in polygons for ring in part.rings])
    shares = (ring / (int(size[1]), int(size[0]))).ravel()
    return f"{index} " + " ".join(f"{share:.6f}" for share in shares) + "\n"


def yolo_record(
    line: str, names: Mapping[int, str], size: tuple[int, int], output_mode: str
) -> Record:
    """Return the record of a line of polygons; ``size`` is (h, w) of the image.

    Raises:
        AnnotationError: it is a box, of an unknown category, or no line of YOLO.
    """
    first, *rest = line.split()
    try:
        index, shares = int(first), np.array(rest, float)
    except ValueError:
        raise AnnotationError("must be a category's index and numbers") from None
    if index not in names:
        raise AnnotationError(f"category {index} has no name in data.yaml: add it")
    if shares.size == 4:
        raise AnnotationError("is a box, no polygon: samjax.segment_dataset makes masks of boxes")
    if shares.size < 6 or shares.size % 2:
        raise AnnotationError(f"has {shares.size} coordinates: a polygon has 6, 8, 10, ...")
    ring = shares.reshape(-1, 2) * (size[1], size[0])
    return new_record(polygons_to_rle([ring], size), output_mode, {"label": names[index]})


def read_names(path: Path) -> dict[int, str]:
    """Read the names of the categories, by index, from a data.yaml.

    Raises:
        AnnotationError: the file is missing, damaged or has no names.
    """
    import yaml

    with reading(path, "the data.yaml of a YOLO data set") as file:
        text = file.read_text("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            # Aliases make a text of a hundred bytes stand for one of gigabytes.
            if isinstance(event, yaml.AliasEvent):
                raise AnnotationError("has aliases (*name): write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise AnnotationError(f"has {depth} lists in one another: it needs one")
        content = yaml.safe_load(text)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            raise AnnotationError('has no "names": list the categories there')
        if not all(isinstance(name, (str, int, float)) for name in names.values()):
            raise AnnotationError('has "names" that are no text: give one text a category')
        return {int(index): str(name) for index, name in names.items()}
