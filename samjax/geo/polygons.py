"""Turn masks into polygons along pixel edges, and measure their areas in square metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from samjax.masks.regions import mask_box


def polygon(mask: Bool[np.ndarray, "h w"], x0: int, y0: int) -> Any:
    """Return a mask as a shapely Polygon or MultiPolygon with holes, in pixels of the raster.

    Pixel (column, row) covers the square from (column, row) to (column + 1, row + 1); ``x0`` and
    ``y0`` are the mask's own place. The mask must not be empty.
    """
    import shapely
    from rasterio.features import shapes
    from rasterio.transform import Affine
    from shapely.geometry import shape

    left, top, right, bottom = mask_box(mask)
    part = np.ascontiguousarray(mask[top : bottom + 1, left : right + 1])
    moved = Affine.translation(x0 + left, y0 + top)
    found = shapes(part.view(np.uint8), mask=part, connectivity=4, transform=moved)
    parts = [shape(geometry) for geometry, _ in found]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def placed(geometries: Sequence[Any], transform: Any) -> list[Any]:
    """Return geometries in pixels as geometries in the raster's coordinates."""
    import shapely

    def move(points: np.ndarray) -> np.ndarray:
        columns, rows = points[:, 0], points[:, 1]
        return np.stack(
            [
                transform.a * columns + transform.b * rows + transform.c,
                transform.d * columns + transform.e * rows + transform.f,
            ],
            -1,
        )

    return [shapely.transform(geometry, move) for geometry in geometries]


def square_metres(geometries: Sequence[Any], crs: str) -> list[float]:
    """Return areas in square metres, on the ellipsoid for degrees; NaN without a CRS."""
    import pyproj

    if not crs:
        return [float("nan")] * len(geometries)
    system = pyproj.CRS.from_wkt(crs)
    earth = system.get_geod() if system.is_geographic else None
    if earth is not None:
        return [abs(earth.geometry_area_perimeter(g)[0]) for g in geometries]
    factor = system.axis_info[0].unit_conversion_factor if system.axis_info else float("nan")
    return [geometry.area * factor**2 for geometry in geometries]
