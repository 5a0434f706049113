"""Open annotations in an annotator: which image they belong to, and the objects they become."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from samjax.annotations.label_files import shown_size
from samjax.annotations.records import json_value
from samjax.errors import AnnotationError, AnnotationWarning
from samjax.files import check_outputs, protecting
from samjax.masks.rle import Record
from samjax.widget.annotation_sets import AnnotatedSource, AnnotationSet, Entry, read_annotation_set
from samjax.widget.messages import check_names
from samjax.widget.sizes import Size
from samjax.widget.state import Object, Origin, Prompt, Stamp, State
from samjax.widget.state_file import FinishedMask
from samjax.words import counted

_SCORES = ("predicted_iou", "stability_score", "score")
# Fields of a record that are no longer true when the mask is another one.
OF_THE_MASK = frozenset(
    (
        "predicted_iou",
        "stability_score",
        "point_coords",
        "point_labels",
        "prompt_box",
        "crop_box",
    )
)


class OpenedAnnotations:
    """Gives each image of an annotator the objects that annotations have for it.

    Args:
        annotations: see `read_annotation_set`.
        names: of the annotator's images.
        sources: paths, arrays and PIL images, in the same order.

    Attributes:
        set: the annotations as they were read.
        notice: a line about what was opened, and what was not.

    Raises:
        AnnotationError: they cannot be read, fit no image or several, or are of another size.
    """

    def __init__(self, annotations: Any, names: Sequence[str], sources: Sequence[Any]):
        self.set = read_annotation_set(annotations)
        self._names = names
        self._of = _matched(self.set, names, sources)
        self._sizes: dict[int, Size] = {}
        self._unusable: dict[int, list[dict[str, Any]]] = {}
        self._damaged: dict[int, int] = {}
        self._doubts: dict[int, float] = {}
        unreadable = 0
        for index, image in self._of.items():
            found = _size_of(sources[index])
            size = image.size or found
            if size is None:
                unreadable += 1
                continue
            if image.size and found and image.size != found:
                raise AnnotationError(
                    f"{self.set.title}: {image.name} has {image.size[1]} x {image.size[0]} pixels "
                    f"there, and {names[index]} of {found[1]} x {found[0]}: give the image that "
                    "was annotated"
                )
            self._sizes[index] = size
        total = sum(self._of[index].count for index in self._sizes)
        text = f"{counted(total, 'object')} of {self.set.title} opened"
        if missing := len(self.set.images) - len(self._of):
            text += f"; {counted(missing, 'image')} of it not among these, and in no export"
        if unreadable:
            text += f"; {counted(unreadable, 'image')} cannot be read"
        self.notice = text
        if missing or unreadable:
            warnings.warn(text, AnnotationWarning, stacklevel=5)

    @classmethod
    def of(
        cls, annotations: Any, names: Sequence[str], sources: Sequence[Any]
    ) -> OpenedAnnotations | None:
        """Open annotations; None opens none."""
        return None if annotations is None else cls(annotations, names, sources)

    def has(self, index: int) -> bool:
        """Return whether there are annotations for an image."""
        return index in self._sizes

    def indices(self) -> list[int]:
        """List the images with annotations."""
        return sorted(self._sizes)

    def source(self, index: int) -> AnnotatedSource | None:
        """Return the annotations of an image."""
        return self._of.get(index)

    def size(self, index: int) -> Size | None:
        """Return (H, W) of an image with annotations."""
        return self._sizes.get(index)

    def digest(self, index: int) -> str:
        """Return the hash of the annotations of an image."""
        text = json.dumps(self._of[index].raw, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def labels(self, index: int) -> frozenset[str]:
        """Return the classes that occur in the annotations of an image."""
        return self._of[index].labels

    def count(self, index: int) -> int:
        """Return the number of annotations of an image, whether they can be opened or not."""
        return self._of[index].count if self.has(index) else 0

    def added(self, index: int, state: State) -> tuple[State, dict[int, FinishedMask]]:
        """Return a state with the objects of an image's annotations, and their masks by id.

        Raises:
            AnnotationError: masks of another size.
        """
        objects, masks = [], {}
        entries = self._of[index].entries(self._sizes[index])
        self._unusable[index] = [e.coco for e in entries if not _usable(e) and e.coco]
        self._damaged[index] = sum(map(_is_damaged, entries))
        for number, entry in enumerate(filter(_usable, entries), state.next_id):
            made = _object(number, entry, state)
            objects.append(made)
            if made.base is not None:
                rle = {"size": list(made.base.size), "counts": made.base.counts}
                score = entry.record.get("predicted_iou", entry.record.get("score"))
                masks[number] = FinishedMask(rle, _finite(score), None)
        found = replace(
            state,
            objects=(*state.objects, *objects),
            next_id=state.next_id + len(objects),
            opened=state.opened + len(objects),
            source=self.digest(index),
        )
        return found, masks

    def doubt(self, index: int) -> float:
        """Return the lowest score of an image's annotations; infinity without any."""
        if index not in self._doubts:
            self._doubts[index] = min(map(_lowest, self._of[index].raw), default=math.inf)
        return self._doubts[index]

    def damaged(self, index: int) -> int:
        """Count the masks of an image that could not be read, and that boxes stand for."""
        return self._damaged.get(index, 0)

    def unusable(self, index: int) -> list[dict[str, Any]]:
        """Return the COCO annotations that hold neither mask nor box: exports keep them."""
        if not self.has(index):
            return []
        if index not in self._unusable:
            entries = self._of[index].entries(self._sizes[index])
            self._unusable[index] = [e.coco for e in entries if not _usable(e) and e.coco]
        return self._unusable[index]


def class_names(labels: Sequence[str] | None, opened: OpenedAnnotations | None) -> list[str]:
    """Return the names of the classes: the user's own, then those of the annotations, if any.

    Raises:
        PromptError: names that cannot be used.
    """
    found = [] if opened is None else list(opened.set.categories)
    if opened is not None:
        found += sorted({label for i in opened.indices() for label in opened.labels(i)})
    given = [] if labels is None else check_names(labels)
    names = list(dict.fromkeys([*given, *found]))
    return check_names(names) if names else []


def check_not_read(states: Iterable[Path | None], opened: OpenedAnnotations | None) -> None:
    """Refuse files of the annotator's own that annotations were read from.

    Raises:
        AnnotationError: one would be replaced.
    """
    if opened is None:
        return
    with protecting(opened.set.files, AnnotationError):
        check_outputs(path for path in states if path is not None)


def opened_fields(each: Object) -> Record:
    """Return the fields of the record that an object was opened with, but mask and class."""
    if each.origin is None:
        return {}
    fields = json.loads(each.origin.fields)
    return {k: math.nan if v is None and k in _SCORES else v for k, v in fields.items()}


def _usable(entry: Entry) -> bool:
    return entry.box is not None or "segmentation" in entry.record


def _lowest(raw: Any) -> float:
    """Return the lowest score of an annotation, as `AnnotatedSource.raw` has it."""
    if isinstance(raw, str):  # a line of YOLO: a box may have a score
        parts = raw.split()
        return float(parts[5]) if len(parts) == 6 else math.inf
    scores = (_finite(raw[1].get(key)) for key in _SCORES)
    return min((value for value in scores if value is not None), default=math.inf)


def _is_damaged(entry: Entry) -> bool:
    return entry.box is not None and bool(entry.coco and entry.coco.get("segmentation"))


def _object(number: int, entry: Entry, state: State) -> Object:
    record = entry.record
    scores = [value for key in _SCORES if (value := _finite(record.get(key))) is not None]
    fields = {
        key: json_value(value)
        for key, value in record.items()
        if key not in ("segmentation", "area", "bbox", "label")
    }
    base = None
    if "segmentation" in record:
        height, width = record["segmentation"]["size"]
        base = Stamp(str(record["segmentation"]["counts"]), (int(height), int(width)))
    return Object(
        number,
        entry.label,
        Prompt(box=entry.box, multimask=state.multimask),
        threshold=state.threshold,
        committed=True,
        base=base,
        origin=Origin(
            entry.label,
            min(scores, default=None),
            json.dumps(fields, ensure_ascii=False),
            "" if entry.coco is None else json.dumps(json_value(entry.coco), ensure_ascii=False),
        ),
    )


def _finite(value: Any) -> float | None:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def _size_of(source: Any) -> Size | None:
    """Return (H, W) of an image; None where only reading it tells, or it cannot be read."""
    try:
        if isinstance(source, (str, os.PathLike)):
            return shown_size(Path(source).expanduser())
        if isinstance(source, Image.Image):
            sideways = source.getexif().get(0x0112, 1) >= 5
            return source.size if sideways else (source.height, source.width)
        shape = np.shape(source)
        plain = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        return (int(shape[0]), int(shape[1])) if plain else None
    except (OSError, ValueError, TypeError):
        return None


# -------------------------------------------------------------------- names


def _matched(
    found: AnnotationSet, names: Sequence[str], sources: Sequence[Any]
) -> dict[int, AnnotatedSource]:
    """Find the annotations of each image, by position or by name.

    Raises:
        AnnotationError: none fits, or one fits several images.
    """
    if found.positional:
        if len(found.images) != len(names):
            raise AnnotationError(
                f"annotations of {counted(len(found.images), 'image')} for "
                f"{counted(len(names), 'image')}: give a list of records for each"
            )
        return dict(enumerate(found.images))
    if len(found.images) == len(names) == 1:
        return {0: found.images[0]}
    by_stem: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(found.images):
        by_stem[_parts(image.name)[-1]].append(position)
    matched: dict[int, int] = {}
    for index, name in enumerate(names):
        path = sources[index] if isinstance(sources[index], (str, os.PathLike)) else name
        parts = _parts(str(Path(path).expanduser().absolute()))
        best = _best([(p, found.images[p].name) for p in by_stem[parts[-1]]], parts, str(path))
        if len(best) > 1:
            both = " and ".join(found.images[p].name for p in best[:2])
            raise AnnotationError(f"{found.title}: {both} both fit {name}: rename one of them")
        if best:
            matched[index] = best[0]
    owners: dict[int, int] = {}
    for index, position in matched.items():
        if position in owners:
            raise AnnotationError(
                f"{found.title}: {found.images[position].name} fits {names[owners[position]]} and "
                f"{names[index]}: give the images one by one, or names with folders"
            )
        owners[position] = index
    if not matched:
        first = found.images[0].name if found.images else "nothing"
        raise AnnotationError(
            f"{found.title}: none of its images is among these (it has {first}, and here is "
            f"{names[0]}): give the images that were annotated"
        )
    return {index: found.images[position] for index, position in matched.items()}


def _parts(name: str) -> tuple[str, ...]:
    """Return the folders and the name without its suffix."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (*path.parts[:-1], path.stem)


def _best(
    candidates: Sequence[tuple[int, str]], parts: tuple[str, ...], path: str
) -> Sequence[int]:
    """Return the candidates that share most folders with a path, those of its suffix first."""
    if len(candidates) < 2:
        return [position for position, _ in candidates]
    suffix = PurePosixPath(path).suffix.lower()

    def rank(name: str) -> tuple[int, bool]:
        own = _parts(name)
        shared = 0
        while shared < min(len(own), len(parts)) and own[-1 - shared] == parts[-1 - shared]:
            shared += 1
        return shared, PurePosixPath(name).suffix.lower() == suffix

    ranks: Mapping[int, tuple[int, bool]] = {p: rank(name) for p, name in candidates}
    highest = max(ranks.values())
    return [p for p, each in ranks.items() if each == highest]
