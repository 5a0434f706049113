"""Run ``samjax segment --text``: a detector's boxes replace typed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from samjax.commands.request import Request
from samjax.commands.results import Names, Ranked, plan, rank, result_names, write_results
from samjax.commands.segment import (
    MULTIMASK,
    SegmentJob,
    check_job,
    draw,
    each_image,
    masks_of,
    predict,
    record_of,
)
from samjax.errors import PromptError
from samjax.files import protecting
from samjax.image.read import read_image
from samjax.predictor import SamPredictor
from samjax.text.detectors import DEFAULT_DETECTOR, load_detector
from samjax.text.segment import Detections, Detector, detect, parse_phrases
from samjax.viz.labels import draw_labels


@dataclass(frozen=True)
class Text:
    """Hold the values of --text, --detector and --box-threshold."""

    phrases: tuple[str, ...]
    detector: str = DEFAULT_DETECTOR
    box_threshold: float | None = None


def parse_text(
    text: str | None, detector: str | None, box_threshold: float | None, others: Sequence[str]
) -> Text:
    """Parse the options of a text prompt; ``others`` are options that were given besides.

    Raises:
        PromptError: no text or phrase, a threshold outside 0 to 1, or other prompts besides.
    """
    if text is None:
        option = "--box-threshold" if detector is None else "--detector"
        raise PromptError(
            f"{option} without --text: it says how words are found; add --text 'a dog .', or leave "
            f"{option} out"
        )
    if others:
        raise PromptError(
            f"--text with {' and '.join(others)}: the objects of a text come from the detector, "
            "and it is not said which one the others belong to; give one or the other"
        )
    try:
        phrases = parse_phrases(text)
    except PromptError as error:
        raise PromptError(f"--{error}") from error
    if box_threshold is not None and not 0 <= box_threshold < 1:
        raise PromptError(
            f"--box-threshold {box_threshold:g}: give a confidence from 0 to 1, such as 0.3"
        )
    return Text(phrases, DEFAULT_DETECTOR if detector is None else detector, box_threshold)


def run_segment_text(job: SegmentJob, text: Text) -> int:
    """Find the phrases' objects in every image, segment them and write the results.

    One line an image on stdout, also where nothing was found; images that fail are told on stderr.

    Returns:
        The exit code: 0, or 2 if images failed.

    Raises:
        SamjaxError: wrong input; before anything is written where that can be known before.
    """
    with protecting((*job.images, *job.model.files())):
        return _run(job, text)


def _run(job: SegmentJob, text: Text) -> int:
    good, failed = check_job(job)
    job = dataclasses.replace(job, images=good)
    plan(job.images, job.out, None, MULTIMASK, overwrite=job.overwrite)
    on_cpu = job.model.device is not None and job.model.device.startswith("cpu")
    detector = load_detector(
        text.detector, box_threshold=text.box_threshold, device="cpu" if on_cpu else None
    )
    predictor = SamPredictor(job.model.load())
    predictor.mask_threshold = job.threshold
    # The family's threshold, if none was given.
    asked = dataclasses.replace(text, box_threshold=detector.box_threshold)
    return each_image(job, failed, lambda path: _segment_one(predictor, detector, job, asked, path))


def _segment_one(
    predictor: SamPredictor, detector: Detector, job: SegmentJob, text: Text, path: Path
) -> str:
    image = read_image(path)
    found = detect(detector, image, text.phrases)
    request = Request((), tuple(tuple(box) for box in found.boxes.tolist()))
    candidates = masks_of(predictor.model, job)
    if request.boxes:
        predictor.set_image(image)
        ranked = rank(predict(predictor, request, multimask=not job.single))
    else:
        ranked = _nothing(candidates, image.shape[:2], predictor.model.config.low_res_size)
    names = result_names(path.stem, len(request.boxes), candidates, numbered=True)
    asked = dataclasses.replace(job, request=request)
    record = record_of(asked, predictor.model, path, image.shape[:2], names, ranked)
    record["text"] = {
        "phrases": list(text.phrases),
        "detector": text.detector,
        "box_threshold": text.box_threshold,
    }
    for entry, label, score in zip(record["objects"], found.labels, found.scores, strict=True):
        entry |= {"label": label, "detector_score": round(float(score), 6)}
    by_object = {
        "boxes": found.boxes,
        "labels": np.array(found.labels, np.str_),
        "detector_scores": found.scores,
    }
    write_results(job.out, names, ranked, _draw(image, request, ranked, found), record, by_object)
    return _summary(job.out, text, path, names, found)


def _nothing(candidates: int, size: tuple[int, ...], low_res_size: int) -> Ranked:
    return Ranked(
        np.zeros((0, candidates, *size), bool),
        np.zeros((0, candidates), np.float32),
        np.zeros((0, candidates, low_res_size, low_res_size), np.float32),
        np.zeros((0, candidates), np.int64),
    )


def _draw(
    image: UInt8[np.ndarray, "H W 3"], request: Request, ranked: Ranked, found: Detections
) -> UInt8[np.ndarray, "H W 3"]:
    tags = [f"{label} {score:.2f}" for label, score in zip(found.labels, found.scores, strict=True)]
    return draw_labels(draw(image, request, ranked), found.boxes, tags)


def _summary(out: Path, text: Text, path: Path, names: Names, found: Detections) -> str:
    """Return the line for stdout: the count of each phrase, with the detector's best score."""
    parts, none = [], []
    for phrase in text.phrases:
        scores = [s for label, s in zip(found.labels, found.scores, strict=True) if label == phrase]
        if scores:
            parts.append(f"{len(scores)} x {phrase!r} (best {max(scores):.2f})")
        else:
            none.append(repr(phrase))
    if not parts:
        return (
            f"{path}: nothing found for {', '.join(none)} above box threshold "
            f"{text.box_threshold}; lower --box-threshold, or name it otherwise "
            f"-> {out / names.record}"
        )
    missing = f"; no {', '.join(none)}" if none else ""
    return f"{path}: {', '.join(parts)}{missing} -> {out / names.overlay}"
