"""What the page is told: the session as small JSON, and masks as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from samjax.annotations.records import Record
from samjax.embeddings import ImageEmbedding
from samjax.rle import to_mask
from samjax.viz import PALETTE, overlay
from samjax.widget.decode import Candidates, fitted, resized, row_runs
from samjax.widget.images import Picture
from samjax.widget.results import Results
from samjax.widget.session import Object, Recipe, Session

THUMBNAIL = 120  # longest side of a candidate's picture, in pixels
STATIC = 640  # longest side of the picture in a saved notebook


def colour_of(object_id: int) -> tuple[int, int, int]:
    """RGB of an object; it depends on the object's number only."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


@dataclass
class Shown:
    """The masks that the page holds: object id to the version it was sent and its recipe."""

    masks: dict[int, tuple[int, Recipe]] = field(default_factory=dict)
    thumbnails: tuple[Any, ...] | None = None
    versions: int = 0
    replies: int = 0

    def clear(self) -> None:
        """The page holds nothing: another image, or a page that was just opened."""
        self.masks.clear()
        self.thumbnails = None


def mask_buffers(
    shown: Shown,
    index: int,
    session: Session,
    results: Results,
    picture: Picture | None,
    image: ImageEmbedding | None,
) -> tuple[list[dict[str, int]], list[bytes]]:
    """The masks that the page does not hold yet, and ``shown`` brought up to date."""
    listed, buffers = [], []
    present = {each.id: each for each in session.present.objects if each}
    changed = bool(shown.masks.keys() - present.keys())
    for gone in shown.masks.keys() - present.keys():
        del shown.masks[gone]
    for each in present.values():
        held = shown.masks.get(each.id)
        if picture is None or (held is not None and held[1] == each.recipe):
            continue
        mask = results.shown(index, image, each.recipe, picture.display_size)
        if mask is None:
            continue
        shown.versions += 1
        shown.masks[each.id] = (shown.versions, each.recipe)
        listed.append({"id": each.id, "version": shown.versions, "area": int(mask.sum())})
        buffers.append(row_runs(mask).tobytes())
        changed = True
    shown.replies += changed
    return listed, buffers


def candidate_buffers(
    shown: Shown,
    index: int,
    current: Object | None,
    results: Results,
    image: ImageEmbedding | None,
) -> tuple[dict[str, Any] | None, list[bytes]]:
    """The candidates of the active object by falling score, with thumbnails if they are new."""
    found = None if current is None else results.candidates(index, image, current.recipe)
    if found is None or current is None:
        shown.thumbnails = None
        return None, []
    ranked = found.ranked()
    told: dict[str, Any] = {
        "scores": [round(float(score), 4) for score in found.scores[ranked]],
        "rank": int(np.flatnonzero(ranked == found.chosen(current.choice))[0]),
    }
    key = (index, current.id, current.prompt, current.threshold)
    if key == shown.thumbnails:
        return told, []
    shown.thumbnails = key
    masks = np.stack([found.mask(int(i)) for i in ranked])
    left, top, right, bottom = surroundings(np.asarray(masks.any(0)))
    size = fitted((bottom - top, right - left), THUMBNAIL)
    small = [resized(mask[top:bottom, left:right].copy(), size) for mask in masks]
    told |= {"fresh": len(small), "size": list(size), "region": [left, top, right, bottom]}
    return told, [row_runs(mask).tobytes() for mask in small]


def surroundings(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a square about a mask, half as large again, inside the image.

    At least 64 pixels a side, as far as the image reaches; the whole image for an empty mask.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0, 0, width, height
    spans = []
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = max(64, round(1.5 * float(extent)))
    for used, length in ((columns, width), (rows, height)):
        size = min(side, length)
        start = int(np.clip((used[0] + used[-1] + 1 - size) // 2, 0, length - size))
        spans.append((start, start + size))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def session_entry(
    log: Session, classes: Sequence[str], shown: Shown, index: int, results: Results
) -> dict[str, Any]:
    """The session for the page."""
    state, current = log.present, log.present.current
    return {
        "objects": [
            _object_entry(each, shown, results.score(index, each.recipe)) for each in state.objects
        ],
        "active": state.active,
        "undo": bool(log.past),
        "redo": bool(log.future),
        "multimask": state.multimask if current is None else current.prompt.multimask,
        "threshold": state.threshold if current is None else current.threshold,
        "label": state.label if current is None else current.label,
        "classes": list(classes),
    }


def _object_entry(each: Object, shown: Shown, score: float | None) -> dict[str, Any]:
    return {
        "id": each.id,
        "label": each.label,
        "colour": list(colour_of(each.id)),
        "committed": each.committed,
        "points": [list(point) for point in each.prompt.points],
        "box": None if each.prompt.box is None else list(each.prompt.box),
        "strokes": len(each.strokes),
        "score": None if score is None else round(score, 4),
        "mask": shown.masks.get(each.id, (0,))[0],
    }


def proposal_buffers(records: Sequence[Record]) -> tuple[dict[str, Any], list[bytes]]:
    """Automatic masks for the page: all runs in one buffer, and how many belong to each."""
    masks = [to_mask(record["segmentation"]) for record in records]
    runs = [row_runs(mask) for mask in masks]
    height, width = masks[0].shape if masks else (1, 1)
    content = {
        "size": [height, width],
        "runs": [len(each) for each in runs],
        "areas": [int(record["area"]) for record in records],
        "scores": [round(float(record["predicted_iou"]), 4) for record in records],
    }
    return content, [np.concatenate(runs).tobytes() if runs else b""]


def describe(session: Session, score: float | None, candidates: Candidates | None) -> str:
    """The line that a screen reader reads after a step."""
    current = session.present.current
    if current is None:
        count = sum(map(bool, session.present.objects))
        return f"{count} object{'s' * (count != 1)}. Click or drag to start another."
    parts = [f"Object {current.id}, {current.label}"]
    if candidates is not None and len(candidates.scores) > 1:
        rank = candidates.ranked().tolist().index(candidates.chosen(current.choice))
        parts.append(f"mask {rank + 1} of {len(candidates.scores)}")
    if score is not None:
        parts.append(f"IoU {score:.2f}")
    positive = sum(label for *_, label in current.prompt.points)
    negative = len(current.prompt.points) - positive
    for count, what in ((positive, "positive"), (negative, "negative")):
        if count:
            parts.append(f"{count} {what} click{'s' * (count > 1)}")
    if current.prompt.box is not None:
        parts.append("a box")
    return ", ".join(parts)


def static_picture(
    picture: Picture,
    index: int,
    objects: Sequence[Object],
    results: Results,
    image: ImageEmbedding | None,
) -> Image.Image:
    """The image with all masks that can be shown by now, small: for a saved notebook."""
    size = fitted(picture.size, STATIC)
    small = np.array(Image.fromarray(picture.pixels()).resize(size[::-1], Image.Resampling.LANCZOS))
    masks, colours = [np.zeros((0, *size), bool)], []
    for each in filter(bool, objects):
        mask = results.shown(index, image, each.recipe, size)
        if mask is not None:
            masks.append(mask[None])
            colours.append(colour_of(each.id))
    return Image.fromarray(overlay(small, np.concatenate(masks), colors=colours or None))
