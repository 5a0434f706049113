"""Undo and redo: a `State` of an image with its past and its future."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from samjax.errors import PromptError
from samjax.widget.state import State

LONGEST = 1000  # steps that can be undone; a step is a few hundred bytes


@dataclass(frozen=True)
class History:
    """A state keeps its past and its future."""

    present: State = field(default_factory=State)
    past: tuple[State, ...] = ()
    future: tuple[State, ...] = ()
    last: str = ""  # the kind of the last step: a slider that is dragged is one step

    def do(self, state: State, kind: str = "", *, merge: bool = False) -> History:
        """Go on to ``state``; with ``merge`` steps of the same kind in a row count as one."""
        if state == self.present:
            return self
        if merge and kind == self.last and self.past:
            return replace(self, present=state, future=())
        return History(state, (*self.past, self.present)[-LONGEST:], (), kind)

    def look(self, state: State) -> History:
        """Change what undo leaves alone: the selection, the settings of the next object."""
        return replace(self, present=state, last="")

    def undo(self) -> History:
        """Go one step back.

        Raises:
            PromptError: nothing was done.
        """
        if not self.past:
            raise PromptError("nothing to undo: this is where it began")
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> History:
        """Go one step forward again.

        Raises:
            PromptError: nothing was undone.
        """
        if not self.future:
            raise PromptError("nothing to redo: no step was undone")
        return History(self.future[0], (*self.past, self.present), self.future[1:])
