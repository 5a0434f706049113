"""Lay grids of points, crops and tiles over an image for automatic masks."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

from samjax.automatic.options import AutomaticOptions
from samjax.errors import PromptError

# A box closer than this to a crop's edge is cut off by it (official is_box_near_crop_edge).
EDGE_TOLERANCE = 20.0


class Crop(NamedTuple):
    """A crop is a part of the image, (x0, y0, x1, y1) in pixels, with its layer's point grid."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) in pixels."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def point_grid(side: int) -> Float[np.ndarray, "n 2"]:
    """Return side x side points (x, y), evenly spaced in the unit square.

    Source: official build_point_grid.
    """
    line = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(line, line)
    return np.stack([x, y], -1).reshape(-1, 2)


def layer_grids(side: int, layers: int, downscale: int) -> list[Float[np.ndarray, "n 2"]]:
    """Return the grids of the image and of each layer of crops.

    Source: official build_all_layer_point_grids.
    """
    return [point_grid(max(1, int(side / downscale**layer))) for layer in range(layers + 1)]


def crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """Return the whole image (H, W), then (2 ** i) ** 2 crops for each layer i.

    Source: official generate_crop_boxes.
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        w, h = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for i, j in product(range(count), range(count)):
            x, y = (w - overlap) * i, (h - overlap) * j
            crops.append(Crop((x, y, min(x + w, width), min(y + h, height)), layer))
    return crops


def tile_boxes(size: tuple[int, int], tile: int, halo: int) -> list[Crop]:
    """Return tiles of at most ``tile`` pixels a side with ``halo`` more pixels all around.

    Tiles are of nearly equal size, so that they share compiled functions.
    """

    def spans(length: int) -> list[tuple[int, int]]:
        count = math.ceil(length / tile)
        edges = [round(length * i / count) for i in range(count + 1)]
        return [(max(0, a - halo), min(length, b + halo)) for a, b in pairwise(edges)]

    height, width = size
    return [
        Crop((x0, y0, x1, y1), 0) for (y0, y1), (x0, x1) in product(spans(height), spans(width))
    ]


def near_crop_edge(
    boxes: Num[np.ndarray, "n 4"], crop: Crop, size: tuple[int, int]
) -> Bool[np.ndarray, " n"]:
    """Mark boxes (in the crop's frame) that touch an edge of the crop, but not of the image."""
    x0, y0, _, _ = crop.box
    edges = np.array(crop.box, np.float32)
    image = np.array([0, 0, size[1], size[0]], np.float32)
    placed = boxes.astype(np.float32) + np.array([x0, y0, x0, y0], np.float32)
    near = np.abs(placed - edges) <= EDGE_TOLERANCE
    near_image = np.abs(placed - image) <= EDGE_TOLERANCE
    return (near & ~near_image).any(1)


def uncropped(rle: dict[str, Any], crop: Crop, size: tuple[int, int]) -> dict[str, Any]:
    """Move the run lengths of a crop's mask to the whole image (official uncrop_masks)."""
    height, width = size
    h, w = crop.size
    if (h, w) == (height, width):
        return rle
    ends = np.cumsum(rle["counts"], dtype=np.int64)
    starts, stops = ends[0 : len(ends) - 1 : 2], ends[1::2]
    filled = stops > starts
    starts, stops = starts[filled], stops[filled]
    # A run that goes on in the next column of the crop does not do so in the image: cut it.
    pieces = (stops - 1) // h - starts // h + 1
    run = np.repeat(np.arange(len(starts)), pieces)
    column = starts[run] // h + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    top = np.maximum(starts[run] - column * h, 0)
    bottom = np.minimum(stops[run] - column * h, h)
    origin = (column + crop.box[0]) * height + crop.box[1]
    bounds = np.stack([origin + top, origin + bottom], -1).reshape(-1)
    # Pieces that touch (a crop as high as the image) are one run again.
    touching = np.flatnonzero(bounds[1:-1:2] == bounds[2::2])
    bounds = np.delete(bounds, np.concatenate([2 * touching + 1, 2 * touching + 2]))
    counts = np.diff(bounds, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": counts.tolist()}


def point_grids(options: AutomaticOptions) -> list[Float[np.ndarray, "n 2"]]:
    """Return the points of each layer, made or given.

    Raises:
        PromptError: given grids of another number or shape.
    """
    layers = options.crop_n_layers
    if options.points_per_side is not None:
        return layer_grids(options.points_per_side, layers, options.crop_n_points_downscale_factor)
    assert options.point_grids is not None
    grids = [np.asarray(grid, np.float64) for grid in options.point_grids]
    if len(grids) <= layers or any(g.ndim != 2 or g.shape[1] != 2 for g in grids):
        raise PromptError(f"point_grids: give one N x 2 array for each of {layers + 1} layers")
    return grids
