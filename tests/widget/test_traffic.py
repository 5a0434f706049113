"""Messages to the page stay small, however many objects the image has."""

from __future__ import annotations

import json

import pytest

import samjax
from tests.support.models import drawn_image
from tests.widget.test_annotator import Wire


@pytest.fixture
def wire(small) -> Wire:
    """Return the page's end of an annotator with twenty objects, opened just now."""
    annotator = samjax.Annotator(small, drawn_image(48, 70, seed=1))
    annotator.wait()
    for i in range(20):
        annotator.box(2 + 3 * i, 4, 8 + 3 * i, 40, new=True)
    annotator.new_object()
    return Wire(annotator)


def whole(update: dict) -> list[int]:
    """List the objects of an update that are sent as a whole."""
    return [each["id"] for each in update["objects"] if not isinstance(each, int)]


def ids(update: dict) -> list[int]:
    """List the objects of an update, in its order."""
    return [each if isinstance(each, int) else each["id"] for each in update["objects"]]


def test_of_objects_that_the_page_holds_only_the_id_is_sent(wire):
    first = wire.send("hello")
    assert whole(first) == ids(first) == list(range(1, 21))
    clicked = wire.send("click", x=30, y=20, label=1)
    assert (whole(clicked), ids(clicked)) == ([21], list(range(1, 22)))
    assert len(json.dumps(clicked)) < len(json.dumps(first)) / 2
    assert whole(wire.send("select", object_id=3)) == []
    assert whole(wire.send("label", name="fox")) == [3]
    assert whole(wire.send("delete", object_id=5)) == []
    back = wire.send("undo")
    assert (whole(back), ids(back)) == ([5], list(range(1, 22)))
    # Another page opens: it holds nothing.
    assert whole(wire.send("hello")) == list(range(1, 22))
