"""Export objects of annotations: with their ids, and as they were where nobody changed them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from samjax.annotations import AnnotatedImage, coco_dataset
from samjax.annotations.records import integer_or_none
from samjax.masks.rle import Record
from samjax.widget.opened import OpenedAnnotations
from samjax.widget.state import Object

CocoEntry = dict[str, Any]

_LARGEST = int(np.iinfo(np.uint16).max)


def kept_entry(each: Object) -> CocoEntry | None:
    """Return the COCO annotation that an object still is; None for one that was changed."""
    if each.origin is None or not each.origin.entry or not each.as_opened:
        return None
    found: CocoEntry = json.loads(each.origin.entry)
    return found


def opened_dataset(
    images: Sequence[AnnotatedImage],
    entries: Sequence[Sequence[CocoEntry | None]],
    others: Sequence[Sequence[CocoEntry]],
    categories: Sequence[str] | Mapping[str, int],
    opened: OpenedAnnotations | None,
) -> dict[str, Any]:
    """Build the COCO data set of an annotator that opened annotations.

    An annotation that is unchanged is the one of the file: polygons stay polygons, and numbers
    what they were. Of the file's images and categories every key is kept, and its order, too.

    Args:
        images: with their records, and ids of the file where they are from it.
        entries: for each record the COCO annotation that it still is.
        others: for each image annotations of the file that are no objects.
        categories: names of the classes, or {name: id}; others that occur follow.
        opened: the annotations; None if the objects are from saved states alone.
    """
    dataset = coco_dataset(images, categories)
    source = opened.set if opened is not None and opened.set.format == "coco" else None
    ids = {each["name"]: each["id"] for each in dataset["categories"]}
    names = {each["id"]: each["name"] for each in source.header["categories"]} if source else {}
    annotations: list[CocoEntry] = []
    made = iter(dataset["annotations"])
    for image, kept, more in zip(images, entries, others, strict=True):
        for record, entry in zip(image.records, kept, strict=True):
            fresh = next(made)
            if entry is not None:
                fresh = {**entry, "id": _number(entry, fresh), "image_id": fresh["image_id"]}
                if names.get(entry.get("category_id")) != record["label"]:
                    fresh["category_id"] = ids[record["label"]]
            annotations.append(fresh)
        annotations += more
    if source is None:
        return {**dataset, "annotations": annotations}
    place = {str(number): i for i, number in enumerate(source.order)}
    known = {image.name: image.coco for image in source.images}
    order = {image.name: i for i, image in enumerate(source.images)}
    found = [{**each, **(known.get(each["file_name"]) or {})} for each in dataset["images"]]
    found.sort(key=lambda each: order.get(each["file_name"], len(order)))
    annotations.sort(key=lambda each: place.get(str(each.get("id")), len(place)))
    given = list(source.header.get("categories", ()))
    new = [each for each in dataset["categories"] if each["name"] not in set(names.values())]
    header = {**source.header, "categories": [*given, *new]}
    return {**header, "images": found, "annotations": annotations}


def _number(entry: CocoEntry, fresh: CocoEntry) -> Any:
    """Return the id of an annotation: its own, but for a second one of the same number."""
    given = entry.get("id")
    return given if given is not None and integer_or_none(given) is None else fresh["id"]


def own_numbers(
    labels: Integer[np.ndarray, "H W"], records: Sequence[Record]
) -> Integer[np.ndarray, "H W"]:
    """Return a label map whose numbers are the ids of its records, instead of their places.

    Records without an id, or with one that no label map holds, get free numbers.
    """
    given = [integer_or_none(record.get("id")) for record in records]
    taken: set[int] = set()
    numbers: list[int | None] = []
    for number in given:
        usable = number is not None and 0 < number <= _LARGEST and number not in taken
        numbers.append(number if usable else None)
        taken |= {number} if number is not None and usable else set()
    free = (number for number in itertools.count(1) if number not in taken)
    table = np.array([0, *(next(free) if n is None else n for n in numbers)])
    return table.astype(np.uint8 if table.max() <= 255 else np.uint16)[labels]
