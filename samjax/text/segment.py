"""Segment from text prompts: a detector turns phrases into boxes, SAM turns boxes into masks.

SAM's paper shows text prompts (section 7.5), but that text encoder was never released: no SAM
checkpoint understands words. A second model, the detector, finds "a dog" here, and its mistakes
are not SAM's. ``samjax.text.detectors`` has Grounding DINO and OWLv2; any function with the same
arguments and results works, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from samjax.arguments import shown, texts
from samjax.engine.segmenter import Segmenter
from samjax.errors import DetectorError, PromptError
from samjax.image.preset import hash_pixels, read_for
from samjax.image.read import read_image
from samjax.predictor import SamPredictor
from samjax.text.detectors import DEFAULT_DETECTOR, load_detector

_EXAMPLE = "give phrases separated by dots, such as 'a dog . a cat .'"
_loaded = lru_cache(maxsize=1)(load_detector)  # the next image should not wait for the weights


class Detections(NamedTuple):
    """Holds the boxes that a detector found in one image.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels of the original image.
        scores: the detector's confidence in each box.
        labels: the phrase that each box matches.
    """

    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    labels: tuple[str, ...]


@runtime_checkable
class Detector(Protocol):
    """Detects the objects that phrases name; any function with this signature is a detector.

    It takes an RGB image (H x W x 3 uint8) and the phrases, and returns boxes (N x 4, x0, y0, x1,
    y1 in pixels of that image), scores (N) and labels (N strings); N may be 0.
    """

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str], /
    ) -> Detections | tuple[Any, Any, Iterable[str]]: ...


class LabelledMasks(NamedTuple):
    """Holds one mask for each detected box, by descending confidence of the detector.

    Attributes:
        masks: bool, of the original image's size.
        boxes: x0, y0, x1, y1 in pixels of the original image, clipped to it.
        detector_scores: the detector's confidence in each box and its label.
        scores: SAM's predicted IoU of each mask.
        labels: the phrase that each box matches.
    """

    masks: Bool[np.ndarray, "n H W"]
    boxes: Float32[np.ndarray, "n 4"]
    detector_scores: Float32[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    labels: tuple[str, ...]


def parse_phrases(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split "a dog . a cat ." into ("a dog", "a cat"); a sequence of phrases is not split.

    Whitespace is normalized, and of equal phrases (ignoring case) the first is kept.

    Raises:
        PromptError: the text has no phrase.
    """
    parts = text.split(".") if isinstance(text, str) else texts(text, "text")
    phrases: dict[str, str] = {}
    for part in parts:
        if phrase := " ".join(part.split()):
            phrases.setdefault(phrase.casefold(), phrase)
    if not phrases:
        raise PromptError(f"text {text!r} has no words: {_EXAMPLE}")
    unspoken = [phrase for phrase in phrases.values() if not re.search(r"\w", phrase)]
    if unspoken:
        raise PromptError(f"text {text!r}: {unspoken[0]!r} is not a phrase; {_EXAMPLE}")
    return tuple(phrases.values())


def detect(
    detector: Detector, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str]
) -> Detections:
    """Run a detector and check its results.

    Boxes are clipped to the image, boxes outside it are dropped, and the rest are sorted by
    descending score.

    Raises:
        DetectorError: boxes, scores or labels have a wrong shape, number or type.
    """
    name = getattr(detector, "__name__", None) or type(detector).__name__
    if not callable(detector):
        raise DetectorError(f"detector is {shown(detector)}: pass a function, a folder or a name")
    found = detector(image, tuple(phrases))
    try:
        boxes, scores, labels = found
    except (TypeError, ValueError):
        raise DetectorError(
            f"detector {name} returned {type(found).__name__}: it must return boxes, scores, labels"
        ) from None
    return _checked(name, boxes, scores, labels, image.shape[:2])


def _checked(name: str, boxes: Any, scores: Any, labels: Any, size: tuple[int, ...]) -> Detections:
    corners, confidence = _numbers(name, "boxes", boxes), _numbers(name, "scores", scores)
    if corners.size == 0:
        corners = corners.reshape(0, 4)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DetectorError(
            f"detector {name} returned boxes of shape {corners.shape}: give N x 4 "
            "(x0, y0, x1, y1 in pixels)"
        )
    if confidence.ndim != 1:
        raise DetectorError(
            f"detector {name} returned scores of shape {confidence.shape}: give one for each box"
        )
    words = tuple(labels) if isinstance(labels, Iterable) and not isinstance(labels, str) else None
    if words is None or not all(isinstance(word, str) for word in words):
        raise DetectorError(f"detector {name} returned labels {labels!r:.40}: give N strings")
    if not len(corners) == len(confidence) == len(words):
        raise DetectorError(
            f"detector {name} returned {len(corners)} boxes, {len(confidence)} scores and "
            f"{len(words)} labels: give one of each for each object"
        )
    for i in np.flatnonzero((corners[:, 2:] < corners[:, :2]).any(axis=1))[:1]:
        raise DetectorError(
            f"detector {name} returned box {i} as {corners[i].tolist()}: give x0, y0, x1, y1, the "
            "top left corner and the bottom right, not a corner with width and height"
        )
    height, width = size
    if len(corners) and min(size) > 2 and corners.min() >= 0 and corners.max() <= 1:
        raise DetectorError(
            f"detector {name} returned boxes between 0 and 1: give pixels, here of {width} x "
            f"{height}"
        )
    clipped = np.clip(corners, 0, np.array([width, height, width, height], np.float32))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    order = np.argsort(-confidence, kind="stable")
    order = order[inside[order]]
    return Detections(clipped[order], confidence[order], tuple(words[i] for i in order))


def _numbers(name: str, what: str, values: Any) -> Float32[np.ndarray, "*shape"]:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise DetectorError(
            f"detector {name} returned {what} that are not an array of numbers"
        ) from None
    if not np.isfinite(array).all():
        raise DetectorError(f"detector {name} returned {what} that are not finite")
    return array


def segment_text(
    sam: Segmenter | SamPredictor,
    image: Any,
    text: str | Sequence[str],
    detector: Detector | str = DEFAULT_DETECTOR,
    *,
    box_threshold: float | None = None,
) -> LabelledMasks:
    """Segment the objects that a text names: a detector finds boxes, SAM predicts their masks.

    >>> found = samjax.segment_text(samjax.load("vit_b"), "photo.jpg", "a dog . a cat .")
    >>> for mask, label in zip(found.masks, found.labels): ...

    Args:
        sam: a model, or a predictor. A predictor keeps the image set afterwards, to go on with
            clicks, and does not encode an image again that is already set.
        image: H x W x 3 uint8 array, PIL image or path.
        text: phrases separated by dots, or a sequence of phrases.
        detector: a function (see ``Detector``), or a folder or Hugging Face name of Grounding
            DINO or OWLv2 (needs the extra ``text``).
        box_threshold: confidence above which a named detector's boxes are kept; lower finds more.

    Returns:
        One mask for each box; none if the detector finds nothing.

    Raises:
        PromptError: there is no phrase, or box_threshold is given with a detector function.
        DetectorError: the detector cannot be loaded, or does not return boxes.
        ImageError: the image is unreadable, or is not an image.
    """
    phrases = parse_phrases(text)
    predictor = sam if isinstance(sam, SamPredictor) else SamPredictor(sam)
    pixels = read_image(image)
    if isinstance(detector, str):
        detector = _loaded(detector, box_threshold=box_threshold)
    elif box_threshold is not None:
        raise PromptError(
            "box_threshold with a detector that is already loaded: give it to load_detector"
        )
    found = detect(detector, pixels, phrases)
    if isinstance(sam, SamPredictor):
        _set_image(sam, image)
    if not len(found.boxes):
        no_masks, no_scores = np.zeros((0, *pixels.shape[:2]), bool), np.zeros(0, np.float32)
        return LabelledMasks(no_masks, found.boxes, found.scores, no_scores, ())
    if predictor is not sam:
        predictor.set_image(image)  # not `pixels`: some presets need more than 8 bits
    masks, scores, _ = predictor.predict_many(boxes=found.boxes, multimask_output=False)
    return LabelledMasks(masks[:, 0], found.boxes, found.scores, scores[:, 0], found.labels)


def _set_image(predictor: SamPredictor, image: Any) -> None:
    """Set an image unless it is already the current one."""
    current = predictor.current_embedding.image_hash if predictor.is_image_set else None
    if current != hash_pixels(read_for(predictor.model.preset, image)):
        predictor.set_image(image)
