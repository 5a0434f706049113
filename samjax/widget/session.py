"""What the user did to one image, as immutable values: objects, their prompts, undo and redo.

No pictures, no network, no widget: every step is a function from one `State` to the next. A mask
is a function of its object's prompts alone (see `Recipe`), so that undo, restoring from a file
and reproducing a result through ``SamPredictor.predict`` all come down to these values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
from jaxtyping import Bool

from samjax.errors import PromptError

HISTORY = 1000  # steps that can be undone; a step is a few hundred bytes
MAX_POINTS = 500  # of one object: what nobody clicks, but a broken page might send


@dataclass(frozen=True)
class Stroke:
    """One stroke of the brush: ``points`` (x, y) and ``radius`` in pixels; adds or erases."""

    points: tuple[tuple[float, float], ...]
    radius: float
    add: bool = True


@dataclass(frozen=True)
class Prompt:
    """What the network is asked: all of an object's points, (x, y, label), and its box."""

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    multimask: bool = True

    def __bool__(self) -> bool:
        return bool(self.points) or self.box is not None

    def arguments(self) -> dict[str, Any] | None:
        """The arguments of ``SamPredictor.predict``; None: nothing is asked."""
        if not self:
            return None
        return {
            "point_coords": [[x, y] for x, y, _ in self.points] or None,
            "point_labels": [label for *_, label in self.points] or None,
            "box": None if self.box is None else list(self.box),
            "multimask_output": self.multimask,
        }


class Recipe(NamedTuple):
    """All that an object's mask depends on, besides image and weights; a key of caches."""

    prompt: Prompt
    choice: int | None
    threshold: float
    strokes: tuple[Stroke, ...]


@dataclass(frozen=True)
class Object:
    """One object of an image.

    ``choice`` is the index of the mask in the network's order; None takes the best score.
    ``threshold`` is the logit above which a pixel belongs to the mask.
    """

    id: int
    label: str
    prompt: Prompt = Prompt()
    choice: int | None = None
    threshold: float = 0.0
    strokes: tuple[Stroke, ...] = ()
    committed: bool = False

    @property
    def recipe(self) -> Recipe:
        """What its mask depends on."""
        return Recipe(self.prompt, self.choice, self.threshold, self.strokes)

    def __bool__(self) -> bool:
        return bool(self.prompt) or bool(self.strokes)


@dataclass(frozen=True)
class State:
    """The objects of an image and what the next one starts with.

    ``active`` is the id of the object that prompts go to; None: the next prompt starts one.
    """

    objects: tuple[Object, ...] = ()
    active: int | None = None
    next_id: int = 1
    label: str = "object"
    multimask: bool = True
    threshold: float = 0.0

    @property
    def current(self) -> Object | None:
        """The active object."""
        return next((o for o in self.objects if o.id == self.active), None)

    def get(self, object_id: int) -> Object:
        """The object of that id.

        Raises:
            PromptError: there is none.
        """
        for each in self.objects:
            if each.id == object_id:
                return each
        raise PromptError(f"no object {object_id} in this image: select one of the list")


@dataclass(frozen=True)
class Session:
    """A state with its past and future."""

    present: State = field(default_factory=State)
    past: tuple[State, ...] = ()
    future: tuple[State, ...] = ()
    last: str = ""  # the kind of the last step: a slider that is dragged is one step

    def do(self, state: State, kind: str = "", *, merge: bool = False) -> Session:
        """A step to ``state``; with ``merge`` one step together with others of the same kind."""
        if state == self.present:
            return self
        if merge and kind == self.last and self.past:
            return replace(self, present=state, future=())
        return Session(state, (*self.past, self.present)[-HISTORY:], (), kind)

    def look(self, state: State) -> Session:
        """A change that is not undone: what is selected, what the next object starts with."""
        return replace(self, present=state, last="")

    def undo(self) -> Session:
        """One step back.

        Raises:
            PromptError: nothing was done.
        """
        if not self.past:
            raise PromptError("nothing to undo: this is where the session began")
        return Session(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> Session:
        """One step forward again.

        Raises:
            PromptError: nothing was undone.
        """
        if not self.future:
            raise PromptError("nothing to redo: no step was undone")
        return Session(self.future[0], (*self.past, self.present), self.future[1:])


# ------------------------------------------------------------------------------ steps


def click(state: State, x: SupportsFloat, y: SupportsFloat, label: int = 1) -> State:
    """A point, 1 on the object or 0 beside it.

    Raises:
        PromptError: a label that is neither, or too many points.
    """
    if label not in (0, 1):
        raise PromptError(f"label of a click is {label!r}: use 1 (object) or 0 (not)")
    state, current = _active(state)
    if len(current.prompt.points) >= MAX_POINTS:
        raise PromptError(f"an object takes {MAX_POINTS} clicks: use the brush, or a new object")
    point = (_number(x, "x"), _number(y, "y"), int(label))
    prompt = replace(current.prompt, points=(*current.prompt.points, point))
    return _put(state, replace(current, prompt=prompt, committed=False))


def box(
    state: State, x0: SupportsFloat, y0: SupportsFloat, x1: SupportsFloat, y1: SupportsFloat
) -> State:
    """A box by any two opposite corners; it takes the place of the object's earlier one."""
    state, current = _active(state)
    xs = sorted((_number(x0, "x0"), _number(x1, "x1")))
    ys = sorted((_number(y0, "y0"), _number(y1, "y1")))
    prompt = replace(current.prompt, box=(xs[0], ys[0], xs[1], ys[1]))
    return _put(state, replace(current, prompt=prompt, committed=False))


def brush(
    state: State, points: Sequence[Sequence[SupportsFloat]], radius: SupportsFloat, add: bool = True
) -> State:
    """A stroke of the brush, over whatever the network makes.

    Raises:
        PromptError: no points, no width, or nothing to erase from.
    """
    path = tuple((_number(x, "x"), _number(y, "y")) for x, y in points)
    width = _number(radius, "radius")
    if not path or width <= 0:
        raise PromptError("a stroke needs at least one point and a radius above 0")
    if not add and state.current is None:
        raise PromptError("nothing to erase from: select an object first")
    state, current = _active(state)
    strokes = (*current.strokes, Stroke(path, width, bool(add)))
    return _put(state, replace(current, strokes=strokes, committed=False))


def choose(state: State, index: int) -> State:
    """Take the mask at ``index`` of the network's own order; it stays for further clicks."""
    return _put(state, replace(_needed(state), choice=index, committed=False))


def set_multimask(state: State, on: bool) -> State:
    """Ask for three masks or for one; for the active object and for new ones."""
    state = replace(state, multimask=on)
    current = state.current
    if current is None or current.prompt.multimask == on:
        return state
    prompt = replace(current.prompt, multimask=on)
    return _put(state, replace(current, prompt=prompt, choice=None))


def set_threshold(state: State, threshold: SupportsFloat) -> State:
    """The logit above which a pixel is in the mask; for the active object and for new ones."""
    value = _number(threshold, "mask_threshold")
    state = replace(state, threshold=value)
    current = state.current
    return state if current is None else _put(state, replace(current, threshold=value))


def set_label(state: State, name: str) -> State:
    """The class of the active object, and of new ones."""
    state = replace(state, label=name)
    current = state.current
    return state if current is None else _put(state, replace(current, label=name))


def commit(state: State) -> State:
    """The active object is done; the next prompt starts another one.

    Raises:
        PromptError: no object is active.
    """
    current = _needed(state)
    return replace(_put(state, replace(current, committed=True)), active=None)


def new_object(state: State) -> State:
    """The next prompt starts another object; the active one stays as it is."""
    return replace(state, active=None)


def select(state: State, object_id: int) -> State:
    """Prompts go to that object."""
    return replace(state, active=state.get(object_id).id)


def delete(state: State, object_id: int | None = None) -> State:
    """Remove an object, the active one if none is named."""
    gone = _needed(state) if object_id is None else state.get(object_id)
    active = None if state.active == gone.id else state.active
    return replace(state, objects=tuple(o for o in state.objects if o != gone), active=active)


def _active(state: State) -> tuple[State, Object]:
    """The active object, or a new one."""
    if state.current is not None:
        return state, state.current
    made = Object(
        state.next_id,
        state.label,
        Prompt(multimask=state.multimask),
        threshold=state.threshold,
    )
    objects = (*state.objects, made)
    return replace(state, objects=objects, active=made.id, next_id=made.id + 1), made


def _put(state: State, changed: Object) -> State:
    objects = tuple(changed if o.id == changed.id else o for o in state.objects)
    return replace(state, objects=objects)


def _needed(state: State) -> Object:
    if state.current is None:
        raise PromptError("no object is active: click on the image, or select one of the list")
    return state.current


def _number(value: SupportsFloat, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise PromptError(f"{what} is {value!r}: pass a number of pixels or a logit, not NaN")
    return number


# ------------------------------------------------------------------------------ brush


def paint(
    mask: Bool[np.ndarray, "H W"],
    strokes: Sequence[Stroke],
    scale: tuple[float, float] = (1.0, 1.0),
) -> Bool[np.ndarray, "H W"]:
    """A copy of a mask with strokes of the brush painted over it, in order.

    A pixel is painted if its centre, (x, y) of whole numbers, lies within the radius of the line.

    Args:
        mask: of the image, or of a smaller copy of it.
        strokes: in pixels of the image.
        scale: (horizontal, vertical) size of ``mask`` as a part of the image's.
    """
    painted = mask.copy()
    for stroke in strokes:
        line = (np.array(stroke.points, float) + 0.5) * scale - 0.5
        _paint_line(painted, line, stroke.radius * (scale[0] + scale[1]) / 2, stroke.add)
    return painted


def _paint_line(mask: Bool[np.ndarray, "H W"], line: np.ndarray, radius: float, add: bool) -> None:
    starts, ends = (line, line) if len(line) == 1 else (line[:-1], line[1:])
    for a, b in zip(starts, ends, strict=True):
        low = np.floor(np.minimum(a, b) - radius).astype(int).clip(0)
        high = np.ceil(np.maximum(a, b) + radius).astype(int) + 1
        part = mask[low[1] : max(0, high[1]), low[0] : max(0, high[0])]
        x = np.arange(part.shape[1]) + low[0] - a[0]
        y = (np.arange(part.shape[0]) + low[1] - a[1])[:, None]
        along = b - a
        length = float(along @ along)
        # Position of the nearest point of the segment, 0 at its start and 1 at its end
        t = np.clip((x * along[0] + y * along[1]) / length, 0, 1) if length else 0.0
        part[(x - t * along[0]) ** 2 + (y - t * along[1]) ** 2 <= radius**2] = add
