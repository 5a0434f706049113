"""Two annotators on one folder: what the other one saved is merged, object by object."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from samjax.widget.history import History
from samjax.widget.state import Object, State


class Merged(NamedTuple):
    """Holds the merged history, and tells what became of the other one's changes.

    Attributes:
        history: objects of both; an undo does not take away what the other one did.
        taken: number of objects that were added, changed or removed as the other one did.
        left: whether changes of the other one to objects that changed here, too, were left out.
        renumbered: whether objects of this annotator made way and have other numbers now.
    """

    history: History
    taken: int
    left: bool
    renumbered: bool


def merge(base: State, history: History, theirs: State) -> Merged:
    """Merge what two annotators made of the state ``base``; where both changed, ours stays.

    The numbers of the file hold: an object of ours that is in no file yet makes way for one
    that the other annotator saved under its number. Objects that the other one added come last.

    Args:
        base: as this annotator read or wrote it last.
        history: of this annotator; its present is about to be saved.
        theirs: the state that the file has now.
    """
    steps = (history.present, *history.past, *history.future)
    before, here, there = _by_id(base), _by_id(history.present), _by_id(theirs)
    given = {each.id for state in steps for each in state.objects} - before.keys()
    next_id = max([theirs.next_id, base.next_id, *(state.next_id for state in steps)])
    next_id = max([next_id, *(number + 1 for number in {*given, *before, *there})])
    added: list[Object] = []
    changed: dict[int, Object | None] = {}  # in every step; None: removed
    renamed: dict[int, int] = {}
    left = False
    for number, other in there.items():
        was, own = before.get(number), here.get(number)
        if other in (was, own):
            continue
        if was is None:
            added.append(other)
            if number in given:
                renamed[number], next_id = next_id, next_id + 1
        elif own == was:
            changed[number] = other
        else:
            left = True
    for number, was in before.items():
        if number not in there and number in here:
            if here[number] == was:
                changed[number] = None
            else:
                left = True

    def applied(state: State) -> State:
        ours = (replace(each, id=renamed.get(each.id, each.id)) for each in state.objects)
        kept = {each.id: each for each in ours} | changed
        objects = (*(each for each in kept.values() if each is not None), *added)
        active = None if state.active is None else renamed.get(state.active, state.active)
        if not any(each.id == active for each in objects):
            active = None
        return replace(
            state,
            objects=objects,
            active=active,
            next_id=next_id,
            opened=max(state.opened, theirs.opened),
            source=state.source or theirs.source,
        )

    merged = replace(
        history,
        present=applied(history.present),
        past=tuple(map(applied, history.past)),
        future=tuple(map(applied, history.future)),
    )
    return Merged(merged, len(added) + len(changed), left, bool(renamed))


def _by_id(state: State) -> dict[int, Object]:
    return {each.id: each for each in state.objects if each}
