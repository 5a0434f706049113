"""Encode masks as run lengths: the official uncompressed form and COCO's strings.

NumPy and pycocotools do the work. A segmentation has one of the three forms of the official
automatic masks:

- H x W bool array ("binary_mask");
- ``{"size": [h, w], "counts": [...]}`` ("uncompressed_rle"): lengths of the runs of zeros and
  ones in turn, zeros first, down the columns (column-major);
- ``{"size": [h, w], "counts": "..."}`` ("coco_rle"): the same, compressed by pycocotools.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from samjax.errors import AnnotationError

Rle: TypeAlias = dict[str, Any]
Segmentation: TypeAlias = Any  # a bool array or an Rle
Record: TypeAlias = dict[str, Any]  # an official automatic-mask record

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")

_CHUNK_PIXELS = 2**24  # masks encoded at once: bounds the temporary arrays


class Cropped(NamedTuple):
    """A crop is the smallest part of a mask with all its pixels; 0 x 0 for an empty mask."""

    top: int
    left: int
    pixels: Bool[np.ndarray, "h w"]

    @property
    def box(self) -> list[int]:
        """Return [x, y, w, h] as in the official records: w and h are last minus first."""
        height, width = self.pixels.shape
        return [self.left, self.top, max(0, width - 1), max(0, height - 1)]

    @property
    def window(self) -> tuple[slice, slice]:
        """Return the slices of the crop in the image."""
        height, width = self.pixels.shape
        return np.s_[self.top : self.top + height, self.left : self.left + width]


def masks_to_rle(masks: Bool[np.ndarray, "N H W"]) -> list[Rle]:
    """Return uncompressed run lengths of N masks, equal to the official mask_to_rle_pytorch."""
    count, height, width = masks.shape
    step = max(1, _CHUNK_PIXELS // max(1, height * width))
    return [rle for i in range(0, count, step) for rle in _encode(masks[i : i + step])]


def mask_to_rle(mask: Bool[np.ndarray, "H W"]) -> Rle:
    """Return the uncompressed run lengths of one mask."""
    return masks_to_rle(mask[None])[0]


def _encode(masks: Bool[np.ndarray, "N H W"]) -> list[Rle]:
    count, height, width = masks.shape
    changed = np.empty(masks.shape, bool)
    np.not_equal(masks[:, 1:], masks[:, :-1], out=changed[:, 1:])
    # Before the first pixel of a column comes the last one of the column on its left.
    changed[:, 0, 1:] = masks[:, 0, 1:] != masks[:, -1, :-1]
    changed[:, 0, 0] = masks[:, 0, 0]  # a first run of no zeros
    index, pixel = np.divmod(np.flatnonzero(changed), height * width)
    row, column = np.divmod(pixel, width)
    # Few pixels change: sorting them is cheaper than transposing the masks.
    position = np.sort((index * width + column) * height + row)
    bounds = np.searchsorted(position, np.arange(count + 1) * (height * width))
    rles = []
    for i in range(count):
        changes = position[bounds[i] : bounds[i + 1]] - i * height * width
        counts = np.diff(changes, prepend=0, append=height * width).tolist()
        rles.append({"size": [height, width], "counts": counts})
    return rles


def rle_to_mask(rle: Rle) -> Bool[np.ndarray, "H W"]:
    """Return the mask of either kind of run lengths (official rle_to_mask; here row-major).

    Raises:
        AnnotationError: not run lengths, or not of ``size``.
    """
    height, width = _size(rle)
    return _fill(_counts(rle), height, width)


def _fill(counts: Int[np.ndarray, " R"], height: int, width: int) -> Bool[np.ndarray, "H W"]:
    mask = np.zeros((height, width), bool)
    position = np.cumsum(counts)[:-1]
    # A run of no pixels changes the same pixel twice; at the very end nothing is left to change.
    position = position[position < height * width]
    column, row = np.divmod(position, height)
    np.bitwise_xor.at(mask.view(np.uint8).reshape(-1), row * width + column, 1)
    mask[0] ^= (np.searchsorted(position, np.arange(width) * height) % 2).astype(bool)
    for above, here in itertools.pairwise(mask):
        np.logical_xor(above, here, out=here)
    return mask


def area_from_rle(rle: Rle) -> int:
    """Count the pixels of either kind of run lengths (official area_from_rle)."""
    return int(_counts(rle)[1::2].sum())


def coco_encode_rle(rle: Rle) -> Rle:
    """Encode run lengths as COCO's, ``counts`` a str for JSON (official coco_encode_rle).

    Raises:
        AnnotationError: not run lengths, or not of ``size``.
    """
    from pycocotools import mask as coco

    if _is_coco(rle):
        return rle
    height, width = _size(rle)
    counts = _counts(rle).astype(np.uint32)
    encoded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def segmentation_size(segmentation: Segmentation) -> tuple[int, int]:
    """Return (h, w) of a segmentation of any form.

    Raises:
        AnnotationError: none of the three forms.
    """
    if isinstance(segmentation, dict):
        return _size(segmentation)
    height, width = _array(segmentation).shape
    return height, width


def segmentation_area(segmentation: Segmentation) -> int:
    """Count the pixels of a segmentation of any form."""
    if isinstance(segmentation, dict):
        return area_from_rle(segmentation)
    return int(np.count_nonzero(_array(segmentation)))


def to_mask(segmentation: Segmentation) -> Bool[np.ndarray, "H W"]:
    """Return the bool mask of a segmentation of any form; an array comes back as it is."""
    return rle_to_mask(segmentation) if isinstance(segmentation, dict) else _array(segmentation)


def to_rle(segmentation: Segmentation) -> Rle:
    """Return the uncompressed run lengths of a segmentation of any form."""
    if not isinstance(segmentation, dict):
        return mask_to_rle(_array(segmentation))
    if not _is_coco(segmentation):
        return segmentation
    return {"size": list(_size(segmentation)), "counts": _counts(segmentation).tolist()}


def to_coco_rle(segmentation: Segmentation) -> Rle:
    """Return COCO's run lengths of a segmentation of any form."""
    return coco_encode_rle(to_rle(segmentation))


def convert_segmentation(segmentation: Segmentation, output_mode: str) -> Segmentation:
    """Convert a segmentation of any form to the form that ``output_mode`` names.

    Raises:
        AnnotationError: another output mode.
    """
    if output_mode == "binary_mask":
        return to_mask(segmentation)
    if output_mode == "uncompressed_rle":
        return to_rle(segmentation)
    if output_mode == "coco_rle":
        return to_coco_rle(segmentation)
    names = ", ".join(OUTPUT_MODES)
    raise AnnotationError(f"output_mode is {output_mode!r}: use one of {names}")


def crop(segmentation: Segmentation) -> Cropped:
    """Return the smallest crop of a segmentation of any form that holds all its pixels."""
    left = 0
    if isinstance(segmentation, dict):
        height, _ = _size(segmentation)
        counts = _counts(segmentation)
        stops = np.cumsum(counts)
        ones = np.flatnonzero(counts[1::2]) * 2 + 1
        if not ones.size:
            return Cropped(0, 0, np.zeros((0, 0), bool))
        # Only the columns between the first and the last pixel are made.
        left = int(stops[ones[0] - 1]) // height
        width = -(-int(stops[ones[-1]]) // height) - left
        counts = counts[: ones[-1] + 2]
        counts[0] -= left * height
        mask = _fill(counts, height, width)
    else:
        mask = _array(segmentation)
    rows = np.flatnonzero(mask.any(1))
    if not rows.size:
        return Cropped(0, 0, np.zeros((0, 0), bool))
    mask = mask[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(mask.any(0))
    first, last = int(columns[0]), int(columns[-1])
    return Cropped(int(rows[0]), left + first, mask[:, first : last + 1])


def _array(segmentation: Any) -> Bool[np.ndarray, "H W"]:
    shape, dtype = np.shape(segmentation), getattr(segmentation, "dtype", None)
    if not isinstance(segmentation, np.ndarray) or len(shape) != 2 or dtype != np.bool_:
        what = type(segmentation).__name__ + (f" of {dtype}, shape {shape}" if dtype else "")
        raise AnnotationError(
            f"segmentation is {what}: pass an H x W bool array or run lengths "
            '{"size": [h, w], "counts": ...}'
        )
    if min(shape) < 1:
        raise AnnotationError(f"mask of shape {shape} is empty: sides must be 1 or more")
    return segmentation


def _is_coco(rle: Rle) -> bool:
    return isinstance(rle.get("counts"), (str, bytes))


def _size(rle: Rle) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in rle["size"])
        rle["counts"]
    except (KeyError, TypeError, ValueError):
        raise AnnotationError(
            f"run lengths with keys {sorted(rle)} cannot be used: "
            'they need "size" [h, w] and "counts"'
        ) from None
    if min(height, width) < 1:
        raise AnnotationError(f"run lengths of size {height} x {width}: sides must be 1 or more")
    return height, width


def _counts(rle: Rle) -> Int[np.ndarray, " R"]:
    """Return the lengths of the runs, zeros first; check that they fill the mask."""
    height, width = _size(rle)
    try:
        counts = _parse(rle["counts"]) if _is_coco(rle) else np.array(rle["counts"], np.int64)
    except (TypeError, ValueError, OverflowError):
        counts = np.full(1, -1)
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise AnnotationError(
            f"run lengths do not add up to {height} x {width} pixels: "
            "check that counts and size belong together"
        )
    return counts


def _parse(text: str | bytes) -> Int[np.ndarray, " R"]:
    """Parse the run lengths of a COCO string (rleFrString in pycocotools' maskApi.c).

    pycocotools gives masks only, ten times slower, and memory it never wrote for a string that is
    too short. A number is groups of 5 bits, low ones first; bit 5 says that more follow, the top
    bit of the last is the sign. From the fourth on, each number is the
    difference from the one two before it.
    """
    code = text.encode("ascii") if isinstance(text, str) else text
    data = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((data & 32) == 0)
    if not data.size or np.min(data) < 0 or np.max(data) > 63 or last[-1:] != data.size - 1:
        raise ValueError("not a COCO string")
    first = np.concatenate([[0], last[:-1] + 1])
    groups = last - first + 1
    if groups.max() > 12:
        raise ValueError("number beyond 60 bits")
    shift = 5 * (np.arange(data.size) - np.repeat(first, groups))
    counts = np.add.reduceat((data & 31) << shift, first)
    counts -= ((data[last] & 16) >> 4) << (5 * groups)
    for side in (counts[1::2], counts[2::2]):
        np.cumsum(side, out=side)
    return counts
