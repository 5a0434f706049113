"""Content for the page: the state as small JSON, and masks as run lengths."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from samjax.embedding import ImageEmbedding
from samjax.masks.rle import Record, to_mask
from samjax.palette import DARK, PALETTE
from samjax.viz.labels import label_font
from samjax.viz.overlay import overlay
from samjax.widget.decode import Candidates
from samjax.widget.history import History
from samjax.widget.images import Picture
from samjax.widget.mask_cache import MaskCache
from samjax.widget.row_runs import row_runs
from samjax.widget.sizes import fitted, resized
from samjax.widget.state import Object, Recipe
from samjax.words import counted

THUMBNAIL = 120  # longest side of a candidate's picture, in pixels
STATIC = 640  # longest side of the picture in a saved notebook
CAPTION = (
    "This is a picture of the annotator. To click, run the cell; if a picture remains, the page "
    "lacks widgets: where JupyterLab is installed, run pip install jupyterlab_widgets anywidget, "
    "start it anew and reload (docs/troubles.md)."
)
CAPTION_SIZE = 12  # of the letters, in pixels
CAPTION_WIDTH = 320  # of its lines below a narrow picture, in pixels


def colour_of(object_id: int) -> tuple[int, int, int]:
    """Return the RGB of an object; it depends on the object's number only."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


@dataclass
class PageMasks:
    """The page holds these masks and entries of its list, by the id of the object.

    Attributes:
        masks: version that it was sent, and the recipe.
        entries: what the entry that it was sent was made of: object, predicted IoU, version.
        thumbnails: key of the candidates whose pictures it holds.
        versions, replies: of masks sent so far, and of updates that changed some.
    """

    masks: dict[int, tuple[int, Recipe]] = field(default_factory=dict)
    entries: dict[int, tuple[Object, float | None, int]] = field(default_factory=dict)
    thumbnails: tuple[Any, ...] | None = None
    versions: int = 0
    replies: int = 0

    def clear(self) -> None:
        """Forget all: the image is another one, or the page was just opened."""
        self.masks.clear()
        self.entries.clear()
        self.thumbnails = None


def mask_buffers(
    page: PageMasks,
    index: int,
    history: History,
    cache: MaskCache,
    picture: Picture | None,
    image: ImageEmbedding | None,
) -> tuple[list[dict[str, int]], list[bytes]]:
    """Return the masks that the page does not hold yet, and bring ``page`` up to date."""
    listed, buffers = [], []
    present = {each.id: each for each in history.present.objects if each}
    changed = bool(page.masks.keys() - present.keys())
    for gone in page.masks.keys() - present.keys():
        del page.masks[gone]
    for each in present.values():
        held = page.masks.get(each.id)
        if picture is None or (held is not None and held[1] == each.recipe):
            continue
        mask = cache.shown(index, image, each.recipe, picture.display_size)
        if mask is None:
            continue
        page.versions += 1
        page.masks[each.id] = (page.versions, each.recipe)
        listed.append({"id": each.id, "version": page.versions, "area": int(mask.sum())})
        buffers.append(row_runs(mask).tobytes())
        changed = True
    page.replies += changed
    return listed, buffers


def candidate_buffers(
    page: PageMasks,
    index: int,
    current: Object | None,
    cache: MaskCache,
    image: ImageEmbedding | None,
) -> tuple[dict[str, Any] | None, list[bytes]]:
    """Return the candidates of the active object by falling score; new ones have thumbnails."""
    found = None if current is None else cache.candidates(index, image, current.recipe)
    if found is None or current is None:
        page.thumbnails = None
        return None, []
    ranked = found.ranked()
    told: dict[str, Any] = {
        "scores": [round(float(score), 4) for score in found.scores[ranked]],
        "rank": int(np.flatnonzero(ranked == found.chosen(current.choice))[0]),
    }
    key = (index, current.id, current.prompt, current.threshold)
    if key == page.thumbnails:
        return told, []
    page.thumbnails = key
    masks = np.stack([found.mask(int(i)) for i in ranked])
    left, top, right, bottom = surroundings(np.asarray(masks.any(0)))
    size = fitted((bottom - top, right - left), THUMBNAIL)
    small = [resized(mask[top:bottom, left:right].copy(), size) for mask in masks]
    told |= {"fresh": len(small), "size": list(size), "region": [left, top, right, bottom]}
    return told, [row_runs(mask).tobytes() for mask in small]


def surroundings(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a square about a mask, half as large again.

    It has at least 64 pixels a side, as far as the image reaches; of an empty mask it is the
    whole image.
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


def state_entry(
    history: History, classes: Sequence[str], page: PageMasks, index: int, cache: MaskCache
) -> dict[str, Any]:
    """Return the state for the page, and bring ``page`` up to date.

    Of objects whose entry the page holds already there is the id alone: with hundreds of them a
    click sends one.
    """
    state, current = history.present, history.present.current
    present = {each.id for each in state.objects}
    for gone in page.entries.keys() - present:
        del page.entries[gone]
    return {
        "objects": [_fresh_entry(each, page, index, cache) for each in state.objects],
        "active": state.active,
        "undo": bool(history.past),
        "redo": bool(history.future),
        "multimask": state.multimask if current is None else current.prompt.multimask,
        "threshold": state.threshold if current is None else current.threshold,
        "label": state.label if current is None else current.label,
        "classes": list(classes),
        "class_colours": [list(colour_of(1 + i)) for i in range(len(classes))],
    }


def _fresh_entry(
    each: Object, page: PageMasks, index: int, cache: MaskCache
) -> int | dict[str, Any]:
    held = page.entries.get(each.id)
    version = page.masks.get(each.id, (0,))[0]
    # The score of an object that stays as it is stays, too: it is looked up until it is known.
    known = held is not None and held[0] is each and held[1] is not None
    score = held[1] if held is not None and known else cache.score(index, each.recipe)
    if held is not None and held[0] == each and held[1:] == (score, version):
        return each.id
    page.entries[each.id] = (each, score, version)
    return _object_entry(each, page, score)


def _object_entry(each: Object, page: PageMasks, score: float | None) -> dict[str, Any]:
    return {
        "id": each.id,
        "label": each.label,
        "colour": list(colour_of(each.id)),
        "committed": each.committed,
        "opened": each.origin is not None,
        "done": each.done,
        "points": [list(point) for point in each.prompt.points],
        "box": None if each.prompt.box is None else list(each.prompt.box),
        "strokes": len(each.strokes),
        "score": None if score is None else round(score, 4),
        "mask": page.masks.get(each.id, (0,))[0],
    }


def slider_range(records: Sequence[Record], start: float, least: float) -> tuple[float, float]:
    """Return the scores at which the slider of automatic masks starts and ends.

    They are ``start`` and ``least``, unless a detector chose the masks or no score reaches
    ``start``: then all masks are shown at first.
    """
    scores = [float(record["predicted_iou"]) for record in records]
    lowest = min([0.0, *scores])
    if any("label" in record for record in records):
        return lowest, lowest
    if scores and max(scores) < start:
        start = min(scores)
    return max(start, lowest), floor(100 * max(least, lowest)) / 100


def automatic_buffers(
    records: Sequence[Record], start: float, least: float
) -> tuple[dict[str, Any], list[bytes]]:
    """Return automatic masks for the page: all runs in one buffer, and the count of each.

    Args:
        records: of the masks.
        start, least: of the slider, see `slider_range`.
    """
    masks = [to_mask(record["segmentation"]) for record in records]
    runs = [row_runs(mask) for mask in masks]
    height, width = masks[0].shape if masks else (1, 1)
    start, least = slider_range(records, start, least)
    content = {
        "floor": start,
        "least": least,
        "size": [height, width],
        "runs": [len(each) for each in runs],
        "areas": [int(record["area"]) for record in records],
        "scores": [float(record["predicted_iou"]) for record in records],
        "labels": [record.get("label") for record in records],
    }
    return content, [np.concatenate(runs).tobytes() if runs else b""]


def describe(history: History, score: float | None, candidates: Candidates | None) -> str:
    """Write the line that a screen reader reads after a step."""
    current = history.present.current
    if current is None:
        count = sum(map(bool, history.present.objects))
        return f"{counted(count, 'object')}. Click or drag to start another."
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
            parts.append(counted(count, f"{what} click"))
    if current.prompt.box is not None:
        parts.append("a box")
    return ", ".join(parts)


def captioned(picture: Image.Image) -> Image.Image:
    """Add a line below a picture that tells why it does not react to clicks, and what to do."""
    width = max(picture.width, CAPTION_WIDTH)
    words = textwrap.wrap(CAPTION, int(width / (0.55 * CAPTION_SIZE)))
    below = 6 + len(words) * (CAPTION_SIZE + 4)
    page = Image.new("RGB", (width, picture.height + below), "white")
    page.paste(picture, (0, 0))
    ImageDraw.Draw(page).multiline_text(
        (4, picture.height + 3), "\n".join(words), fill=DARK, font=label_font(CAPTION_SIZE)
    )
    return page


def static_picture(
    picture: Picture,
    index: int,
    objects: Sequence[Object],
    cache: MaskCache,
    image: ImageEmbedding | None,
) -> Image.Image:
    """Draw the image with all masks that can be shown by now, small, for a saved notebook."""
    size = fitted(picture.size, STATIC)
    small = np.array(Image.fromarray(picture.pixels()).resize(size[::-1], Image.Resampling.LANCZOS))
    masks, colours = [np.zeros((0, *size), bool)], []
    for each in filter(bool, objects):
        mask = cache.shown(index, image, each.recipe, size)
        if mask is not None:
            masks.append(mask[None])
            colours.append(colour_of(each.id))
    return Image.fromarray(overlay(small, np.concatenate(masks), colors=colours or None))
