"""Test that threads prepare the same pixels, in the same order, whoever gives the images."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.errors import ImageError
from samjax.image import ahead
from samjax.image.ahead import prepare_images
from samjax.image.memory import PixelBudget
from samjax.image.preset import MICROSAM, SAM, hash_pixels, prepare, read_for
from tests.support.models import drawn_image

SIDE = 64


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write photographs of several sizes, modes and formats."""
    paths = [tmp_path / f"{i}.{kind}" for i, kind in enumerate(["jpg", "png", "png", "tif"] * 3)]
    for i, path in enumerate(paths):
        image = Image.fromarray(drawn_image(40 + 7 * i, 90 - 5 * i, seed=i))
        image.convert(["RGB", "RGBA", "L", "RGB"][i % 4]).save(path)
    return paths


def prepared(images: Any, **given: Any) -> list[Any]:
    return list(prepare_images(images, SIDE, given.pop("preset", SAM), workers=3, **given))


def assert_same(found: list[Any], sources: list[Any], preset: Any = SAM) -> None:
    assert len(found) == len(sources)
    for one, source in zip(found, sources, strict=True):
        pixels = read_for(preset, source)
        alone = prepare(pixels, SIDE, preset)
        np.testing.assert_array_equal(one.pixels, alone.pixels)
        assert one[1:3] == alone[1:3]
        assert one.image_hash == hash_pixels(pixels)


@pytest.mark.parametrize("preset", [SAM, MICROSAM], ids=["sam", "microsam"])
def test_threads_prepare_the_same_pixels_in_order(files: list[Path], preset: Any):
    opened = Image.open(files[0])
    sources = [*files, opened, str(files[1]), drawn_image(30, 50), opened, drawn_image(9, 9) / 255]
    assert_same(prepared(sources, preset=preset), sources, preset)
    assert_same(prepared(iter(sources), preset=preset), sources, preset)
    assert prepared([]) == []


def test_a_hash_only_for_those_who_ask(files: list[Path]):
    assert {one.image_hash for one in prepared(files, hashed=False)} == {None}


def test_an_iterator_may_fill_its_array_again():
    frames = [drawn_image(40, 60, seed=i) for i in range(9)]

    def camera() -> Iterator[np.ndarray]:
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert_same(prepared(camera()), frames)


def test_an_iterator_may_close_its_image(files: list[Path]):
    def opened() -> Iterator[Image.Image]:
        for path in files:
            with Image.open(path) as image:
                yield image

    assert_same(prepared(opened()), files)


def test_files_are_read_at_the_same_time(files: list[Path], monkeypatch: pytest.MonkeyPatch):
    together = threading.Barrier(3, timeout=20)

    def read(*given: Any) -> np.ndarray:
        together.wait()
        return read_for(*given)

    monkeypatch.setattr(ahead, "read_for", read)
    assert len(prepared(files)) == 12


def test_large_files_are_read_one_by_one(files: list[Path], monkeypatch: pytest.MonkeyPatch):
    reading = threading.Lock()

    def read(*given: Any) -> np.ndarray:
        assert reading.acquire(blocking=False), "two images at once"
        time.sleep(0.005)
        reading.release()
        return read_for(*given)

    monkeypatch.setattr(ahead, "read_for", read)
    monkeypatch.setattr(ahead, "PixelBudget", partial(PixelBudget, 1))
    assert len(prepared(files)) == 12


def test_errors_come_in_their_turn(files: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[1].read_bytes()[:-300])
    sources = [*files[:5], broken, *files[5:]]
    found: list[Any] = []
    with pytest.raises(ImageError, match=r"^image 5: .*broken.png: is damaged"):
        found.extend(prepare_images(sources, SIDE, SAM, workers=3))
    assert_same(found, files[:5])
    found.clear()
    with pytest.raises(ImageError, match=r"^image 2: cannot read an image from NoneType"):
        found.extend(prepare_images([*files[:2], None, "missing.png"], SIDE, SAM))
    assert_same(found, files[:2])
    with pytest.raises(ImageError, match=r"^image 0: .*missing.png: no such file"):
        prepared(["missing.png"])


def test_errors_of_the_iterator_come_in_their_turn(files: list[Path]):
    def failing() -> Iterator[Path]:
        yield from files[:4]
        raise LookupError("no more film")

    found: list[Any] = []
    with pytest.raises(LookupError, match="film"):
        found.extend(prepare_images(failing(), SIDE, SAM, workers=3))
    assert_same(found, files[:4])


def test_an_iterator_that_waits_delays_one_image(files: list[Path]):
    asked = 0

    def arriving() -> Iterator[Path]:
        nonlocal asked
        for path in files[:4]:
            asked += 1
            yield path
            time.sleep(0.3)  # long for these images

    for number, _ in enumerate(prepare_images(arriving(), SIDE, SAM, workers=3)):
        assert asked <= number + 2


def test_a_loop_that_ends_early_ends_the_threads(files: list[Path]):
    images = prepare_images(files, SIDE, SAM, workers=3)
    next(images)
    assert any(t.name.startswith("samjax-prepare") for t in threading.enumerate())
    images.close()
    assert not any(t.name.startswith("samjax-prepare") for t in threading.enumerate())


def test_encoded_files_are_those_encoded_alone(small, files: list[Path]):
    predictor = samjax.SamPredictor(small)
    found = list(predictor.encode_images(files))
    for path, one in zip(files, found, strict=True):
        alone = predictor.encode_image(path)
        np.testing.assert_array_equal(one.features, alone.features)
        assert (one.original_size, one.input_size) == (alone.original_size, alone.input_size)
        assert one.image_hash == alone.image_hash
