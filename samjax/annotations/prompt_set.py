"""Hold boxes and points of objects, image by image, and what could not be used of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from samjax.annotations.coco_entries import CocoExtra
from samjax.annotations.records import check_file_name
from samjax.arguments import shown
from samjax.errors import AnnotationError
from samjax.words import counted

Xyxy: TypeAlias = tuple[float, float, float, float]


class Problem(NamedTuple):
    """Tells what was left out or mended, and why.

    Attributes:
        kind: a few words, the same for all of a kind; those that end in "mended" were used.
        image: file name of the image.
        object: id of the object; None for a problem of the image.
        detail: the values.
    """

    kind: str
    image: str
    object: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class ObjectPrompt:
    """Holds the prompts of one object, in pixels.

    Attributes:
        id: number of the object in its data set.
        label: name of the category; None where there are none.
        box: (x0, y0, x1, y1).
        points: (x, y, 1 or 0) of each point, 1 is on the object.
        kept: keys of a record to keep: score, iscrowd, attributes, keypoints, extra.
    """

    id: int
    label: str | None = None
    box: Xyxy | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagePrompts:
    """Holds the objects of one image; ``size`` is the (h, w) that the file gives, or None."""

    file_name: str
    objects: tuple[ObjectPrompt, ...]
    id: int | str | None = None
    size: tuple[int, int] | None = None


@dataclass
class PromptSet:
    """Holds the prompts of a data set, its categories by name, and what could not be read.

    ``extra`` is what a COCO file says besides.
    """

    images: list[ImagePrompts]
    categories: dict[str, int] | None
    problems: list[Problem]
    extra: CocoExtra = field(default_factory=CocoExtra)


def kept_score(value: Any) -> dict[str, Any]:
    """Return a detector's score of a box as a key to keep; nothing where there is no number."""
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return {}
    return {"score": score} if math.isfinite(score) else {}


def score_problems(image: str, number: int, value: Any) -> list[Problem]:
    """Tell of a score that is there and is no number: its object has none."""
    if value is None or value == "" or kept_score(value):
        return []
    return [Problem("score: no number, mended by leaving it out", image, number, shown(value))]


def named_once(images: list[ImagePrompts], problems: list[Problem]) -> list[ImagePrompts]:
    """Leave out images whose name an earlier one has, or that no file can have."""
    seen: set[str] = set()
    kept = []
    for image in images:
        try:
            check_file_name(image.file_name)
        except AnnotationError as error:
            problems.append(Problem("image: unusable name", image.file_name, None, str(error)))
            continue
        # "./a.png" is "a.png", which has one record.
        name = PurePosixPath(image.file_name).as_posix()
        if name in seen:
            detail = f"{counted(len(image.objects), 'object')} left out"
            problems.append(Problem("image: listed twice", image.file_name, None, detail))
            continue
        seen.add(name)
        kept.append(image)
    return kept
