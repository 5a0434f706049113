"""Represent data sets as images with target masks, whatever files they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

import samjax
from samjax.errors import AnnotationError


@dataclass(frozen=True)
class Target:
    """Holds the ground truth of one object.

    Attributes:
        mask: pixels of the object.
        ignore: pixels that are not scored, or None.
        box: the annotation's own box (x0, y0, x1, y1) in pixels, or None.
        area: the annotation's own area in pixels, or the mask's.
        category: the annotation's category, or None.
    """

    id: str
    mask: Bool[np.ndarray, "H W"]
    ignore: Bool[np.ndarray, "H W"] | None = None
    box: tuple[float, float, float, float] | None = None
    area: float = 0.0
    category: int | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Filters:
    """Selects targets by crowd flag, area in pixels, and area as a share of the image."""

    crowd: bool = False
    min_area: float = 1.0
    min_fraction: float = 0.0

    def keep(self, target: Target) -> bool:
        """Tell whether a target is used; empty masks never are, since they allow no prompt."""
        area = max(target.area, 0.0)
        part = np.count_nonzero(target.mask) / target.mask.size
        wanted = (self.crowd or not target.crowd) and area >= self.min_area
        return bool(wanted and part > 0 and part >= self.min_fraction)


@dataclass(frozen=True)
class Entry:
    """Refers to an image file and its targets, which ``load`` reads on demand."""

    id: str
    path: Path
    load: Callable[[], list[Target]] = field(repr=False)

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """Read the image as RGB.

        Raises:
            ImageError: the image cannot be read.
        """
        return samjax.read_image(self.path)

    def targets(self, filters: Filters) -> list[Target]:
        """Load the targets that pass the filters."""
        return [t for t in self.load() if filters.keep(t)]


@dataclass(frozen=True)
class Dataset:
    """Lists images in a fixed order.

    Attributes:
        kind: layout of the files.
        note: remark for the report, such as the number of images left out.
        source: the COCO file, or None.
    """

    name: str
    kind: str
    entries: Sequence[Entry]
    note: str = ""
    source: Path | None = None

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def fingerprint(self) -> str:
        """Hash image names, file sizes and the COCO file, to tell data sets of one name apart."""
        digest = hashlib.blake2b(digest_size=6)
        for entry in self.entries:
            digest.update(f"{entry.id} {entry.path.stat().st_size}\n".encode())
        if self.source is not None:
            digest.update(self.source.read_bytes())
        return digest.hexdigest()

    def first(self, limit: int | None) -> Dataset:
        """Keep the first ``limit`` images; all if None."""
        entries = self.entries if limit is None else self.entries[:limit]
        return replace(self, entries=entries)


def draw(keys: Sequence[str], count: int, seed: int = 0) -> frozenset[str]:
    """Draw ``count`` of the keys by the smallest hashes, independent of their order."""

    def rank(key: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=16).digest()

    return frozenset(sorted(keys, key=rank)[:count])


def check_size(entry_path: Path, image: np.ndarray, targets: Sequence[Target]) -> None:
    """Raise AnnotationError if masks have another size than their image."""
    for target in targets:
        if target.mask.shape != image.shape[:2]:
            have, want = target.mask.shape, image.shape[:2]
            raise AnnotationError(
                f"{entry_path}: the mask {target.id} has {have[1]} x {have[0]} pixels, the image "
                f"{want[1]} x {want[0]}: annotations and images do not belong together"
            )
