"""Keep the files of a folder of `segment_dataset`: settings, records and results; all are ours."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from os.path import lexists
from pathlib import Path
from typing import Any, NamedTuple

from samjax.annotations.coco import coco_dataset
from samjax.annotations.prompt_set import ImagePrompts, Problem, PromptSet
from samjax.annotations.records import reading
from samjax.errors import AnnotationError
from samjax.files import check_foreign, check_outputs, replacing
from samjax.masks.rle import Record

RUN, RECORDS = "segment_dataset.json", "records"
COCO, REVIEW, PROBLEMS = "annotations.json", "review.json", "problems.json"
_FILES = "files"  # in the file of settings: the hashes of those three
_ADVICE = "choose another folder, or pass --overwrite (overwrite=True) to replace its results"
_ORIGIN = "origin"  # in it, too: where boxes and images were


class Done(NamedTuple):
    """Holds one image that was segmented."""

    size: tuple[int, int]
    records: list[Record]
    problems: list[Problem]


class Origin(NamedTuple):
    """Tells where boxes and images were, relative to the output where possible.

    Attributes:
        boxes: path of the file or folder of boxes.
        sha256: hash of what was read of it.
        image_folder: path of the folder of images.
    """

    boxes: str
    sha256: str
    image_folder: str


def origin_of(out: Path, boxes: Path, image_folder: Path, prompts: PromptSet) -> Origin:
    """Return where the prompts and images of a folder of results come from."""
    text = json.dumps(
        [[asdict(i) for i in prompts.images], prompts.categories, asdict(prompts.extra)]
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Origin(_relative(boxes, out), digest, _relative(image_folder, out))


def image_folder_of(out: Path) -> Path | None:
    """Return the folder of images of which `segment_dataset` wrote ``out``; None if unknown."""
    found = (run_settings(out) or {}).get(_ORIGIN)
    folder = found.get("image_folder") if isinstance(found, dict) else None
    return out / folder if isinstance(folder, str) and (out / folder).is_dir() else None


def low_scores_of(out: Path) -> dict[tuple[str, int], float]:
    """Return the lowest score of the objects in review.json, by image and id; none without one.

    Raises:
        AnnotationError: the file is damaged.
    """
    if run_settings(out) is None or not (out / REVIEW).is_file():
        return {}
    with reading(out / REVIEW, "the review.json of samjax segment-dataset") as file:
        return {
            (each["image"], each["id"]): min(each["predicted_iou"], each["stability_score"])
            for each in json.loads(file.read_text(encoding="utf-8"))
        }


def _relative(path: Path, out: Path) -> str:
    """Return a path relative to the output's: the same on machines that mount both."""
    try:
        return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return path.resolve().as_posix()


def write_outputs(
    out: Path, texts: dict[str, str], settings: dict[str, Any], origin: Origin
) -> None:
    """Write the files of the data set, and their hashes into the file of settings.

    Both hashes are there while they are written: a killed run knows its own files again.
    """
    hashes = {name: [hashlib.sha256(text.encode()).hexdigest()] for name, text in texts.items()}
    earlier = (run_settings(out) or {}).get(_FILES) or {}
    before = {name: [*earlier.get(name, []), *new] for name, new in hashes.items()}
    if earlier:
        check_foreign((out / name for name in texts), _hashed_in(before), AnnotationError)
    settings = {**settings, _ORIGIN: origin._asdict()}
    _write_json(out / RUN, {**settings, _FILES: before})
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _write_json(out / RUN, {**settings, _FILES: hashes})


def _hashed_in(hashes: dict[str, list[str]]) -> Callable[[Path], bool]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest() in hashes.get(path.name, ())


def record_file(out: Path, image: ImagePrompts) -> Path:
    """Return the path of the record of an image."""
    return out / RECORDS / f"{image.file_name}.json"


def check_before(out: Path, images: Sequence[ImagePrompts], origin: Origin) -> None:
    """Refuse a folder in which files would be replaced that are of no earlier run of these boxes.

    Boxes that were changed in their place are the same boxes, and so are moved ones.

    Raises:
        AnnotationError: which file.
    """
    outputs = [out / name for name in (COCO, REVIEW, PROBLEMS)]
    found = [path for path in (*outputs, *(record_file(out, i) for i in images)) if lexists(path)]
    run = run_settings(out)  # looked at last: who writes a file has written it before
    if run is None and (found or lexists(out / RUN)):
        file = found[0] if found else out / RUN
        raise AnnotationError(f"{file} exists and is not of an earlier run; {_ADVICE}")
    check_foreign(set(found) - set(outputs), _is_record, AnnotationError)
    if run and run.get(_FILES):
        check_foreign(outputs, _hashed_in(run[_FILES]), AnnotationError)
    earlier = (run or {}).get(_ORIGIN)
    if earlier and all(earlier.get(key) != getattr(origin, key) for key in ("boxes", "sha256")):
        raise AnnotationError(
            f"{out} holds masks of the boxes of {out / earlier.get('boxes', '?')}; {_ADVICE}"
        )


def run_settings(out: Path) -> dict[str, Any] | None:
    """Return the content of the file of settings; None where there is none of ours."""
    try:
        found = json.loads((out / RUN).read_text(encoding="utf-8"))
        lists = list(found.get(_FILES, {}).values())
        found.get(_ORIGIN, {}).values()
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


def start(out: Path, settings: dict[str, Any], origin: Origin, overwrite: bool) -> None:
    """Write the file of settings, or compare it."""
    check_outputs(out / name for name in (RUN, COCO, REVIEW, PROBLEMS))
    earlier = None if overwrite else run_settings(out)
    if earlier is None:
        _write_json(out / RUN, {**settings, _ORIGIN: origin._asdict()})
    elif {name: earlier.get(name) for name in settings} != settings:
        raise AnnotationError(f"{out} holds masks made with other settings; {_ADVICE}")


def record_key(path: Path, image: ImagePrompts, settings: dict[str, Any]) -> str:
    """Return the hash of all that the masks of an image depend on."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps([content, asdict(image), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_record(path: Path, key: str) -> Done | str | None:
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


def write_record(path: Path, key: str, name: str, done: Done | str) -> None:
    """Write what was found in an image, or why nothing could be, with its key and a checksum."""
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
        temporary.write_text(json_text(content), encoding="utf-8")


def json_text(content: Any) -> str:
    """Return JSON with a line for each value."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
