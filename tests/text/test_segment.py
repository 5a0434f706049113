"""Test text prompts with scripted detectors: results and errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import samjax
from samjax.errors import DetectorError, PromptError
from samjax.text import detectors
from samjax.text.segment import detect, parse_phrases, segment_text
from tests.support.models import drawn_image

HEIGHT, WIDTH = 60, 90
BOXES = [[5, 6, 30, 40], [40, 10, 80, 50], [20, 20, 60, 58]]


@pytest.fixture
def image() -> np.ndarray:
    return drawn_image(HEIGHT, WIDTH)


def scripted(boxes, scores, labels):
    """Make a detector that always returns the same, and remembers its arguments."""

    def detector(image, phrases):
        asked.append((image.shape, phrases))
        return boxes, scores, labels

    asked: list = []
    detector.asked = asked
    return detector


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog . a cat .", ("a dog", "a cat")),
        ("a dog.a cat", ("a dog", "a cat")),
        ("  Red \t apples\n", ("Red apples",)),
        ("a dog . A Dog . cat", ("a dog", "cat")),
        (["a dog", " St. Bernard "], ("a dog", "St. Bernard")),
        (". ёлка .. 犬 .", ("ёлка", "犬")),
    ],
)
def test_phrases(text, expected):
    assert parse_phrases(text) == expected


@pytest.mark.parametrize("text", ["", " . ", "...", [], [""], "a dog . !?"])
def test_no_phrases(text):
    with pytest.raises(PromptError, match="give phrases separated by dots"):
        parse_phrases(text)


def test_masks_labels_and_scores_belong_together(small, image):
    detector = scripted(BOXES, [0.4, 0.9, 0.6], ["a dog", "a cat", "a tree"])
    found = segment_text(small, image, "a dog . a cat . a tree", detector)
    assert detector.asked == [((HEIGHT, WIDTH, 3), ("a dog", "a cat", "a tree"))]
    assert found.labels == ("a cat", "a tree", "a dog")
    np.testing.assert_array_equal(found.detector_scores, np.float32([0.9, 0.6, 0.4]))
    np.testing.assert_array_equal(found.boxes, np.float32([BOXES[i] for i in (1, 2, 0)]))
    assert found.masks.shape == (3, HEIGHT, WIDTH)
    assert found.masks.dtype == bool
    predictor = samjax.SamPredictor(small)
    predictor.set_image(image)
    for mask, score, i in zip(found.masks, found.scores, (1, 2, 0), strict=True):
        expected = predictor.predict(box=BOXES[i], multimask_output=False)
        np.testing.assert_array_equal(mask, expected.masks[0])
        assert score == pytest.approx(expected.scores[0], abs=1e-5)


def test_equal_scores_keep_the_order_of_the_detector(image):
    found = detect(scripted(BOXES, [0.5, 0.5, 0.5], ("c", "a", "b")), image, ["a"])
    assert found.labels == ("c", "a", "b")


def test_a_predictor_keeps_the_image_and_its_threshold(small, image):
    predictor = samjax.SamPredictor(small)
    detector = scripted(BOXES[:1], [1], ["a dog"])
    plain = segment_text(predictor, image, "a dog", detector)
    first = predictor.current_embedding
    predictor.mask_threshold = -5.0
    wide = segment_text(predictor, image, "a dog", detector)
    assert predictor.current_embedding is first  # not encoded again
    assert wide.masks.sum() > plain.masks.sum()
    segment_text(predictor, image[::-1].copy(), "a dog", detector)
    assert predictor.current_embedding.image_hash != first.image_hash


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))], ids=["list", "array"])
def test_nothing_found(small, image, boxes):
    predictor = samjax.SamPredictor(small)
    for sam in (small, predictor):
        found = segment_text(sam, image, "a dog", scripted(boxes, [], []))
        assert found.masks.shape == (0, HEIGHT, WIDTH)
        assert found.boxes.shape == (0, 4)
        assert (len(found.scores), len(found.detector_scores), found.labels) == (0, 0, ())
    assert predictor.is_image_set


def test_boxes_are_clipped_and_those_outside_dropped(image):
    boxes = [[-20, -5, 30, 40], [200, 10, 300, 20], [50, 20, 500, 500], [10, 10, 10, 40]]
    found = detect(scripted(boxes, [0.1, 0.9, 0.2, 0.8], list("abcd")), image, ["x"])
    assert found.labels == ("c", "a")
    np.testing.assert_array_equal(found.boxes, np.float32([[50, 20, 90, 60], [0, 0, 30, 40]]))


BAD = {
    "nothing": (None, "returned NoneType: it must return boxes, scores, labels"),
    "boxes only": ((BOXES,), "must return boxes, scores, labels"),
    "flat boxes": (([1, 2, 3, 4], [1], ["a"]), r"boxes of shape \(4,\): give N x 4"),
    "five numbers": (([[1, 2, 3, 4, 5]], [1], ["a"]), r"boxes of shape \(1, 5\)"),
    "ragged boxes": (([[1, 2, 3, 4], [1]], [1, 1], ["a", "b"]), "boxes that are not an array"),
    "words as boxes": (([["a", "b", "c", "d"]], [1], ["a"]), "boxes that are not an array"),
    "two scores a box": ((BOXES[:1], [[1, 2]], ["a"]), r"scores of shape \(1, 2\)"),
    "fewer scores": ((BOXES, [1], ["a"] * 3), "3 boxes, 1 scores and 3 labels"),
    "more labels": ((BOXES[:1], [1], ["a", "b"]), "1 boxes, 1 scores and 2 labels"),
    "one string": ((BOXES[:1], [1], "a"), "labels 'a': give N strings"),
    "numbers as labels": ((BOXES[:1], [1], [0]), "give N strings"),
    "one number as labels": ((BOXES[:1], [1], 0), "labels 0: give N strings"),
    "nan": (([[1, 2, np.nan, 4]], [1], ["a"]), "boxes that are not finite"),
    "infinite score": ((BOXES[:1], [np.inf], ["a"]), "scores that are not finite"),
    "corner and size": (([[50, 40, 20, 10]], [1], ["a"]), "not a corner with width and height"),
    "relative": (([[0.1, 0.2, 0.5, 0.9]], [1], ["a"]), "between 0 and 1: give pixels, here of 90"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_detectors_are_named(image, case):
    answer, message = BAD[case]

    def my_detector(_image, _phrases):
        return answer

    with pytest.raises(DetectorError, match=message) as caught:
        detect(my_detector, image, ["a dog"])
    assert "detector my_detector" in str(caught.value)


def test_a_threshold_for_a_detector_that_has_its_own(small, image):
    with pytest.raises(PromptError, match="give it to load_detector"):
        segment_text(small, image, "a dog", scripted([], [], []), box_threshold=0.1)


def test_without_the_extra(monkeypatch, small, image):
    for missing in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DetectorError, match=r"text encoder was never released: pip install"):
        segment_text(small, image, "a dog", "nobody/nothing")


# What the adapters compute, without torch


def test_spans_of_phrases():
    start, dot, end = 101, 1012, 102
    tokens = [start, 7, 8, dot, 9, dot, end]
    spans = detectors.phrase_spans(tokens, dot, 2)
    np.testing.assert_array_equal(np.flatnonzero(spans[0]), [1, 2])
    np.testing.assert_array_equal(np.flatnonzero(spans[1]), [4])
    # A phrase that leaves no token does not shift the next one.
    assert detectors.phrase_spans([start, dot, 9, dot, end], dot, 2)[:, 2].tolist() == [False, True]


def test_corners():
    found = detectors.corners(np.float32([[0.5, 0.5, 0.2, 1.0], [0, 0, 0, 0]]), (50, 200))
    np.testing.assert_allclose(found, [[80, 0, 120, 50], [0, 0, 0, 0]], atol=1e-5)


def test_of_overlapping_boxes_of_one_label_the_surest_stays():
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 0, 60, 10]])
    scores = np.float32([0.5, 0.6, 0.4, 0.9])
    kept = detectors.keep_best(boxes, scores, np.array([0, 0, 1, 0]), 0.8)
    assert kept.tolist() == [3, 1, 2]
    assert detectors.keep_best(boxes[:0], scores[:0], np.zeros(0, np.int64), 0.8).shape == (0,)
