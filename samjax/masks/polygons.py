"""Turn masks into polygons and back, exactly: parts, holes, bridges, simplification.

Coordinates are (x, y) in pixels with the *corner* of the top left pixel at (0, 0), as in COCO and
YOLO files: a mask of that one pixel is the square (0, 0), (1, 0), (1, 1), (0, 1). Rings are closed
without repeating their first vertex. They follow the edges between pixels, so that filling them
gives the mask back to the last pixel. NumPy, SciPy and pycocotools compute them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Num

from samjax.arguments import real_number
from samjax.errors import AnnotationError
from samjax.masks.rle import Rle, Segmentation, crop, rle_to_mask, to_coco_rle

_LONGEST_RING = 1e7  # pixels along its edges; pycocotools holds some 60 bytes for each


class Polygon(NamedTuple):
    """A polygon is a part of a mask: its outer ring is clockwise on screen, its holes are not."""

    outer: Num[np.ndarray, "n 2"]
    holes: list[Num[np.ndarray, "_ 2"]]

    @property
    def rings(self) -> list[Num[np.ndarray, "_ 2"]]:
        return [self.outer, *self.holes]


def mask_to_polygons(segmentation: Segmentation, *, tolerance: float = 0.0) -> list[Polygon]:
    """Return the parts of a mask, from top to bottom, each with its holes.

    Parts and holes are 4-connected: pixels that meet at a corner only are separate parts. So
    every ring is simple: no ring meets itself, a hole meets its outer ring in one point at most.

    Args:
        segmentation: bool array or run lengths.
        tolerance: 0 keeps every corner. Above 0, vertices are left out as long as the ring stays
            within this distance in pixels (Douglas and Peucker): 1 turns stairs into lines, with a
            quarter (small masks) to a tenth of the vertices. Filling then differs within that
            distance of the edge only, but rings may come to meet each other.

    Returns:
        Integer coordinates in pixel corners; an empty mask has no parts.
    """
    tolerance = real_number(tolerance, "tolerance", 0, error=AnnotationError)
    top, left, pixels = crop(segmentation)
    if not pixels.size:
        return []
    rings = list(_rings(pixels))
    outer = [ring for ring in rings if _area(ring) > 0]
    holes = [ring for ring in rings if _area(ring) < 0]
    holes_of: dict[int, list[np.ndarray]] = {}
    parts = np.ones(pixels.shape, np.int32)
    if holes:
        from scipy import ndimage

        parts, _ = ndimage.label(pixels)
        for hole in holes:
            holes_of.setdefault(parts[_inside(hole)], []).append(hole)

    def finish(ring: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "_ 2"]:
        return (simplify(ring, tolerance) if tolerance else ring) + (left, top)

    return [
        Polygon(finish(ring), [finish(hole) for hole in holes_of.get(parts[_inside(ring)], ())])
        for ring in outer
    ]


def polygons_to_rle(
    polygons: Sequence[Polygon | Num[np.ndarray, "_ 2"]], size: tuple[int, int]
) -> Rle:
    """Fill polygons as pycocotools does, and unite them.

    Args:
        polygons: parts with holes, or single rings (even-odd where a ring meets itself), in
            pixel-corner coordinates; parts outside the image are cut off.
        size: (H, W) of the mask.

    Returns:
        COCO's run lengths.

    Raises:
        AnnotationError: a ring of fewer than 3 vertices, coordinates that are not finite, or far
            outside the image.
    """
    from pycocotools import mask as coco

    rings = [
        join_rings(polygon.rings) if isinstance(polygon, Polygon) else np.asarray(polygon)
        for polygon in polygons
    ]
    if any(len(ring) < 3 for ring in rings):
        raise AnnotationError("polygon with fewer than 3 vertices: give at least 3 (x, y) pairs")
    if not all(np.isfinite(ring).all() for ring in rings):
        raise AnnotationError("polygon with NaN or infinite coordinates: give pixels")
    for ring in rings:
        _check_extent(ring, size)
    if not rings:
        return to_coco_rle({"size": list(size), "counts": [size[0] * size[1]]})
    # pycocotools would take four numbers as a box; three vertices are more.
    runs = coco.frPyObjects([ring.astype(float).ravel().tolist() for ring in rings], *size)
    return {"size": list(size), "counts": coco.merge(runs)["counts"].decode("ascii")}


def _check_extent(ring: Num[np.ndarray, "_ 2"], size: tuple[int, int]) -> None:
    """Refuse what pycocotools, which walks along the edges, takes all memory for, or crashes at."""
    far = 4 * max(size) + 1000
    outermost = float(np.abs(ring).max())
    length = float(np.abs(np.diff(ring.astype(float), axis=0)).sum())
    if outermost > far or length > _LONGEST_RING:
        raise AnnotationError(
            f"polygon reaches {outermost:.3g} pixels far, {length:.3g} long, in an image of "
            f"{size[0]} x {size[1]}: give pixels of this image"
        )


def polygons_to_mask(
    polygons: Sequence[Polygon | Num[np.ndarray, "_ 2"]], size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Fill polygons as `polygons_to_rle` does, and return the bool mask."""
    return rle_to_mask(polygons_to_rle(polygons, size))


def join_rings(rings: Sequence[Num[np.ndarray, "_ 2"]]) -> Num[np.ndarray, "_ 2"]:
    """Join outer rings, holes and parts into one ring by bridges of no width.

    Formats with one ring per object need this. The bridges are the shortest ones between corners
    that connect everything, each walked to and fro; filling (even-odd or non-zero) is unchanged.
    A program that also paints the ring's line paints the bridges.
    """
    if len(rings) == 1:
        return rings[0]
    points = np.concatenate(rings)
    sizes = np.array([len(ring) for ring in rings])
    begin = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(rings)), sizes)
    links: dict[int, list[int]] = {}
    for a, b in _bridges(points, owner):
        links.setdefault(a, []).append(b)
        links.setdefault(b, []).append(a)

    def round_trip(vertex: int) -> Iterator[int]:
        ring = owner[vertex]
        first, length = int(begin[ring]), int(sizes[ring])
        return iter([first + (vertex - first + i) % length for i in range(length + 1)])

    # Walk the first ring; at a bridge cross over, walk that ring, come back, go on.
    walk, joined = [], {0}
    stack = [(round_trip(0), -1)]
    while stack:
        trip, back = stack[-1]
        vertex = next(trip, None)
        if vertex is None:
            stack.pop()
            walk.append(back)
            continue
        walk.append(vertex)
        for other in links.get(vertex, ()):
            if owner[other] not in joined:
                joined.add(owner[other])
                stack.append((round_trip(other), vertex))
    path = points[walk[:-2]]  # without the return to the start
    return path[np.any(path != np.roll(path, 1, 0), 1)]


def simplify(ring: Num[np.ndarray, "n 2"], tolerance: float) -> Num[np.ndarray, "_ 2"]:
    """Leave out vertices of a ring that lie within ``tolerance`` pixels (Douglas and Peucker).

    A ring that would become a line is returned as it is.
    """
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(1)))
    closed = np.concatenate([ring, ring[:1]]).astype(float)
    keep = {0, far}
    stack = [(0, far), (far, len(ring))]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        along = closed[last] - closed[first]
        offset = closed[first + 1 : last] - closed[first]
        # Distance to the segment, not to the line: a ring may turn back on itself.
        share = np.clip(offset @ along / max(along @ along, 1e-12), 0, 1)
        distance = np.hypot(*(offset - share[:, None] * along).T)
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            keep.add(middle)
            stack += [(first, middle), (middle, last)]
    simple = ring[sorted(keep)]
    return simple if len(simple) > 2 else ring


def _rings(mask: Bool[np.ndarray, "h w"]) -> Iterator[Int[np.ndarray, "n 2"]]:
    """Yield the corners of each boundary, with the mask on the right hand.

    The corners on one grid line, in order, are joined in pairs: first and second, third and
    fourth. The same holds across, so a boundary is found without touching its pixels one by one.
    """
    padded = np.pad(mask, 1)
    edge = padded[1:] ^ padded[:-1]  # horizontal edges, above each pixel of rows 1...
    corner = edge[:, 1:] ^ edge[:, :-1]
    # Two pixels that meet in a corner: two turns in one place.
    crossing = edge[:, 1:] & edge[:, :-1] & (padded[:-1, 1:] ^ padded[:-1, :-1])
    y, x = np.divmod(np.flatnonzero(corner | crossing), corner.shape[1])
    twice = crossing[y, x]
    y, x = np.repeat(y, 1 + twice), np.repeat(x, 1 + twice)
    double = np.repeat(twice, 1 + twice)
    # Of two turns the first ends the edge on the left. It belongs with the edge above, if the
    # pixel in between is inside, or else with the one below: each turn goes round one pixel.
    second = np.zeros(len(y), bool)
    second[1:] = double[1:] & (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    right_above = padded[y, x + 1]
    order = np.lexsort((second ^ (double & right_above), y, x))
    across = np.empty(len(y), np.int64)  # the other end of the vertical edge
    across[order] = order.reshape(-1, 2)[:, ::-1].ravel()
    # Horizontal edges run east where the mask is below, else west.
    west = ~padded[y[::2] + 1, x[::2] + 1]
    start = np.arange(0, len(y), 2) + west
    stop = np.arange(0, len(y), 2) + ~west
    following = (across[stop] // 2).tolist()
    points = np.stack([x, y], 1)
    for first in range(len(following)):
        edges = []
        here = first
        while (then := following[here]) >= 0:
            edges.append(here)
            following[here] = -1
            here = then
        if not edges:
            continue
        corners = np.stack([start[edges], stop[edges]], 1).ravel()
        ring = points[corners]
        if double[corners].any():
            yield from _split(ring)
        else:
            yield ring


def _split(ring: Int[np.ndarray, "n 2"]) -> Iterator[Int[np.ndarray, "_ 2"]]:
    """Cut a ring that meets itself in corners into rings that do not."""
    path: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for vertex in map(tuple, ring.tolist()):
        if vertex in seen:
            loop = path[seen[vertex] :]
            del path[seen[vertex] :]
            for each in loop:
                del seen[each]
            yield np.array(loop)
        seen[vertex] = len(path)
        path.append(vertex)
    yield np.array(path)


def _area(ring: Int[np.ndarray, "n 2"]) -> float:
    """Return the signed area: positive if the ring is clockwise on the screen."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _inside(ring: Int[np.ndarray, "n 2"]) -> tuple[int, int]:
    """Return (row, column) of the mask's pixel on the right hand of the ring's first edge."""
    (x, y), (x1, y1) = ring[:2].tolist()
    if y == y1:
        return (y, x) if x1 > x else (y - 1, x - 1)
    return (y, x - 1) if y1 > y else (y - 1, x)


def _bridges(points: Num[np.ndarray, "V 2"], owner: Int[np.ndarray, " V"]) -> list[tuple[int, int]]:
    """Return pairs of vertices that connect all rings with the least total length.

    The shortest connections between groups of points are edges of the Delaunay triangulation.
    """
    from scipy import sparse
    from scipy.spatial import Delaunay

    _, place, same = np.unique(points, axis=0, return_index=True, return_inverse=True)
    # Points in rows take quadratic time, unless they are shaken a little.
    shaken = points[place] + np.random.default_rng(0).uniform(-0.01, 0.01, (len(place), 2))
    simplices = place[Delaunay(shaken).simplices]
    pairs = np.concatenate([simplices[:, [0, 1]], simplices[:, [1, 2]], simplices[:, [2, 0]]])
    # Rings that meet in a vertex: a bridge of no length.
    pairs = np.concatenate([np.stack([place[same.ravel()], np.arange(len(points))], 1), pairs])
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    length = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    order = np.argsort(length, kind="stable")
    pairs, length = pairs[order], length[order]
    rings = np.sort(owner[pairs], 1)
    count = int(owner[-1]) + 1
    # The shortest connection of each two rings; + 1, since 0 means none.
    _, shortest = np.unique(rings[:, 0] * count + rings[:, 1], return_index=True)
    ends = rings[shortest].T.astype(np.int32)  # SciPy's graph routines take no other index
    graph = sparse.coo_array((length[shortest] + 1, tuple(ends)), shape=(count, count))
    tree = sparse.csgraph.minimum_spanning_tree(graph.tocsr()).tocoo()
    chosen = {(a, b) for a, b in zip(*tree.coords, strict=True)}
    return [(int(pairs[i, 0]), int(pairs[i, 1])) for i in shortest if tuple(rings[i]) in chosen]
