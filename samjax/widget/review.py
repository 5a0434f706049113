"""Steps of a review of opened objects, the most doubtful first: from one `State` to the next."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from samjax.errors import PromptError
from samjax.widget import steps
from samjax.widget.state import Object, State


class Progress(NamedTuple):
    """Counts objects that annotations gave: those that need no review any more, and all."""

    reviewed: int
    total: int

    def __str__(self) -> str:
        """Return "12 of 40 reviewed"."""
        return f"{self.reviewed} of {self.total} reviewed"


def queue(state: State) -> list[Object]:
    """Return the opened objects that are not reviewed, by falling doubt.

    Doubt is the lowest of an object's scores (predicted IoU, stability, a detector's score); those
    without scores come last, in their order.
    """
    open_ones = [each for each in state.objects if each.origin is not None and not each.done]
    return sorted(open_ones, key=_doubt)


def _doubt(each: Object) -> float:
    doubt = None if each.origin is None else each.origin.doubt
    return float("inf") if doubt is None else doubt


def progress(state: State) -> Progress:
    """Count the objects of an image; deleted ones count as reviewed."""
    return Progress(state.opened - len(queue(state)), state.opened)


def accept(state: State, object_id: int | None = None) -> State:
    """Accept an opened object as it is, the active one if none is named, and select the next.

    Raises:
        PromptError: there is no such object, or it was not opened from annotations.
    """
    target = _target(state, object_id)
    accepted = replace(target, committed=True, reviewed=True)
    objects = tuple(accepted if each.id == target.id else each for each in state.objects)
    return replace(state, objects=objects, active=_id(_after(state, target)))


def reject(state: State, object_id: int | None = None) -> State:
    """Remove an opened object, the active one if none is named, and select the next.

    Raises:
        PromptError: there is no such object, or it was not opened from annotations.
    """
    target = _target(state, object_id)
    return replace(steps.delete(state, target.id), active=_id(_after(state, target)))


def select_next(state: State) -> State:
    """Select the next object to review, or none after the last."""
    current = state.current
    if current is None or current.origin is None:
        return replace(state, active=_id(next(iter(queue(state)), None)))
    return replace(state, active=_id(_after(state, current)))


def _after(state: State, target: Object) -> Object | None:
    order = [each.id for each in state.objects]
    place = (_doubt(target), order.index(target.id))
    later = ((_doubt(each), order.index(each.id)) > place for each in queue(state))
    return next((each for each, after in zip(queue(state), later, strict=True) if after), None)


def _id(each: Object | None) -> int | None:
    return None if each is None else each.id


def _target(state: State, object_id: int | None) -> Object:
    target = state.current if object_id is None else state.get(object_id)
    if target is None:
        raise PromptError("no object is active: go to the next one to review, or select one")
    if target.origin is None:
        raise PromptError(f"object {target.id} is new: finish or delete it, only opened ones wait")
    return target
