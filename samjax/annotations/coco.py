"""Write and read COCO data sets, one JSON file for many images (cocodataset.org/#format-data)."""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from samjax.annotations.coco_entries import (
    JOIN_RESULTS,
    CocoExtra,
    category_names,
    coco_extra,
    image_entries,
    is_results,
)
from samjax.annotations.records import (
    AnnotatedImage,
    Categories,
    CategoryNames,
    Images,
    check_file_name,
    checked_images,
    integer_or_none,
    json_value,
    new_record,
    reading,
    segmentation_of,
)
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.files import given_path, replacing
from samjax.masks.polygons import join_rings, mask_to_polygons, polygons_to_rle
from samjax.masks.rle import (
    Record,
    Segmentation,
    crop,
    segmentation_area,
    segmentation_size,
    to_coco_rle,
)
from samjax.words import counted

SHAPES = ("rle", "polygons", "bridged")

_KEPT = ("attributes", "keypoints", "num_keypoints")
# Keys of the records that COCO does not define; other programs ignore them.
_EXTRA = (
    *("predicted_iou", "stability_score", "score", "point_coords", "point_labels", "crop_box"),
    "prompt_box",
    *_KEPT,
)
# Keys of an annotation that are read or made anew; all others are the record's "extra".
_OWN = frozenset(
    ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "segmentation", *_EXTRA)
)

_CONTENT = {"images", "annotations", "categories"}  # of a data set; the rest tells its origin


def coco_dataset(
    images: Images,
    categories: CategoryNames = None,
    *,
    shapes: str = "rle",
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Build a COCO data set that ``pycocotools.coco.COCO`` loads; ``annToMask`` gives the masks.

    Args:
        images: (file_name, (h, w), records) of each image; an `AnnotatedImage` keeps its id.
        categories: category names in order of their ids 1, 2, ..., {name: id} or {id: name}; None
            takes those of `read_coco`'s images, and the labels of the records in order of
            appearance, "object" for records without one.
        shapes: encoding of the masks, one of these.

            - "rle": COCO's run-length encoding; exact and small.
            - "polygons": one polygon for each connected part. A COCO polygon has no holes: a mask
              with holes, and an empty one, is written as run lengths.
            - "bridged": polygons for masks with holes too, each hole joined to its part's outline
              by a bridge of zero width. Exact in pycocotools; a program that draws outlines
              shows the bridges. An empty mask is written as run lengths.
        tolerance: distance in pixels by which polygons may differ from the mask's edge; 0 is
            exact, 1 needs a quarter to a tenth of the vertices.

    Returns:
        info, licenses, images, annotations (id of the records, else a free number; iscrowd of the
        records, else 0; area in pixels; bbox in COCO's convention, one more than the records' in
        width and height; scores, prompt points, crop boxes, ``attributes``, ``keypoints`` and the
        ``extra`` keys of the records) and categories. Of records with the same id the first
        keeps it; the others are numbered anew, with one AnnotationWarning.

    Raises:
        AnnotationError: a record or file name cannot be used, an id occurs twice, or a label is
            not in ``categories``.
    """
    if shapes not in SHAPES:
        raise AnnotationError(f"shapes is {shapes!r}: use one of {', '.join(SHAPES)}")
    known = Categories(categories, 1, getattr(images, "categories", None))
    extra = images.extra if isinstance(images, CocoImages) else CocoExtra()
    images = checked_images(images)
    numbers = [getattr(image, "id", None) for image in images]
    taken = [number for number in numbers if number is not None]
    if len(set(taken)) < len(taken):
        raise AnnotationError("two images have the same id: images of one data set, or id=None")
    free = iter(sorted(set(range(1, len(images) + 1 + len(taken))) - set(taken)))
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    own_ids = _annotation_ids(image[2] for image in images)
    for (file_name, (height, width), records), given in zip(images, numbers, strict=True):
        image_id: int | str = next(free) if given is None else given
        name, height, width = check_file_name(file_name), int(height), int(width)
        entry = {"id": image_id, "file_name": name, "height": height, "width": width}
        entries.append({**extra.images.get(image_id, {}), **entry})
        for record in records:
            segmentation = segmentation_of(record, (height, width))
            part, crowd = crop(segmentation), int(bool(record.get("iscrowd", 0)))
            annotations.append(
                {
                    **_extra(record),
                    "id": next(own_ids),
                    "image_id": image_id,
                    "category_id": known.of(record),
                    "iscrowd": crowd,
                    "area": segmentation_area(segmentation),
                    "bbox": [part.left, part.top, *part.pixels.shape[::-1]],
                    "segmentation": _shape(segmentation, "rle" if crowd else shapes, tolerance),
                    **{key: json_value(record[key]) for key in _EXTRA if key in record},
                }
            )
    return {
        "info": {"description": "masks by samjax"},
        "licenses": [],
        **extra.dataset,
        "images": entries,
        "annotations": annotations,
        "categories": [
            {"supercategory": "", **extra.categories.get(i, {}), "id": i, "name": name}
            for name, i in known.ids.items()
        ],
    }


def write_coco(
    path: str | os.PathLike[str],
    images: Images,
    categories: CategoryNames = None,
    *,
    shapes: str = "rle",
    tolerance: float = 0.0,
) -> Path:
    """Write the `coco_dataset` of images to one JSON file atomically, and return its path."""
    return write_dataset(path, coco_dataset(images, categories, shapes=shapes, tolerance=tolerance))


def write_dataset(path: str | os.PathLike[str], dataset: dict[str, Any]) -> Path:
    """Write a COCO data set to a JSON file atomically, and return its path."""
    path = given_path(path, AnnotationError)
    with replacing(path) as temporary:
        temporary.write_text(dataset_text(dataset), encoding="utf-8")
    return path


def dataset_text(dataset: dict[str, Any]) -> str:
    """Return a COCO data set as the text of its file."""
    return json.dumps(dataset, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def made_alike(path: Path, dataset: Mapping[str, Any]) -> bool:
    """Tell whether a COCO file was made as a data set was: by samjax, or of the same other file."""
    with path.open(encoding="utf-8") as file:
        found = json.load(file)
    return all(found.get(key) == dataset.get(key) for key in {*found, *dataset} - _CONTENT)


class CocoImages(list[AnnotatedImage]):
    """Lists the images of a COCO file; `write_coco` writes them with the same ids.

    Attributes:
        categories: name to id of all categories of the file, used or not.
        skipped: reasons why annotations were left out, one each.
        extra: what the file says besides, such as info, licenses and supercategories.
    """

    def __init__(
        self,
        images: Iterable[AnnotatedImage],
        categories: dict[str, int],
        skipped: list[str],
        extra: CocoExtra | None = None,
    ):
        super().__init__(images)
        self.categories, self.skipped = categories, skipped
        self.extra = CocoExtra() if extra is None else extra


def read_coco(path: str | os.PathLike[str], output_mode: str = "coco_rle") -> CocoImages:
    """Read the images of a COCO data set with their records; ``label`` is the category's name.

    Polygons are rasterized as in pycocotools. Images without annotations are included. Crowds
    have ``iscrowd`` 1. ``id`` is the annotation's number, which `write_coco` keeps; keys that
    neither COCO nor samjax defines are in the dict ``extra``. Annotations that hold no mask (boxes
    alone, polygons of two points) are skipped with one AnnotationWarning that counts them.

    Args:
        path: JSON file, by samjax or another program.
        output_mode: form of the segmentations; bool masks of a whole data set need much memory.

    Raises:
        AnnotationError: the file is no COCO data set, none of its annotations holds a mask, or
            one belongs to an unknown image or category.
    """
    with reading(path, "a COCO JSON file") as file:
        found = coco_images(load_coco(file), output_mode)
    if found.skipped:
        total = len(found.skipped) + sum(len(image.records) for image in found)
        warnings.warn(
            f"{path}: {len(found.skipped)} of {counted(total, 'annotation')} were skipped, "
            f"the first: {found.skipped[0]}",
            AnnotationWarning,
            stacklevel=2,
        )
    return found


def load_coco(file: Path) -> dict[str, Any]:
    """Load the JSON of a COCO data set.

    Raises:
        AnnotationError: it is JSON of something else. OSError, ValueError: it is no JSON.
    """
    dataset = json.loads(file.read_text(encoding="utf-8-sig"))
    if is_results(dataset):
        raise AnnotationError(JOIN_RESULTS)
    if not isinstance(dataset, dict) or "images" not in dataset:
        raise AnnotationError('is JSON without "images" and "annotations": pass a COCO data set')
    return dataset


def coco_images(dataset: dict[str, Any], output_mode: str) -> CocoImages:
    """Turn the JSON of a COCO data set into images with records; see `read_coco`.

    Raises:
        AnnotationError: none of the annotations holds a mask, or one belongs to an unknown image
            or category. LookupError, TypeError: entries have not the keys and types of COCO.
    """
    names = category_names(dataset)
    images = {}
    for key, file_name, size in image_entries(dataset):
        if size is None:
            raise AnnotationError(f"image {key} has no width and height: masks need them")
        images[key] = AnnotatedImage(file_name, size, [], key)
    for what, known, listed in (
        ("images", images, dataset["images"]),
        ("categories", names, dataset.get("categories", ())),
    ):
        if len(known) < len(listed):
            raise AnnotationError(
                f"{len(listed)} {what} have {len(known)} different ids: give each its own"
            )
    records: dict[Any, list[Record]] = {key: [] for key in images}
    annotations, skipped = list(dataset.get("annotations", ())), []
    for annotation in annotations:
        which = f"annotation {annotation.get('id')}"
        image = images.get(annotation["image_id"])
        if image is None:
            raise AnnotationError(f"{which} is of image {annotation['image_id']}: not listed")
        if annotation["category_id"] not in names:
            raise AnnotationError(f"{which} is of category {annotation['category_id']}: not listed")
        label = names[annotation["category_id"]]
        try:
            record = coco_record(annotation, label, image.size, output_mode)
        except AnnotationError as error:
            skipped.append(f"{which}: {error}")
            continue
        records[annotation["image_id"]].append(record)
    if skipped and len(skipped) == len(annotations):
        raise AnnotationError(skipped[0])
    found = [image._replace(records=records[key]) for key, image in images.items()]
    categories = {name: key for key, name in names.items()}
    return CocoImages(found, categories, skipped, coco_extra(dataset))


def coco_record(
    annotation: Mapping[str, Any], label: str, size: tuple[int, int], output_mode: str
) -> Record:
    """Return the record of one annotation of a COCO data set, of an image of ``size`` (h, w).

    Raises:
        AnnotationError: it holds no mask.
    """
    extra = {key: _unjson(key, annotation[key]) for key in _EXTRA if key in annotation}
    extra["label"] = label
    if (number := integer_or_none(annotation.get("id"))) is not None:
        extra["id"] = number
    if others := {k: v for k, v in annotation.items() if k not in _OWN}:
        extra["extra"] = others
    if annotation.get("iscrowd"):
        extra["iscrowd"] = 1
    return new_record(_unshape(annotation.get("segmentation"), size), output_mode, extra)


def _extra(record: Record) -> dict[str, Any]:
    given = record.get("extra") or {}
    return {str(key): json_value(value) for key, value in given.items() if key not in _OWN}


def _annotation_ids(records: Iterable[Sequence[Record]]) -> Iterator[int]:
    """Yield the id of each annotation: the record's own where it is the first that has it."""
    given = [integer_or_none(record.get("id")) for each in records for record in each]
    taken: set[int] = set()
    ids: list[int | None] = []
    for number in given:
        ids.append(None if number in taken else number)
        if number is not None:
            taken.add(number)
    if twice := sum(number is not None for number in given) - len(taken):
        warnings.warn(
            f"{counted(twice, 'record')} had the id of an earlier one and got another number",
            AnnotationWarning,
            stacklevel=3,
        )
    free = (number for number in itertools.count(1) if number not in taken)
    return (next(free) if number is None else number for number in ids)


def _shape(segmentation: Segmentation, shapes: str, tolerance: float) -> Any:
    if shapes != "rle":
        polygons = mask_to_polygons(segmentation, tolerance=tolerance)
        if polygons and (shapes == "bridged" or not any(part.holes for part in polygons)):
            return [_flat(join_rings(part.rings)) for part in polygons]
    return to_coco_rle(segmentation)


def _flat(ring: Num[np.ndarray, "_ 2"]) -> list[Any]:
    return ring.ravel().tolist()


def _unshape(segmentation: Any, size: tuple[int, int]) -> Segmentation:
    if isinstance(segmentation, dict):
        found = segmentation_size(segmentation)
        if found != size:
            raise AnnotationError(f"run lengths of size {found} in an image of size {size}")
        return segmentation
    if not isinstance(segmentation, list) or not segmentation:
        raise AnnotationError(
            "has no segmentation: boxes alone are not masks; samjax.segment_dataset makes masks of "
            "boxes"
        )
    rings = [np.asarray(ring, float) for ring in segmentation]
    if any(ring.ndim != 1 or ring.size % 2 for ring in rings):
        raise AnnotationError("polygons must be lists of x, y, x, y, ...")
    return polygons_to_rle([ring.reshape(-1, 2) for ring in rings], size)


def _unjson(key: str, value: Any) -> Any:
    return math.nan if value is None and key not in _KEPT else value
