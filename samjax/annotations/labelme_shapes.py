"""Check labelme's shapes and fill them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from samjax.annotations.records import integer_or_none
from samjax.errors import AnnotationError
from samjax.masks.polygons import polygons_to_rle
from samjax.masks.rle import Segmentation, crop

_LINES = ("line", "linestrip")
_COUNTS = {"rectangle": 2, "circle": 2, "mask": 2, "point": 1, "oriented_rectangle": 4}
_KINDS = ("polygon", *_COUNTS, *_LINES)
_KEYS = ("label", "points", "group_id", "shape_type", "flags", "description", "mask")
_CIRCLE = 360  # vertices


class Shape(NamedTuple):
    """Holds one shape of a file; ``where`` is its number, for messages."""

    where: str
    kind: str
    label: str
    points: Float[np.ndarray, "n 2"]
    group_id: int | None
    flags: dict[str, bool]
    description: str
    mask: Bool[np.ndarray, "h w"] | None
    other: dict[str, Any]

    @property
    def is_line(self) -> bool:
        return self.kind in _LINES

    @property
    def has_area(self) -> bool:
        return not self.is_line and self.kind != "point"

    @property
    def is_hole(self) -> bool:
        return self.kind == "polygon" and bool(self.flags.get("hole"))

    @classmethod
    def parse(cls, entry: Any, where: str) -> Shape:
        """Check one entry of "shapes".

        Raises:
            AnnotationError: labelme's own reader would refuse it, or it cannot be filled.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("label"), str):
            raise AnnotationError(f"{where}: has no label")
        kind = entry.get("shape_type") or "polygon"
        if kind not in _KINDS:
            raise AnnotationError(f"{where}: is a {kind!r}: use one of {', '.join(_KINDS)}")
        try:
            points = np.array(entry.get("points"), float)
        except (TypeError, ValueError):
            points = np.zeros(0)
        expected = _COUNTS.get(kind)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise AnnotationError(f"{where}: points must be a list of [x, y]")
        if (expected and len(points) != expected) or (kind == "polygon" and len(points) < 3):
            count = f"{expected}" if expected else "3 or more"
            raise AnnotationError(f"{where}: {kind} of {len(points)} points: it has {count}")
        return cls(
            where,
            kind,
            entry["label"],
            points,
            integer_or_none(entry.get("group_id")),
            dict(entry.get("flags") or {}),
            str(entry.get("description") or ""),
            _bitmap(entry.get("mask"), points, where) if kind == "mask" else None,
            {key: value for key, value in entry.items() if key not in _KEYS},
        )


def _bitmap(text: Any, points: Float[np.ndarray, "2 2"], where: str) -> Bool[np.ndarray, "h w"]:
    if not isinstance(text, str):
        raise AnnotationError(f"{where}: mask must be a PNG in base64")
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
        pixels = np.array(picture) != 0
    (x0, y0), (x1, y1) = points.astype(int).tolist()
    if pixels.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise AnnotationError(
            f"{where}: mask of shape {pixels.shape} does not fit its corners {points.tolist()}"
        )
    return pixels


def fill_shapes(shapes: Sequence[Shape], size: tuple[int, int]) -> Segmentation | None:
    """Unite shapes, and cut the holes out; None without a shape that is no hole.

    A hole is cut out of parts that are larger than itself only: a part inside it stays.
    """
    if not any(not shape.is_hole for shape in shapes):
        return None
    if all(shape.mask is None and not shape.is_hole for shape in shapes):
        return polygons_to_rle([_ring(shape) for shape in shapes], size)
    layers = [(crop(_fill(shape, size)), shape.is_hole) for shape in shapes]
    # From large to small, as a painter does; of equals the hole comes last.
    layers.sort(key=lambda layer: (-int(np.count_nonzero(layer[0].pixels)), layer[1]))
    mask = np.zeros(size, bool)
    for part, is_hole in layers:
        if is_hole:
            mask[part.window] &= ~part.pixels
        else:
            mask[part.window] |= part.pixels
    return mask


def _fill(shape: Shape, size: tuple[int, int]) -> Segmentation:
    if shape.mask is None:
        return polygons_to_rle([_ring(shape)], size)
    mask = np.zeros(size, bool)
    left, top = shape.points[0].astype(int).tolist()
    y0, x0 = max(0, -top), max(0, -left)
    inside = shape.mask[y0 : max(0, size[0] - top), x0 : max(0, size[1] - left)]
    height, width = inside.shape
    mask[top + y0 : top + y0 + height, left + x0 : left + x0 + width] = inside
    return mask


def _ring(shape: Shape) -> Float[np.ndarray, "n 2"]:
    if shape.kind == "rectangle":
        (x0, y0), (x1, y1) = shape.points
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if shape.kind == "circle":
        centre, edge = shape.points
        turn = np.arange(_CIRCLE) * (2 * math.pi / _CIRCLE)
        return centre + np.hypot(*(edge - centre)) * np.stack([np.cos(turn), np.sin(turn)], 1)
    return shape.points
