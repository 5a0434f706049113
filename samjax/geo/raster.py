"""Read windows of a georeferenced raster as RGB, with the pixels that hold data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Num, UInt8

from samjax.arguments import whole_number
from samjax.errors import RasterError
from samjax.files import given_path

Stretch: TypeAlias = Sequence[Any]  # (low, high), or one such pair for each band
# Percentiles of the whole raster that become 0 and 255
_PERCENTILES = (2.0, 98.0)
# Side of the reduced raster that they are read from
_OVERVIEW = 1024


class Window(NamedTuple):
    """A rectangle of pixels, ``x1`` and ``y1`` excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __str__(self) -> str:
        return f"columns {self.x0} to {self.x1}, rows {self.y0} to {self.y1}"


class Tile(NamedTuple):
    """A tile owns the objects whose centre is in ``core``; the generator sees ``window``."""

    number: int
    core: Window
    window: Window


def tiles(width: int, height: int, tile: int, halo: int) -> list[Tile]:
    """Return the tiles of a raster, row by row; windows reach ``halo`` pixels beyond the cores.

    Raises:
        RasterError: sizes that mean nothing.
    """
    tile = whole_number(tile, "tile", error=RasterError)
    halo = whole_number(halo, "halo", error=RasterError)
    if tile < 1 or not 0 <= halo <= tile:
        raise RasterError(
            f"tile={tile}, halo={halo}: give a tile of 1 pixel or more and a halo from 0 to it"
        )
    found: list[Tile] = []
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            core = Window(x, y, min(x + tile, width), min(y + tile, height))
            window = Window(
                max(x - halo, 0),
                max(y - halo, 0),
                min(core.x1 + halo, width),
                min(core.y1 + halo, height),
            )
            found.append(Tile(len(found), core, window))
    return found


def import_libraries() -> tuple[Any, Any, Any]:
    """Import rasterio, geopandas and pyproj.

    Raises:
        RasterError: one of them, or pyogrio, is not installed.
    """
    try:
        import geopandas
        import pyogrio  # noqa: F401
        import pyproj
        import rasterio
    except ImportError as error:
        raise RasterError(
            f"rasters need {error.name}, of the extra geo: pip install 'samjax[geo]'"
        ) from None
    return rasterio, geopandas, pyproj


class Raster:
    """An open raster gives its windows as RGB images of uint8.

    Attributes:
        size: (width, height) in pixels.
        transform: affine from pixels (column, row) to coordinates.
        crs: coordinate reference system as text (WKT); "" where the file has none.
        bands: the band that is read as grey, or those that are read as red, green and blue, from 1.
        limits: the values that become 0 and 255, for each of ``bands``; None: values stay.
        files: those that it is read from, such as a VRT's sources.
    """

    def __init__(self, dataset: Any, name: str, bands: Any, stretch: Stretch | None):
        self._dataset, self._name = dataset, name
        self.files: list[str] = dataset.files
        self.size: tuple[int, int] = (dataset.width, dataset.height)
        self.transform = dataset.transform
        self.crs: str = dataset.crs.to_wkt() if dataset.crs else ""
        self._check_place()
        self.bands = self._check_bands(bands)
        if any("complex" in dataset.dtypes[band - 1] for band in self.bands):
            raise RasterError(f"{name} holds complex values: write their magnitudes to a file")
        self.limits = self._check_stretch(stretch)

    def _check_place(self) -> None:
        """Refuse a transform without an area, and latitudes beyond the poles."""
        t = self.transform
        if not np.isfinite(tuple(t)).all() or t.determinant == 0:
            raise RasterError(
                f"{self._name}: its transform {tuple(t)[:6]} gives pixels no area: set the right "
                "one (gdal_edit.py -a_ullr)"
            )
        if self._dataset.crs and self._dataset.crs.is_geographic:
            width, height = self.size
            unit, radians = self._dataset.crs.units_factor  # degrees, or grads
            latitudes = [t.d * x + t.e * y + t.f for x in (0, width) for y in (0, height)]
            pixel = abs(t.d) + abs(t.e)  # some grids have a pixel's centre at the pole
            if max(map(abs, latitudes)) > np.pi / 2 / radians + pixel:
                raise RasterError(
                    f"{self._name}: latitudes from {min(latitudes):g} to {max(latitudes):g} "
                    f"({unit}): give it the right coordinate system (gdal_edit.py -a_srs)"
                )

    def _check_bands(self, bands: Any) -> tuple[int, ...]:
        count = self._dataset.count
        if bands is None:
            if count not in (1, 3, 4):
                names = [d for d in self._dataset.descriptions if d]
                said = f" ({', '.join(names)})" if names else ""
                raise RasterError(
                    f"{self._name} has {count} bands{said}: choose one, or three as red, green "
                    "and blue, such as bands=(3, 2, 1)"
                )
            return (1,) if count == 1 else (1, 2, 3)
        given = (bands,) if not hasattr(bands, "__iter__") else tuple(bands)
        chosen = tuple(whole_number(band, "bands", error=RasterError) for band in given)
        if len(chosen) not in (1, 3):
            raise RasterError(f"bands={bands!r}: give one band, or three as red, green and blue")
        if not all(1 <= b <= count for b in chosen):
            raise RasterError(
                f"bands={bands!r}, but {self._name} has bands 1 to {count}; they count from 1"
            )
        return chosen

    def _check_stretch(self, stretch: Stretch | None) -> tuple[tuple[float, float], ...] | None:
        if stretch is None:
            kinds = {self._dataset.dtypes[band - 1] for band in self.bands}
            return None if kinds == {"uint8"} else self._percentiles()
        try:
            limits = np.asarray(stretch, np.float64)
            limits = np.broadcast_to(limits, (len(self.bands), 2))
        except (TypeError, ValueError, OverflowError):
            raise RasterError(
                f"stretch={stretch!r}: give (low, high), or one such pair for each band"
            ) from None
        if not (np.isfinite(limits).all() and (limits[:, 0] < limits[:, 1]).all()):
            raise RasterError(f"stretch={stretch!r}: low must be below high")
        return tuple((float(limits[i, 0]), float(limits[i, 1])) for i in range(len(limits)))

    def _percentiles(self) -> tuple[tuple[float, float], ...]:
        """Return percentiles of each band, from the raster at a reduced size."""
        width, height = self.size
        factor = max(1, max(width, height) / _OVERVIEW)
        shape = (max(1, round(height / factor)), max(1, round(width / factor)))
        limits = []
        with self._reading("the reduced raster"):
            for band in self.bands:
                values = self._dataset.read(band, out_shape=shape).astype(np.float64)
                inside = self._dataset.read_masks(band, out_shape=shape) > 0
                values = values[inside & np.isfinite(values)]
                ends = np.percentile(values, _PERCENTILES).tolist() if values.size else [0.0, 1.0]
                limits.append((ends[0], ends[1]))
        return tuple(limits)

    def read(self, window: Window) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        """Return the window as RGB, zero where there is no data, and where there is data.

        Raises:
            RasterError: the window cannot be read.
        """
        rows, columns = (window.y0, window.y1), (window.x0, window.x1)
        with self._reading(str(window)):
            values = self._dataset.read(self.bands, window=(rows, columns))
            inside = (self._dataset.read_masks(self.bands, window=(rows, columns)) > 0).all(0)
        inside &= np.isfinite(values).all(0)
        pixels = values if self.limits is None else stretched(values, self.limits)
        pixels = np.where(inside, pixels, 0).astype(np.uint8)
        rgb = np.broadcast_to(pixels, (3, *pixels.shape[1:]))
        return np.ascontiguousarray(rgb.transpose(1, 2, 0)), inside

    @contextmanager
    def _reading(self, where: str) -> Iterator[None]:
        from rasterio.errors import RasterioError, RasterioIOError

        try:
            yield
        except (RasterioIOError, RasterioError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise RasterError(
                f"{self._name}: {where} cannot be read ({reason}): copy the file anew, or mend "
                "it; finished tiles are kept as long as it is the same file"
            ) from error


@contextmanager
def open_raster(
    source: str | os.PathLike[str], bands: Any, stretch: Stretch | None
) -> Iterator[Raster]:
    """Open a raster that GDAL reads.

    Raises:
        RasterError: unreadable, or not placed by an affine transform.
    """
    rasterio, _, _ = import_libraries()
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    given_path(source, RasterError)  # or another name that GDAL knows: a text, too
    name = os.fspath(source)
    if not name:
        raise RasterError("source is empty: name a raster")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(name)
    except RasterioError as error:
        raise RasterError(
            f"{name}: cannot be read as a raster ({str(error).splitlines()[0]})"
        ) from None
    with dataset:
        if dataset.count == 0:
            inside = (
                f"{len(dataset.subdatasets)} rasters: name one"
                if dataset.subdatasets
                else ("no bands")
            )
            raise RasterError(f"{name} holds {inside}")
        if dataset.transform.is_identity and dataset.gcps[0]:
            raise RasterError(
                f"{name} is placed by ground control points: warp it first (gdalwarp)"
            )
        yield Raster(dataset, name, bands, stretch)


def stretched(
    values: Num[np.ndarray, "b h w"], limits: Sequence[tuple[float, float]]
) -> Num[np.ndarray, "b h w"]:
    """Map each band's limits to 0 and 255, and clip."""
    # float64, and halves: large offsets keep their differences, and no difference overflows.
    low, high = (np.array(side)[:, None, None] / 2 for side in zip(*limits, strict=True))
    span = np.maximum(high - low, np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        share = (values.astype(np.float64) / 2 - low) / span
    return np.rint(255 * np.clip(np.nan_to_num(share), 0, 1))
