"""A file keeps the state of one image: its prompts and its masks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samjax.errors import AnnotationError
from samjax.files import check_regular, replacing
from samjax.masks.rle import Rle, segmentation_area, segmentation_size
from samjax.widget.state import Object, Origin, Paint, Prompt, Stamp, State, Stroke

_FORMAT = 3  # from 2 on with a checksum, from 3 on with objects that annotations gave


@dataclass(frozen=True)
class FinishedMask:
    """A finished mask has the image's resolution.

    ``segmentation`` is COCO's run lengths, ``score`` the predicted IoU and ``candidate`` the
    index in the network's order; both None for a mask that was only painted. ``stability`` is
    that of a mask that took the place of an opened one, else None.
    """

    segmentation: Rle
    score: float | None
    candidate: int | None
    stability: float | None = None


@dataclass(frozen=True)
class Saved:
    """A file holds the state, the masks by object id, and the image and weights of both.

    ``unchecked`` tells that the file that was read had no checksum.
    """

    state: State
    masks: dict[int, FinishedMask]
    size: tuple[int, int]
    image_hash: str
    fingerprint: str
    unchecked: bool = field(default=False, compare=False)


def write_state(path: Path, name: str, saved: Saved) -> None:
    """Write the state of the image called ``name``, whole or not at all."""
    state = saved.state
    content = {
        "format": _FORMAT,
        "image": name,
        "size": list(saved.size),
        "image_hash": saved.image_hash,
        "model": saved.fingerprint,
        "active": state.active,
        "next_id": state.next_id,
        "label": state.label,
        "multimask": state.multimask,
        "mask_threshold": state.threshold,
        "opened": state.opened,
        "source": state.source,
        "objects": [_entry(each, saved.masks.get(each.id)) for each in state.objects],
    }
    content["checksum"] = _checksum(content)
    with replacing(path) as temporary:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_state(path: Path) -> Saved:
    """Read a file that `write_state` wrote.

    Raises:
        AnnotationError: the file is damaged, or of a later samjax.
    """
    try:
        check_regular(path, AnnotationError)
        content = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
        )
        if content["format"] > _FORMAT:
            raise AnnotationError("was written by a later samjax: update it")
        given = content.pop("checksum", None)
        if (given is not None or content["format"] > 1) and given != _checksum(content):
            raise AnnotationError("its checksum is wrong: the file is damaged or was edited")
        size = _pair(content["size"])
        objects, masks = [], {}
        for entry in content["objects"]:
            each, mask = _object(entry, size)
            objects.append(each)
            if mask is not None:
                masks[each.id] = mask
        state = State(
            tuple(objects),
            None if content["active"] is None else int(content["active"]),
            int(content["next_id"]),
            str(content["label"]),
            bool(content["multimask"]),
            _finite(content["mask_threshold"]),
            int(content.get("opened", 0)),
            str(content.get("source", "")),
        )
        if len({o.id for o in objects} | {state.next_id}) <= len(objects):
            raise AnnotationError("numbers of objects occur twice")
        made_for = str(content["image_hash"]), str(content["model"])
        return Saved(state, masks, size, *made_for, unchecked=given is None)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except Exception as error:  # JSON, keys and types of a file that anybody may have edited
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise AnnotationError(
            f"{path}: is not the saved state of an image, or is damaged ({reason})"
        ) from error


def read_image_key(path: Path) -> tuple[str, str] | None:
    """Return the name and the hash of the image that a file belongs to; None if it is unusable."""
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["image"]), str(content["image_hash"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksum(content: Mapping[str, Any]) -> str:
    """Hash the values of a file, whatever their order and the space between them."""
    text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of a state")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def set_aside(path: Path, ending: str) -> Path:
    """Rename a file that cannot be used, so that the next save does not replace it."""
    number, free = 1, path.with_name(f"{path.name}.{ending}")
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{ending}{number}")
    return path.rename(free)


def _entry(each: Object, mask: FinishedMask | None) -> dict[str, Any]:
    return {
        "id": each.id,
        "label": each.label,
        "committed": each.committed,
        "points": [list(point) for point in each.prompt.points],
        "box": None if each.prompt.box is None else list(each.prompt.box),
        "multimask": each.prompt.multimask,
        "choice": each.choice,
        "mask_threshold": each.threshold,
        "strokes": [_paint_entry(paint) for paint in each.strokes],
        "base": None if each.base is None else _paint_entry(each.base),
        "origin": None if each.origin is None else asdict(each.origin),
        "reviewed": each.reviewed,
        "score": None if mask is None else mask.score,
        "candidate": None if mask is None else mask.candidate,
        "stability": None if mask is None else mask.stability,
        "segmentation": None if mask is None else mask.segmentation,
    }


def _paint_entry(paint: Paint) -> dict[str, Any]:
    if isinstance(paint, Stamp):
        return {"mask": {"size": list(paint.size), "counts": paint.counts}, "add": paint.add}
    points = [list(point) for point in paint.points]
    return {"points": points, "radius": paint.radius, "add": paint.add}


def _paint(entry: Mapping[str, Any], size: tuple[int, int]) -> Paint:
    if "mask" in entry:
        if segmentation_size(entry["mask"]) != size:
            raise AnnotationError("a stamp is not of the image's size")
        segmentation_area(entry["mask"])  # refuses run lengths that do not fill the mask
        return Stamp(str(entry["mask"]["counts"]), size, bool(entry["add"]))
    points = tuple((_finite(x), _finite(y)) for x, y in entry["points"])
    return Stroke(points, _finite(entry["radius"]), bool(entry["add"]))


def _object(entry: Mapping[str, Any], size: tuple[int, int]) -> tuple[Object, FinishedMask | None]:
    prompt = Prompt(
        tuple((_finite(x), _finite(y), int(label)) for x, y, label in entry["points"]),
        None if entry["box"] is None else _corners(entry["box"]),
        bool(entry["multimask"]),
    )
    strokes = tuple(_paint(paint, size) for paint in entry["strokes"])
    each = Object(
        int(entry["id"]),
        str(entry["label"]),
        prompt,
        None if entry["choice"] is None else int(entry["choice"]),
        _finite(entry["mask_threshold"]),
        strokes,
        bool(entry["committed"]),
        _base(entry.get("base"), size),
        _origin(entry.get("origin")),
        bool(entry.get("reviewed", False)),
    )
    segmentation = entry["segmentation"]
    if segmentation is None:
        return each, None
    if segmentation_size(segmentation) != size:
        raise AnnotationError(f"the mask of object {each.id} is not of the image's size")
    segmentation_area(segmentation)  # refuses run lengths that do not fill the mask
    score, candidate, stability = entry["score"], entry["candidate"], entry.get("stability")
    return each, FinishedMask(
        segmentation,
        None if score is None else _finite(score),
        None if candidate is None else int(candidate),
        None if stability is None else _finite(stability),
    )


def _base(entry: Mapping[str, Any] | None, size: tuple[int, int]) -> Stamp | None:
    if entry is None:
        return None
    base = _paint(entry, size)
    if not isinstance(base, Stamp):
        raise AnnotationError("the mask that an object was opened with is a stroke")
    return base


def _origin(entry: Mapping[str, Any] | None) -> Origin | None:
    if entry is None:
        return None
    texts = {key: str(entry[key]) for key in ("label", "fields", "entry")}
    for text in filter(None, (texts["fields"], texts["entry"])):
        if not isinstance(json.loads(text, parse_constant=_refuse_constant), dict):
            raise AnnotationError("the annotation of an object is no JSON object")
    doubt = entry["doubt"]
    return Origin(doubt=None if doubt is None else _finite(doubt), **texts)


def _pair(values: Any) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)


def _corners(values: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (_finite(v) for v in values)
    return x0, y0, x1, y1
