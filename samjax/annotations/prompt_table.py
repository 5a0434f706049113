"""Read boxes and points of a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samjax.annotations.prompt_set import (
    ImagePrompts,
    ObjectPrompt,
    Problem,
    PromptSet,
    Xyxy,
    kept_score,
    named_once,
    score_problems,
)
from samjax.annotations.records import reading
from samjax.errors import AnnotationError

# Columns of a CSV file and the names that they also go by.
_COLUMNS = {
    "image": ("image", "file_name", "filename", "file", "path"),
    "label": ("label", "class", "category", "name"),
    "x0": ("x0", "xmin", "x_min", "left"),
    "y0": ("y0", "ymin", "y_min", "top"),
    "x1": ("x1", "xmax", "x_max", "right"),
    "y1": ("y1", "ymax", "y_max", "bottom"),
    "w": ("w", "width"),
    "h": ("h", "height"),
    "x": ("x",),
    "y": ("y",),
    "id": ("id", "object"),
    "point_label": ("point_label",),
    "score": ("score", "confidence", "conf"),
}


_DIGITS = 18  # of an id of a CSV file


def read_table(path: Path) -> PromptSet:
    """Read a CSV table; see `read_prompts`."""
    problems: list[Problem] = []
    rows: dict[str, dict[Any, list[tuple[int, dict[str, str]]]]] = {}
    with reading(path, "a CSV table of boxes or points") as file:
        reader = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
        known = _columns(reader.fieldnames or ())
        for number, row in enumerate(reader, 1):
            values = {key: (row[column] or "").strip() for key, column in known.items()}
            if not values["image"]:
                problems.append(Problem("row: no image", "", number))
                continue
            objects = rows.setdefault(values["image"], {})
            objects.setdefault(values.get("id") or number, []).append((number, values))
    images = []
    own_ids = _csv_numbers(rows)
    for name, objects in rows.items():
        prompts = []
        for group in objects.values():
            own = next(own_ids)
            try:
                prompts.append(_csv_object(own, [values for _, values in group]))
                problems += score_problems(name, own, _first(values for _, values in group))
            except (KeyError, ValueError):
                told = ", ".join(group[0][1].values())
                problems.append(Problem("row: no numbers", name, own, told))
        images.append(ImagePrompts(name, tuple(prompts)))
    return PromptSet(named_once(images, problems), None, problems)


def _csv_numbers(rows: Mapping[str, Mapping[Any, Any]]) -> Iterator[int]:
    """Yield the number of each object: its id, if all are different whole numbers; else its row.

    Ids that begin anew in each image would meet the numbers of rows.
    """
    keys = [key for objects in rows.values() for key in objects]
    given = [int(k) for k in keys if isinstance(k, str) and k.isdecimal() and len(k) <= _DIGITS]
    if len(given) == len(keys) and len(set(given)) == len(keys):
        return iter(given)
    return (group[0][0] for objects in rows.values() for group in objects.values())


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Return the table's column of each of ours.

    Raises:
        AnnotationError: there is no image, or neither a box nor a point.
    """
    given = {name.strip().lower(): name for name in names if name}
    known = {
        key: given[other]
        for key, others in _COLUMNS.items()
        for other in reversed(others)
        if other in given
    }
    box = {"x0", "y0", "x1", "y1"} <= known.keys() or {"x0", "y0", "w", "h"} <= known.keys()
    if "image" not in known or not (box or {"x", "y"} <= known.keys()):
        raise AnnotationError(
            f"has the columns {', '.join(names) or 'none'}: it needs image and x0,y0,x1,y1 (or "
            "x0,y0,w,h) for boxes, or x,y for points"
        )
    return known


def _csv_object(number: int, rows: Sequence[Mapping[str, str]]) -> ObjectPrompt:
    box: Xyxy | None = None
    points: list[tuple[float, float, int]] = []
    for row in rows:
        if row.get("x0"):
            x0, y0 = float(row["x0"]), float(row["y0"])
            if "x1" in row and "y1" in row:  # width and height may be those of the image
                box = (x0, y0, float(row["x1"]), float(row["y1"]))
            else:
                box = (x0, y0, x0 + float(row["w"]), y0 + float(row["h"]))
        if row.get("x") and "y" in row:
            on = int(row.get("point_label") or 1)
            if on not in (0, 1):
                raise ValueError
            points.append((float(row["x"]), float(row["y"]), on))
    label = next((row["label"] for row in rows if row.get("label")), None)
    return ObjectPrompt(number, label, box, tuple(points), kept_score(_first(rows)))


def _first(rows: Iterable[Mapping[str, str]]) -> str | None:
    """Return the score of the first row of an object that has one."""
    return next((row["score"] for row in rows if row.get("score")), None)
