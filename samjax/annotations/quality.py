"""Find what is wrong with the masks of one image; pure functions, nothing is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from pycocotools import mask as coco

from samjax.annotations.records import AnnotatedImage
from samjax.masks.rle import Cropped, Record, Rle, area_from_rle, crop, to_coco_rle
from samjax.words import counted

# Kinds of findings, the gravest first, and their explanation.
KINDS = {
    "no image": "the image's file is missing",
    "image size": "the image's file has another size than its annotations",
    "duplicate image": "two files with the same content",
    "no mask": "an entry without a usable mask",
    "empty mask": "a mask without pixels",
    "box": "the file's box is not the mask's",
    "duplicate mask": "two masks of an image that are (nearly) the same",
    "copied mask": "the same mask in two images",
    "overlap": "two masks that share a part of the smaller one",
    "speck": "a small part, or a small mask",
    "hole": "a small hole",
    "no objects": "an image without objects",
    "low score": "a mask that segment-dataset lists in review.json",
    "nested": "a mask inside another one",
    "border": "a mask that touches the image's border",
}
NOTES = ("nested", "border")  # often right as they are

Box: TypeAlias = tuple[float | int, ...]

_MARKED = 20  # small regions of a finding that are drawn
_ROWS = 256  # of the matrix of overlaps at a time
_NESTED = 0.95  # share of the smaller mask


class Limits(NamedTuple):
    """Holds the limits beyond which something is a finding.

    Attributes:
        min_region_area: parts, holes and masks with fewer pixels are specks and small holes.
        overlap: share of the smaller mask that two masks may have in common.
        duplicate: IoU from which two masks are the same.
        box_iou: IoU that a box in the file and the mask's own box must reach.
    """

    min_region_area: int = 25
    overlap: float = 0.2
    duplicate: float = 0.9
    box_iou: float = 0.8


class Finding(NamedTuple):
    """Tells what is wrong, and where.

    Attributes:
        kind: one of `KINDS`.
        image: file name of the image.
        objects: ids of the objects, or their numbers in the image, from 1.
        detail: measured values, as text.
        severity: 0 to 1; orders findings of one kind.
        masks: run lengths of the objects.
        size: (h, w) of the image in pixels.
        boxes: [x, y, w, h] of small regions, or the box of the file, to draw.
    """

    kind: str
    image: str
    objects: tuple[int, ...] = ()
    detail: str = ""
    severity: float = 0.0
    masks: tuple[Rle, ...] = ()
    size: tuple[int, int] = (1, 1)
    boxes: tuple[Box, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON, without its masks."""
        return {
            "kind": self.kind,
            "image": self.image,
            "objects": list(self.objects),
            "detail": self.detail,
            "severity": round(self.severity, 4),
        }


def image_findings(
    image: AnnotatedImage, boxes: Sequence[Any] = (), limits: Limits | None = None
) -> list[Finding]:
    """Return the findings of one image's masks.

    Args:
        image: name, size and records.
        boxes: [x, y, w, h] in COCO's convention that a file gives for each record, or None.
        limits: what is allowed; None takes the defaults.

    Raises:
        AnnotationError: a record cannot be used.
    """
    limits = limits or Limits()
    name, size, records = image
    height, width = int(size[0]), int(size[1])
    if not records:
        return [Finding("no objects", name, size=(height, width))]
    rles = [to_coco_rle(record["segmentation"]) for record in records]
    ids = [int(record.get("id", number)) for number, record in enumerate(records, 1)]

    def found(
        kind: str, which: Sequence[int], detail: str, severity: float, marked: Sequence[Box] = ()
    ) -> Finding:
        objects = tuple(ids[i] for i in which)
        masks = tuple(rles[i] for i in which)
        return Finding(kind, name, objects, detail, severity, masks, (height, width), tuple(marked))

    findings = []
    for i, (record, rle) in enumerate(zip(records, rles, strict=True)):
        part = crop(rle)
        if not part.pixels.size:
            findings.append(found("empty mask", [i], "", 1.0))
            continue
        box = boxes[i] if i < len(boxes) else None
        own = (part.left, part.top, part.pixels.shape[1], part.pixels.shape[0])
        if box is not None and (iou := box_iou(box, own)) < limits.box_iou:
            detail = f"IoU {iou:.2f}: box {_numbers(box)}, mask {_numbers(own)}"
            marked = [drawn] if (drawn := _box_or_none(box)) else []
            findings.append(found("box", [i], detail, 1 - iou, marked))
        if record.get("iscrowd"):
            continue
        for kind, detail, severity, marked in _regions(part, limits.min_region_area):
            findings.append(found(kind, [i], detail, severity, marked))
        if sides := _sides(part, (height, width)):
            findings.append(found("border", [i], sides, own[2] * own[3] / (height * width)))
    single = [i for i, record in enumerate(records) if not record.get("iscrowd")]
    for a, b, iou, share in _pairs([rles[i] for i in single], limits):
        which = (single[a], single[b])
        labels = [str(records[i].get("label", "")) for i in which]
        differ = f", {labels[0]} and {labels[1]}" if labels[0] != labels[1] else ""
        if iou >= limits.duplicate:
            findings.append(found("duplicate mask", which, f"IoU {iou:.2f}{differ}", iou))
        elif share >= _NESTED:
            findings.append(found("nested", which, f"{share:.0%} inside{differ}", iou))
        else:
            findings.append(found("overlap", which, f"{share:.0%} of the smaller{differ}", share))
    return findings


def box_iou(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return the IoU of two boxes [x, y, w, h]; 0 for a box that is none."""
    try:
        (x, y, w, h), (u, v, s, t) = [float(each) for each in a], [float(each) for each in b]
    except (TypeError, ValueError):
        return 0.0
    wide, high = min(x + w, u + s) - max(x, u), min(y + h, v + t) - max(y, v)
    both = max(0.0, wide) * max(0.0, high)
    union = w * h + s * t - both
    iou = both / union if union > 0 else 0.0
    return iou if math.isfinite(iou) else 0.0


def _regions(part: Cropped, min_area: int) -> Iterator[tuple[str, str, float, list[Box]]]:
    """Yield (kind, detail, severity, boxes) of small parts and holes, 8-connected."""
    pixels = part.pixels
    area = int(np.count_nonzero(pixels))
    count, small, boxes = _small_regions(pixels, min_area, part)
    if area < min_area:
        yield "speck", f"a mask of {counted(area, 'pixel')}", 1 - area / min_area, boxes
    elif small:
        detail = f"{counted(len(small), 'small part')} of {counted(count, 'part')}"
        yield "speck", detail, len(small) / (len(small) + 1), boxes
    # The frame around the crop joins all background that is no hole.
    frame = Cropped(part.top - 1, part.left - 1, np.pad(~pixels, 1, constant_values=True))
    _, small, boxes = _small_regions(frame.pixels, min_area, frame, skip_first=True)
    if small:
        detail = f"{counted(len(small), 'small hole')}, {counted(sum(small), 'pixel')}"
        yield "hole", detail, len(small) / (len(small) + 1), boxes


def _small_regions(
    pixels: Bool[np.ndarray, "h w"], min_area: int, part: Cropped, skip_first: bool = False
) -> tuple[int, list[int], list[Box]]:
    """Return the number of regions, the areas of the small ones, and the boxes of some of them."""
    from scipy import ndimage

    labels, count = ndimage.label(pixels, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = [i for i in range(1 + skip_first, count + 1) if sizes[i] < min_area]
    windows = ndimage.find_objects(labels)
    boxes: list[Box] = []
    for i in small[:_MARKED]:
        rows, columns = windows[i - 1]
        left, top = part.left + columns.start, part.top + rows.start
        boxes.append((left, top, columns.stop - columns.start, rows.stop - rows.start))
    return count, sizes[small].tolist(), boxes


def _box_or_none(box: Any) -> Box | None:
    try:
        numbers = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == 4 and all(map(math.isfinite, numbers)) else None


def _sides(part: Cropped, size: tuple[int, int]) -> str:
    height, width = part.pixels.shape
    touched = {
        "top": part.top == 0,
        "left": part.left == 0,
        "bottom": part.top + height == size[0],
        "right": part.left + width == size[1],
    }
    return ", ".join(side for side, is_touched in touched.items() if is_touched)


def _pairs(rles: Sequence[Rle], limits: Limits) -> Iterator[tuple[int, int, float, float]]:
    """Yield (i, j, IoU, share of the smaller mask) of pairs beyond the limits."""
    if len(rles) < 2:
        return
    # Not pycocotools' area, which fails for more than 255 masks.
    areas = np.array([area_from_rle(rle) for rle in rles], float)
    for top in range(0, len(rles), _ROWS):
        rows = list(rles[top : top + _ROWS])
        # pycocotools divides by the first mask's area where the second is a crowd.
        inside: Float64[np.ndarray, "n N"] = np.asarray(
            coco.iou(rows, list(rles), [True] * len(rles))
        )
        both = inside * areas[top : top + _ROWS, None]
        smaller = np.minimum(areas[top : top + _ROWS, None], areas)
        share = np.divide(both, smaller, out=np.zeros_like(both), where=smaller > 0)
        union = areas[top : top + _ROWS, None] + areas - both
        iou = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
        for i, j in np.argwhere((share > limits.overlap) | (iou >= limits.duplicate)).tolist():
            if top + i < j:
                yield top + i, j, float(iou[i, j]), float(min(1.0, share[i, j]))


def _numbers(values: Sequence[Any]) -> str:
    try:
        return "[" + ", ".join(f"{float(value):g}" for value in values) + "]"
    except (TypeError, ValueError):
        return str(values)[:40]


def mask_key(record: Record) -> bytes:
    """Return bytes that are the same for equal masks only."""
    rle = to_coco_rle(record["segmentation"])
    return f"{rle['size']}{rle['counts']}".encode()
