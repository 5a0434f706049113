"""The history of an image: steps, undo and redo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samjax.errors import PromptError
from samjax.widget import steps as annotate
from samjax.widget.history import History
from samjax.widget.state import State

PIXEL = st.integers(0, 60)
STEPS = st.one_of(
    st.tuples(st.just(annotate.click), PIXEL, PIXEL, st.integers(0, 1)),
    st.tuples(st.just(annotate.box), PIXEL, PIXEL, PIXEL, PIXEL),
    st.tuples(st.just(annotate.brush), st.just([(3, 4), (9, 9)]), st.integers(1, 9), st.booleans()),
    st.tuples(st.just(annotate.choose), st.integers(0, 2)),
    st.tuples(st.just(annotate.set_label), st.sampled_from("abc")),
    st.tuples(st.just(annotate.set_multimask), st.booleans()),
    st.tuples(st.just(annotate.set_threshold), st.integers(-4, 4)),
    st.tuples(st.just(annotate.commit)),
    st.tuples(st.just(annotate.new_object)),
    st.tuples(st.just(annotate.delete)),
)


def _done(log: History, steps: list) -> History:
    for step, *arguments in steps:
        try:
            log = log.do(step(log.present, *arguments), step.__name__)
        except PromptError:
            assert step in (annotate.choose, annotate.commit, annotate.delete, annotate.brush)
    return log


@given(st.lists(STEPS, max_size=30))
def test_undo_and_redo_go_through_everything(steps: list):
    start = History()
    log = _done(start, steps)
    seen = [log.present]
    while log.past:
        log = log.undo()
        seen.append(log.present)
    assert log.present == start.present
    assert len(log.future) == len(seen) - 1
    for state in reversed(seen[:-1]):
        log = log.redo()
        assert log.present == state
    with pytest.raises(PromptError, match="nothing to redo"):
        log.redo()


@given(st.lists(STEPS, max_size=20))
def test_ids_never_return(steps: list):
    log, used = History(), set()
    for step in steps:
        before = {o.id for o in log.present.objects}
        log = _done(log, [step])
        fresh = {o.id for o in log.present.objects} - before
        assert not fresh & used
        used |= fresh
        assert log.present.active is None or log.present.current is not None


def test_a_step_after_undo_ends_the_future():
    log = _done(History(), [(annotate.click, 1, 2, 1), (annotate.click, 3, 4, 0)]).undo()
    log = _done(log, [(annotate.click, 5, 6, 1)])
    assert log.present.current.prompt.points == ((1, 2, 1), (5, 6, 1))
    with pytest.raises(PromptError, match="nothing to redo"):
        log.redo()
    with pytest.raises(PromptError, match="nothing to undo"):
        History().undo()


def test_a_dragged_slider_is_one_step():
    log = _done(History(), [(annotate.click, 1, 2, 1)])
    for value in (1, 2, 3):
        log = log.do(annotate.set_threshold(log.present, value), "threshold", merge=True)
    assert log.present.current.threshold == 3
    assert log.undo().present.current.threshold == 0
    moved = log.undo().redo()
    again = moved.do(annotate.set_threshold(moved.present, 5), "threshold", merge=True)
    assert again.undo().present.current.threshold == 3


def test_a_choice_stays_for_further_clicks_until_multimask_changes():
    state = annotate.choose(annotate.click(State(), 1, 2), 2)
    state = annotate.click(state, 3, 4, 0)
    assert state.current.choice == 2
    assert annotate.set_multimask(state, False).current.choice is None


def test_what_predict_is_asked():
    state = annotate.box(annotate.click(State(), 1, 2), 30, 40, 10, 20)
    assert state.current.prompt.arguments() == {
        "point_coords": [[1.0, 2.0]],
        "point_labels": [1],
        "box": [10.0, 20.0, 30.0, 40.0],
        "multimask_output": True,
    }
    assert annotate.brush(State(), [(1, 1)], 2).current.prompt.arguments() is None


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda: annotate.click(State(), 1, 2, 3), "label of a click is 3"),
        (lambda: annotate.click(State(), float("nan"), 2), "x is nan"),
        (lambda: annotate.box(State(), 1, 2, np.inf, 4), "x1 is inf"),
        (lambda: annotate.brush(State(), [], 3), "at least one point"),
        (lambda: annotate.brush(State(), [(1, 2)], 0), "radius above 0"),
        (lambda: annotate.brush(State(), [(1, 2)], 3, False), "nothing to erase from"),
        (lambda: annotate.commit(State()), "no object is active"),
        (lambda: annotate.select(State(), 4), "no object 4"),
        (lambda: annotate.delete(State()), "no object is active"),
    ],
)
def test_errors_say_in_one_line_what_to_do(step, text: str):
    with pytest.raises(PromptError, match=text) as caught:
        step()
    assert "\n" not in str(caught.value)


def test_too_many_clicks_are_refused():
    state = State()
    for _ in range(annotate.MAX_POINTS):
        state = annotate.click(state, 1, 1)
    with pytest.raises(PromptError, match="takes 500 clicks"):
        annotate.click(state, 1, 1)
