"""Check a data set's masks, image by image, and report what is wrong with them."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samjax.annotations.label_files import shown_size
from samjax.annotations.quality import KINDS, NOTES, Finding, Limits, image_findings, mask_key
from samjax.annotations.records import DEFAULT_LABEL, AnnotatedImage
from samjax.annotations.sources import Annotated, open_annotations
from samjax.arguments import function, instance, real_number
from samjax.errors import AnnotationError, printable
from samjax.masks.rle import to_coco_rle
from samjax.words import counted

_SHOWN = 10  # classes in the text
_KEPT = 48  # findings of each kind that keep their masks, to be drawn


@dataclass
class CheckReport:
    """Holds the findings about a data set.

    Attributes:
        path: the annotations.
        format: their format.
        image_folder: folder of the images; None if it is not known.
        images: number of images.
        masks: number of masks.
        classes: (number of masks, number of images) of each category, the most frequent first.
        findings: all findings, in the order of the images, without their masks.
    """

    path: Path
    format: str
    image_folder: Path | None
    images: int = 0
    masks: int = 0
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _drawable: dict[str, list[tuple[float, int, Finding, Path | None]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind that occurs, the gravest kind first."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def worst(self, count: int = 24) -> list[tuple[Finding, Path | None]]:
        """Return the worst findings with their masks and image files, each kind in turn."""
        ranked = {kind: sorted(kept, reverse=True) for kind, kept in self._drawable.items()}
        chosen: list[tuple[Finding, Path | None]] = []
        for kinds in ([k for k in KINDS if k not in NOTES], NOTES):
            columns = [ranked[kind] for kind in kinds if kind in ranked]
            for row in itertools.zip_longest(*columns):
                chosen += [(entry[2], entry[3]) for entry in row if entry is not None]
        return chosen[:count]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "image_folder": None if self.image_folder is None else str(self.image_folder),
            "images": self.images,
            "masks": self.masks,
            "classes": {
                name: {"masks": masks, "images": images}
                for name, (masks, images) in self.classes.items()
            },
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def rows(self) -> list[str]:
        """Return the report as lines of text: the largest classes, then kinds of findings.

        Each kind has its worst example.
        """
        where = "no image files" if self.image_folder is None else f"images in {self.image_folder}"
        total = f"{counted(self.images, 'image')}, {counted(self.masks, 'mask')}"
        lines = [
            f"{self.path}: {self.format}, {total}; {where}",
            "",
        ]
        table: list[tuple[str, ...]] = [("class", "masks", "images")]
        shown = list(self.classes.items())[:_SHOWN]
        table += [(name, str(m), str(i)) for name, (m, i) in shown]
        more = len(self.classes) - len(shown)
        lines += [*_aligned(table), *([f"{more} more"] if more else []), ""]
        if not self.findings:
            return [*map(printable, lines), "no findings"]
        images: dict[str, set[str]] = {}
        for finding in self.findings:
            images.setdefault(finding.kind, set()).add(finding.image)
        worst = {kind: max(kept)[2] for kind, kept in self._drawable.items()}
        table = [("finding", "count", "images", "worst")]
        for kind, number in self.counts.items():
            example = worst[kind]
            objects = " and ".join(f"#{i}" for i in example.objects)
            text = " ".join(filter(None, (example.image, objects))) + (
                f": {example.detail}" if example.detail else ""
            )
            table.append((kind, str(number), str(len(images[kind])), text))
        return [*map(printable, lines + _aligned(table))]


def check_dataset(
    path: str | os.PathLike[str],
    image_folder: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    limits: Limits | None = None,
    progress: Callable[[Iterator[Annotated]], Iterator[Annotated]] | None = None,
) -> CheckReport:
    """Check the masks of a data set, one image in memory at a time.

    Found are: overlaps, masks inside others, duplicates and copies in other images; small parts,
    small holes, empty masks and entries without a mask; masks that touch the border; boxes that
    are not their mask's; images without objects, missing ones, such of another size, and files
    of the same content; in a folder of ``samjax segment-dataset`` the masks with low scores, too.
    Crowds may overlap and have any parts.

    Args:
        path: COCO, YOLO, labelme, instance PNG, class PNG, or the output of ``samjax automask``.
        image_folder: folder of the images; None looks where each format has them.
        format: "coco", "yolo", "labelme", "png", "semantic" or "automask"; None finds it out.
        limits: what is allowed; None takes the defaults.
        progress: wraps the iterator of images, as ``tqdm`` does.

    Raises:
        AnnotationError: something cannot be read, or limits are not numbers of at least 0.
    """
    limits = instance(Limits() if limits is None else limits, Limits, "limits", AnnotationError)
    for name, value in limits._asdict().items():
        real_number(value, name, 0, error=AnnotationError)
    function(progress, "progress", AnnotationError)
    source = open_annotations(path, format, image_folder)
    report = CheckReport(source.path, source.format, source.image_folder)
    masks: Counter[str] = Counter()
    images: Counter[str] = Counter()
    contents: dict[bytes, str] = {}
    shapes: dict[bytes, tuple[str, int]] = {}
    looked_for = source.image_folder is not None or source.format == "labelme"
    for annotated in iter(source) if progress is None else progress(iter(source)):
        image = annotated.image
        report.images += 1
        report.masks += len(image.records)
        labels = Counter(str(r.get("label", DEFAULT_LABEL)) for r in image.records)
        masks.update(labels)
        images.update(labels.keys())
        found = _file_findings(annotated, contents) if looked_for else []
        is_copy = any(finding.kind == "duplicate image" for finding in found)
        found += image_findings(image, annotated.boxes, limits)
        found += [] if is_copy else _copies(annotated, shapes, limits)
        found += _low_scores(image, source.low_scores)
        for finding in found:
            _keep(report, finding, annotated.file)
    for reason in source.skipped:
        _keep(report, Finding("no mask", source.path.name, detail=reason, severity=1.0), None)
    report.classes = {name: (n, images[name]) for name, n in masks.most_common()}
    return report


def _keep(report: CheckReport, finding: Finding, file: Path | None) -> None:
    """Add a finding; only the worst of each kind keep their masks."""
    number = len(report.findings)
    report.findings.append(finding._replace(masks=(), boxes=()))
    kept = report._drawable.setdefault(finding.kind, [])
    entry = (finding.severity, -number, finding, file)
    if len(kept) < _KEPT:
        heapq.heappush(kept, entry)
    else:
        heapq.heappushpop(kept, entry)


def _file_findings(annotated: Annotated, contents: dict[bytes, str]) -> list[Finding]:
    name, size, _ = annotated.image
    size = (int(size[0]), int(size[1]))
    if annotated.file is None:
        return [Finding("no image", name, severity=1.0, size=size)]
    try:
        with annotated.file.open("rb") as file:
            content = hashlib.file_digest(file, hashlib.blake2b).digest()
        found = shown_size(annotated.file)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's, of damaged files
        detail = f"cannot be read: {' '.join(str(error).split())}"
        return [Finding("no image", name, detail=detail, severity=1.0, size=size)]
    findings = []
    if found != size:
        detail = f"file {found[1]} x {found[0]}, annotations {size[1]} x {size[0]}"
        findings.append(Finding("image size", name, detail=detail, severity=1.0, size=size))
    other = contents.setdefault(content, name)
    if other != name:
        detail = f"the same as {other}"
        findings.append(Finding("duplicate image", name, detail=detail, severity=1.0, size=size))
    return findings


def _copies(
    annotated: Annotated, shapes: dict[bytes, tuple[str, int]], limits: Limits
) -> Iterator[Finding]:
    """Yield the masks that an earlier image has too; small ones may well be equal."""
    name, size, records = annotated.image
    height, width = int(size[0]), int(size[1])
    for number, record in enumerate(records, 1):
        area = record["area"]
        if not 4 * limits.min_region_area <= area < height * width:
            continue
        key = hashlib.blake2b(mask_key(record), digest_size=16).digest()
        own = int(record.get("id", number))
        other, other_id = shapes.setdefault(key, (name, own))
        if other != name:
            detail = f"the same as {other} #{other_id}"
            rle = to_coco_rle(record["segmentation"])
            share = area / (height * width)
            yield Finding("copied mask", name, (own,), detail, share, (rle,), (height, width))


def _low_scores(
    image: AnnotatedImage, low_scores: Mapping[tuple[str, int], float]
) -> Iterator[Finding]:
    """Yield the masks that were listed for review since their scores are low."""
    name, (height, width), records = image
    for record in records:
        score = low_scores.get((name, record.get("id", 0)))
        if score is not None:
            keys = ("predicted_iou", "stability_score")
            detail = ", ".join(f"{key} {record[key]:.2f}" for key in keys if key in record)
            rle = to_coco_rle(record["segmentation"])
            which = (int(record["id"]),)
            size = (int(height), int(width))
            yield Finding("low score", name, which, detail, 1 - score, (rle,), size)


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    """Return lines with aligned columns: numbers right, the first and the last text left."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if 0 < i < 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
