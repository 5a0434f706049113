"""Immutable values of what the user did to one image: objects, their prompts, and the state.

They hold no pictures, no network and no widget. A mask is a function of its object's prompts
alone (see `Recipe`), so that undo, restoring from a file and reproducing a result through
``SamPredictor.predict`` all come down to these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from samjax.errors import PromptError


@dataclass(frozen=True)
class Stroke:
    """A stroke of the brush adds to a mask or erases; its points (x, y) and radius are pixels."""

    points: tuple[tuple[float, float], ...]
    radius: float
    add: bool = True


@dataclass(frozen=True)
class Stamp:
    """A stamp adds the pixels of a mask, or erases them; the mask has the image's size.

    ``counts`` are COCO's run lengths as a string, ``size`` is (H, W).
    """

    counts: str
    size: tuple[int, int]
    add: bool = True


Paint = Stroke | Stamp


@dataclass(frozen=True)
class Prompt:
    """The network is asked with all of an object's points, (x, y, label), and its box."""

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    multimask: bool = True

    def __bool__(self) -> bool:
        return bool(self.points) or self.box is not None

    def arguments(self) -> dict[str, Any] | None:
        """Return the arguments of ``SamPredictor.predict``; None if nothing is asked."""
        if not self:
            return None
        return {
            "point_coords": [[x, y] for x, y, _ in self.points] or None,
            "point_labels": [label for *_, label in self.points] or None,
            "box": None if self.box is None else list(self.box),
            "multimask_output": self.multimask,
        }


class Recipe(NamedTuple):
    """An object's mask depends on these values, the image and the weights; a key of caches."""

    prompt: Prompt
    choice: int | None
    threshold: float
    strokes: tuple[Paint, ...]
    base: Stamp | None = None


@dataclass(frozen=True)
class Origin:
    """An object that was opened from annotations keeps what they say of it.

    ``label`` is its class there, ``doubt`` the lowest of its scores, None without any.
    ``fields`` is the JSON of its record without mask and class; ``entry`` that of a COCO
    annotation, which is exported as it is while nothing is changed, empty for other formats.
    """

    label: str
    doubt: float | None = None
    fields: str = "{}"
    entry: str = ""


@dataclass(frozen=True)
class Object:
    """An object of an image has a class, prompts and paint.

    ``choice`` is the index of the mask in the network's order; None takes the best score.
    ``threshold`` is the logit above which a pixel belongs to the mask. ``base`` is the mask that
    it was opened with, which prompts correct; ``origin`` is what its annotation says besides, and
    ``reviewed`` whether somebody accepted or finished it since.
    """

    id: int
    label: str
    prompt: Prompt = Prompt()
    choice: int | None = None
    threshold: float = 0.0
    strokes: tuple[Paint, ...] = ()
    committed: bool = False
    base: Stamp | None = None
    origin: Origin | None = None
    reviewed: bool = False

    @property
    def recipe(self) -> Recipe:
        """Return the values that its mask depends on."""
        return Recipe(self.prompt, self.choice, self.threshold, self.strokes, self.base)

    @property
    def done(self) -> bool:
        """Return whether it needs nobody any more: committed, and reviewed if it was opened."""
        return self.committed and (self.origin is None or self.reviewed)

    @property
    def as_opened(self) -> bool:
        """Return whether its mask is the one of the annotations; its class may have changed."""
        return bool(self.origin and self.base and not self.prompt and not self.strokes)

    def __bool__(self) -> bool:
        return bool(self.prompt) or bool(self.strokes) or self.base is not None


@dataclass(frozen=True)
class State:
    """An image has objects, and settings that the next one starts with.

    ``active`` is the id of the object that prompts go to; None: the next prompt starts one.
    ``opened`` is the number of objects that annotations gave it, and ``source`` their hash.
    """

    objects: tuple[Object, ...] = ()
    active: int | None = None
    next_id: int = 1
    label: str = "object"
    multimask: bool = True
    threshold: float = 0.0
    opened: int = 0
    source: str = ""

    @property
    def current(self) -> Object | None:
        """Return the active object."""
        return next((o for o in self.objects if o.id == self.active), None)

    def get(self, object_id: int) -> Object:
        """Return the object of that id.

        Raises:
            PromptError: there is none.
        """
        for each in self.objects:
            if each.id == object_id:
                return each
        raise PromptError(f"no object {object_id} in this image: select one of the list")
