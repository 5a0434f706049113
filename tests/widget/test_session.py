"""The log of an image: steps, undo and redo, the brush."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samjax.errors import PromptError
from samjax.widget import session
from samjax.widget.session import Session, State, Stroke, paint

PIXEL = st.integers(0, 60)
STEPS = st.one_of(
    st.tuples(st.just(session.click), PIXEL, PIXEL, st.integers(0, 1)),
    st.tuples(st.just(session.box), PIXEL, PIXEL, PIXEL, PIXEL),
    st.tuples(st.just(session.brush), st.just([(3, 4), (9, 9)]), st.integers(1, 9), st.booleans()),
    st.tuples(st.just(session.choose), st.integers(0, 2)),
    st.tuples(st.just(session.set_label), st.sampled_from("abc")),
    st.tuples(st.just(session.set_multimask), st.booleans()),
    st.tuples(st.just(session.set_threshold), st.integers(-4, 4)),
    st.tuples(st.just(session.commit)),
    st.tuples(st.just(session.new_object)),
    st.tuples(st.just(session.delete)),
)


def _done(log: Session, steps: list) -> Session:
    for step, *arguments in steps:
        try:
            log = log.do(step(log.present, *arguments), step.__name__)
        except PromptError:
            assert step in (session.choose, session.commit, session.delete, session.brush)
    return log


@given(st.lists(STEPS, max_size=30))
def test_undo_and_redo_go_through_everything(steps: list):
    start = Session()
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
    log, used = Session(), set()
    for step in steps:
        before = {o.id for o in log.present.objects}
        log = _done(log, [step])
        fresh = {o.id for o in log.present.objects} - before
        assert not fresh & used
        used |= fresh
        assert log.present.active is None or log.present.current is not None


def test_a_step_after_undo_ends_the_future():
    log = _done(Session(), [(session.click, 1, 2, 1), (session.click, 3, 4, 0)]).undo()
    log = _done(log, [(session.click, 5, 6, 1)])
    assert log.present.current.prompt.points == ((1, 2, 1), (5, 6, 1))
    with pytest.raises(PromptError, match="nothing to redo"):
        log.redo()
    with pytest.raises(PromptError, match="nothing to undo"):
        Session().undo()


def test_a_dragged_slider_is_one_step():
    log = _done(Session(), [(session.click, 1, 2, 1)])
    for value in (1, 2, 3):
        log = log.do(session.set_threshold(log.present, value), "threshold", merge=True)
    assert log.present.current.threshold == 3
    assert log.undo().present.current.threshold == 0
    moved = log.undo().redo()
    again = moved.do(session.set_threshold(moved.present, 5), "threshold", merge=True)
    assert again.undo().present.current.threshold == 3


def test_a_choice_stays_for_further_clicks_until_multimask_changes():
    state = session.choose(session.click(State(), 1, 2), 2)
    state = session.click(state, 3, 4, 0)
    assert state.current.choice == 2
    assert session.set_multimask(state, False).current.choice is None


def test_what_predict_is_asked():
    state = session.box(session.click(State(), 1, 2), 30, 40, 10, 20)
    assert state.current.prompt.arguments() == {
        "point_coords": [[1.0, 2.0]],
        "point_labels": [1],
        "box": [10.0, 20.0, 30.0, 40.0],
        "multimask_output": True,
    }
    assert session.brush(State(), [(1, 1)], 2).current.prompt.arguments() is None


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda: session.click(State(), 1, 2, 3), "label of a click is 3"),
        (lambda: session.click(State(), float("nan"), 2), "x is nan"),
        (lambda: session.box(State(), 1, 2, np.inf, 4), "x1 is inf"),
        (lambda: session.brush(State(), [], 3), "at least one point"),
        (lambda: session.brush(State(), [(1, 2)], 0), "radius above 0"),
        (lambda: session.brush(State(), [(1, 2)], 3, False), "nothing to erase from"),
        (lambda: session.commit(State()), "no object is active"),
        (lambda: session.select(State(), 4), "no object 4"),
        (lambda: session.delete(State()), "no object is active"),
    ],
)
def test_errors_say_in_one_line_what_to_do(step, text: str):
    with pytest.raises(PromptError, match=text) as caught:
        step()
    assert "\n" not in str(caught.value)


def test_too_many_clicks_are_refused():
    state = State()
    for _ in range(session.MAX_POINTS):
        state = session.click(state, 1, 1)
    with pytest.raises(PromptError, match="takes 500 clicks"):
        session.click(state, 1, 1)


# ------------------------------------------------------------------------------ brush


def test_paint_covers_the_pixels_within_the_radius():
    strokes = [Stroke(((5.0, 4.0), (20.0, 12.0)), 3.0)]
    painted = paint(np.zeros((24, 30), bool), strokes)
    y, x = np.mgrid[:24, :30].astype(float)
    a, b = np.array([5.0, 4.0]), np.array([20.0, 12.0])
    t = np.clip(((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / ((b - a) @ (b - a)), 0, 1)
    distance = np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1])
    np.testing.assert_array_equal(painted, distance <= 3)


def test_paint_adds_and_erases_in_order_and_leaves_the_mask_alone():
    mask = np.zeros((20, 20), bool)
    dab, off = Stroke(((10.0, 10.0),), 5.0), Stroke(((10.0, 10.0),), 2.0, False)
    painted = paint(mask, [dab, off])
    assert painted[10, 6]
    assert not painted[10, 10]
    assert paint(mask, [off, dab])[10, 10]
    assert not mask.any()


def test_strokes_may_leave_the_image():
    assert paint(np.zeros((8, 9), bool), [Stroke(((-50.0, -50.0), (-40.0, 3.0)), 2.0)]).sum() == 0
    assert paint(np.zeros((8, 9), bool), [Stroke(((-5.0, 4.0), (50.0, 4.0)), 1.0)])[4].all()


def test_paint_on_a_smaller_copy():
    strokes = [Stroke(((20.0, 20.0), (60.0, 30.0)), 10.0)]
    large = paint(np.zeros((80, 100), bool), strokes)
    small = paint(np.zeros((40, 50), bool), strokes, (0.5, 0.5))
    assert (large[::2, ::2] != small).mean() < 0.02
