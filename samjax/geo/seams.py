"""Join the objects that several tiles saw.

Geometries are in pixels of the raster. A tile's window reaches beyond its core, so that neighbours
see the same strip twice. An object that lies whole in a window counts for the tile that holds its
centre. One that is cut by the window's edge is a fragment: fragments of neighbours that agree
where both looked are joined, and dropped where a neighbour has the object whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samjax.geo.raster import Tile, Window

# Intersection over union, where both tiles looked, from which two masks are the same object
_SAME = 0.5
# Two tiles see an object's centre a little apart: an owner's neighbour keeps it, too, and the
# duplicate is dropped
_SLACK = 8


@dataclass(frozen=True)
class Found:
    """An object as one tile saw it, or joined from several.

    Attributes:
        geometry: shapely Polygon or MultiPolygon, in pixels of the raster.
        score: predicted IoU.
        stability: stability score.
        tile: number of the tile.
        window: what the tile saw.
        owned: whether its centre is in the tile's core.
        cut: whether the window's edge cuts it.
        parts: number of tiles that it was joined from.
    """

    geometry: Any
    score: float
    stability: float
    tile: int
    window: Window
    owned: bool
    cut: bool
    parts: int = 1


def place(
    geometry: Any, score: float, stability: float, tile: Tile, size: tuple[int, int], margin: int
) -> Found | None:
    """Return what a tile found, or None for what a neighbour sees better.

    A mask that ends within ``margin`` pixels of the window's edge counts as cut by it: networks
    do not draw to the last pixel.
    """
    x0, y0, x1, y1 = geometry.bounds
    window, core = tile.window, tile.core
    cut = (
        (window.x0 > 0 and x0 <= window.x0 + margin)
        or (window.y0 > 0 and y0 <= window.y0 + margin)
        or (window.x1 < size[0] and x1 >= window.x1 - margin)
        or (window.y1 < size[1] and y1 >= window.y1 - margin)
    )
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    owned = core.x0 <= x < core.x1 and core.y0 <= y < core.y1
    if cut:
        near = x0 < core.x1 and x1 > core.x0 and y0 < core.y1 and y1 > core.y0
    else:
        near = core.x0 - _SLACK <= x < core.x1 + _SLACK and core.y0 - _SLACK <= y < core.y1 + _SLACK
    if not near:
        return None
    return Found(geometry, score, stability, tile.number, window, owned, cut)


def join(found: Sequence[Found]) -> list[Found]:
    """Return each object once, in the order of the tiles."""
    import shapely

    if not found:
        return []
    geometries = np.array([each.geometry for each in found], object)
    first, second = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    groups = list(range(len(found)))

    def root(i: int) -> int:
        while groups[i] != i:
            groups[i] = groups[groups[i]]
            i = groups[i]
        return i

    for a, b in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if a < b and found[a].tile != found[b].tile and _same(found[a], found[b]):
            low, high = sorted((root(a), root(b)))
            groups[high] = low
    members: dict[int, list[Found]] = {}
    for i, each in enumerate(found):
        members.setdefault(root(i), []).append(each)
    joined = (_one(group) for group in members.values())
    return [each for each in joined if each is not None]


def _same(a: Found, b: Found) -> bool:
    """Tell whether two tiles saw the same object, judged where both looked."""
    import shapely

    if a.cut or b.cut:
        shared = (
            max(a.window.x0, b.window.x0),
            max(a.window.y0, b.window.y0),
            min(a.window.x1, b.window.x1),
            min(a.window.y1, b.window.y1),
        )
        if shared[0] >= shared[2] or shared[1] >= shared[3]:
            return False
        one, other = (shapely.intersection(x.geometry, shapely.box(*shared)) for x in (a, b))
    else:
        one, other = a.geometry, b.geometry
    both = shapely.intersection(one, other).area
    union = one.area + other.area - both
    return bool(union > 0 and both >= _SAME * union)


def _one(group: Sequence[Found]) -> Found | None:
    """Return the object of a group: the best that is whole, else the union of the fragments.

    A fragment alone belongs to the tile that holds its centre, as everything does.
    """
    import shapely

    whole = [each for each in group if not each.cut]
    if whole:
        return max(whole, key=lambda each: (each.owned, each.score, -each.tile))
    if len(group) == 1:
        return group[0] if group[0].owned else None
    areas = np.array([each.geometry.area for each in group])
    share = areas / areas.sum()
    return replace(
        group[0],
        geometry=shapely.union_all([each.geometry for each in group]),
        score=float(share @ [each.score for each in group]),
        stability=float(share @ [each.stability for each in group]),
        owned=True,
        cut=False,
        parts=len({each.tile for each in group}),
    )
