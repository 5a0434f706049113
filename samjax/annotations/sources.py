"""Open annotations of any format, and give their images one by one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from samjax.annotations.coco import coco_images, load_coco
from samjax.annotations.coco_entries import JOIN_RESULTS, is_results
from samjax.annotations.label_map import label_map_to_records, read_label_png
from samjax.annotations.labelme import read_labelme_file
from samjax.annotations.records import AnnotatedImage, reading
from samjax.annotations.segment_files import COCO, image_folder_of, low_scores_of
from samjax.annotations.semantic import LEGENDS, read_semantic
from samjax.annotations.yolo import read_yolo
from samjax.errors import AnnotationError
from samjax.files import check_regular, given_path, refuse_address
from samjax.image.folder import SUFFIXES

FORMATS = ("automask", "coco", "labelme", "png", "semantic", "yolo")

_RUN, _RECORDS = "run.json", "records"


class Annotated(NamedTuple):
    """Holds one image of a source.

    Attributes:
        image: name, size and records; segmentations are run lengths.
        boxes: [x, y, w, h] that the file gives for each record; None where it gives none.
        file: the image's own file; None if it was not found.
    """

    image: AnnotatedImage
    boxes: list[Any]
    file: Path | None


@dataclass
class AnnotationSource:
    """Iterates over the images of a file or folder; only COCO files are held in memory whole.

    Attributes:
        path: the file or folder.
        format: one of `FORMATS`.
        image_folder: folder of the images; None if it is not known.
        skipped: reasons why entries were left out; complete after an iteration.
        low_scores: the objects that ``samjax segment-dataset`` lists for review, by image and id.
    """

    path: Path
    format: str
    image_folder: Path | None
    skipped: list[str] = field(default_factory=list)
    low_scores: dict[tuple[str, int], float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Annotated]:
        self.skipped.clear()
        return _READERS[self.format](self)

    def image_file(self, name: str) -> Path | None:
        """Return the image's file, by its name or by its name without the suffix."""
        if self.image_folder is None:
            return None
        file = self.image_folder / name
        if file.is_file():
            return file
        return self._by_stem.get(PurePosixPath(name).with_suffix("").as_posix())

    @cached_property
    def _by_stem(self) -> dict[str, Path]:
        found = {}
        if self.image_folder is not None:
            for path in _files(self.image_folder, SUFFIXES):
                name = PurePosixPath(path.relative_to(self.image_folder).as_posix())
                found[name.with_suffix("").as_posix()] = path
        return found


def open_annotations(
    path: str | os.PathLike[str],
    format: str | None = None,
    image_folder: str | os.PathLike[str] | None = None,
) -> AnnotationSource:
    """Open annotations to iterate over them.

    Args:
        path: a COCO JSON file, a folder of labelme JSON files or one of them, a YOLO data set, a
            folder of instance PNGs or one of them, a folder of class PNGs with a legend, or the
            output of ``samjax automask``.
        format: one of `FORMATS`; None finds it out.
        image_folder: folder that the images' names are relative to; None looks where each format
            has them: in ``images``, beside the file, or where ``samjax automask`` or
            ``samjax segment-dataset`` found them.

    Raises:
        AnnotationError: nothing is there, it is of no known format, or of several.
    """
    refuse_address(path, AnnotationError)
    path = given_path(path, AnnotationError)
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder: check the path")
    check_regular(path, AnnotationError)
    if format is not None and format not in FORMATS:
        raise AnnotationError(f"format is {format!r}: use one of {', '.join(FORMATS)}")
    kind, path = _find_format(path, format)
    if image_folder is not None:
        folder: Path | None = given_path(image_folder, AnnotationError)
        if folder is not None and not folder.is_dir():
            raise AnnotationError(f"{folder}: no such folder of images: check the path")
    else:
        folder = _image_folder(path, kind)
    ours = kind == "coco" and path.name == COCO
    return AnnotationSource(path, kind, folder, [], low_scores_of(path.parent) if ours else {})


def _find_format(path: Path, format: str | None) -> tuple[str, Path]:
    """Return the format and the file or folder that holds it."""
    if path.is_file():
        return format or _format_of_file(path), path
    if format == "coco" or (format is None and not (path / _RUN).exists()):
        found = [file for file in sorted(path.glob("*.json")) if _keys(file) == "coco"]
        if len(found) > 1 or (format == "coco" and not found):
            names = ", ".join(file.name for file in found) or "none"
            raise AnnotationError(f"{path}: COCO files: {names}: pass the path of one")
        if found:
            return "coco", found[0]
    if format is not None:
        return format, path
    if (path / _RUN).exists() and (path / _RECORDS).is_dir():
        return "automask", path
    if (path / "data.yaml").exists():
        return "yolo", path
    if any((path / f"legend.{kind}").exists() for kind in LEGENDS):
        return "semantic", path
    if any(_keys(file) == "labelme" for file in _files(path, (".json",))):
        return "labelme", path
    if next(_files(path, (".png",)), None) is not None:
        return "png", path
    raise AnnotationError(
        f"{path}: no annotations found: pass a COCO file, or a folder of labelme, YOLO, PNG or "
        "samjax automask"
    )


def _format_of_file(path: Path) -> str:
    if path.suffix.lower() == ".png":
        return "png"
    with reading(path, "annotations in JSON or PNG") as file:
        if is_results(json.loads(file.read_text(encoding="utf-8-sig"))):
            raise AnnotationError(JOIN_RESULTS)
    kind = _keys(path)
    if kind is None:
        raise AnnotationError(f"{path}: is JSON of neither COCO nor labelme: pass one of these")
    return kind


def _keys(file: Path) -> str | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return "coco" if "images" in content else "labelme" if "shapes" in content else None


def _image_folder(path: Path, kind: str) -> Path | None:
    if kind == "automask":
        with reading(path / _RUN, "a run file of samjax automask") as file:
            folder = path / json.loads(file.read_text(encoding="utf-8"))["images"]
        return folder if folder.is_dir() else None
    if kind == "labelme":
        return None  # each file says where
    if kind == "coco" and path.name == COCO and (known := image_folder_of(path.parent)):
        return known
    top = path if path.is_dir() else path.parent
    places = [top / "images", top.parent / "images"]
    if kind == "coco":
        places.append(top)
    return next((place for place in places if place.is_dir()), None)


def _files(folder: Path, suffixes: Any) -> Iterator[Path]:
    """Yield the files of a folder at any depth, sorted within each folder; hidden ones not."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(place) / name


def _coco(source: AnnotationSource) -> Iterator[Annotated]:
    with reading(source.path, "a COCO JSON file") as file:
        dataset = load_coco(file)
        images = coco_images(dataset, "coco_rle")
        entries = dataset.pop("annotations", ())
        often = Counter(a.get("id") for a in entries)
        boxes = {a.get("id"): a.get("bbox") for a in entries if often[a.get("id")] == 1}
    del dataset, entries
    source.skipped += images.skipped
    for image in images:
        given = [boxes.get(record.get("id")) for record in image.records]
        yield Annotated(image, given, source.image_file(image.file_name))


def _automask(source: AnnotationSource) -> Iterator[Annotated]:
    found = False
    for path in _files(source.path / _RECORDS, (".json",)):
        with reading(path, "a record of samjax automask") as file:
            content = json.loads(file.read_text(encoding="ascii"))
            entry = {"id": 1, "file_name": content["image"]}
            entry |= {"height": content["height"], "width": content["width"]}
            masks = [{**mask, "image_id": 1} for mask in content["masks"]]
            labels = sorted({mask["category_id"] for mask in masks})
            names = [{"id": label, "name": "object"} for label in labels]
            data = {"images": [entry], "annotations": masks, "categories": names}
            (image,) = coco_images(data, "coco_rle")
        found = True
        boxes = [mask.get("bbox") for mask in masks]
        image = AnnotatedImage(image.file_name, image.size, image.records)
        yield Annotated(image, boxes, source.image_file(image.file_name))
    if not found:
        raise AnnotationError(f"{source.path}: samjax automask has finished no image yet")


def _yolo(source: AnnotationSource) -> Iterator[Annotated]:
    for image in read_yolo(source.path):
        yield _plain(source, image)


def _semantic(source: AnnotationSource) -> Iterator[Annotated]:
    for image in read_semantic(source.path):
        yield _plain(source, image)


def _png(source: AnnotationSource) -> Iterator[Annotated]:
    single = source.path.is_file()
    for path in iter([source.path]) if single else _files(source.path, (".png",)):
        labels = read_label_png(path)
        height, width = labels.shape
        records = label_map_to_records(labels, "coco_rle")
        name = path.name if single else path.relative_to(source.path).as_posix()
        yield _plain(source, AnnotatedImage(name, (height, width), records))


def _labelme(source: AnnotationSource) -> Iterator[Annotated]:
    single = source.path.is_file()
    top = source.path.parent if single else source.path
    for path in iter([source.path]) if single else _files(source.path, (".json",)):
        found = read_labelme_file(path, top, "coco_rle")
        if found is None:
            source.skipped.append(f"{path}: JSON without shapes")
            continue
        source.skipped += [f"{path}: {line}" for line in found.skipped]
        beside = found.image_path if found.image_path.is_file() else None
        yield _plain(source, found.image)._replace(
            file=source.image_file(found.image.file_name) or beside
        )


def _plain(source: AnnotationSource, image: AnnotatedImage) -> Annotated:
    return Annotated(image, [None] * len(image.records), source.image_file(image.file_name))


_READERS: dict[str, Callable[[AnnotationSource], Iterator[Annotated]]] = {
    "automask": _automask,
    "coco": _coco,
    "labelme": _labelme,
    "png": _png,
    "semantic": _semantic,
    "yolo": _yolo,
}
