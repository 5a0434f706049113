"""The steps of annotating: functions from one `State` to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import SupportsFloat

from samjax.arguments import flag, shown, whole_number
from samjax.arguments import real_number as _number
from samjax.errors import PromptError
from samjax.widget.state import Object, Paint, Prompt, Stamp, State, Stroke

MAX_POINTS = 500  # of one object: what nobody clicks, but a broken page might send


def click(state: State, x: SupportsFloat, y: SupportsFloat, label: int = 1) -> State:
    """Add a point, 1 on the object or 0 beside it, to the active object or a new one.

    Raises:
        PromptError: a label that is neither, or too many points.
    """
    if whole_number(label, "label of a click") not in (0, 1):
        raise PromptError(f"label of a click is {label}: use 1 (object) or 0 (background)")
    state, current = _active(state)
    if len(current.prompt.points) >= MAX_POINTS:
        raise PromptError(f"an object takes {MAX_POINTS} clicks: use the brush, or a new object")
    point = (_number(x, "x"), _number(y, "y"), int(label))
    prompt = replace(current.prompt, points=(*current.prompt.points, point))
    return _put(state, replace(current, prompt=prompt, committed=False))


def box(
    state: State,
    x0: SupportsFloat,
    y0: SupportsFloat,
    x1: SupportsFloat,
    y1: SupportsFloat,
    new: bool = False,
) -> State:
    """Set the box by any two opposite corners; it takes the place of the object's earlier one.

    With ``new`` the box is an object of its own, which is done at once but stays active for
    corrections; the object that was active before is done, too.
    """
    if new and state.current is not None:
        state = commit(state)
    state, current = _active(state)
    xs = sorted((_number(x0, "x0"), _number(x1, "x1")))
    ys = sorted((_number(y0, "y0"), _number(y1, "y1")))
    prompt = replace(current.prompt, box=(xs[0], ys[0], xs[1], ys[1]))
    return _put(state, replace(current, prompt=prompt, committed=new))


def brush(
    state: State, points: Sequence[Sequence[SupportsFloat]], radius: SupportsFloat, add: bool = True
) -> State:
    """Paint a stroke of the brush over the network's mask.

    Raises:
        PromptError: no points, no width, or nothing to erase from.
    """
    try:
        pairs = [(x, y) for x, y in points]
    except (TypeError, ValueError):
        raise PromptError(f"points are {shown(points)}: pass a list of (x, y)") from None
    path = tuple((_number(x, "x"), _number(y, "y")) for x, y in pairs)
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
    """Ask for three masks or for one; for the active object and for new ones.

    Raises:
        PromptError: neither True nor False.
    """
    on = flag(on, "multimask")
    state = replace(state, multimask=on)
    current = state.current
    if current is None or current.prompt.multimask == on:
        return state
    prompt = replace(current.prompt, multimask=on)
    return _put(state, replace(current, prompt=prompt, choice=None))


def set_threshold(state: State, threshold: SupportsFloat) -> State:
    """Set the logit above which a pixel is in the mask, for the active object and new ones."""
    value = _number(threshold, "mask_threshold")
    state = replace(state, threshold=value)
    current = state.current
    return state if current is None else _put(state, replace(current, threshold=value))


def set_label(state: State, name: str) -> State:
    """Set the class of the active object, and of new ones."""
    state = replace(state, label=name)
    current = state.current
    return state if current is None else _put(state, replace(current, label=name))


def commit(state: State) -> State:
    """Commit the active object; the next prompt starts another one.

    Raises:
        PromptError: no object is active.
    """
    current = _needed(state)
    reviewed = current.origin is not None
    return replace(_put(state, replace(current, committed=True, reviewed=reviewed)), active=None)


def new_object(state: State) -> State:
    """Let the next prompt start another object; the active one stays as it is."""
    return replace(state, active=None)


def select(state: State, object_id: int) -> State:
    """Let prompts go to that object."""
    return replace(state, active=state.get(object_id).id)


def delete(state: State, object_id: int | None = None) -> State:
    """Remove an object, the active one if none is named."""
    gone = _needed(state) if object_id is None else state.get(object_id)
    active = None if state.active == gone.id else state.active
    return replace(state, objects=tuple(o for o in state.objects if o != gone), active=active)


def duplicate(state: State) -> State:
    """Make a copy of the active object, which becomes the active one.

    Raises:
        PromptError: no object is active.
    """
    copy = replace(_needed(state), id=state.next_id, committed=False, origin=None, reviewed=False)
    objects = (*state.objects, copy)
    return replace(state, objects=objects, active=copy.id, next_id=copy.id + 1)


def paint_over(state: State, object_id: int, paint: Sequence[Paint]) -> State:
    """Paint strokes or stamps over an object's mask; it stays done if it was."""
    target = state.get(object_id)
    return _put(state, replace(target, strokes=(*target.strokes, *paint)))


def painted_objects(state: State, like: Object, stamps: Sequence[Stamp]) -> State:
    """Add an object without prompts for each stamp, of the class of another object."""
    made = tuple(
        Object(
            state.next_id + i,
            like.label,
            Prompt(multimask=state.multimask),
            threshold=like.threshold,
            strokes=(stamp,),
            committed=like.committed,
        )
        for i, stamp in enumerate(stamps)
    )
    objects = (*state.objects, *made)
    return replace(state, objects=objects, next_id=state.next_id + len(made))


def rename_class(state: State, old: str, new: str) -> State:
    """Give all objects of a class another name; of one that exists they become members."""
    objects = tuple(replace(o, label=new) if o.label == old else o for o in state.objects)
    return replace(state, objects=objects, label=new if state.label == old else state.label)


def _active(state: State) -> tuple[State, Object]:
    """Return the active object, or a new one, and the state that has it."""
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
