"""Read COCO and LVIS annotation files."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.miou.samples import Dataset, Entry, Target
from samjax.errors import AnnotationError
from samjax.masks.rle import to_mask


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        AnnotationError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such annotation file: check the path") from None
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path}: not a readable JSON file ({error})") from error


def open_coco(annotations: Path, images: Path | None = None) -> Dataset:
    """Open the images of a COCO or LVIS instances file, ordered by file name.

    Args:
        annotations: the JSON file.
        images: folder of the images; None takes the folder named by the last part of the JSON
            file's name (``annotations/instances_val2017.json`` -> ``val2017``).

    Raises:
        AnnotationError: the file, the folder or an image is missing, or the file lists no image.
    """
    content = read_json(annotations)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise AnnotationError(
            f"{annotations}: not a COCO file: an object with 'images' and 'annotations' is needed"
        )
    if not content["images"]:
        raise AnnotationError(f"{annotations}: it lists no image: nothing to measure")
    folder = images or _image_folder(annotations)
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder of images: give it with --images")
    try:
        entries = _entries(content, folder)
    except (KeyError, TypeError) as error:
        raise AnnotationError(
            f"{annotations}: not a COCO file: an image or annotation of it is malformed or lacks "
            f"an entry ({error})"
        ) from error
    if missing := [e.path for e in entries if not e.path.is_file()]:
        raise AnnotationError(
            f"{missing[0]}: no such image, {len(missing)} of {len(entries)} that "
            f"{annotations.name} lists are missing: give their folder with --images"
        )
    return Dataset(annotations.stem, "coco", entries, source=annotations)


def _entries(content: dict[str, Any], folder: Path) -> list[Entry]:
    found: dict[Any, list[dict]] = defaultdict(list)
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(annotation)
    entries = []
    for image in sorted(content["images"], key=_file_name):
        path = _image_path(folder, _file_name(image))
        load = partial(_load, found.get(image["id"], []), image["height"], image["width"], path)
        entries.append(Entry(str(image["id"]), path, load))
    return entries


def _file_name(image: dict) -> str:
    """Return an image's file name; for LVIS the last two parts of its URL, folder and name."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(str(image["coco_url"]).split("/")[-2:])


def _image_folder(annotations: Path) -> Path:
    split = annotations.stem.rpartition("_")[2]
    root = annotations.parent.parent
    for folder in (root / split, root / "images" / split, root / f"{split}2017"):
        if folder.is_dir():
            return folder
    return root / split


def _image_path(folder: Path, name: str) -> Path:
    """Find an image below ``folder``, which may already be the COCO folder that LVIS names."""
    path = folder / name
    for other in (folder / Path(name).name, folder.parent / name):
        if not path.is_file() and other.is_file():
            return other
    return path


def _load(annotations: list[dict], height: int, width: int, path: Path) -> list[Target]:
    return [_target(a, height, width, path) for a in annotations]


def _target(annotation: dict, height: int, width: int, path: Path) -> Target:
    name = str(annotation.get("id"))
    try:
        mask = decode(annotation["segmentation"], height, width)
        box = None
        if "bbox" in annotation:
            x, y, w, h = annotation["bbox"]
            box = (x, y, x + w, y + h)
    except Exception as error:  # pycocotools raises nothing narrower
        raise AnnotationError(
            f"{path.name}: annotation {name} has no usable segmentation or bbox ({error})"
        ) from error
    return Target(
        id=name,
        mask=mask,
        box=box,
        area=float(annotation.get("area", np.count_nonzero(mask))),
        category=annotation.get("category_id"),
        crowd=bool(annotation.get("iscrowd", 0)),
    )


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode polygons or RLE (compressed or not) to a bool mask, as COCO's own code does."""
    if isinstance(segmentation, list):
        if not segmentation:
            return np.zeros((height, width), bool)
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return to_mask({"size": [height, width], "counts": segmentation["counts"]})
