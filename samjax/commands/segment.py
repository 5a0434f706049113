"""Run ``samjax segment``: check everything, load the model, segment one image after the other."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from samjax import __version__
from samjax.commands.request import Request, check_inside
from samjax.commands.results import Names, Ranked, plan, rank, write_results
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import ImageError, PromptError, printable
from samjax.files import protecting
from samjax.image.read import read_image
from samjax.masks.upscale import mask_to_logits
from samjax.palette import Colour
from samjax.prediction import Prediction
from samjax.predictor import SamPredictor
from samjax.viz.overlay import overlay
from samjax.words import counted

MULTIMASK = 3  # masks of one prompt with the published models; others are known when loaded


@dataclass(frozen=True)
class SegmentJob:
    """Hold the options of one run; see ``samjax segment --help``."""

    images: tuple[Path, ...]
    request: Request
    model: ModelSpec
    out: Path
    single: bool = False
    threshold: float = 0.0
    overwrite: bool = False


def run_segment(job: SegmentJob) -> int:
    """Segment every image and write the results; one line an image on stdout.

    Images that cannot be read, and those that the prompts do not fit, are told on stderr at the
    end; the others are segmented.

    Returns:
        The exit code: 0, or 2 if images failed.

    Raises:
        SamjaxError: wrong input; before anything is written where that can be known before.
    """
    with protecting((*job.images, *keep_of(job), *job.model.files())):
        return _run(job)


def keep_of(job: SegmentJob) -> tuple[Path, ...]:
    """Return the inputs besides the images: the mask."""
    return () if job.request.mask_path is None else (job.request.mask_path,)


def _run(job: SegmentJob) -> int:
    good, failed = check_job(job)
    job = replace(job, images=good)
    candidates = 1 if job.single else MULTIMASK
    keep = keep_of(job)
    planned = plan(
        job.images,
        job.out,
        job.request.objects,
        candidates,
        overwrite=job.overwrite,
        keep=keep,
    )
    sam = job.model.load()
    if (made := masks_of(sam, job)) != candidates:
        planned = plan(
            job.images, job.out, job.request.objects, made, overwrite=job.overwrite, keep=keep
        )
    predictor = SamPredictor(sam)
    predictor.mask_threshold = job.threshold
    names = dict(zip(job.images, planned, strict=True))
    return each_image(job, failed, lambda path: _segment_one(predictor, job, path, names[path]))


def each_image(job: SegmentJob, failed: list[str], segment: Callable[[Path], str]) -> int:
    """Segment the images one by one, print their lines, then those of images that ``failed``.

    Returns:
        The exit code.
    """
    one = len(job.images) == 1 or not sys.stderr.isatty()
    for path in tqdm(job.images, unit="image", leave=False, disable=one):
        try:
            tqdm.write(printable(segment(path)), file=sys.stdout)
        except (ImageError, PromptError) as error:  # it has changed since it was checked
            failed.append(str(error))
    for line in failed:
        print(f"samjax: {line}", file=sys.stderr)
    return 2 if failed else 0


def masks_of(sam: Segmenter, job: SegmentJob) -> int:
    """Return how many masks an object gets."""
    return sam.preset.masks.count(sam.config.mask_decoder.masks_given, not job.single)


def check_job(job: SegmentJob) -> tuple[tuple[Path, ...], list[str]]:
    """Refuse wrong options, and find unreadable images and those that the prompts do not fit.

    Returns:
        The images to segment, at least one, and a line for each of the others.

    Raises:
        SamjaxError: what is wrong; of the first image if none is left.
    """
    if not math.isfinite(job.threshold):
        raise PromptError(f"--threshold {job.threshold}: give a finite logit, such as 0")
    job.model.check()
    # Read twice: a folder of photographs does not fit into memory, and a broken last one should
    # not come out after an hour.
    good, failed = [], []
    for path in job.images:
        try:
            check_inside(job.request, read_image(path).shape[:2], path)
            good.append(path)
        except (ImageError, PromptError) as error:
            failed.append(error)
    if not good and failed:
        raise failed[0]
    return tuple(good), [str(error) for error in failed]


def _segment_one(predictor: SamPredictor, job: SegmentJob, path: Path, names: Names) -> str:
    image = read_image(path)
    check_inside(job.request, image.shape[:2], path)  # it may have changed meanwhile
    predictor.set_image(image)
    ranked = rank(predict(predictor, job.request, multimask=not job.single))
    record = record_of(job, predictor.model, path, image.shape[:2], names, ranked)
    write_results(job.out, names, ranked, draw(image, job.request, ranked), record)
    return summary(job, path, names, ranked)


def predict(predictor: SamPredictor, request: Request, *, multimask: bool) -> Prediction:
    """Call ``SamPredictor.predict_many`` with the prompts of the command line."""
    low_res_size = predictor.model.config.low_res_size
    logits = None
    if request.mask is not None:
        if not request.points and not request.boxes:  # a mask alone says too little to SAM
            found = predictor.predict_mask(request.mask, multimask)
            return Prediction(*(part[None] for part in found))
        stretch = predictor.model.preset.stretches
        logits = mask_to_logits(request.mask, low_res_size, stretch=stretch)[None]
    points, labels, boxes = request.arrays()
    return predictor.predict_many(
        [points] if request.points else None,
        [labels] if request.points else None,
        boxes if request.boxes else None,
        logits,
        multimask_output=multimask,
    )


def draw(
    image: UInt8[np.ndarray, "H W 3"],
    request: Request,
    ranked: Ranked,
    *,
    candidate: int = 0,
    colour: Colour | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the image with one candidate mask of each object and the prompts."""
    return overlay(
        image,
        ranked.masks[:, candidate],
        *request.arrays(),
        colors=None if colour is None else [colour],
    )


def record_of(
    job: SegmentJob, sam: Segmenter, path: Path, size: tuple[int, int], names: Names, ranked: Ranked
) -> dict[str, Any]:
    """Return the JSON beside the masks: prompts, model, settings and scores."""
    request = job.request
    objects = [
        {
            "box": list(request.boxes[i]) if request.boxes else None,
            "masks": [
                {
                    "rank": j + 1,
                    "score": round(float(ranked.scores[i, j]), 6),
                    "area": int(ranked.masks[i, j].sum()),
                    "model_index": int(ranked.order[i, j]),
                    "file": name,
                }
                for j, name in enumerate(object_names)
            ],
        }
        for i, object_names in enumerate(names.masks)
    ]
    return {
        "samjax": __version__,
        "image": str(path),
        "width": size[1],
        "height": size[0],
        "prompts": {
            "points": [list(p[:2]) for p in request.points],
            "labels": [p[2] for p in request.points],
            "boxes": [list(box) for box in request.boxes],
            "mask": None if request.mask_path is None else str(request.mask_path),
        },
        "model": job.model.source,
        "origin": None if sam.origin is None else sam.origin.as_dict(),
        "family": sam.family,
        "preprocessing": sam.preset.name,
        "dtype": sam.dtype.name,
        "precision": sam.precision,
        "device": str(sam.device),
        "threshold": job.threshold,
        "objects": objects,
        "files": list(names),
    }


def summary(job: SegmentJob, path: Path, names: Names, ranked: Ranked) -> str:
    """Return the line for stdout."""
    objects, candidates = ranked.scores.shape
    masks = counted(candidates, "mask")
    if objects == 1:
        what, shown = f"{masks}, IoU", ranked.scores[0]
    else:
        what, shown = f"{objects} objects with {masks} each, best IoU", ranked.scores[:, 0]
    scores = " ".join(f"{score:.2f}" for score in shown[:8]) + " ..." * (len(shown) > 8)
    return f"{path}: {what} {scores} -> {job.out / names.overlay}"
