"""Test that messages of the page are checked before anything else reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samjax.errors import PromptError
from samjax.widget.messages import KINDS, check_names, parse, request_of
from tests.support.state_mutations import mutate_messages, valid_message

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
    "grow": {"pixels": 1},
    "reshape": {"before": [[[0, 0], [4, 0], [4, 4]]], "after": [[[0, 0], [5, 0], [4, 4]]]},
    "merge": {"object_ids": [1, 2]},
    "export": {"format": "coco", "path": "a.json", "unfinished": False, "reviewed": False},
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
        ("grow", "pixels", 101),
        ("reshape", "after", [[[0, 0], [1, 1]]]),
        ("reshape", "after", []),
        ("merge", "object_ids", [1, -2]),
        ("merge", "object_ids", 3),
        ("export", "path", ""),
        ("export", "path", "a\0b"),
        ("export", "unfinished", None),
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


def test_strange_messages_are_refused_in_one_line():
    accepted = mutate_messages(1000)
    assert 0 < accepted < 500


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_mutations_begin_with_messages_that_are_right(kind: str):
    assert parse(valid_message(kind)).kind == kind


@pytest.mark.parametrize(
    "request_id", [float("nan"), "x" * 101, "\ud800", "a\nb", 5, ["a"], {"a": 1}, None]
)
def test_a_strange_request_is_not_sent_back(request_id):
    assert request_of({"kind": "undo", "request": request_id}) is None


@pytest.mark.parametrize(
    "text", ["\ud800", "a\0b", "a\x1b[31mb", "\u202egnp.exe", "a\nb", "", "x" * 5000]
)
def test_texts_that_no_file_or_terminal_can_hold_are_refused(text):
    for content in (
        {"kind": "label", "name": text},
        {"kind": "find", "text": text},
        {"kind": "export", "format": "coco", "path": text, "unfinished": False, "reviewed": False},
    ):
        with pytest.raises(PromptError) as error:
            parse(content)
        str(error.value).encode()  # and what is said of them can be written


def test_deep_and_huge_values_are_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for kind in (deep, 10**6000, {"a": deep}, None):
        with pytest.raises(PromptError, match="unknown message"):
            parse({"kind": kind})
    for value in (deep, 10**6000):
        with pytest.raises(PromptError):
            parse({"kind": "click", "x": value, "y": 1, "label": 1})
