"""The state of one image in a file: the log of prompts and the masks, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samjax.errors import AnnotationError
from samjax.files import replacing
from samjax.rle import Rle, segmentation_area, segmentation_size
from samjax.widget.session import Object, Prompt, State, Stroke

_FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A finished mask at the image's resolution.

    ``segmentation`` is COCO's run lengths, ``score`` the predicted IoU and ``candidate`` the
    index in the network's order; both None for a mask that was only painted.
    """

    segmentation: Rle
    score: float | None
    candidate: int | None


@dataclass(frozen=True)
class Saved:
    """What a file holds: the state, the masks by object id, and what they belong to."""

    state: State
    results: dict[int, Result]
    size: tuple[int, int]
    image_hash: str
    fingerprint: str


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
        "objects": [_entry(each, saved.results.get(each.id)) for each in state.objects],
    }
    with replacing(path) as temporary:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_state(path: Path) -> Saved:
    """What `write_state` wrote.

    Raises:
        AnnotationError: the file is damaged, or of a later samjax.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > _FORMAT:
            raise AnnotationError("was written by a later samjax: update it")
        size = _pair(content["size"])
        objects, results = [], {}
        for entry in content["objects"]:
            each, result = _object(entry, size)
            objects.append(each)
            if result is not None:
                results[each.id] = result
        state = State(
            tuple(objects),
            None if content["active"] is None else int(content["active"]),
            int(content["next_id"]),
            str(content["label"]),
            bool(content["multimask"]),
            float(content["mask_threshold"]),
        )
        if len({o.id for o in objects} | {state.next_id}) <= len(objects):
            raise AnnotationError("numbers of objects occur twice")
        return Saved(state, results, size, str(content["image_hash"]), str(content["model"]))
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except Exception as error:  # JSON, keys and types of a file that anybody may have edited
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise AnnotationError(
            f"{path}: is not the saved state of an image, or is damaged ({reason})"
        ) from error


def set_aside(path: Path, ending: str) -> Path:
    """Rename a file that cannot be used, so that the next save does not replace it."""
    number, free = 1, path.with_name(f"{path.name}.{ending}")
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{ending}{number}")
    return path.rename(free)


def _entry(each: Object, result: Result | None) -> dict[str, Any]:
    return {
        "id": each.id,
        "label": each.label,
        "committed": each.committed,
        "points": [list(point) for point in each.prompt.points],
        "box": None if each.prompt.box is None else list(each.prompt.box),
        "multimask": each.prompt.multimask,
        "choice": each.choice,
        "mask_threshold": each.threshold,
        "strokes": [
            {"points": [list(p) for p in s.points], "radius": s.radius, "add": s.add}
            for s in each.strokes
        ],
        "score": None if result is None else result.score,
        "candidate": None if result is None else result.candidate,
        "segmentation": None if result is None else result.segmentation,
    }


def _object(entry: Mapping[str, Any], size: tuple[int, int]) -> tuple[Object, Result | None]:
    prompt = Prompt(
        tuple((float(x), float(y), int(label)) for x, y, label in entry["points"]),
        None if entry["box"] is None else _corners(entry["box"]),
        bool(entry["multimask"]),
    )
    strokes = tuple(
        Stroke(
            tuple((float(x), float(y)) for x, y in stroke["points"]),
            float(stroke["radius"]),
            bool(stroke["add"]),
        )
        for stroke in entry["strokes"]
    )
    each = Object(
        int(entry["id"]),
        str(entry["label"]),
        prompt,
        None if entry["choice"] is None else int(entry["choice"]),
        float(entry["mask_threshold"]),
        strokes,
        bool(entry["committed"]),
    )
    segmentation = entry["segmentation"]
    if segmentation is None:
        return each, None
    if segmentation_size(segmentation) != size:
        raise AnnotationError(f"the mask of object {each.id} is not of the image's size")
    segmentation_area(segmentation)  # refuses run lengths that do not fill the mask
    score, candidate = entry["score"], entry["candidate"]
    return each, Result(
        segmentation,
        None if score is None else float(score),
        None if candidate is None else int(candidate),
    )


def _pair(values: Any) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)


def _corners(values: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1
