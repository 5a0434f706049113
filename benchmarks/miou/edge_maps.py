"""Compute thinned soft edge maps from masks and match them to human outlines (BSDS500)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, sparse, spatial

Map = Float[np.ndarray, "H W"]
Mask = Bool[np.ndarray, "H W"]
THRESHOLDS = np.linspace(0.01, 0.99, 99)
MAX_DISTANCE = 0.0075  # between matched pixels, relative to the image's diagonal


class Counts(NamedTuple):
    """Counts matched and all pixels of the ground truth and of the map, at each threshold."""

    found: Int[np.ndarray, " t"]
    true: Int[np.ndarray, " t"]
    correct: Int[np.ndarray, " t"]
    marked: Int[np.ndarray, " t"]


def mask_edges(logits: Map) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Compute the Sobel magnitude of a mask's probability on the pixels just outside it.

    Returns:
        Flat pixel indices and their values; empty for an empty mask.
    """
    mask = logits > 0
    outside = ndimage.binary_dilation(mask, np.ones((3, 3), bool)) & ~mask
    index = np.flatnonzero(outside)
    if not index.size:
        return index, np.zeros(0)
    rows, columns = np.flatnonzero(outside.any(1)), np.flatnonzero(outside.any(0))
    area = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2]
    probability = 1 / (1 + np.exp(-np.clip(logits[area], -60, 60)))
    magnitude = np.hypot(ndimage.sobel(probability, 0), ndimage.sobel(probability, 1))
    return index, magnitude[outside[area]]


def triangle_filter(values: Map, radius: int) -> Map:
    """Smooth by a triangle filter of half width ``radius`` in both directions."""
    kernel = np.concatenate([np.arange(1, radius + 2), np.arange(radius, 0, -1)]).astype(float)
    kernel /= kernel.sum()
    return ndimage.convolve1d(ndimage.convolve1d(values, kernel, 0), kernel, 1)


def thin_map(edges: Map, radius: int = 1, border: int = 5, tolerance: float = 1.01) -> Map:
    """Apply non-maximum suppression across edges, as in Structured Edges (Dollar, Zitnick).

    The orientation is that of the second derivatives of the smoothed map. Values within
    ``border`` pixels of the image's rim are faded out.
    """
    gradient_y, gradient_x = np.gradient(triangle_filter(edges, 4))
    xx = np.gradient(gradient_x, axis=1)
    xy, yy = np.gradient(gradient_x, axis=0), np.gradient(gradient_y, axis=0)
    side = np.where(xy > 0, -1.0, 1.0)  # not 0 where a line runs along the axes
    angle = np.mod(np.arctan(yy * side / (xx + 1e-5)), np.pi)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]]
    kept = np.ones(edges.shape, bool)
    for step in (s for s in range(-radius, radius + 1) if s):
        beside = ndimage.map_coordinates(
            edges, [y + step * np.sin(angle), x + step * np.cos(angle)], order=1, mode="nearest"
        )
        kept &= edges * tolerance >= beside
    rim = np.minimum.reduce([y, x, y[::-1], x[:, ::-1]])
    return edges * kept * np.minimum(1.0, rim / border)


def outlines(labels: Int[np.ndarray, "H W"]) -> Mask:
    """Mark pixels whose right, lower or lower right neighbour has another label, thinned.

    BSDS500 has its own outlines in the MATLAB files; these are computed the same way.
    """
    different = np.zeros(labels.shape, bool)
    different[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    different[:-1] |= labels[:-1] != labels[1:]
    different[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return thin(different)


def thin(mask: Mask) -> Mask:
    """Thin lines to a width of one pixel (bwmorph's "thin"), by scikit-image."""
    from skimage.morphology import thin as skimage_thin

    return np.asarray(skimage_thin(mask))


def matched_pixels(
    marked: Int[np.ndarray, "n 2"], true: Int[np.ndarray, "m 2"], distance: float
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]:
    """Compute a maximum one-to-one matching of pixels at most ``distance`` apart.

    The benchmark's own code solves for the cheapest assignment in which an unmatched pixel costs
    more than any match; it has the same number of pairs.
    """
    found, hit = np.zeros(len(marked), bool), np.zeros(len(true), bool)
    if not (len(marked) and len(true)):
        return found, hit
    near = spatial.cKDTree(marked).sparse_distance_matrix(
        spatial.cKDTree(true), distance + 1e-9, output_type="coo_matrix"
    )
    graph = sparse.csr_array((np.ones(near.nnz, np.int8), (near.row, near.col)), near.shape)
    partner = sparse.csgraph.maximum_bipartite_matching(graph, perm_type="column")
    found = partner >= 0
    hit[partner[found]] = True
    return found, hit


def compare(edges: Map, truths: list[Mask]) -> Counts:
    """Count matches at all thresholds against every annotator's outlines.

    A marked pixel is correct if any annotator's outline matches it; the outline pixels of each
    annotator are counted separately.
    """
    distance = MAX_DISTANCE * float(np.hypot(*edges.shape))
    points = [np.argwhere(t) for t in truths]
    total = sum(map(len, points))
    table = []
    previous: tuple[bytes, tuple[int, int, int, int]] | None = None
    for threshold in THRESHOLDS:
        mask = thin(edges >= threshold)
        key = np.packbits(mask).tobytes()
        if previous is None or previous[0] != key:
            marked = np.argwhere(mask)
            correct, found = np.zeros(len(marked), bool), 0
            for true in points:
                right, hit = matched_pixels(marked, true, distance)
                correct |= right
                found += int(hit.sum())
            previous = key, (found, total, int(correct.sum()), len(marked))
        table.append(previous[1])
    return Counts(*np.array(table).T)
