"""YOLO segmentation data sets: a text file for each image, one object on a line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from samjax.annotations.records import (
    AnnotatedImage,
    Categories,
    Images,
    Record,
    new_record,
    reading,
    segmentation_of,
)
from samjax.errors import AnnotationError
from samjax.files import replacing
from samjax.polygons import join_rings, mask_to_polygons, polygons_to_rle

_EXIF_ORIENTATION = 0x0112


def write_yolo(
    folder: str | os.PathLike[str],
    images: Images,
    categories: Sequence[str] | None = None,
    *,
    tolerance: float = 0.0,
) -> Path:
    """Write ``labels/NAME.txt`` for each image, then ``data.yaml`` with the categories' names.

    A line is the category's index and one polygon, ``i x1 y1 x2 y2 ...``, in shares of the
    image's width and height. YOLO knows neither holes nor parts: they are joined to one ring by
    bridges of no width, the shortest ones between corners (`samjax.polygons.join_rings`). Reading
    back is exact up to sides of 200000 pixels. Programs that paint the ring's line too, as
    OpenCV's fillPoly does, add one pixel on the right, at the bottom and along the bridges.

    Put the images into ``images/``; ``data.yaml`` names that folder for training and validation.
    Scores are not kept, empty masks are left out, images without objects get an empty file.

    Args:
        folder: of the data set.
        images: (file_name, (h, w), records) of each image; file names relative to ``images/``.
        categories: their names in order of index. None: the labels of the records in order of
            appearance, "object" for records without one.
        tolerance: distance in pixels by which polygons may differ from the mask's edge; 0 is
            exact, 1 takes a quarter to a tenth of the vertices.

    Returns:
        The path of data.yaml.

    Raises:
        AnnotationError: unusable records or labels, file names that lead outside or that differ
            in the suffix only.
    """
    import yaml

    folder = Path(folder)
    known = Categories(categories)
    written: dict[PurePosixPath, str] = {}
    for file_name, size, records in images:
        name = _label_name(file_name)
        if name in written:
            raise AnnotationError(
                f"{file_name} and {written[name]} would share {name}: rename one of them"
            )
        written[name] = file_name
        lines = [_line(record, size, known, tolerance) for record in records]
        with replacing(folder / "labels" / name) as temporary:
            temporary.write_text("".join(lines), encoding="ascii")
    path = folder / "data.yaml"
    names = {i: name for name, i in known.index.items()}
    with replacing(path) as temporary:
        content = {"train": "images", "val": "images", "names": names}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
    return path


def read_yolo(
    folder: str | os.PathLike[str],
    sizes: Mapping[str, tuple[int, int]] | None = None,
    output_mode: str = "coco_rle",
) -> list[AnnotatedImage]:
    """The images of a YOLO segmentation data set with their records.

    Args:
        folder: with ``labels/`` and ``data.yaml``.
        sizes: (h, w) in pixels by the image's file name. None: of the files in ``images/``, as a
            viewer shows them (EXIF applied).
        output_mode: form of the segmentations.

    Returns:
        An entry for each image of ``sizes`` or ``images/``; without objects where there is no
        text file. ``label`` is the category's name.

    Raises:
        AnnotationError: missing or damaged files, boxes instead of polygons, unknown categories.
    """
    folder = Path(folder).expanduser()
    names = _names(folder / "data.yaml")
    if sizes is None:
        sizes = _sizes(folder / "images")
    result = []
    for file_name, size in sizes.items():
        path = folder / "labels" / _label_name(file_name)
        records: list[Record] = []
        if path.exists():
            with reading(path, "a text file of YOLO polygons") as file:
                for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                    if line.strip():
                        try:
                            records.append(_parse(line, names, size, output_mode))
                        except AnnotationError as error:
                            raise AnnotationError(f"line {number}: {error}") from error
        result.append(AnnotatedImage(file_name, size, records))
    return result


def _line(record: Record, size: tuple[int, int], known: Categories, tolerance: float) -> str:
    polygons = mask_to_polygons(segmentation_of(record, size), tolerance=tolerance)
    index = known.of(record)
    if not polygons:
        return ""
    ring = join_rings([ring for part in polygons for ring in part.rings])
    shares = (ring / (size[1], size[0])).ravel()
    return f"{index} " + " ".join(f"{share:.6f}" for share in shares) + "\n"


def _parse(line: str, names: Mapping[int, str], size: tuple[int, int], output_mode: str) -> Record:
    first, *rest = line.split()
    try:
        index, shares = int(first), np.array(rest, float)
    except ValueError:
        raise AnnotationError("must be a category's index and numbers") from None
    if index not in names:
        raise AnnotationError(f"category {index} has no name in data.yaml: add it")
    if shares.size == 4:
        raise AnnotationError("is a box: pass a segmentation data set, not a detection one")
    if shares.size < 6 or shares.size % 2:
        raise AnnotationError(f"has {shares.size} coordinates: a polygon has 6, 8, 10, ...")
    ring = shares.reshape(-1, 2) * (size[1], size[0])
    return new_record(polygons_to_rle([ring], size), output_mode, {"label": names[index]})


def _label_name(file_name: str) -> PurePosixPath:
    name = PurePosixPath(str(file_name).replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise AnnotationError(f"file name {file_name!r}: pass it relative to the images' folder")
    return name.with_suffix(".txt")


def _names(path: Path) -> dict[int, str]:
    import yaml

    with reading(path, "the data.yaml of a YOLO data set") as file:
        content = yaml.safe_load(file.read_text("utf-8"))
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            raise AnnotationError('has no "names": list the categories there')
        return {int(index): str(name) for index, name in names.items()}


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder: put the images there or pass sizes")
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            with reading(path, "an image") as file, Image.open(file) as image:
                width, height = image.size
                if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:  # lies on its side
                    width, height = height, width
                sizes[path.relative_to(folder).as_posix()] = (height, width)
    return sizes
