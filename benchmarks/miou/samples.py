"""What the protocols work on: images with target masks, whatever files they come from."""

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
    """One object to be found.

    ``mask``: its pixels. ``ignore``: pixels that count neither for nor against, or None.
    ``box``: the annotation's own box (x0, y0, x1, y1) in pixels, or None. ``area``: the
    annotation's own area in pixels, or the mask's. ``category``: the annotation's, or None.
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
    """Which targets take part: crowds, area in pixels, area as a part of the image."""

    crowd: bool = False
    min_area: float = 1.0
    min_fraction: float = 0.0

    def keep(self, target: Target) -> bool:
        """Whether this target takes part. A mask without a pixel cannot be asked for."""
        area = max(target.area, 0.0)
        part = np.count_nonzero(target.mask) / target.mask.size
        wanted = (self.crowd or not target.crowd) and area >= self.min_area
        return bool(wanted and part > 0 and part >= self.min_fraction)


@dataclass(frozen=True)
class Entry:
    """An image file with its targets, which ``load`` reads when they are needed."""

    id: str
    path: Path
    load: Callable[[], list[Target]] = field(repr=False)

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The image, RGB.

        Raises:
            ImageError: it cannot be read.
        """
        return samjax.read_image(self.path)

    def targets(self, filters: Filters) -> list[Target]:
        """The targets that take part."""
        return [t for t in self.load() if filters.keep(t)]


@dataclass(frozen=True)
class Dataset:
    """Images in a fixed order.

    ``kind`` is the layout of the files, ``note`` what to know about it, ``source`` the COCO file.
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
        """Tells data sets of the same name apart: image names and sizes, and the COCO file."""
        digest = hashlib.blake2b(digest_size=6)
        for entry in self.entries:
            digest.update(f"{entry.id} {entry.path.stat().st_size}\n".encode())
        if self.source is not None:
            digest.update(self.source.read_bytes())
        return digest.hexdigest()

    def first(self, limit: int | None) -> Dataset:
        """The first ``limit`` images; all if None."""
        entries = self.entries if limit is None else self.entries[:limit]
        return replace(self, entries=entries)


def draw(keys: Sequence[str], count: int, seed: int = 0) -> frozenset[str]:
    """``count`` of the keys at random: those of the smallest hashes, in whatever order given."""

    def rank(key: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=16).digest()

    return frozenset(sorted(keys, key=rank)[:count])


def check_size(entry_path: Path, image: np.ndarray, targets: Sequence[Target]) -> None:
    """Raises AnnotationError where masks have another size than their image."""
    for target in targets:
        if target.mask.shape != image.shape[:2]:
            have, want = target.mask.shape, image.shape[:2]
            raise AnnotationError(
                f"{entry_path}: the mask {target.id} has {have[1]} x {have[0]} pixels, the image "
                f"{want[1]} x {want[0]}: annotations and images do not belong together"
            )
