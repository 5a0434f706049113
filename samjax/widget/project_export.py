"""Export a whole annotator: all images that were opened, to a path or to memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samjax.annotations import AnnotatedImage
from samjax.errors import ImageError
from samjax.widget.controller import Controller
from samjax.widget.export import export, record_of, with_new_names
from samjax.widget.opened_export import CocoEntry, kept_entry, opened_dataset
from samjax.widget.state import Object, Prompt
from samjax.widget.state_file import FinishedMask


@dataclass(frozen=True)
class Choice:
    """Chooses the objects of an export.

    Attributes:
        unfinished: those that were not committed, too. Without them an opened object whose
            correction is not done is exported as it was.
        reviewed: of the objects that annotations gave only those that were accepted or finished.
    """

    unfinished: bool = True
    reviewed: bool = False


def write_export(
    controller: Controller, kind: str, path: Path, choice: Choice, inputs: Sequence[Path] = ()
) -> tuple[Path, str]:
    """Write the objects of all images, and return the path and the number of masks and images.

    Raises:
        AnnotationError: an unknown kind, or a path that cannot be written.
    """
    images: list[AnnotatedImage] = []
    entries: list[list[CocoEntry | None]] = []
    others: list[list[CocoEntry]] = []
    opened, maskless = controller.project.annotations, 0
    for index in controller.project.known():
        with controller.lock:  # what another annotator on the same folder saved belongs to it
            controller.project.refresh(index)
        try:
            done = controller.finished(index)
        except ImageError:
            if opened is None or not opened.has(index):
                continue  # nothing can be drawn on an image that cannot be read
            done = controller.project.finished_before(index)
            maskless += len(controller.project.history(index).present.objects) - len(done)
        if (size := controller.project.size(index)) is None:
            continue
        kept = list(_chosen(done, choice))
        records = [record_of(each, mask, "coco_rle") for each, mask in kept]
        source = opened.source(index) if opened is not None else None
        coco: Mapping[str, Any] = (source and source.coco) or {}
        name = controller.names[index]
        if source is not None and opened is not None and opened.set.format in ("coco", kind):
            name = source.name
        images.append(AnnotatedImage(name, size, records, coco.get("id")))
        entries.append([kept_entry(each) for each, _ in kept])
        others.append([] if opened is None or choice.reviewed else opened.unusable(index))
    categories: Sequence[str] | Mapping[str, int] = controller.classes
    if opened is not None and opened.set.format == kind:
        categories = with_new_names(opened.set.categories, controller.classes)
    dataset = None
    if kind == "coco" and images:
        used = (record["label"] for image in images for record in image.records)
        names = with_new_names(categories, used)
        dataset = opened_dataset(images, entries, others, names, opened)
    numbered = opened is not None and opened.set.format == "png"
    written = export(kind, path, images, categories, inputs, dataset, numbered)
    masks = sum(len(image.records) for image in images)
    told = f"{masks} masks" if masks != 1 else "1 mask"
    told += f" of {len(images)} images" if len(images) != 1 else " of 1 image"
    if maskless:
        told += f" ({maskless} left out: their images cannot be read)"
    return written, told


def _chosen(
    done: Sequence[tuple[Object, FinishedMask]], choice: Choice
) -> Iterator[tuple[Object, FinishedMask]]:
    for each, mask in done:
        if choice.reviewed and not each.done:
            continue
        if choice.unfinished or each.committed:
            yield each, mask
        elif each.origin is not None and each.base is not None:
            before = replace(each, label=each.origin.label, prompt=Prompt(), strokes=())
            rle = {"size": list(each.base.size), "counts": each.base.counts}
            yield before, FinishedMask(rle, None, None)


def packed(controller: Controller, kind: str, choice: Choice) -> tuple[str, bytes]:
    """Export to memory: return the name of a file and its content; folders come as .zip.

    Raises:
        AnnotationError: an unknown kind, or nothing to export.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "annotations"
        target = folder / "annotations.json" if kind == "coco" else folder
        write_export(controller, kind, target, choice)
        if kind == "coco":
            return target.name, target.read_bytes()
        archive = Path(shutil.make_archive(str(Path(name) / f"annotations_{kind}"), "zip", folder))
        return archive.name, archive.read_bytes()
