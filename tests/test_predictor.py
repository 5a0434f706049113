"""Test SamPredictor: shapes, wrong use, saved embeddings."""

from __future__ import annotations

import numpy as np
import pytest

import samjax
from samjax import prediction
from samjax.engine.prompts import blocks
from samjax.errors import ImageError, PromptError
from samjax.masks.regions import mask_prompts
from samjax.masks.rle import rle_to_mask
from samjax.masks.upscale import mask_iou
from samjax.model.prompt_encoder import Prompts
from tests.support.models import PLAIN, drawn_image


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
            "prompts differ in number",
        ),
        "boxes beside none": (
            lambda: p.predict_many([[[1, 2]]], [[1]], boxes=np.zeros((0, 4))),
            "differ in number",
        ),
        "fractions": (lambda: p.predict(box=[0.1, 0.2, 0.7, 1.0]), "fractions of the image: give"),
        "far": (lambda: p.predict([[1e39, 1]], [1]), "point_coords hold 1e\\+39: give pixels"),
        "farther": (lambda: p.predict(box=[0, 0, 1e300, 1e300]), "boxes hold 1e\\+300"),
        "no float": (lambda: p.predict([[10**400, 1]], [1]), "not a rectangular array of numbers"),
        "objects": (lambda: p.predict([[object(), 1]], [1]), "not a rectangular array of numbers"),
        "label": (lambda: p.predict([[1, 1]], [10**400]), "point_labels are not a rectangular"),
        "large box": (lambda: p.predict(box=[0, 0, 10**400, 1]), "boxes are not a rectangular"),
        "large mask": (
            lambda: p.predict(
                mask_input=np.full((1, PLAIN.low_res_size, PLAIN.low_res_size), 1e39)
            ),
            "mask_input holds 1e\\+39: give logits within 30000",
        ),
        "mask of objects": (
            lambda: p.predict(
                mask_input=np.full((1, PLAIN.low_res_size, PLAIN.low_res_size), 10**400, object)
            ),
            "mask_input is of dtype object",
        ),
        "ten thousand": (
            lambda: p.predict(np.ones((10_000, 2)), np.ones(10_000)),
            "10000 points in one prompt: give at most 2000",
        ),
        "rle of logits": (
            lambda: p.predict_many(boxes=[[1, 2, 9, 9]], return_logits=True, output="rle"),
            "'rle' has no logits",
        ),
        "empty mask": (lambda: p.predict_mask(np.zeros((48, 70), bool)), "the mask is empty"),
        "other mask": (lambda: p.predict_mask(np.ones((4, 7), bool)), "give H x W of the image"),
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


# Nothing, little and much


def test_nothing_found_is_an_empty_prediction(clicked):
    for empty in ([], np.zeros((0, 4)), np.zeros((0, 4), np.int32)):
        masks, scores, low_res = clicked.predict_many(boxes=empty)
        assert masks.shape == (0, 3, 48, 70)
        assert masks.dtype == np.bool_
        assert scores.shape == (0, 3)
        assert low_res.shape[:2] == (0, 3)
    logits = clicked.predict_many([], [], multimask_output=False, return_logits=True)
    assert (logits.masks.shape, logits.masks.dtype) == ((0, 1, 48, 70), np.float32)
    assert clicked.predict_many(boxes=[], output="rle").masks == []
    images = [drawn_image(48, 70, seed=i) for i in range(3)]
    some = {"boxes": [[5, 5, 30, 30]]}
    found = clicked.predict_images(images, [some, {"boxes": []}, some])
    assert [len(each.masks) for each in found] == [1, 0, 1]
    np.testing.assert_array_equal(found[0].masks, clicked.predict_images(images[:1], [some])[0][0])


def test_run_lengths_are_the_masks_block_by_block(clicked, monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (7, 2))
    boxes = np.concatenate([corners, corners + 8], 1)
    masks, scores, low_res = clicked.predict_many(boxes=boxes)
    finished = []
    rule = type(clicked.model.preset.masks)
    original = rule.finish

    def counted(self, low_res, *args):
        finished.append(len(low_res))
        return original(self, low_res, *args)

    monkeypatch.setattr(prediction, "_FINISHED_PIXELS", 2 * 3 * 48 * 70)
    monkeypatch.setattr(rule, "finish", counted)
    found = clicked.predict_many(boxes=boxes, output="rle")
    assert finished == [2, 2, 2, 1]
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.low_res, low_res)
    read = [[rle_to_mask(rle) for rle in rles] for rles in found.masks]
    np.testing.assert_array_equal(read, masks)


def test_long_prompts_are_decoded_in_smaller_blocks():
    for tokens, expected in ((4, 64), (64, 64), (65, 32), (1024, 1), (2048, 1)):
        rows = Prompts(np.zeros((70, tokens, 2), np.float32), np.zeros((70, tokens), np.int32))
        first, block = next(blocks(rows))
        assert (first, len(block.coords)) == (expected, expected)
    assert sum(count for count, _ in blocks(rows)) == 70


def test_large_numbers_that_are_allowed_give_finite_scores(clicked):
    for far in (1e9, -1e9):
        found = clicked.predict([[far, far], [20, 20]], [1, 1])
        assert np.isfinite(found.scores).all()
        assert np.isfinite(found.low_res).all()
    side = found.low_res.shape[-1]
    for large in (3e4, -3e4):
        found = clicked.predict(mask_input=np.full((1, side, side), large))
        assert np.isfinite(found.low_res).all()


def test_a_mask_alone_finds_its_object(predictor, photo):
    """With the mask as the only prompt the IoU was 0.00; the official class does the same."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    head = predictor.predict(box=[180, 30, 350, 260], multimask_output=False).masks[0]
    refined = predictor.predict_mask(head, multimask_output=False)
    assert mask_iou(refined.masks[0], head) > 0.9
    disc = (x - 260) ** 2 + (y - 150) ** 2 < 80**2
    best = max(mask_iou(mask, disc) for mask in predictor.predict_mask(disc).masks)
    side = predictor.model.config.low_res_size
    alone = predictor.predict(mask_input=samjax.mask_to_logits(disc, side)).masks
    assert best > 0.5
    assert best > max(mask_iou(mask, disc) for mask in alone) + 0.1


def test_the_prompts_of_a_mask():
    mask = np.zeros((20, 30), bool)
    mask[3:8, 5:25] = mask[12, 0] = True
    point, box = mask_prompts(mask)
    assert box == (0, 3, 24, 12)
    assert point[1] == 5
    assert 7 <= point[0] <= 22
    ring = np.ones((9, 9), bool)
    ring[2:7, 2:7] = False  # the middle of its box is no part of it
    (x, y), _ = mask_prompts(ring)
    assert ring[int(y), int(x)]
