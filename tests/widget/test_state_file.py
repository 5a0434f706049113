"""Test saved states: what is restored, and errors for unusable files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samjax.errors import AnnotationError
from samjax.masks.rle import rle_to_mask, to_coco_rle
from samjax.widget import state_file, steps
from samjax.widget.state import State
from samjax.widget.state_file import FinishedMask, Saved, read_state, set_aside, write_state
from tests.support.state_mutations import mutate_state


@pytest.fixture
def saved() -> Saved:
    state = steps.click(State(label="cat"), 3, 4.5)
    state = steps.choose(steps.box(state, 1, 2, 9, 8), 1)
    state = steps.commit(steps.brush(state, [(1, 1), (5, 6.25)], 2.5, False))
    state = steps.click(steps.set_multimask(state, False), 7, 7, 0)
    mask = np.random.default_rng(0).random((11, 13)) > 0.5
    return Saved(state, {1: FinishedMask(to_coco_rle(mask), 0.75, 1)}, (11, 13), "hash", "weights")


def test_a_state_comes_back_equal(saved, tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_state(path, "a.png", saved)
    assert read_state(path) == saved
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    mask = rle_to_mask(read_state(path).masks[1].segmentation)
    assert mask.shape == (11, 13)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(format=99), "written by a later samjax"),
        (lambda c: c.pop("objects"), "KeyError"),
        (lambda c: c["objects"][0].update(points=[[1, 2]]), "not the saved state"),
        (lambda c: c["objects"][0].update(box=[1]), "not the saved state"),
        (lambda c: c["objects"][0]["segmentation"].update(size=[5, 5]), "not of the image's size"),
        (lambda c: c["objects"][0]["segmentation"].update(counts="11"), "do not add up"),
        (lambda c: c["objects"][1].update(id=1), "occur twice"),
        (lambda c: c.update(next_id=2), "occur twice"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(saved, tmp_path, change, text: str):
    path = tmp_path / "a.json"
    write_state(path, "a.png", saved)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if content["format"] == 2:  # whatever else is wrong, the checksum tells
        with pytest.raises(AnnotationError, match="checksum is wrong"):
            read_state(path)
    del content["checksum"]
    path.write_text(json.dumps(content | {"checksum": state_file._checksum(content)}))
    with pytest.raises(AnnotationError, match=text) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 0.3, 0.99])
def test_a_truncated_file_is_refused(saved, tmp_path, keep: float):
    path = tmp_path / "a.json"
    write_state(path, "a.png", saved)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(AnnotationError, match="damaged"):
        read_state(path)


def test_files_set_aside_do_not_replace_one_another(tmp_path):
    for text in "ab":
        (tmp_path / "x.json").write_text(text)
        set_aside(tmp_path / "x.json", "damaged")
    names = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert names == {"x.json.damaged": "a", "x.json.damaged2": "b"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["mask_threshold", "score", "points"])
def test_numbers_that_no_file_can_hold_are_refused(saved, tmp_path, number: str, key: str):
    path = tmp_path / "a.json"
    write_state(path, "a.png", saved)
    content = json.loads(path.read_text())
    del content["checksum"]
    content["format"] = 1  # of a samjax before the checksum
    content["objects"][0][key] = [["@", 1, 1]] if key == "points" else "@"
    path.write_text(json.dumps(content).replace('"@"', number))
    with pytest.raises(AnnotationError, match="not the saved state"):
        read_state(path)


def test_a_file_without_a_checksum_is_one_of_an_earlier_samjax(saved, tmp_path):
    path = tmp_path / "a.json"
    write_state(path, "a.png", saved)
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="checksum"):
        read_state(path)
    path.write_text(json.dumps(content | {"format": 1}))
    assert read_state(path) == saved
    assert read_state(path).unchecked
    path.write_text(json.dumps(content | {"format": 1, "checksum": "0"}))
    with pytest.raises(AnnotationError, match="checksum"):
        read_state(path)


def test_damaged_files_are_refused_or_equal(saved, tmp_path):
    """Mutations: a file loads as it was written, or not at all."""
    loaded, differs = mutate_state(saved, tmp_path, count=1000)
    assert differs == 0
    assert loaded < 300  # most mutations are seen
