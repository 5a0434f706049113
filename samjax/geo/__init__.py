"""Segment georeferenced rasters of any size into polygons with coordinates."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.geo.segment import RasterReport, segment_raster

__all__ = ["RasterReport", "segment_raster"]

__getattr__ = lazy(
    __name__,
    {"RasterReport": "samjax.geo.segment", "segment_raster": "samjax.geo.segment"},
)
