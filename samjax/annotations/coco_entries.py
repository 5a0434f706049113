"""Check the images and categories that a COCO data set lists: programs write odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from samjax.annotations.records import integer_or_none, json_value
from samjax.arguments import shown
from samjax.errors import AnnotationError

_LONGEST_SIDE = 1_000_000  # pixels

# What a list of results needs; three lines of Python.
JOIN_RESULTS = (
    "is a list of results, without images and categories: pass it to samjax segment-dataset with "
    "--images-json ANN.json (images_json=), the COCO file that has them, or join the two: "
    'data = json.loads(Path("ANN.json").read_text()); data["annotations"] = [{"id": i, **each} for '
    'i, each in enumerate(json.loads(Path("RESULTS.json").read_text()), 1)]; '
    'Path("joined.json").write_text(json.dumps(data))'
)


@dataclass
class CocoExtra:
    """Holds what a COCO data set says besides; `write_coco` writes it again.

    Attributes:
        dataset: keys of the data set, such as info and licenses.
        images: keys of each image, such as license, coco_url and date_captured, by its id.
        categories: keys of each category, such as supercategory, by its id.
    """

    dataset: dict[str, Any] = field(default_factory=dict)
    images: dict[int | str, dict[str, Any]] = field(default_factory=dict)
    categories: dict[int, dict[str, Any]] = field(default_factory=dict)


def coco_extra(dataset: Mapping[str, Any]) -> CocoExtra:
    """Return what a COCO data set says besides names, sizes, annotations and categories."""

    def others(entry: Mapping[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
        return {str(key): json_value(value) for key, value in entry.items() if key not in own}

    return CocoExtra(
        others(dataset, ("images", "annotations", "categories")),
        {
            entry["id"]: others(entry, ("id", "file_name", "height", "width"))
            for entry in dataset["images"]
        },
        {entry["id"]: others(entry, ("id", "name")) for entry in dataset.get("categories", ())},
    )


def category_names(dataset: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of the categories of a COCO data set, by id.

    Raises:
        AnnotationError: an id that is no whole number, or a name that is no text.
    """
    names = {}
    for entry in dataset.get("categories", ()):
        number, name = integer_or_none(entry["id"]), entry["name"]
        if number is None or number < 0:
            raise AnnotationError(
                f"category {shown(name)} has the id {shown(entry['id'])}: whole numbers from 0 are "
                "ids of categories"
            )
        if not isinstance(name, str):
            raise AnnotationError(f"category {number} has the name {shown(name)}: give it a text")
        names[number] = name
    return names


class ImageEntry(NamedTuple):
    """Holds one image that a COCO data set lists; ``size`` is (h, w) in pixels, or None."""

    id: int | str
    file_name: str
    size: tuple[int, int] | None


def image_entries(dataset: Mapping[str, Any]) -> list[ImageEntry]:
    """Return the images that a COCO data set lists.

    Raises:
        AnnotationError: an id that is neither a whole number nor a text, a file name that is no
            text, or a size that is not in whole pixels.
    """
    entries = []
    for entry in dataset["images"]:
        given, name = entry["id"], entry["file_name"]
        number = given if isinstance(given, str) else integer_or_none(given)
        which = f"image {shown(given)}"
        if number is None:
            raise AnnotationError(f"{which}: its id is no whole number: give it one")
        if not isinstance(name, str) or not name or any("\ud800" <= c <= "\udfff" for c in name):
            raise AnnotationError(f"{which} has the file name {shown(name)}: no file is called so")
        sides = [_pixels(entry.get(key)) for key in ("height", "width")]
        if None in sides and ("height" in entry or "width" in entry):
            told = f"{shown(entry.get('width'))} x {shown(entry.get('height'))}"
            raise AnnotationError(f"{which} has the size {told}: give whole pixels, at least 1")
        height, width = sides
        size = None if height is None or width is None else (height, width)
        entries.append(ImageEntry(number, name, size))
    return entries


def _pixels(value: Any) -> int | None:
    """Return a side in pixels, also where it is written as 640.0; None for anything else."""
    whole = integer_or_none(int(value) if isinstance(value, float) and value % 1 == 0 else value)
    return whole if whole is not None and 0 < whole <= _LONGEST_SIDE else None


def is_results(content: Any) -> bool:
    """Tell whether JSON is COCO's list of results: what a detector found, without file names."""
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and "image_id" in content[0]
    )
