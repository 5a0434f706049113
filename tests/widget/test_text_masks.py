"""What a text names, as masks to pick from: any detector, scripts and the page."""

from __future__ import annotations

import numpy as np
import pytest

import samjax
from samjax.errors import PromptError, SamjaxError
from tests.support.models import drawn_image
from tests.widget.test_annotator import Wire


def detector(image: np.ndarray, phrases: tuple[str, ...]) -> tuple[list, list, list]:
    """Find one box for each phrase, side by side."""
    assert image.shape == (48, 70, 3)
    count = len(phrases)
    boxes = [[2 + 20 * i, 4, 20 + 20 * i, 40] for i in range(count)]
    return boxes, [0.9 - 0.1 * i for i in range(count)], list(phrases)


@pytest.fixture
def annotator(small) -> samjax.Annotator:
    """Return an annotator with a detector."""
    return samjax.Annotator(small, drawn_image(48, 70, seed=1), labels=("dog",), detector=detector)


def test_found_masks_become_objects_of_the_phrase(annotator, small):
    records = annotator.find("a dog . a cat .")
    assert [record["label"] for record in records] == ["a dog", "a cat"]
    annotator.pick_many([0, 1])
    assert annotator.labels == ["a dog", "a cat"]
    assert annotator.classes == ["dog", "a dog", "a cat"]
    predictor = samjax.SamPredictor(small)
    predictor.set_image(drawn_image(48, 70, seed=1))
    for record, entry, mask in zip(records, annotator.prompts, annotator.masks, strict=True):
        assert entry["predict"]["box"] == record["prompt_box"]
        expected = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
        np.testing.assert_array_equal(mask, expected)
    annotator.undo()
    assert annotator.masks == []
    annotator.click(30, 20)
    assert annotator.labels == ["dog"]  # the class of the next object stayed


def test_the_page_finds_and_picks(annotator):
    annotator.wait()
    wire = Wire(annotator)
    assert wire.send("hello")["detector"] is True
    wire.send("find", text="a dog")
    told = wire.wait_for(lambda c: c["kind"] == "automatic_masks")
    assert (told["labels"], told["floor"]) == (["a dog"], 0.0)
    update = wire.send("pick", index=0)
    assert [each["label"] for each in update["objects"]] == ["a dog"]


def test_without_a_detector_or_words(annotator, small):
    with pytest.raises(PromptError, match="has no words"):
        annotator.find(" . ")
    plain = samjax.Annotator(small, drawn_image(48, 70, seed=1))
    with pytest.raises(PromptError, match="pass Annotator"):
        plain.find("a dog")
    broken = samjax.Annotator(small, drawn_image(48, 70, seed=1), detector=lambda *_: None)
    with pytest.raises(SamjaxError, match="must return boxes"):
        broken.find("a dog")
