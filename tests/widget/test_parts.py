"""Test the widget's parts: run lengths, sizes, names, the encoding thread, previews."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import samjax
from samjax.errors import ImageError
from samjax.widget.background import Latest
from samjax.widget.image_loader import ImageLoader
from samjax.widget.images import display_copy, image_list, image_names
from samjax.widget.row_runs import row_runs, runs_to_mask
from samjax.widget.sizes import fitted
from samjax.widget.view import surroundings
from tests.support.models import drawn_image


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_row_runs_and_back(height: int, width: int, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    runs = row_runs(mask)
    assert runs.sum() == mask.size
    assert (runs[1:] > 0).all()
    np.testing.assert_array_equal(runs_to_mask(runs, mask.shape), mask)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.ones((3, 4), bool)])
def test_runs_of_empty_and_full_masks(mask):
    np.testing.assert_array_equal(runs_to_mask(row_runs(mask), (3, 4)), mask)


def test_display_copy():
    image = drawn_image(48, 70)
    picture = display_copy(image)
    assert (picture.size, picture.display_size) == ((48, 70), (48, 70))
    assert np.abs(picture.pixels().astype(int) - image).mean() < 6
    wide = display_copy(np.zeros((30, 5000, 3), np.uint8))
    assert wide.display_size == (12, 2048) == fitted((30, 5000), 2048)


def test_image_names_are_different(tmp_path):
    a, b = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    assert image_names([a, b, "y.jpg"]) == ["a/x.png", "b/x.png", "y.jpg"]
    assert image_names(["dog.jpg", np.zeros((2, 2))]) == ["dog.jpg", "image_0001.png"]
    assert image_names(["dog.jpg", "dog.png"])[0] != "dog.jpg"
    twice = image_names([a, a, b])
    assert len(set(twice)) == 3
    assert not any(name.startswith(("/", "..")) for name in image_names(["../x.png", "x.png"]))


def test_image_list():
    array, pil = np.zeros((4, 5, 3), np.uint8), Image.new("RGB", (5, 4))
    for one in (array, pil, "a.jpg"):
        assert len(image_list(one)) == 1
    assert len(image_list([array, pil])) == 2
    assert len(image_list(np.zeros((3, 4, 5, 3), np.uint8))) == 3
    for wrong in ([], 7):
        with pytest.raises(ImageError, match="images is"):
            image_list(wrong)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (np.s_[0:0, 0:0], (0, 0, 300, 200)),
        (np.s_[90:110, 140:160], (118, 68, 182, 132)),
        (np.s_[0:10, 0:10], (0, 0, 64, 64)),
        (np.s_[190:200, 290:300], (236, 136, 300, 200)),
        (np.s_[50:150, 100:200], (75, 25, 225, 175)),
        (np.s_[:, :], (0, 0, 300, 200)),
    ],
)
def test_surroundings_of_a_mask(part, expected):
    mask = np.zeros((200, 300), bool)
    mask[part] = True
    assert surroundings(mask) == expected


# ------------------------------------------------------------------------------ threads


class Gate(samjax.SamPredictor):
    """A predictor that encodes an image only when it is let."""

    def __init__(self, sam):
        super().__init__(sam)
        self.begun: list[int] = []
        self.open = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def encode_pixels(self, pixels, *_):
        self.begun.append(int(pixels[0, 0, 0]))
        self.entered.release()
        assert self.open.acquire(timeout=60)
        return super().encode_pixels(pixels)


def _unheard(_: int) -> None:
    """Nobody listens to the loader."""


def _numbered(count: int) -> list[np.ndarray]:
    images = [drawn_image(20, 24, seed=i) for i in range(count)]
    for i, image in enumerate(images):
        image[0, 0] = i
    return images


def test_the_next_image_is_encoded_ahead_and_stale_wishes_are_dropped(small):
    gate = Gate(small)
    heard: list[tuple[int, str]] = []
    loader = ImageLoader(gate, _numbered(5), lambda i: heard.append((i, loader.phase(i))))
    loader.want(0, 1)
    assert gate.entered.acquire(timeout=60)
    assert (loader.phase(0), loader.phase(1)) == ("encoding", "waiting")
    assert loader.picture(0) is not None  # shown before it is encoded
    loader.want(1, 2)  # the user goes on at once, and again
    loader.want(3, 4)
    gate.open.release(9)
    loader.wait(3)
    loader.wait(4)
    assert gate.begun == [0, 3, 4]
    assert loader.embedding(1) is None
    assert [state for i, state in heard if i == 3][-1] == "ready"


def test_waiting_survives_that_others_want_something_else(small):
    gate = Gate(small)
    loader = ImageLoader(gate, _numbered(3), _unheard)
    loader.want(0)
    assert gate.entered.acquire(timeout=60)
    waited = threading.Thread(target=loader.wait, args=(2,))
    waited.start()
    while 2 not in loader._wanted:
        time.sleep(0.001)
    loader.want(1)
    gate.open.release(9)
    waited.join(timeout=60)
    assert not waited.is_alive()


def test_few_images_stay_encoded(small):
    loader = ImageLoader(samjax.SamPredictor(small), _numbered(9), _unheard)
    for i in range(9):
        loader.want(i)
        loader.wait(i)
    assert loader.phase(8) == "ready"
    assert loader.phase(0) == "waiting"
    assert sum(loader.embedding(i) is not None for i in range(9)) == 4


def test_an_image_that_fails_is_tried_again(small, tmp_path):
    path = tmp_path / "late.png"
    loader = ImageLoader(samjax.SamPredictor(small), [path], _unheard)
    with pytest.raises(ImageError, match="no such file"):
        loader.wait(0)
    assert loader.phase(0) == "error"
    Image.fromarray(drawn_image(20, 24)).save(path)
    loader.want(0)
    assert loader.wait(0).original_size == (20, 24)


def test_a_crash_of_the_encoder_is_an_error_of_the_image(small, caplog):
    class Broken(Gate):
        def encode_pixels(self, *_):
            raise RuntimeError("out of\nmemory")

    loader = ImageLoader(Broken(small), _numbered(1), _unheard)
    with pytest.raises(ImageError, match=r"cannot be encoded \(RuntimeError: out of memory\)"):
        loader.wait(0)
    assert "could not be encoded" in caplog.text


def test_of_many_previews_only_the_first_and_the_last_are_made(caplog):
    latest = Latest("test")
    began, go, done = threading.Event(), threading.Event(), threading.Event()
    made: list[int] = []

    def work(number: int) -> None:
        began.set()
        assert go.wait(60)
        made.append(number)
        if number == 199:
            done.set()

    latest.submit(lambda: work(0))
    assert began.wait(60)
    for i in range(1, 200):
        latest.submit(lambda i=i: work(i))
    go.set()
    assert done.wait(60)
    assert made == [0, 199]
    assert latest.dropped == 198
    after = threading.Event()
    latest.submit(lambda: 1 / 0)  # a preview that fails ends nothing
    latest._thread.submit(lambda: None).result()
    latest.submit(after.set)
    assert after.wait(60)
    assert "a preview failed" in caplog.text
