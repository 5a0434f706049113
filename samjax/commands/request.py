"""Parse points, boxes and a mask of the command line, and check them against an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from samjax.errors import ImageError, PromptError
from samjax.image.read import read_image
from samjax.words import counted

Point = tuple[float, float, int]
Box = tuple[float, float, float, float]

_POINT = "give X,Y or X,Y,LABEL in pixels, such as 320,240 or 320,240,0"
_BOX = "give X0,Y0,X1,Y1 in pixels, such as 100,80,420,360"


@dataclass(frozen=True)
class Request:
    """Hold a run's prompts: all points and the mask belong to one object, with at most one box;
    several boxes are several objects.

    ``points`` are (x, y, label), ``boxes`` (x0, y0, x1, y1), ``mask`` H x W bool or None.
    """

    points: tuple[Point, ...]
    boxes: tuple[Box, ...]
    mask: Bool[np.ndarray, "H W"] | None = None
    mask_path: Path | None = None

    @property
    def objects(self) -> int:
        """Return the number of objects asked for."""
        return max(1, len(self.boxes))

    def arrays(
        self,
    ) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"], Float64[np.ndarray, "b 4"]]:
        """Return points, labels and boxes as arrays, in pixels; each may be empty."""
        return (
            np.array([p[:2] for p in self.points], np.float64).reshape(-1, 2),
            np.array([p[2] for p in self.points], np.int64),
            np.array(self.boxes, np.float64).reshape(-1, 4),
        )


def parse_request(points: Sequence[str], boxes: Sequence[str], mask: Path | None) -> Request:
    """Parse the options --point, --box and --mask.

    Raises:
        PromptError: malformed, none at all, or prompts that do not fit together.
        ImageError: a mask that cannot be read.
    """
    parsed_points = tuple(map(parse_point, points))
    parsed_boxes = tuple(map(parse_box, boxes))
    if not points and not boxes and mask is None:
        raise PromptError(
            "no prompt: say where the object is with --point X,Y, --box X0,Y0,X1,Y1 or --mask "
            "FILE, or what it is with --text"
        )
    if len(boxes) > 1 and (points or mask is not None):
        other = "--point" if points else "--mask"
        raise PromptError(
            f"{other} with {len(boxes)} boxes: several boxes are several objects, and it is not "
            f"said which one {other} belongs to; give one box, or run once for each object"
        )
    return Request(
        parsed_points, parsed_boxes, None if mask is None else read_binary_mask(mask), mask
    )


def parse_point(text: str) -> Point:
    """Parse "X,Y" or "X,Y,LABEL" to (x, y, label).

    Raises:
        PromptError: not such a text, negative or not finite, or a label other than 0 and 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3):
        raise PromptError(f"--point {text!r} has {counted(len(parts), 'value')}; {_POINT}")
    label = parts[2] if len(parts) == 3 else "1"
    x, y = _pixels(f"--point {text!r}", parts[:2], _POINT)
    if label not in ("0", "1"):
        raise PromptError(
            f"--point {text!r}: the label is {label!r}; use 1 (the object) or 0 (not part of it)"
        )
    return x, y, int(label)


def parse_box(text: str) -> Box:
    """Parse "X0,Y0,X1,Y1" to (x0, y0, x1, y1), the top left corner first.

    Raises:
        PromptError: not such a text, negative or not finite, or corners in the wrong order.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4:
        raise PromptError(f"--box {text!r} has {counted(len(parts), 'value')}; {_BOX}")
    x0, y0, x1, y1 = _pixels(f"--box {text!r}", parts, _BOX)
    if x1 <= x0 or y1 <= y0:
        wrong = "X1 is not right of X0" if x1 <= x0 else "Y1 is not below Y0"
        raise PromptError(
            f"--box {text!r}: {wrong}; give the top left corner, then the bottom right"
        )
    return x0, y0, x1, y1


def _pixels(what: str, parts: Sequence[str], advice: str) -> list[float]:
    numbers = []
    for part in parts:
        try:
            number = float(part)
        except ValueError:
            raise PromptError(f"{what}: {part!r} is not a number; {advice}") from None
        if not math.isfinite(number):
            raise PromptError(f"{what}: {part} is not a position; {advice}")
        if number < 0:
            raise PromptError(
                f"{what}: {part} is negative; pixels count from 0 at the top left corner"
            )
        numbers.append(number)
    return numbers


def read_binary_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """Read a black and white picture as a mask: True where it is brighter than half its maximum.

    Raises:
        ImageError: unreadable, or all black.
    """
    try:
        grey = read_image(path).max(axis=2)
    except ImageError as error:
        raise ImageError(f"--mask {error}") from error
    brightest = int(grey.max())
    if brightest == 0:
        raise ImageError(f"--mask {path}: is all black; the object must be white in it")
    return grey > brightest / 2


def check_inside(request: Request, size: tuple[int, int], image: Path) -> None:
    """Refuse prompts that do not lie in an image of ``size`` (H, W).

    Raises:
        PromptError: a point or box outside, or a mask of another size.
    """
    height, width = size
    extent = f"the image of {width} x {height} pixels (width x height, as a viewer shows it)"
    for x, y, _ in request.points:
        if x >= width or y >= height:
            raise PromptError(
                f"{image}: --point {x:g},{y:g} is outside {extent}; "
                f"x must be below {width} and y below {height}"
            )
    for box in request.boxes:
        if box[2] > width or box[3] > height:
            corners = ",".join(f"{value:g}" for value in box)
            raise PromptError(
                f"{image}: --box {corners} reaches outside {extent}; "
                f"X1 must be at most {width} and Y1 at most {height}"
            )
    if request.mask is not None and request.mask.shape != size:
        mask_height, mask_width = request.mask.shape
        raise PromptError(
            f"{image}: --mask {request.mask_path} is {mask_width} x {mask_height} pixels, not of "
            f"the same size as {extent}; scale the mask to the image"
        )
