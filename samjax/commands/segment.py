"""``samjax segment``: check everything, load the model, then one image after the other."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from samjax import __version__
from samjax.commands.loading import About, check_model, load_model
from samjax.commands.request import Request, check_inside
from samjax.commands.results import Names, Ranked, plan, rank, write_results
from samjax.devices import PRECISIONS, choose_device, choose_dtype
from samjax.engine import Segmenter
from samjax.errors import DeviceError, PromptError
from samjax.image import read_image
from samjax.masks import mask_to_logits
from samjax.outputs import count_masks
from samjax.predictor import Prediction, SamPredictor
from samjax.resampling import whole_square
from samjax.viz import Colour, overlay

MULTIMASK = 3  # masks of one prompt with the published models; others are known when loaded


@dataclass(frozen=True)
class Job:
    """The options of one run; see ``samjax segment --help``."""

    images: tuple[Path, ...]
    request: Request
    model: str
    out: Path
    single: bool = False
    threshold: float = 0.0
    dtype: str = "auto"
    device: str | None = None
    precision: str = "highest"
    overwrite: bool = False
    about: About = field(default_factory=About)


def run_segment(job: Job) -> None:
    """Segment every image and write the results; one line an image on stdout.

    Raises:
        SamjaxError: wrong input; before anything is written where that can be known before.
    """
    check_job(job)
    candidates = 1 if job.single else MULTIMASK
    keep = () if job.request.mask_path is None else (job.request.mask_path,)
    planned = plan(
        job.images,
        job.out,
        job.request.objects,
        candidates,
        overwrite=job.overwrite,
        keep=keep,
    )
    sam = load_job(job)
    if (made := masks_of(sam, job)) != candidates:
        planned = plan(
            job.images, job.out, job.request.objects, made, overwrite=job.overwrite, keep=keep
        )
    predictor = SamPredictor(sam)
    predictor.mask_threshold = job.threshold
    one = len(job.images) == 1 or not sys.stderr.isatty()
    pairs = list(zip(job.images, planned, strict=True))
    for path, names in tqdm(pairs, unit="image", leave=False, disable=one):
        line = _segment_one(predictor, job, path, names)
        tqdm.write(line, file=sys.stdout)


def load_job(job: Job) -> Segmenter:
    """The model of a job."""
    return load_model(
        job.model, dtype=job.dtype, precision=job.precision, device=job.device, about=job.about
    )


def masks_of(sam: Segmenter, job: Job) -> int:
    """How many masks an object gets."""
    return count_masks(sam.preset, sam.config.mask_decoder.masks_given, not job.single)


def check_job(job: Job) -> None:
    """Refuse wrong options, unreadable images and prompts outside them, before anything else.

    Raises:
        SamjaxError: what is wrong.
    """
    if not math.isfinite(job.threshold):
        raise PromptError(f"--threshold {job.threshold}: give a finite logit, such as 0")
    check_options(job.model, job.device, job.dtype, job.precision)
    job.about.check()
    # Read twice: a folder of photographs does not fit into memory, and a broken last one should
    # not come out after an hour.
    for path in job.images:
        check_inside(job.request, read_image(path).shape[:2], path)


def check_options(model: str, device: str | None, dtype: str, precision: str) -> None:
    """Refuse what would be refused after minutes of downloading and loading.

    Raises:
        SamjaxError: unknown model, device, dtype or precision.
    """
    check_model(model)
    choose_dtype(dtype, choose_device(device))
    if precision not in PRECISIONS:
        raise DeviceError(f"precision {precision!r} is not known: use {', '.join(PRECISIONS)}")


def _segment_one(predictor: SamPredictor, job: Job, path: Path, names: Names) -> str:
    image = read_image(path)
    check_inside(job.request, image.shape[:2], path)  # it may have changed meanwhile
    predictor.set_image(image)
    ranked = rank(predict(predictor, job.request, multimask=not job.single))
    record = record_of(job, predictor.model, path, image.shape[:2], names, ranked)
    write_results(job.out, names, ranked, draw(image, job.request, ranked), record)
    return summary(job, path, names, ranked)


def predict(predictor: SamPredictor, request: Request, *, multimask: bool) -> Prediction:
    """``SamPredictor.predict_many`` with the prompts of the command line."""
    low_res_size = predictor.model.config.low_res_size
    logits = None
    if request.mask is not None:
        stretch = predictor.model.preset.fit is whole_square
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
    """The image with one candidate mask of each object and the prompts."""
    return overlay(
        image,
        ranked.masks[:, candidate],
        *request.arrays(),
        colors=None if colour is None else [colour],
    )


def record_of(
    job: Job, sam: Segmenter, path: Path, size: tuple[int, int], names: Names, ranked: Ranked
) -> dict:
    """The JSON beside the masks: what was asked of which model, and what came out."""
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
        "model": job.model,
        "family": sam.family,
        "preprocessing": sam.preset.name,
        "dtype": sam.dtype.name,
        "precision": sam.precision,
        "device": str(sam.device),
        "threshold": job.threshold,
        "objects": objects,
        "files": list(names),
    }


def summary(job: Job, path: Path, names: Names, ranked: Ranked) -> str:
    """One line for stdout."""
    objects, candidates = ranked.scores.shape
    masks = f"{candidates} mask{'s' * (candidates > 1)}"
    if objects == 1:
        what, shown = f"{masks}, IoU", ranked.scores[0]
    else:
        what, shown = f"{objects} objects with {masks} each, best IoU", ranked.scores[:, 0]
    scores = " ".join(f"{score:.2f}" for score in shown[:8]) + " ..." * (len(shown) > 8)
    return f"{path}: {what} {scores} -> {job.out / names.overlay}"
