"""Tell which boxes and points can be segmented in their image, and mend what can be."""

from __future__ import annotations

import math
from typing import Any

from samjax.annotations.prompt_set import ImagePrompts, ObjectPrompt, Problem


def usable_objects(
    image: ImagePrompts, size: tuple[int, int], normalised: bool = False
) -> tuple[list[ObjectPrompt], list[Problem]]:
    """Return the objects that can be segmented in an image of (h, w) pixels, and the problems.

    Reversed corners are put in order and boxes that reach beyond the image are cut off; both are
    told. Boxes and points outside, without area or with values that are no numbers are left out.
    """
    height, width = size
    good: list[ObjectPrompt] = []
    problems: list[Problem] = []
    for each in image.objects:

        def say(kind: str, values: Any, number: int = each.id) -> None:
            shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            problems.append(Problem(kind, image.file_name, number, f"[{shown}]"))

        box, points = each.box, each.points
        if normalised:
            box = box and (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            points = tuple((x * width, y * height, on) for x, y, on in points)
        if box is not None:
            if not all(map(math.isfinite, box)):
                say("box: no numbers", box)
                continue
            if not normalised and max(map(abs, box)) <= 1 and max(size) > 2:
                say("box: fractions where pixels were meant", box)
                continue
            given = box
            x0, x1 = sorted((box[0], box[2]))
            y0, y1 = sorted((box[1], box[3]))
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                say("box: outside the image", given)
                continue
            box = (max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1))
            if box[2] <= box[0] or box[3] <= box[1]:
                say("box: without area", given)
                continue
            if (x0, y0, x1, y1) != given:
                say("box: reversed corners, mended", given)
            if max(x0 - box[0], box[0] - x0, box[1] - y0, x1 - box[2], y1 - box[3]) > 0.5:
                say("box: beyond the border, mended by cutting off", given)
        inside = tuple(p for p in points if 0 <= p[0] <= width and 0 <= p[1] <= height)
        for point in points:
            if point not in inside:
                say("point: outside the image", point)
        if box is None and not any(on for _, _, on in inside):
            if inside or not points:
                say("no prompt: neither a box nor a point on the object", ())
            continue
        good.append(ObjectPrompt(each.id, each.label, box, inside, each.kept))
    return good, problems
