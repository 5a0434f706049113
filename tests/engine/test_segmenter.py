"""Test compilations, devices, dtypes, threads, and the cost of importing."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

import samjax
from samjax.masks.upscale import mask_iou
from tests.support.models import DRAWN, PLAIN, drawn_image

ROOT = Path(__file__).parents[2]


def every_click(predictor: samjax.SamPredictor, most: int = 16) -> None:
    """Make prompts of 1 to ``most`` points with and without box, mask and several masks."""
    h, w = predictor.original_size
    xy = np.random.default_rng(0).uniform(0, 1, (most, 2)) * (w, h)
    m = predictor.model.config.low_res_size
    mask = np.zeros((1, m, m), np.float32)
    for count in range(most + 1):
        for box in (None, [0, 0, w / 2, h / 2]):
            for given in (None, mask):
                if count == 0 and box is None and given is None:
                    continue
                for multimask in (True, False):
                    points = {} if not count else {"point_coords": xy[:count]}
                    labels = {} if not count else {"point_labels": np.arange(count) % 2}
                    predictor.predict(
                        **points,
                        **labels,
                        box=box,
                        mask_input=given,
                        multimask_output=multimask,
                    )


def test_after_warmup_nothing_compiles(compilations):
    sam = samjax.load(PLAIN)
    compilations.reset()
    sam.warmup()
    assert compilations.count > 0  # the counter counts
    compilations.reset()
    predictor = samjax.SamPredictor(sam)
    for i, size in enumerate(DRAWN):
        predictor.set_image(drawn_image(*size))
        every_click(predictor, most=16 if i == 0 else 2)
        predictor.get_image_embedding()
    assert compilations.count == 0


def test_after_a_first_click_nothing_compiles(compilations):
    predictor = samjax.SamPredictor(samjax.load(PLAIN))
    predictor.set_image(drawn_image(48, 70))
    predictor.predict([[3, 4]], [1])
    compilations.reset()
    predictor.set_image(drawn_image(90, 61))
    every_click(predictor, most=3)
    assert compilations.count == 0


def test_many_prompts_compile_once_a_bucket(small, compilations):
    predictor = samjax.SamPredictor(small)
    predictor.set_image(drawn_image(48, 70))
    boxes = np.tile([[1.0, 2.0, 30.0, 40.0]], (8, 1))
    predictor.predict_many(boxes=boxes)
    compilations.reset()
    for count in (5, 6, 7, 8):
        predictor.predict_many(boxes=boxes[:count])
    assert compilations.count == 0


def test_two_models_do_not_share_weights(small):
    """Weights are traced: a second model of the same sizes gives other masks."""
    from samjax.checkpoint.orbax_folder import Checkpoint
    from samjax.checkpoint.parameters import fill_model, random_parameters

    found = Checkpoint(random_parameters(PLAIN, seed=7), PLAIN, "random", None)
    other = samjax.Segmenter(
        fill_model(found.parameters, PLAIN, dtype=np.float32),
        preset=small.preset,
        dtype=small.dtype,
        precision="highest",
        device=small.device,
        family="random",
        source="seed 7",
    )
    assert other.fingerprint != small.fingerprint
    first, second = samjax.SamPredictor(small), samjax.SamPredictor(other)
    for predictor in (first, second):
        predictor.set_image(drawn_image(48, 70))
    low = [p.predict([[3, 4]], [1]).low_res for p in (first, second)]
    assert np.abs(low[0] - low[1]).max() > 0.01


def test_two_threads_at_once(small):
    images = [drawn_image(*size, seed=i) for i, size in enumerate(((48, 70), (90, 61)))]

    def work(i: int) -> list[np.ndarray]:
        predictor = samjax.SamPredictor(small)
        found = []
        for _ in range(6):
            predictor.set_image(images[i])
            found.append(predictor.predict([[20, 30]], [1]).low_res)
            found.append(predictor.predict(box=[5, 5, 40, 40]).low_res)
        return found

    expected = [work(0), work(1)]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(work, (0, 1)))
    np.testing.assert_array_equal(got, expected)


def test_one_predictor_in_two_threads(predictor):
    """Clicks on one image from two threads, as a widget's callbacks."""
    points = [[[250, 200]], [[100, 500]]]
    expected = [predictor.predict(p, [1]).low_res for p in points]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda i: predictor.predict(points[i % 2], [1]).low_res, range(20)))
    for i, low_res in enumerate(got):
        np.testing.assert_array_equal(low_res, expected[i % 2])


CLICKS = [[250, 200], [250, 400], [60, 60], [420, 120], [300, 560], [260, 120]]


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.97), ("float16", 0.99)])
def test_half_precision_is_nearly_the_same(predictor, photo, dtype: str, least: float):
    half = samjax.SamPredictor(samjax.load(dtype=dtype))
    half.set_image(photo)
    assert half.get_image_embedding().dtype == np.float32
    ious = []
    for click in CLICKS:
        for multimask in (True, False):
            expected = predictor.predict([click], [1], multimask_output=multimask)
            got = half.predict([click], [1], multimask_output=multimask)
            assert got.low_res.dtype == got.scores.dtype == np.float32
            best = expected.scores.argmax()
            ious.append(mask_iou(got.masks[best], expected.masks[best]))
    assert np.mean(ious) >= least, np.round(ious, 3)


def test_segmenter_says_what_it_is(embedded):
    text, size = repr(embedded), embedded.config.image_size
    assert re.match(rf"Segmenter\(embedded: official, [0-9.]+ M parameters, {size} px", text)
    assert "float32" in text
    assert str(embedded.device) in text


def test_device_by_name():
    sam = samjax.load(PLAIN, device="cpu:0")
    assert sam.device == jax.devices("cpu")[0]


def python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_is_cheap():
    code = """
import sys
import samjax
heavy = {"jax", "flax", "torch", "numpy", "matplotlib", "PIL", "orbax", "anywidget", "ipywidgets"}
print(sorted(heavy & set(sys.modules)))
assert set(samjax.__all__) <= set(dir(samjax))
"""
    assert python(code).strip() == "[]"


def test_torch_is_never_imported():
    code = """
import sys
import numpy as np
import samjax
predictor = samjax.SamPredictor(samjax.load())
predictor.set_image(np.zeros((30, 40, 3), np.uint8))
predictor.predict([[3, 4]], [1])
for name in samjax.__all__:
    getattr(samjax, name)
optional = {"torch", "torchvision", "segment_anything", "transformers", "safetensors", "skimage"}
print(sorted(optional & set(sys.modules)))
"""
    assert python(code).strip() == "[]"
