"""What the page sends is checked before anything else sees it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samjax.errors import PromptError
from samjax.widget.messages import KINDS, check_names, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
GOOD = {
    "click": {"x": 1, "y": 2.5, "label": 0},
    "brush": {"points": [[1, 2], [3, 4.5]], "radius": 3, "add": False},
    "delete": {"object_id": None},
    "label": {"name": " dog "},
    "undo": {},
}


def test_good_messages_become_arguments():
    message = parse({"kind": "click", "request": "a-1", **GOOD["click"]})
    assert (message.kind, message.request) == ("click", "a-1")
    assert message.arguments == {"x": 1.0, "y": 2.5, "label": 0}
    assert parse({"kind": "label", **GOOD["label"]}).arguments == {"name": "dog"}
    assert parse({"kind": "brush", **GOOD["brush"]}).arguments["points"] == [(1, 2), (3, 4.5)]
    assert parse({"kind": "undo", "request": ["?"]}).request is None


@given(VALUES)
def test_garbage_is_refused_in_one_line(content):
    with pytest.raises(PromptError) as caught:
        parse(content)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.text(max_size=6), VALUES, max_size=3))
def test_arguments_are_exactly_those_of_the_kind(kind: str, extra: dict):
    content = {**extra, "kind": kind}
    if {*extra} - {"kind", "request"} == KINDS[kind].keys():
        assert parse(content).arguments.keys() == KINDS[kind].keys()
    else:
        with pytest.raises(PromptError, match="needs exactly"):
            parse(content)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("click", "x", math.nan),
        ("click", "x", 1e9),
        ("click", "x", True),
        ("click", "y", "3"),
        ("click", "label", 2),
        ("brush", "points", []),
        ("brush", "points", [[1, 2, 3]]),
        ("brush", "points", [[1, None]]),
        ("brush", "points", [[0, 0]] * 20_001),
        ("brush", "radius", -1),
        ("brush", "add", 1),
        ("delete", "object_id", 1.5),
        ("label", "name", "  "),
        ("label", "name", "a\nb"),
        ("label", "name", "x" * 101),
    ],
)
def test_each_argument_is_checked(kind: str, key: str, value: object):
    with pytest.raises(PromptError, match=f"message '{kind}': {key} must be"):
        parse({"kind": kind, **GOOD[kind], key: value})


@pytest.mark.parametrize("names", [[], "dog", ["a", "a"], ["a", ""], [1]])
def test_labels_are_a_list_of_different_names(names):
    with pytest.raises(PromptError, match="label"):
        check_names(names)
    assert check_names(("a ", "b")) == ["a", "b"]
