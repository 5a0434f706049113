"""Write and read labelme's annotations, one JSON file for each image (github.com/wkentaro/labelme).

A labelme shape has neither holes nor several parts. Here the shapes of one object share their
label and ``group_id``, and a polygon with the flag ``hole`` is cut out of the others.
"""

from __future__ import annotations

import base64
import io
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from samjax.annotations.label_files import shown_size, stem_names
from samjax.annotations.labelme_shapes import Shape, fill_shapes
from samjax.annotations.records import (
    DEFAULT_LABEL,
    AnnotatedImage,
    Images,
    Size,
    checked_images,
    integer_or_none,
    json_value,
    new_record,
    reading,
    segmentation_of,
)
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.files import check_outputs, given_path, replacing
from samjax.image.read import MAX_PIXELS
from samjax.masks.polygons import join_rings, mask_to_polygons
from samjax.masks.rle import Record, crop
from samjax.words import counted

SHAPES = ("groups", "bridged", "mask")

_VERSION = "5.5.0"  # of the format: the first with all that is written here
# Keys of records that labelme does not define; it keeps them when it saves a file.
_EXTRA = (
    *("id", "iscrowd", "predicted_iou", "stability_score", "score", "point_coords", "crop_box"),
    *("attributes", "keypoints", "num_keypoints", "extra"),
)


def write_labelme(
    folder: str | os.PathLike[str],
    images: Images,
    *,
    image_folder: str | os.PathLike[str] | None = None,
    shapes: str = "groups",
    points: bool = False,
    tolerance: float = 0.0,
) -> list[Path]:
    """Write ``NAME.json`` for each image, without the image's data, and return the paths.

    Coordinates are pixels, the corner of the top left pixel at (0, 0). ``id`` of images and
    records, crowds, scores and ``attributes`` are written as keys that labelme keeps. labelme
    holds no empty masks: they are left out, with one AnnotationWarning.

    Args:
        folder: folder of the JSON files.
        images: (file_name, (h, w), records) of each image; the JSON of ``a/b.jpg`` is ``a/b.json``.
        image_folder: folder that the file names are relative to; ``imagePath`` leads there. None:
            each image lies beside its JSON, as labelme has it.
        shapes: encoding of the masks, one of these.

            - "groups": a polygon for each part, and one with the flag ``hole`` for each hole, all
              of one ``group_id``. Can be edited in labelme; its own converters fill the holes.
            - "bridged": as before, but holes are joined to their part's outline by bridges of
              zero width.
            - "mask": labelme's bitmaps (from version 5.3), exact in its own converters.
        points: also write the records' ``point_coords`` as points of the object's group.
        tolerance: distance in pixels by which polygons may differ from the mask's edge.

    Raises:
        AnnotationError: records or labels are unusable, or file names lead outside the folder or
            differ in the suffix only.
    """
    if shapes not in SHAPES:
        raise AnnotationError(f"shapes is {shapes!r}: use one of {', '.join(SHAPES)}")
    folder, images = given_path(folder, AnnotationError), checked_images(images)
    names = stem_names((image[0] for image in images), ".json")
    check_outputs(folder / name for name in names)
    empty, written = 0, []
    for name, image in zip(names, images, strict=True):
        file_name, (height, width), records = image
        path = folder / name
        groups = _groups(records)
        entries: list[dict[str, Any]] = []
        for record, group in zip(records, groups, strict=True):
            found = _entries(record, (height, width), group, shapes, points, tolerance)
            empty += not found
            entries += found
        if image_folder is None:
            image_path = PurePosixPath(file_name.replace("\\", "/")).name
        else:
            target = Path(image_folder) / file_name
            image_path = Path(os.path.relpath(target, path.parent)).as_posix()
        number = getattr(image, "id", None)
        content = {
            "version": _VERSION,
            "flags": {},
            "shapes": entries,
            "imagePath": image_path,
            "imageData": None,
            "imageHeight": int(height),
            "imageWidth": int(width),
            **({} if number is None else {"id": number}),
        }
        with replacing(path) as temporary:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    if empty:
        warnings.warn(
            f"{counted(empty, 'record')} with an empty mask left out: labelme holds none",
            AnnotationWarning,
            stacklevel=2,
        )
    return written


class LabelmeImages(list[AnnotatedImage]):
    """Lists the images of labelme files.

    Attributes:
        points: points that belong to no mask, by file name: dicts of ``label``, ``point_coords``
            and ``group_id``.
        skipped: reasons why shapes and files were left out, one each.
    """

    def __init__(
        self,
        images: Iterable[AnnotatedImage],
        points: dict[str, list[dict[str, Any]]],
        skipped: list[str],
    ):
        super().__init__(images)
        self.points, self.skipped = points, skipped


def read_labelme(path: str | os.PathLike[str], output_mode: str = "coco_rle") -> LabelmeImages:
    """Read labelme's files as images with their records, in order of the files' names.

    Polygons, rectangles, circles and masks are filled; shapes of the same label and ``group_id``
    are one record, of which polygons with the flag ``hole`` are cut out. Points of a group are
    its ``point_coords``. ``label`` is the shape's label; other flags, descriptions and group ids
    are the record's ``flags``, ``description`` and ``group_id``. Lines have no area: they, and
    JSON files in the folder that are not labelme's, are skipped with one AnnotationWarning.

    Args:
        path: one file, or a folder that is searched to any depth.
        output_mode: form of the segmentations.

    Returns:
        An entry for each file. Its name is that of ``imagePath``, relative to the folder.

    Raises:
        AnnotationError: files are missing or damaged, or hold unusable coordinates.
    """
    path = given_path(path, AnnotationError)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*.json") if not f.name.startswith("."))
        top = path
    else:
        files, top = [path], path.parent
    images: list[AnnotatedImage] = []
    points: dict[str, list[dict[str, Any]]] = {}
    skipped: list[str] = []
    for each in files:
        found = read_labelme_file(each, top, output_mode)
        if found is None and path.is_dir():
            skipped.append(f"{each}: JSON without shapes")
            continue
        if found is None:
            raise AnnotationError(f'{path}: is JSON without "shapes": pass a file of labelme')
        images.append(found.image)
        points |= {found.image.file_name: found.points} if found.points else {}
        skipped += [f"{each}: {line}" for line in found.skipped]
    if path.is_dir() and not images:
        raise AnnotationError(f"{path}: no file of labelme in this folder: check the path")
    if skipped:
        warnings.warn(
            f"{path}: {counted(len(skipped), 'shape or file', 'shapes or files')} skipped, "
            f"the first: {skipped[0]}",
            AnnotationWarning,
            stacklevel=2,
        )
    return LabelmeImages(images, points, skipped)


class LabelmeFile(NamedTuple):
    """Holds the content of one file, and where its image lies."""

    image: AnnotatedImage
    image_path: Path
    points: list[dict[str, Any]]
    skipped: list[str]


def read_labelme_file(file: Path, top: Path, output_mode: str) -> LabelmeFile | None:
    """Read one file; see `read_labelme`. None for JSON without shapes.

    Raises:
        AnnotationError: it is missing, damaged, or holds unusable coordinates.
    """
    with reading(file, "a labelme JSON file"):
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict) or "shapes" not in content:
            return None
        name = _image_name(content.get("imagePath"), file, top)
        size = _size(content, file)
        records, alone, lines = _records(content["shapes"], size, output_mode)
    image = AnnotatedImage(name, size, records, integer_or_none(content.get("id")))
    place = file.parent / PureWindowsPath(content["imagePath"]).as_posix()
    return LabelmeFile(image, place, alone, lines)


def _groups(records: Sequence[Record]) -> list[int]:
    """Choose a group for each record, its own if possible; no two of a label share one."""
    wanted = [integer_or_none(record.get("group_id", record.get("id"))) for record in records]
    last = max((group for group in wanted if group is not None), default=0)
    taken: set[tuple[str, int]] = set()
    groups = []
    for record, group in zip(records, wanted, strict=True):
        if group is None or (_label(record), group) in taken:
            last = group = last + 1
        taken.add((_label(record), group))
        groups.append(group)
    return groups


def _label(record: Record) -> str:
    label = record.get("label", DEFAULT_LABEL)
    if not isinstance(label, str):
        raise AnnotationError(f"label is {label!r}: pass the category's name as a str")
    return str(label)


def _entries(
    record: Record,
    size: Size,
    group: int,
    shapes: str,
    points: bool,
    tolerance: float,
) -> list[dict[str, Any]]:
    """Return the shapes of one record; none for an empty mask."""
    segmentation = segmentation_of(record, size)
    kept = {key: json_value(record[key]) for key in _EXTRA if key in record}
    coords = kept.pop("point_coords", []) if points else []
    flags = {str(k): bool(v) for k, v in (record.get("flags") or {}).items()}

    def shape(kind: str, vertices: Any, hole: bool = False, mask: str | None = None) -> Any:
        return {
            "label": _label(record),
            "points": [[float(x), float(y)] for x, y in vertices],
            "group_id": group,
            "description": str(record.get("description", "")),
            "shape_type": kind,
            "flags": flags | ({"hole": True} if hole else {}),
            "mask": mask,
            **kept,
        }

    found = []
    if shapes == "mask":
        part = crop(segmentation)
        if part.pixels.size:
            bottom, right = part.top + part.pixels.shape[0], part.left + part.pixels.shape[1]
            corners = [(part.left, part.top), (right - 1, bottom - 1)]
            found = [shape("mask", corners, mask=_png(part.pixels))]
    else:
        for polygon in mask_to_polygons(segmentation, tolerance=tolerance):
            if shapes == "bridged":
                found.append(shape("polygon", join_rings(polygon.rings)))
            else:
                found.append(shape("polygon", polygon.outer))
                found += [shape("polygon", hole, hole=True) for hole in polygon.holes]
    if not found:
        return []
    found += [shape("point", [xy]) for xy in coords]
    if len(found) == 1 and not {"id", "group_id"} & record.keys():
        found[0]["group_id"] = None  # nothing to hold together
    return found


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * np.uint8(255)).convert("1").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _image_name(image_path: Any, file: Path, top: Path) -> str:
    """Return the image's name relative to ``top``; one outside is taken to lie beside the file."""
    if not isinstance(image_path, str) or not image_path:
        raise AnnotationError('has no "imagePath"')
    inside = PurePosixPath(PureWindowsPath(image_path).as_posix())
    if inside.is_absolute() or PureWindowsPath(image_path).drive or ".." in inside.parts:
        inside = PurePosixPath(inside.name)
    return (PurePosixPath(file.parent.relative_to(top).as_posix()) / inside).as_posix()


def _size(content: Mapping[str, Any], file: Path) -> tuple[int, int]:
    sides = [integer_or_none(content.get(key)) for key in ("imageHeight", "imageWidth")]
    height, width = sides
    if height is None or width is None:  # early versions wrote none
        data = content.get("imageData")
        image_path = PureWindowsPath(content["imagePath"]).as_posix()
        source = io.BytesIO(base64.b64decode(data)) if data else file.parent / image_path
        return shown_size(source)
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise AnnotationError(f"imageHeight, imageWidth are {height}, {width}: correct them")
    return height, width


def _records(
    shapes: Any, size: tuple[int, int], output_mode: str
) -> tuple[list[Record], list[dict[str, Any]], list[str]]:
    """Return the records, the points that belong to none, and reasons for what is left out."""
    groups: dict[Any, list[Shape]] = {}
    for number, entry in enumerate(shapes, 1):
        shape = Shape.parse(entry, f"shape {number}")
        key = number if shape.group_id is None else (shape.label, shape.group_id)
        groups.setdefault(key, []).append(shape)
    records, alone, skipped = [], [], []
    for group in groups.values():
        first = group[0]
        skipped += [f"{s.where}: a {s.kind} has no area" for s in group if s.is_line]
        points = [list(s.points[0]) for s in group if s.kind == "point"]
        filled = fill_shapes([s for s in group if s.has_area], size)
        named: dict[str, Any] = {"label": first.label}
        if first.group_id is not None:
            named["group_id"] = first.group_id
        if filled is None:
            if points:
                alone.append({**named, "point_coords": points})
            skipped += [f"{s.where}: a hole without a part" for s in group if s.is_hole]
            continue
        flags = {k: v for s in group for k, v in s.flags.items() if k != "hole"}
        described = next((s.description for s in group if s.description), None)
        kept = {key: first.other[key] for key in _EXTRA if key in first.other}
        if named.get("group_id") == kept.get("id"):
            named.pop("group_id", None)
        records.append(
            new_record(
                filled,
                output_mode,
                {
                    **kept,
                    **named,
                    **({"point_coords": points} if points else {}),
                    **({"flags": flags} if flags else {}),
                    **({"description": described} if described else {}),
                },
            )
        )
    return records, alone, skipped
