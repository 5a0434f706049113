"""COCO data sets: one JSON file for many images (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from samjax.annotations.records import (
    AnnotatedImage,
    Categories,
    Images,
    Record,
    new_record,
    plain,
    reading,
    segmentation_of,
)
from samjax.errors import AnnotationError
from samjax.files import replacing
from samjax.polygons import join_rings, mask_to_polygons, polygons_to_rle
from samjax.rle import (
    Segmentation,
    crop,
    segmentation_area,
    segmentation_size,
    to_coco_rle,
)

SHAPES = ("rle", "polygons", "bridged")

# Fields of the records that COCO does not know and other programs leave alone.
_EXTRA = ("predicted_iou", "stability_score", "score", "point_coords", "crop_box")


def coco_dataset(
    images: Images,
    categories: Sequence[str] | None = None,
    *,
    shapes: str = "rle",
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """A COCO data set that ``pycocotools.coco.COCO`` loads; ``annToMask`` gives the masks.

    Args:
        images: (file_name, (h, w), records) of each image.
        categories: their names in order; their ids are 1, 2, ... None: the labels of the records
            in order of appearance, "object" for records without one.
        shapes: how masks are written.
            "rle": COCO's run lengths; exact and small.
            "polygons": one polygon for each part. A COCO polygon has no holes: a mask with holes,
                and an empty one, is written as run lengths.
            "bridged": polygons for masks with holes too, each hole cut open to its part's outline
                by a bridge of no width. Exact in pycocotools; a program that paints outlines
                shows the bridges. An empty mask is written as run lengths.
        tolerance: for polygons, the distance in pixels by which they may differ from the mask's
            edge; 0 is exact, 1 takes a quarter to a tenth of the vertices (`samjax.polygons`).

    Returns:
        info, licenses, images, annotations (iscrowd 0; area in pixels; bbox as COCO counts, one
        more than the records' in width and height; scores, prompt points and crop boxes of the
        records as further fields) and categories.

    Raises:
        AnnotationError: a record that cannot be used, or with a label not in ``categories``.
    """
    if shapes not in SHAPES:
        raise AnnotationError(f"shapes is {shapes!r}: use one of {', '.join(SHAPES)}")
    known = Categories(categories)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for file_name, (height, width), records in images:
        image_id = len(entries) + 1
        entries.append(
            {"id": image_id, "file_name": str(file_name), "height": height, "width": width}
        )
        for record in records:
            segmentation = segmentation_of(record, (height, width))
            part = crop(segmentation)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": known.of(record) + 1,
                    "iscrowd": 0,
                    "area": segmentation_area(segmentation),
                    "bbox": [part.left, part.top, *part.pixels.shape[::-1]],
                    "segmentation": _shape(segmentation, shapes, tolerance),
                    **{key: _json(record[key]) for key in _EXTRA if key in record},
                }
            )
    return {
        "info": {"description": "masks by samjax"},
        "licenses": [],
        "images": entries,
        "annotations": annotations,
        "categories": [
            {"id": i + 1, "name": name, "supercategory": ""} for name, i in known.index.items()
        ],
    }


def write_coco(
    path: str | os.PathLike[str],
    images: Images,
    categories: Sequence[str] | None = None,
    *,
    shapes: str = "rle",
    tolerance: float = 0.0,
) -> Path:
    """Write `coco_dataset` as one JSON file, whole or not at all."""
    dataset = coco_dataset(images, categories, shapes=shapes, tolerance=tolerance)
    with replacing(path) as temporary:
        text = json.dumps(dataset, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def read_coco(path: str | os.PathLike[str], output_mode: str = "coco_rle") -> list[AnnotatedImage]:
    """The images of a COCO data set with their records; ``label`` is the category's name.

    Polygons are filled as pycocotools does. Images without annotations are there too.

    Args:
        path: JSON file, also one that another program wrote.
        output_mode: form of the segmentations; bool masks of a whole data set need much memory.

    Raises:
        AnnotationError: not such a file; annotations without segmentation, or of unknown images
            or categories.
    """
    with reading(path, "a COCO JSON file") as file:
        dataset = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(dataset, dict) or "images" not in dataset:
            raise AnnotationError(
                'is JSON without "images" and "annotations": pass a COCO data set, '
                "not a list of detections"
            )
        names = {entry["id"]: entry["name"] for entry in dataset.get("categories", ())}
        images = {
            entry["id"]: AnnotatedImage(entry["file_name"], (entry["height"], entry["width"]), [])
            for entry in dataset["images"]
        }
        records: dict[Any, list[Record]] = {key: [] for key in images}
        for annotation in dataset.get("annotations", ()):
            which = f"annotation {annotation.get('id')}"
            image = images.get(annotation["image_id"])
            if image is None:
                raise AnnotationError(f"{which} is of image {annotation['image_id']}: not listed")
            if annotation["category_id"] not in names:
                raise AnnotationError(
                    f"{which} is of category {annotation['category_id']}: not listed"
                )
            extra = {key: _unjson(annotation[key]) for key in _EXTRA if key in annotation}
            extra["label"] = names[annotation["category_id"]]
            try:
                rle = _unshape(annotation.get("segmentation"), image.size)
                record = new_record(rle, output_mode, extra)
            except AnnotationError as error:
                raise AnnotationError(f"{which}: {error}") from error
            records[annotation["image_id"]].append(record)
    return [image._replace(records=records[key]) for key, image in images.items()]


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
        raise AnnotationError("has no segmentation: boxes alone are not masks")
    rings = [np.asarray(ring, float) for ring in segmentation]
    if any(ring.ndim != 1 or ring.size % 2 for ring in rings):
        raise AnnotationError("polygons must be lists of x, y, x, y, ...")
    return polygons_to_rle([ring.reshape(-1, 2) for ring in rings], size)


def _json(value: Any) -> Any:
    """NaN and infinity do not exist in JSON: null."""
    value = plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unjson(value: Any) -> Any:
    return math.nan if value is None else value
