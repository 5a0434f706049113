"""Segment a data set of which boxes or points are known, image by image, and write it as COCO."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samjax.annotations.coco import CocoImages, coco_dataset, dataset_text
from samjax.annotations.prompt_set import ImagePrompts, Problem, PromptSet
from samjax.annotations.prompts import read_prompts
from samjax.annotations.records import AnnotatedImage
from samjax.annotations.segment_boxes import segment_objects
from samjax.annotations.segment_files import (
    COCO,
    PROBLEMS,
    REVIEW,
    Done,
    Origin,
    check_before,
    json_text,
    origin_of,
    read_record,
    record_file,
    record_key,
    start,
    write_outputs,
    write_record,
)
from samjax.annotations.usable import usable_objects
from samjax.arguments import flag, function, real_number, several, whole_number
from samjax.engine.registry import as_segmenter
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import AnnotationError, ImageError
from samjax.files import content_of, given_path, made_folder, protecting, writing
from samjax.image.read import read_image
from samjax.predictor import SamPredictor
from samjax.words import counted

MENDED = "mended"  # in the kind of a problem: the object was segmented all the same


@dataclass
class SegmentedDataset:
    """Tells what `segment_dataset` did.

    Attributes:
        path: the COCO file.
        images: number of images that were read.
        masks: number of masks written.
        earlier: number of images that an earlier run had done.
        joined: whether the data set was written: by the last of several shards, not before.
        review: objects with a low score, the lowest first: image, id, label, predicted_iou,
            stability_score, and the detector's score where there is one.
        problems: all that was left out or mended.
    """

    path: Path
    images: int = 0
    masks: int = 0
    earlier: int = 0
    joined: bool = True
    review: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of problems of each kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    @property
    def complete(self) -> bool:
        """Return whether every object of the data set has a mask."""
        return all(problem.kind.split(", ")[-1].startswith(MENDED) for problem in self.problems)


def segment_dataset(
    boxes: str | os.PathLike[str],
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sam: Segmenter | ModelSpec | None = None,
    normalised: bool = False,
    images_json: str | os.PathLike[str] | None = None,
    review_below: float | int | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[Iterable[ImagePrompts]], Iterable[ImagePrompts]] | None = None,
) -> SegmentedDataset:
    """Turn the boxes and points of a data set into masks, and write them as COCO.

    Ids of images, objects and categories, crowds, attributes, a detector's scores, and what a COCO
    file says of itself, its images and categories are kept. Each image is written when it is done:
    the same call goes on after an interruption, and ends with the same bytes. ``out`` gets
    annotations.json (COCO); review.json, the objects with low scores; problems.json, all that was
    left out or mended; records/, one file an image; segment_dataset.json, settings. Results of
    another file of boxes are not replaced; one that was changed in its place goes on.

    Args:
        boxes: one of these.

            - COCO JSON: ``bbox``, and ``keypoints`` that are labelled as points on the object; or a
              list of results with ``images_json``.
            - YOLO, a folder with ``labels/`` and ``data.yaml``: boxes, with their score where a
              line has one, and the boxes of polygons.
            - CSV, with a header: ``image``, then ``x0,y0,x1,y1`` or ``x0,y0,w,h`` for a box, or
              ``x,y`` for a point, which ``point_label`` 0 puts beside the object; further
              ``label``, ``score`` and ``id`` (or ``object``). Rows with the same image and id are
              one object.
        images: folder of the images.
        out: folder to write.
        sam: the model, or what to load; None loads the embedded checkpoint.
        normalised: boxes of a COCO or CSV file are fractions of the images' sides.
        images_json: COCO file with images and categories, where ``boxes`` is the list of results
            of a detector: ``[{"image_id", "category_id", "bbox", "score"}, ...]``.
        review_below: objects with a lower predicted IoU or stability are listed for review; None
            takes the model's thresholds of automatic masks.
        overwrite: replace results that were made with other settings, and changed ones.
        shard: (I, N): segment part I of N of the images, counted from 1. Each part may run in a
            process or machine of its own on the same ``out``; the last one writes the data set,
            with the bytes that one run for all images writes.
        progress: wraps the list of images, as ``tqdm`` does.

    Raises:
        AnnotationError: boxes or folders cannot be used, or ``out`` holds other results, or files
            that samjax did not write or that were changed since.
    """
    least = 0 if review_below is None else review_below
    if not 0 <= real_number(least, "review_below", error=AnnotationError) <= 1:
        raise AnnotationError(f"review_below is {review_below}: pass a score from 0 to 1")
    function(progress, "progress", AnnotationError)
    overwrite = flag(overwrite, "overwrite", AnnotationError)
    normalised = flag(normalised, "normalised", AnnotationError)
    given = tuple(several(shard, "shard", "two numbers", AnnotationError))
    whole = [whole_number(number, "shard", error=AnnotationError) for number in given]
    if len(whole) != 2 or not 1 <= whole[0] <= whole[1]:
        raise AnnotationError(f"shard is {shard}: pass (I, N), part I of N, such as (1, 4)")
    prompts = read_prompts(boxes, images, normalised=normalised, images_json=images_json)
    fractions = normalised or given_path(boxes, AnnotationError).is_dir()
    folder, target = given_path(images, AnnotationError), given_path(out, AnnotationError)
    origin = origin_of(target, given_path(boxes, AnnotationError), folder, prompts)
    if not overwrite:
        check_before(target, prompts.images, origin)
    model = as_segmenter(ModelSpec() if sam is None else sam)
    settings = {
        "weights": model.fingerprint,
        "mask_threshold": model.mask_threshold,
        "normalised": fractions,
    }
    known = content_of(
        given_path(p, AnnotationError) for p in (boxes, images_json) if p is not None
    )
    inputs = [*known, *(folder / image.file_name for image in prompts.images)]
    with protecting(inputs, AnnotationError), writing(target, AnnotationError):
        made_folder(target, AnnotationError)
        start(target, settings, origin, overwrite)
        own = prompts.images[shard[0] - 1 :: shard[1]]
        earlier = _segment(target, folder, own, model, settings, progress)
        return _join(target, folder, prompts, origin, model, settings, review_below, earlier)


def segment_image(
    model: Segmenter, path: Path, image: ImagePrompts, normalised: bool = False
) -> Done:
    """Segment the objects of one image; the result depends on the arguments only.

    Raises:
        ImageError: the image cannot be read, or has another size than the data set says.
    """
    predictor = SamPredictor(model)
    pixels = read_image(path)
    size = (pixels.shape[0], pixels.shape[1])
    if image.size is not None and image.size != size:
        raise ImageError(
            f"{path}: is {size[1]} x {size[0]}, but its boxes are of {image.size[1]} x "
            f"{image.size[0]}: give the image that they were drawn on"
        )
    objects, problems = usable_objects(image, size, normalised)
    if not objects:
        return Done(size, [], problems)
    embedding = predictor.encode_image(pixels)
    return Done(size, segment_objects(model, embedding, objects), problems)


def _segment(
    out: Path,
    folder: Path,
    images: Sequence[ImagePrompts],
    model: Segmenter,
    settings: dict[str, Any],
    progress: Any,
) -> int:
    """Write the record of each image that has none, and return how many had one."""
    earlier = 0
    for image in images if progress is None else progress(images):
        path, record = folder / image.file_name, record_file(out, image)
        if not path.is_file():
            continue
        key = record_key(path, image, settings)
        if isinstance(read_record(record, key), Done):
            earlier += 1
            continue
        try:
            found: Done | str = segment_image(model, path, image, settings["normalised"])
        except ImageError as error:
            found = str(error)  # tried again by the next run
        write_record(record, key, image.file_name, found)
    return earlier


def _join(
    out: Path,
    folder: Path,
    prompts: PromptSet,
    origin: Origin,
    model: Segmenter,
    settings: dict[str, Any],
    review_below: float | int | None,
    earlier: int,
) -> SegmentedDataset:
    """Write the data set of all records; nothing while images of other shards have none."""
    images = prompts.images
    report = SegmentedDataset(out / COCO, problems=list(prompts.problems))
    report.earlier = earlier
    done: list[AnnotatedImage] = []
    own = model.automatic_thresholds
    least_iou = own.pred_iou_thresh if review_below is None else review_below
    least_stability = own.stability_score_thresh if review_below is None else review_below
    for image in images:
        path = folder / image.file_name
        count = f"{counted(len(image.objects), 'object')} left out"
        found: Done | str | None = None
        if not path.is_file():
            report.problems.append(Problem("image: missing", image.file_name, None, count))
        else:
            found = read_record(record_file(out, image), record_key(path, image, settings))
            if found is None:
                report.joined = False
                continue
        if isinstance(found, str):
            report.problems.append(Problem("image: cannot be used", image.file_name, None, found))
            found = None
        size = image.size if found is None else found.size
        records = [] if found is None else found.records
        report.problems += [] if found is None else found.problems
        report.images += found is not None
        report.masks += len(records)
        report.review += [
            {
                "image": image.file_name,
                "id": each["id"],
                "label": each.get("label"),
                "predicted_iou": each["predicted_iou"],
                "stability_score": each["stability_score"],
                **({"score": each["score"]} if "score" in each else {}),
            }
            for each in records
            if each["predicted_iou"] < least_iou or each["stability_score"] < least_stability
        ]
        if size is not None:
            done.append(AnnotatedImage(image.file_name, size, records, image.id))
    report.review.sort(key=lambda each: min(each["predicted_iou"], each["stability_score"]))
    if not report.joined:
        return report
    known = done
    if prompts.categories is not None:
        known = CocoImages(done, prompts.categories, [], prompts.extra)
    texts = {
        COCO: dataset_text(coco_dataset(known)),
        REVIEW: json_text(report.review),
        PROBLEMS: json_text([problem._asdict() for problem in report.problems]),
    }
    write_outputs(out, texts, settings, origin)
    return report


def report_rows(report: SegmentedDataset) -> Iterator[str]:
    """Yield the lines that tell problems by kind, each with its first example."""
    for kind, number in report.counts.items():
        first = next(problem for problem in report.problems if problem.kind == kind)
        which = "" if first.object is None else f" #{first.object}"
        detail = f" {first.detail}" if first.detail else ""
        yield f"{number} x {kind}: {first.image}{which}{detail}"
