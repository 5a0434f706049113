"""Test that work is not lost: two annotators on one folder, images that changed, closed ones."""

from __future__ import annotations

import gc
import json
import os
import shutil
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.errors import AnnotationError
from samjax.widget import steps
from samjax.widget.history import History
from samjax.widget.merging import merge
from samjax.widget.state import State
from tests.support.models import GOLDEN, drawn_image


@pytest.fixture
def images() -> list[np.ndarray]:
    return [drawn_image(48, 70), drawn_image(40, 60, seed=1)]


@pytest.fixture
def small() -> samjax.Segmenter:
    return samjax.load(GOLDEN)


def committed(state: State, x: float, y: float) -> State:
    return steps.commit(steps.click(steps.new_object(state), x, y))


def places(state: State) -> list[tuple[float, float]]:
    return [(x, y) for each in state.objects for x, y, _ in each.prompt.points]


def test_objects_of_both_are_merged_and_an_undo_keeps_the_other_ones():
    base = committed(State(), 1, 1)
    ours = History(base).do(committed(base, 2, 2)).do(committed(committed(base, 2, 2), 3, 3))
    theirs = committed(base, 9, 9)
    merged = merge(base, ours, theirs)
    assert places(merged.history.present) == [(1, 1), (2, 2), (3, 3), (9, 9)]
    ids = [each.id for each in merged.history.present.objects]
    assert len(set(ids)) == 4
    assert merged.history.present.next_id > max(ids)
    assert (merged.taken, merged.left) == (1, False)
    back = merged.history.undo()
    assert places(back.present) == [(1, 1), (2, 2), (9, 9)]
    assert places(back.redo().present) == [(1, 1), (2, 2), (3, 3), (9, 9)]


def test_what_only_the_other_one_changed_or_removed_is_taken_over():
    base = committed(committed(State(), 1, 1), 2, 2)
    first, second = (each.id for each in base.objects)
    theirs = steps.delete(base, first)
    merged = merge(base, History(base).do(committed(base, 5, 5)), theirs)
    assert places(merged.history.present) == [(2, 2), (5, 5)]
    assert (merged.taken, merged.left) == (1, False)
    ours = steps.click(steps.select(base, first), 7, 7)
    assert merge(base, History(ours), theirs).left  # changed here, removed there
    assert merge(base, History(steps.delete(base, second)), theirs).left is False


def test_an_undo_neither_reverts_nor_restores_what_the_other_one_took_further():
    made = committed(State(), 1, 1)
    (number,) = (each.id for each in made.objects)
    older = History(State()).do(made)
    base = steps.commit(steps.click(steps.select(made, number), 2, 2))
    ours = older.do(base)
    changed = steps.commit(steps.click(steps.select(base, number), 8, 8))
    history = merge(base, ours, changed).history
    while True:
        assert places(history.present) == [(1, 1), (2, 2), (8, 8)]
        if not history.past:
            break
        history = history.undo()
    history = merge(base, ours, steps.delete(base, number)).history
    while history.past:
        assert not history.present.objects
        history = history.undo()
    assert not history.present.objects


def test_numbers_of_the_file_hold_and_ours_make_way():
    base = committed(State(), 1, 1)
    first = base.objects[0].id
    own = committed(base, 2, 2)
    theirs = committed(steps.click(steps.select(base, first), 4, 4), 9, 9)
    merged = merge(base, History(base).do(own), theirs)
    present = merged.history.present
    assert {each.id: each for each in theirs.objects}.items() <= {
        each.id: each for each in present.objects
    }.items()
    assert len({each.id for each in present.objects}) == 3
    assert present.next_id > max(each.id for each in present.objects)
    (mine,) = (each for each in present.objects if each.prompt.points[0][:2] == (2, 2))
    assert present.active in (None, mine.id)
    # the one that was written before sees the second file: nothing is new to it but ours
    back = merge(theirs, History(theirs), present)
    assert (back.taken, back.left) == (1, False)
    assert sorted(places(back.history.present)) == sorted(places(present))
    # undo takes back our own object and neither what the other one changed nor what it added
    assert {(4, 4), (9, 9)} < set(places(merged.history.undo().present))
    assert (2, 2) not in places(merged.history.undo().present)


@pytest.mark.parametrize("started", [False, True])
def test_three_annotators_that_save_at_once_lose_nothing(small, images, tmp_path, started):
    if started:
        first = samjax.Annotator(small, images[:1], path=tmp_path)
        first.click(5, 5)
        first.commit()
        first.close()
    annotators = [samjax.Annotator(small, images[:1], path=tmp_path) for _ in range(3)]
    together = threading.Barrier(3)

    def work(number: int) -> None:
        for step in range(8):
            together.wait(60)
            annotators[number].click(10 + 5 * number, 8 + 4 * step)
            annotators[number].commit()
            if step == 6:
                annotators[number].undo()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    again = samjax.Annotator(small, images[:1], path=tmp_path).wait()
    found = [tuple(xy) for entry in again.prompts for xy in entry["predict"]["point_coords"]]
    expected = {(10 + 5 * n, 8 + 4 * step) for n in range(3) for step in range(8)}
    assert sorted(found) == sorted(expected | ({(5, 5)} if started else set()))
    # the click after the undo went to the object that the undo opened again
    assert again.object_count == 3 * 7 + started
    assert len({entry["id"] for entry in again.prompts}) == again.object_count
    assert not list(tmp_path.glob("*.other"))


def test_an_export_has_what_the_other_one_saved(small, images, tmp_path):
    one = samjax.Annotator(small, images[:1], path=tmp_path)
    other = samjax.Annotator(small, images[:1], path=tmp_path)
    one.click(30, 30)
    one.commit()
    other.click(10, 10)
    other.commit()
    written = json.loads(one.export("coco", tmp_path / "out.json").read_text())
    assert len(written["annotations"]) == 2


def test_a_pipe_among_the_states_is_set_aside(small, images, tmp_path):
    names = samjax.Annotator(small, images[:1], path=tmp_path).names
    os.mkfifo(tmp_path / f"{names[0]}.json")
    annotator = samjax.Annotator(small, images[:1], path=tmp_path).wait()
    assert [path.is_fifo() for path in tmp_path.glob("*.damaged")] == [True]
    annotator.click(20, 20)
    annotator.commit()
    assert samjax.Annotator(small, images[:1], path=tmp_path).wait().object_count == 1


def test_a_folder_that_was_removed_is_made_again(small, images, tmp_path):
    annotator = samjax.Annotator(small, images, path=tmp_path / "states")
    annotator.click(20, 20)
    annotator.commit()
    shutil.rmtree(tmp_path / "states")
    annotator.click(50, 30, label=1)
    annotator.click(10, 30, label=0)
    annotator.commit()
    again = samjax.Annotator(small, images, path=tmp_path / "states").wait()
    assert again.object_count == 2
    written = json.loads(again.export("coco", tmp_path / "coco.json").read_text())
    found = [(each["point_coords"], each["point_labels"]) for each in written["annotations"]]
    assert found == [([[20, 20]], [1]), ([[50, 30], [10, 30]], [1, 0])]


def test_two_annotators_on_one_folder_keep_each_other_s_objects(small, images, tmp_path):
    one = samjax.Annotator(small, images, path=tmp_path)
    one.click(20, 20)
    one.commit()
    other = samjax.Annotator(small, images, path=tmp_path)  # another tab
    assert other.wait().object_count == 1
    other.click(50, 30)
    other.commit()
    one.click(10, 40)
    assert "another annotator: 1 change of it taken over" in one.status
    one.commit()
    assert one.object_count == 3
    again = samjax.Annotator(small, images, path=tmp_path).wait()
    assert again.object_count == 3
    assert len(again.masks) == 3
    other.go(1)
    other.go(0)  # opened again: what the first one saved since
    assert other.object_count == 3
    assert not list(tmp_path.glob("*.other"))


def listening(annotator: samjax.Annotator) -> list[dict]:
    """Open a page on an annotator, and return the list of what it hears."""
    sent: list[dict] = []
    annotator.send = lambda content, _buffers=None: sent.append(content)
    annotator._on_message(annotator, {"kind": "hello"}, [])
    return sent


def test_a_message_from_before_a_renumbering_is_refused(small, images, tmp_path):
    """Ours makes way for an object that the other one saved under its number."""
    one = samjax.Annotator(small, images, path=tmp_path).wait()
    other = samjax.Annotator(small, images, path=tmp_path).wait()
    sent = listening(one)
    other.click(50, 30)
    other.commit()
    one.click(20, 20)  # number 1 on the page, until it is saved and merged
    seen = next(each for each in sent if [o["id"] for o in each.get("objects", [])] == [1])
    seen = seen["revision"]
    assert one.object_count == 2
    assert sent[-1]["revision"] != seen
    for kind, arguments in (
        ("delete", {"object_id": 1}),
        ("select", {"object_id": 1}),
        ("merge", {"object_ids": [1, 2]}),
        ("subtract", {"object_ids": [1, 2]}),
        ("pick", {"index": 0}),
    ):
        one._on_message(one, {"kind": kind, "revision": seen, **arguments}, [])
        assert "not done: the objects got other numbers meanwhile" in one.status
        assert sent[-1]["status"]["level"] == "error"
        assert sent[-1]["revision"] != seen  # the page is told how it is now
    assert one.object_count == 2
    one._on_message(one, {"kind": "delete", "revision": sent[-1]["revision"], "object_id": 1}, [])
    assert one.object_count == 1


def test_a_message_for_another_image_is_refused(small, images):
    annotator = samjax.Annotator(small, images).wait()
    sent = listening(annotator)
    seen = sent[-1]["revision"]
    annotator.go(1)  # by a script, while the message is on its way
    annotator.click(20, 20)
    annotator._on_message(annotator, {"kind": "delete", "revision": seen, "object_id": None}, [])
    assert annotator.object_count == 1
    assert "or the image changed: look again" in annotator.status


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("click", {"x": 20, "y": 20, "label": 1}),
        ("box", {"x0": 5, "y0": 5, "x1": 30, "y1": 30, "new": True}),
        ("brush", {"points": [[20, 20]], "radius": 5, "add": True}),
        ("grow", {"pixels": 1}),
        ("undo", {}),
    ],
)
def test_what_was_done_on_the_image_before_is_not_done_on_this_one(small, images, kind, arguments):
    annotator = samjax.Annotator(small, images).wait()
    annotator.go(1)
    annotator.click(20, 20)
    before = annotator.prompts
    annotator.go(0)
    sent = listening(annotator)
    seen = sent[-1]["revision"]
    annotator._on_message(annotator, {"kind": "next_image", "revision": seen}, [])
    annotator.wait()
    annotator._on_message(annotator, {"kind": kind, "revision": seen, **arguments}, [])
    assert "not done: the image changed meanwhile" in annotator.status
    assert str(annotator.prompts) == str(before)
    # The page has heard of the other image: now it is meant.
    seen = sent[-1]["revision"]
    annotator._on_message(annotator, {"kind": kind, "revision": seen, **arguments}, [])
    assert "not done" not in annotator.status


def test_a_file_without_a_checksum_is_told(small, images, tmp_path):
    one = samjax.Annotator(small, images[:1], path=tmp_path)
    one.click(20, 20)
    one.commit()
    one.close()
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content | {"format": 1}))
    again = samjax.Annotator(small, images[:1], path=tmp_path)
    assert again.status.startswith(f"{path.name} has no checksum, as files of an early samjax")
    assert again.wait().object_count == 1
    again.click(40, 40)
    again.commit()
    assert "checksum" in json.loads(path.read_text())
    assert "checksum" not in samjax.Annotator(small, images[:1], path=tmp_path).status


def test_what_cannot_be_merged_is_set_aside(small, images, tmp_path):
    one = samjax.Annotator(small, images[:1], path=tmp_path)
    one.click(20, 20)
    one.commit()
    (number,) = [entry["id"] for entry in one.prompts]
    one.select(number)
    other = samjax.Annotator(small, images[:1], path=tmp_path).wait()
    other.select(number)
    other.click(25, 25)
    theirs = (tmp_path / f"{one.names[0]}.json").read_bytes()
    one.click(15, 15)
    (kept,) = tmp_path.glob("*.other")
    assert kept.read_bytes() == theirs
    assert f"kept as {kept.name}" in one.status
    (entry,) = one.prompts
    assert entry["predict"]["point_coords"] == [[20, 20], [15, 15]]


def test_a_damaged_file_of_the_other_one_is_set_aside(small, images, tmp_path):
    one = samjax.Annotator(small, images[:1], path=tmp_path)
    one.click(20, 20)
    file = tmp_path / f"{one.names[0]}.json"
    file.write_text(file.read_text().replace('"label"', '"lable"', 1))
    one.click(22, 22)
    assert list(tmp_path.glob("*.damaged"))
    assert samjax.Annotator(small, images[:1], path=tmp_path).wait().object_count == 1


def test_an_export_checks_images_that_were_not_opened(small, tmp_path):
    photos = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for i, photo in enumerate(photos):
        Image.fromarray(drawn_image(48, 70, seed=i)).save(photo)
    first = samjax.Annotator(small, photos, path=tmp_path / "states")
    for i in range(3):
        first.go(i)
        first.click(20, 20)
        first.commit()
    Image.fromarray(drawn_image(30, 30, seed=5)).save(photos[1])  # another image, another size
    Image.fromarray(drawn_image(48, 70, seed=9)).save(photos[2])  # another image, the same size
    again = samjax.Annotator(small, photos, path=tmp_path / "states").wait()
    content = json.loads(Path(again.export("coco", tmp_path / "coco.json")).read_text())
    assert [(i["file_name"], i["height"], i["width"]) for i in content["images"]] == [
        ("a.png", 48, 70),
        ("b.png", 30, 30),
        ("c.png", 48, 70),
    ]
    assert len(content["annotations"]) == 1
    assert len(list((tmp_path / "states").glob("*.other-image"))) == 2


def test_arrays_keep_their_work_when_one_is_put_in_front(small, images, tmp_path):
    first = samjax.Annotator(small, images, path=tmp_path)
    first.click(20, 20)
    first.commit()
    first.go(1)
    first.click(30, 20)
    first.click(35, 22)
    first.commit()
    new = drawn_image(33, 44, seed=7)
    again = samjax.Annotator(small, [new, *images], path=tmp_path).wait()
    assert again.names == ["image_0002.png", "image_0000.png", "image_0001.png"]
    assert again.object_count == 0
    for index, points in ((1, 1), (2, 2)):
        again.go(index)
        again.wait()
        (entry,) = again.prompts
        assert len(entry["predict"]["point_coords"]) == points
    assert not list(tmp_path.glob("*.other-image"))


def test_equal_arrays_have_names_of_their_own(small, images, tmp_path):
    first = samjax.Annotator(small, [images[0], images[0]], path=tmp_path)
    first.click(20, 20)
    first.commit()
    again = samjax.Annotator(small, [images[0], images[0]], path=tmp_path)
    assert again.names == ["image_0000.png", "image_0001.png"]


def test_closed_annotators_are_freed(small):
    # embeddings are a part of it, and megabytes of pixels
    images = [drawn_image(600, 900), drawn_image(500, 700, seed=1)]

    def run() -> weakref.ref:
        annotator = samjax.Annotator(small, images)
        annotator.click(20, 20)
        annotator.wait()
        annotator.close()
        return weakref.ref(annotator)

    def settled(alive: list[weakref.ref], threads: int) -> None:
        deadline = time.monotonic() + 20  # the last thread may be at its last line
        while time.monotonic() < deadline:
            gc.collect()
            if not any(each() for each in alive) and threading.active_count() <= threads:
                return
            time.sleep(0.1)

    def device_bytes() -> int:
        return sum(each.nbytes for each in jax.live_arrays())

    threads = threading.active_count()
    settled([run()], threads)
    tracemalloc.start()
    try:
        on_device, (on_host, _) = device_bytes(), tracemalloc.get_traced_memory()
        alive = [run() for _ in range(20)]
        settled(alive, threads)
        grown = tracemalloc.get_traced_memory()[0] - on_host
    finally:
        tracemalloc.stop()
    assert sum(each() is not None for each in alive) == 0
    assert threading.active_count() <= threads
    assert device_bytes() <= on_device
    assert grown < sum(image.nbytes for image in images)  # of one run of the cell, not of 20


def test_an_export_does_not_replace_the_state_of_an_image_called_annotations(small, tmp_path):
    photo = tmp_path / "annotations"
    Image.fromarray(drawn_image(48, 70)).save(photo, "PNG")
    states = tmp_path / "states"
    annotator = samjax.Annotator(small, photo, path=states)
    with pytest.raises(AnnotationError, match="choose another name"):
        annotator.export("coco", states / "annotations.json")  # before anything is saved
    annotator.click(20, 20)
    annotator.commit()
    state = (states / "annotations.json").read_bytes()
    for path in (states / "annotations.json", states, tmp_path / "photos" / ".." / "states"):
        with pytest.raises(AnnotationError, match="choose another"):
            annotator.export("coco", path)
    assert annotator.export() == states / "annotations_coco.json"
    assert (states / "annotations.json").read_bytes() == state
