"""SamPredictor: shapes, wrong use, saved embeddings."""

from __future__ import annotations

import numpy as np
import pytest

import samjax
from samjax.errors import ImageError, PromptError
from samjax.masks import mask_iou
from tests.models import PLAIN, drawn_image


@pytest.fixture
def clicked(small) -> samjax.SamPredictor:
    predictor = samjax.SamPredictor(small)
    predictor.set_image(drawn_image(48, 70))
    return predictor


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("logits", [True, False])
def test_shapes_and_dtypes(small, drawn, multimask: bool, logits: bool):
    predictor = samjax.SamPredictor(small)
    predictor.set_image(drawn)
    h, w = drawn.shape[:2]
    n = 3 if multimask else 1
    m = PLAIN.low_res_size
    extra = {"multimask_output": multimask, "return_logits": logits}
    result = predictor.predict([[w / 2, h / 2]], [1], **extra)
    masks, scores, low_res = result
    assert masks.shape == (n, h, w)
    assert masks.dtype == (np.float32 if logits else np.bool_)
    assert (scores.shape, scores.dtype) == ((n,), np.float32)
    assert (low_res.shape, low_res.dtype) == ((n, m, m), np.float32)
    if logits:
        binary = predictor.predict([[w / 2, h / 2]], [1], multimask_output=multimask).masks
        np.testing.assert_array_equal(masks > 0, binary)
    many = predictor.predict_many(boxes=[[0, 0, w, h]] * 2, **extra)
    assert many.masks.shape == (2, n, h, w)
    assert many.scores.shape == (2, n)
    assert many.low_res.shape == (2, n, m, m)
    assert predictor.get_image_embedding().shape == (1, 64, PLAIN.grid, PLAIN.grid)


def test_a_click_on_the_photograph(predictor, photo):
    """The embedded checkpoint separates the person from the background."""
    masks, scores, low_res = predictor.predict([[250, 300]], [1])
    best = scores.argmax()
    assert masks[best, 300, 250]
    assert 0.02 < masks[best].mean() < 0.98
    refined = predictor.predict(
        [[250, 300]], [1], mask_input=low_res[best : best + 1], multimask_output=False
    )
    assert mask_iou(refined.masks[0], masks[best]) > 0.3
    assert predictor.original_size == photo.shape[:2]


def test_one_and_many_are_the_same(clicked):
    points = [np.array([[10.0, 12.0]]), np.array([[30.0, 40.0], [60.0, 5.0]]), np.array([[5, 5.0]])]
    labels = [[1], [1, 0], [0]]
    many = clicked.predict_many(points, labels)
    for i, (xy, marks) in enumerate(zip(points, labels, strict=True)):
        one = clicked.predict(xy, marks)
        np.testing.assert_allclose(many.scores[i], one.scores, atol=1e-4)
        np.testing.assert_allclose(many.low_res[i], one.low_res, atol=1e-3)
        assert (many.masks[i] == one.masks).mean() > 0.999


def test_more_prompts_than_a_block(clicked):
    boxes = np.tile([[5.0, 5.0, 40.0, 40.0]], (70, 1)) + np.arange(70)[:, None] / 10
    many = clicked.predict_many(boxes=boxes, multimask_output=False)
    assert many.masks.shape == (70, 1, 48, 70)
    last = clicked.predict(box=boxes[-1], multimask_output=False)
    np.testing.assert_allclose(many.low_res[-1], last.low_res, atol=1e-3)


def test_images_with_their_own_prompts(clicked):
    images = [drawn_image(48, 70), drawn_image(90, 61)]
    prompts = [{"boxes": [[1, 2, 30, 40]]}, {"point_coords": [[[3, 4]]], "point_labels": [[1]]}]
    before = clicked.get_image_embedding()
    first, second = clicked.predict_images(images, prompts)
    assert first.masks.shape == (1, 3, 48, 70)
    assert second.masks.shape == (1, 3, 90, 61)
    np.testing.assert_array_equal(clicked.get_image_embedding(), before)
    expected = clicked.predict(box=[1, 2, 30, 40])
    np.testing.assert_allclose(first.low_res[0], expected.low_res, atol=1e-3)


def test_bgr_is_rgb_turned_around(clicked):
    image = drawn_image(48, 70)
    expected = clicked.get_image_embedding()
    clicked.set_image(image[..., ::-1], image_format="BGR")
    np.testing.assert_array_equal(clicked.get_image_embedding(), expected)


def test_threshold_of_the_predictor(clicked):
    logits = clicked.predict([[30, 20]], [1], return_logits=True).masks
    clicked.mask_threshold = float(np.median(logits))
    masks = clicked.predict([[30, 20]], [1]).masks
    np.testing.assert_array_equal(masks, logits > clicked.mask_threshold)


def _wrong(p: samjax.SamPredictor) -> dict:
    m = PLAIN.low_res_size
    mask = np.zeros((1, m, m), np.float32)
    return {
        "nothing": (lambda: p.predict(), "no prompt: give point_coords"),
        "labels alone": (lambda: p.predict(point_labels=[1]), "give both or neither"),
        "points alone": (lambda: p.predict([[1, 2]]), "give one label a point"),
        "two boxes": (lambda: p.predict(box=[[1, 2, 3, 4]] * 2), "use predict_many"),
        "flat mask": (lambda: p.predict(mask_input=mask[0]), "give the 1 x m x m"),
        "small mask": (lambda: p.predict(mask_input=mask[:, :8, :8]), f"of 1 x {m} x {m}"),
        "numbers differ": (
            lambda: p.predict_many([[[1, 2]]], [[1]], boxes=[[1, 2, 3, 4]] * 2),
            "prompts of different number",
        ),
        "no prompts": (lambda: p.predict_many(boxes=np.zeros((0, 4))), "different number"),
        "label sets": (lambda: p.predict_many([[[1, 2]]], [[1], [1]]), "1 sets of points but 2"),
        "image and prompts": (lambda: p.predict_images([drawn_image(5, 7)], []), "one mapping"),
        "unknown word": (
            lambda: p.predict_images([drawn_image(5, 7)], [{"box": [1, 2, 3, 4]}]),
            "image 0: unknown .'box'.: use",
        ),
    }


@pytest.mark.parametrize("name", _wrong(None))  # type: ignore[arg-type]
def test_errors_say_in_one_line_what_to_do(clicked, name: str):
    call, text = _wrong(clicked)[name]
    with pytest.raises(PromptError, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_image_is_an_error(small):
    predictor = samjax.SamPredictor(small)
    assert not predictor.is_image_set
    with pytest.raises(PromptError, match=r"call set_image"):
        predictor.predict([[1, 2]], [1])
    predictor.set_image(drawn_image(5, 7))
    assert predictor.is_image_set
    with pytest.raises(ImageError):
        predictor.set_image(np.zeros((0, 0, 3), np.uint8))
    assert predictor.original_size == (5, 7)
    predictor.reset_image()
    with pytest.raises(PromptError, match=r"call set_image"):
        predictor.get_image_embedding()


# ------------------------------------------------------- saved embeddings


def test_a_saved_embedding_is_the_image(clicked, small, tmp_path):
    path = clicked.save_embedding(tmp_path / "image.npz")
    fresh = samjax.SamPredictor(small)
    fresh.load_embedding(path)
    assert fresh.original_size == clicked.original_size
    assert fresh.input_size == clicked.input_size
    np.testing.assert_array_equal(fresh.get_image_embedding(), clicked.get_image_embedding())
    expected = clicked.predict([[30, 20]], [1])
    for got, wanted in zip(fresh.predict([[30, 20]], [1]), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    image_hash = fresh.current_embedding.image_hash
    assert fresh.encode_image(drawn_image(48, 70)).image_hash == image_hash
    assert fresh.encode_image(drawn_image(48, 70, seed=1)).image_hash != image_hash
    assert [p.name for p in tmp_path.iterdir()] == ["image.npz"]


def test_another_models_embedding_is_refused(clicked, predictor, tmp_path):
    path = clicked.save_embedding(tmp_path / "image.npz")
    with pytest.raises(ImageError, match=r"made with other weights.*encode the image again"):
        predictor.load_embedding(path)
    assert predictor.is_image_set  # the one before stays


def test_another_dtypes_embedding_is_refused(clicked, tmp_path):
    path = clicked.save_embedding(tmp_path / "image.npz")
    half = samjax.SamPredictor(samjax.load(PLAIN, dtype="bfloat16"))
    with pytest.raises(ImageError, match="made with other weights, dtype"):
        half.load_embedding(path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_embedding_is_refused(clicked, tmp_path, keep: float):
    path = clicked.save_embedding(tmp_path / "image.npz")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(ImageError, match=r"not an image embedding.*encode the image again"):
        clicked.load_embedding(path)


def test_a_file_that_is_no_embedding_is_refused(clicked, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ImageError, match="not an image embedding"):
        clicked.load_embedding(tmp_path / "other.npz")
    with pytest.raises(ImageError, match="no such file"):
        clicked.load_embedding(tmp_path / "absent.npz")
