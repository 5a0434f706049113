"""Draw all the masks of an image, as the automatic generator returns them, in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int, Integer, UInt8
from PIL import Image, ImageFilter

from samjax.annotations import to_label_map
from samjax.errors import ImageError
from samjax.masks.rle import Record
from samjax.palette import DARK, PALETTE

_BAND_ROWS = 128  # rows blended at once, so that their float copy stays in the cache


def draw_masks(
    image: UInt8[np.ndarray, "H W 3"],
    records: Sequence[Record],
    *,
    alpha: float = 0.5,
    outline: bool = True,
    seed: int = 0,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw all masks over a copy of an image, each in one colour with a thin edge.

    A pixel takes the colour of the smallest mask that contains it, so that small masks lie on top
    of large ones and colours never mix. Masks that touch or lie close get different colours.

    Args:
        image: RGB.
        records: official records of that image, segmentations of any form; may be empty.
        alpha: opacity of the fill, 0 to 1.
        outline: draw the edges, in a width that scales with the image.
        seed: seed of the assignment of colours to masks.

    Raises:
        ImageError: alpha is outside [0, 1].
        AnnotationError: records cannot be used, or have masks of another size.
    """
    if not 0 <= alpha <= 1:
        raise ImageError(f"alpha is {alpha}: pass an opacity from 0 to 1")
    if not records:
        return image.copy()
    labels = to_label_map(records, image.shape[:2])
    palette = np.array(PALETTE, np.float32)[_deal(labels, len(records), seed)]
    fill = np.concatenate([[DARK], palette]).astype(np.float32)
    opacity = np.full(len(fill), alpha, np.float32)
    # Edges are lighter than the fill inside, and a shadow outside, visible on bright backgrounds.
    line_fill = np.concatenate([[DARK], palette + (255 - palette) * 0.3]).astype(np.float32)
    line_opacity = np.full(len(fill), 0.95, np.float32)
    opacity[0], line_opacity[0] = 0, 0.4
    edge = _edges(labels, max(1.0, max(image.shape) / 900)) if outline else None
    canvas = np.empty_like(image)
    for top in range(0, image.shape[0], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        label = labels[rows]
        colour, weight = fill[label], opacity[label]
        if edge is not None:
            line = edge[rows]
            colour += (line_fill[label] - colour) * line[..., None]
            weight += (line_opacity[label] - weight) * line
        canvas[rows] = np.rint(image[rows] + (colour - image[rows]) * weight[..., None])
    return canvas


def _deal(labels: Integer[np.ndarray, "H W"], count: int, seed: int) -> Int[np.ndarray, " N"]:
    """Assign each mask the colour that its neighbours use least, then the one all masks use least.

    Args:
        labels: label map, 0 for the background.
        count: number of masks.
        seed: seed of the order of colours; 0 keeps the palette's order.

    Returns:
        Index into `PALETTE` of each mask.
    """
    stride = max(1, max(labels.shape) // 1000)
    small = labels[::stride, ::stride].astype(np.int64)
    codes = []
    for reach in (1, 4, 12):
        for a, b in ((small[reach:], small[:-reach]), (small[:, reach:], small[:, :-reach])):
            different = (a != b) & (a > 0) & (b > 0)
            low, high = np.minimum(a, b)[different], np.maximum(a, b)[different]
            codes.append(np.unique(low * (count + 1) + high))
    pairs = np.stack(np.divmod(np.unique(np.concatenate(codes)), count + 1), 1) - 1
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in pairs.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    order = np.random.default_rng(seed).permutation(len(PALETTE)) if seed else range(len(PALETTE))
    chosen = np.full(count, -1)
    used = np.zeros(len(PALETTE), int)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    for mask in np.argsort(-sizes, kind="stable").tolist():
        near = chosen[neighbours[mask]]
        taken = np.bincount(near[near >= 0], minlength=len(PALETTE))
        chosen[mask] = min(order, key=lambda colour: (taken[colour], used[colour]))
        used[chosen[mask]] += 1
    return chosen


def _edges(labels: Integer[np.ndarray, "H W"], width: float) -> Float32[np.ndarray, "H W"]:
    """Compute the coverage, 0..1, of an antialiased line of `width` pixels along label edges."""
    touches = np.zeros(labels.shape, np.uint8)
    for here, there, a, b in (
        (touches[1:], touches[:-1], labels[1:], labels[:-1]),
        (touches[:, 1:], touches[:, :-1], labels[:, 1:], labels[:, :-1]),
    ):
        different = a != b
        here[different] = 255
        there[different] = 255
    # Blurring the two pixels along an edge gives a Gaussian, whose height gives the distance to
    # the edge; the blur also smooths the pixel steps.
    sigma = max(1.0, 0.7 * width)
    soft = np.asarray(Image.fromarray(touches).filter(ImageFilter.GaussianBlur(sigma)))
    height = np.arange(256) / 255 * (sigma * math.sqrt(2 * math.pi) / 2)
    distance = sigma * np.sqrt(-2 * np.log(np.clip(height, 1e-6, 1)))
    return np.clip(width + 0.5 - distance, 0, 1).astype(np.float32)[soft]
