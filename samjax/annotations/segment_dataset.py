"""Segment a data set of which boxes or points are known, image by image, and write it as COCO."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from os.path import lexists
from pathlib import Path
from typing import Any, NamedTuple

from samjax.annotations.coco import CocoImages, coco_dataset, dataset_text
from samjax.annotations.prompts import (
    ImagePrompts,
    Problem,
    PromptSet,
    read_prompts,
)
from samjax.annotations.records import AnnotatedImage
from samjax.annotations.segment_boxes import segment_objects
from samjax.annotations.usable import usable_objects
from samjax.arguments import flag, function, real_number, several, whole_number
from samjax.engine.registry import as_segmenter
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import AnnotationError, ImageError
from samjax.files import (
    check_foreign,
    check_outputs,
    content_of,
    given_path,
    made_folder,
    protecting,
    replacing,
    writing,
)
from samjax.image.read import read_image
from samjax.masks.rle import Record
from samjax.predictor import SamPredictor
from samjax.words import counted

MENDED = "mended"  # in the kind of a problem: the object was segmented all the same

_RUN, _RECORDS = "segment_dataset.json", "records"
_COCO, _REVIEW, _PROBLEMS = "annotations.json", "review.json", "problems.json"
_FILES = "files"  # in the file of settings: the hashes of those three
_ADVICE = "choose another folder, or pass --overwrite (overwrite=True) to replace its results"


class Done(NamedTuple):
    """Holds one image that was segmented."""

    size: tuple[int, int]
    records: list[Record]
    problems: list[Problem]


@dataclass
class SegmentedDataset:
    """Tells what `segment_dataset` did.

    Attributes:
        path: the COCO file.
        images: number of images of the data set.
        masks: number of masks written.
        earlier: number of images that an earlier run had done.
        joined: whether the data set was written: by the last of several shards, not before.
        review: objects with a low score, the lowest first: image, id, label, predicted_iou and
            stability_score.
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
    review_below: float | int | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[Iterable[ImagePrompts]], Iterable[ImagePrompts]] | None = None,
) -> SegmentedDataset:
    """Turn the boxes and points of a data set into masks, and write them as COCO.

    Ids of images, objects and categories, crowds and attributes are kept. Each image is written
    when it is done: the same call goes on after an interruption, and ends with the same bytes.
    ``out`` gets annotations.json (COCO); review.json, the objects with low scores; problems.json,
    all that was left out or mended; records/, one file an image; segment_dataset.json, settings.

    Args:
        boxes: COCO JSON, YOLO data set, or CSV; see `read_prompts`.
        images: folder of the images.
        out: folder to write.
        sam: the model, or what to load; None loads the embedded checkpoint.
        normalised: boxes of a COCO or CSV file are fractions of the images' sides.
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
    prompts = read_prompts(boxes, images, normalised=normalised)
    fractions = normalised or given_path(boxes, AnnotationError).is_dir()
    folder, target = given_path(images, AnnotationError), given_path(out, AnnotationError)
    if not overwrite:
        _check_before(target, prompts.images)
    model = as_segmenter(ModelSpec() if sam is None else sam)
    settings = {
        "weights": model.fingerprint,
        "mask_threshold": model.mask_threshold,
        "normalised": fractions,
    }
    known = content_of([given_path(boxes, AnnotationError)])
    inputs = [*known, *(folder / image.file_name for image in prompts.images)]
    with protecting(inputs, AnnotationError), writing(target, AnnotationError):
        made_folder(target, AnnotationError)
        _start(target, settings, overwrite)
        own = prompts.images[shard[0] - 1 :: shard[1]]
        earlier = _segment(target, folder, own, model, settings, progress)
        return _join(target, folder, prompts, model, settings, review_below, earlier)


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
        path, record = folder / image.file_name, _record(out, image)
        if not path.is_file():
            continue
        key = _key(path, image, settings)
        if isinstance(_read(record, key), Done):
            earlier += 1
            continue
        try:
            found: Done | str = segment_image(model, path, image, settings["normalised"])
        except ImageError as error:
            found = str(error)  # tried again by the next run
        _write(record, key, image.file_name, found)
    return earlier


def _join(
    out: Path,
    folder: Path,
    prompts: PromptSet,
    model: Segmenter,
    settings: dict[str, Any],
    review_below: float | int | None,
    earlier: int,
) -> SegmentedDataset:
    """Write the data set of all records; nothing while images of other shards have none."""
    images = prompts.images
    report = SegmentedDataset(out / _COCO, images=len(images), problems=list(prompts.problems))
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
            found = _read(_record(out, image), _key(path, image, settings))
            if found is None:
                report.joined = False
                continue
        if isinstance(found, str):
            report.problems.append(Problem("image: cannot be used", image.file_name, None, found))
            found = None
        size = image.size if found is None else found.size
        records = [] if found is None else found.records
        report.problems += [] if found is None else found.problems
        report.masks += len(records)
        report.review += [
            {
                "image": image.file_name,
                "id": each["id"],
                "label": each.get("label"),
                "predicted_iou": each["predicted_iou"],
                "stability_score": each["stability_score"],
            }
            for each in records
            if each["predicted_iou"] < least_iou or each["stability_score"] < least_stability
        ]
        if size is not None:
            done.append(AnnotatedImage(image.file_name, size, records, image.id))
    report.review.sort(key=lambda each: min(each["predicted_iou"], each["stability_score"]))
    if not report.joined:
        return report
    known = done if prompts.categories is None else CocoImages(done, prompts.categories, [])
    texts = {
        _COCO: dataset_text(coco_dataset(known)),
        _REVIEW: _json_text(report.review),
        _PROBLEMS: _json_text([problem._asdict() for problem in report.problems]),
    }
    _write_outputs(out, texts, settings)
    return report


def _write_outputs(out: Path, texts: dict[str, str], settings: dict[str, Any]) -> None:
    """Write the files of the data set, and their hashes into the file of settings.

    Both hashes are there while they are written: a killed run knows its own files again.
    """
    hashes = {name: [hashlib.sha256(text.encode()).hexdigest()] for name, text in texts.items()}
    earlier = (_run(out) or {}).get(_FILES) or {}
    before = {name: [*earlier.get(name, []), *new] for name, new in hashes.items()}
    if earlier:
        check_foreign((out / name for name in texts), _hashed_in(before), AnnotationError)
    _write_json(out / _RUN, {**settings, _FILES: before})
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _write_json(out / _RUN, {**settings, _FILES: hashes})


def _hashed_in(hashes: dict[str, list[str]]) -> Callable[[Path], bool]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest() in hashes.get(path.name, ())


def _record(out: Path, image: ImagePrompts) -> Path:
    return out / _RECORDS / f"{image.file_name}.json"


def _check_before(out: Path, images: Sequence[ImagePrompts]) -> None:
    """Refuse a folder in which files would be replaced that are of no earlier run.

    Raises:
        AnnotationError: which file.
    """
    outputs = [out / name for name in (_COCO, _REVIEW, _PROBLEMS)]
    found = [path for path in (*outputs, *(_record(out, i) for i in images)) if lexists(path)]
    run = _run(out)  # looked at last: who writes a file has written it before
    if run is None and (found or lexists(out / _RUN)):
        file = found[0] if found else out / _RUN
        raise AnnotationError(f"{file} exists and is not of an earlier run; {_ADVICE}")
    check_foreign(set(found) - set(outputs), _is_record, AnnotationError)
    if run and run.get(_FILES):
        check_foreign(outputs, _hashed_in(run[_FILES]), AnnotationError)


def _run(out: Path) -> dict[str, Any] | None:
    """Return the content of the file of settings; None where there is none of ours."""
    try:
        found = json.loads((out / _RUN).read_text(encoding="utf-8"))
        lists = list(found.get(_FILES, {}).values())
    except (OSError, ValueError, AttributeError):
        return None
    good = "weights" in found and all(isinstance(each, list) for each in lists)
    return found if good else None


def _is_record(path: Path) -> bool:
    """Tell whether a file is a record, be it damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    return isinstance(found, dict) and {"key", "checksum", "body"} <= found.keys()


def _start(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Write the file of settings, or compare it."""
    check_outputs(out / name for name in (_RUN, _COCO, _REVIEW, _PROBLEMS))
    earlier = None if overwrite else _run(out)
    if earlier is None:
        _write_json(out / _RUN, settings)
    elif {name: earlier.get(name) for name in settings} != settings:
        raise AnnotationError(f"{out} holds masks made with other settings; {_ADVICE}")


def _key(path: Path, image: ImagePrompts, settings: dict[str, Any]) -> str:
    """Return the hash of all that the masks of an image depend on."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps([content, asdict(image), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, key: str) -> Done | str | None:
    """Return what was written for an image under the same key; None if it must be made.

    A text tells why the image could not be used.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        body = content["body"]
        if content["key"] != key or content["checksum"] != _checksum(key, body):
            return None
        if isinstance(body, str):
            return body
        height, width = body["size"]
        problems = [Problem(*values) for values in body["problems"]]
        return Done((height, width), body["records"], problems)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(path: Path, key: str, name: str, done: Done | str) -> None:
    body: Any = done
    if isinstance(done, Done):
        coco_dataset([(name, done.size, done.records)])  # refuses what COCO cannot hold
        body = {"size": done.size, "records": done.records, "problems": done.problems}
        body = json.loads(json.dumps(body))
    _write_json(path, {"key": key, "checksum": _checksum(key, body), "body": body})


def _checksum(key: str, body: Any) -> str:
    text = key + json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(_json_text(content), encoding="utf-8")


def _json_text(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def report_rows(report: SegmentedDataset) -> Iterator[str]:
    """Yield the lines that tell problems by kind, each with its first example."""
    for kind, number in report.counts.items():
        first = next(problem for problem in report.problems if problem.kind == kind)
        which = "" if first.object is None else f" #{first.object}"
        detail = f" {first.detail}" if first.detail else ""
        yield f"{number} x {kind}: {first.image}{which}{detail}"
