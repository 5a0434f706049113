"""Segment a raster of any size, window by window, into polygons in its coordinate system."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from samjax.arguments import flag, function, instance, whole_number
from samjax.errors import NoMasksWarning, RasterError, SamjaxError
from samjax.files import check_outputs, given_path, made_folder, protecting, refuse_address, writing
from samjax.geo.parts import Parts
from samjax.geo.polygons import placed, polygon, square_metres
from samjax.geo.raster import Raster, Stretch, Tile, import_libraries, open_raster, tiles
from samjax.geo.seams import Found, join, place
from samjax.masks.rle import to_mask

_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
_LAYER = "objects"
_SCORES = ("predicted_iou", "stability_score")
_MARGIN = 8  # the share of the halo, at its outer edge, in which a mask counts as cut


@runtime_checkable
class MaskGenerator(Protocol):
    """Anything with the official ``generate``: a SamAutomaticMaskGenerator."""

    def generate(self, image: UInt8[np.ndarray, "H W 3"]) -> list[dict[str, Any]]:
        """Return records with "segmentation", "predicted_iou" and "stability_score"."""
        ...


@dataclass(frozen=True)
class RasterReport:
    """A report of ``segment_raster``.

    Attributes:
        path: the file of polygons.
        objects: number of objects.
        tiles: number of tiles.
        empty: tiles without any data, which were not looked at.
        resumed: tiles that an earlier run had finished.
        joined: objects that were joined from several tiles.
        crs: coordinate reference system as text (WKT); "" where the raster has none.
    """

    path: Path
    objects: int
    tiles: int
    empty: int
    resumed: int
    joined: int
    crs: str


def segment_raster(
    generator: MaskGenerator,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    tile: int = 1024,
    halo: int = 128,
    bands: int | Sequence[int] | None = None,
    stretch: Stretch | None = None,
    min_area: int = 1,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> RasterReport:
    """Segment everything in a georeferenced raster and write polygons with coordinates.

    Each tile is read with ``halo`` pixels around it and segmented by ``generator``; an object
    belongs to the tile that holds its centre, and one that no tile sees whole is joined from its
    parts. Memory does not grow with the raster, only with the number of objects. Finished tiles
    are kept in TARGET.parts until the end: run again after a loss, and it goes on.

    The columns: ``score`` (predicted IoU), ``stability``, ``area_px``, ``area_m2`` (on the
    ellipsoid where coordinates are degrees; empty without a coordinate system), ``parts`` (tiles
    that it was joined from), ``cut`` (whether a seam may have cut it: it is larger than the halo,
    and no neighbour saw its other part). Needs the extra ``geo``.

    Args:
        generator: a SamAutomaticMaskGenerator, or anything with its ``generate(image)``.
        source: a raster that GDAL reads; with a rotated transform, too. Without a coordinate
            system, or a transform, coordinates are what the file has: pixels at last.
        target: NAME.gpkg, NAME.fgb or NAME.geojson.
        tile: side of a tile, in pixels.
        halo: pixels around a tile that are read with it; objects of up to 1.7 times that
            size are seen whole.
        bands: one band (grey) or three (red, green, blue), from 1 as GDAL counts; None: the only
            one, or the first three of 3 or 4.
        stretch: (low, high) values that become 0 and 255, or such a pair for each band; None:
            uint8 as it is, all else between the 2nd and the 98th percentile of the whole raster.
        min_area: objects of fewer pixels are dropped.
        progress: function called with the number of tiles done and of all tiles; None: a bar.
        overwrite: replace the target, and begin anew.

    Returns:
        Numbers of the run.

    Raises:
        RasterError: an unusable raster, band, size or target, a missing package, a part of the
            raster that cannot be read, or tiles of a run with other settings.
    """
    import_libraries()
    instance(generator, MaskGenerator, "generator", RasterError, "a SamAutomaticMaskGenerator")
    min_area = whole_number(min_area, "min_area", 0, error=RasterError)
    function(progress, "progress", RasterError)
    path = _check_target(target, overwrite=overwrite)
    with (
        open_raster(source, bands, stretch) as raster,
        protecting([source, *raster.files], RasterError),
    ):
        check_outputs([path])
        made_folder(path.parent, RasterError)
        todo = tiles(*raster.size, tile, halo)
        plan = _plan(generator, source, raster, tile, halo, min_area)
        parts = Parts(path, plan)
        parts.start(overwrite=overwrite)
        resumed = sum(parts.has(each) for each in todo)
        empty = 0
        with _shown(progress, len(todo)) as tell:
            for number, each in enumerate(todo, 1):
                if not parts.has(each):
                    found = _segment(generator, raster, each, min_area, halo // _MARGIN)
                    empty += found is None
                    parts.save(each, found or [])
                tell(number, len(todo))
        objects = join([found for each in todo for found in parts.load(each)])
        _write(path, objects, raster, overwrite=overwrite)
        parts.remove()
    joined = sum(each.parts > 1 for each in objects)
    return RasterReport(path, len(objects), len(todo), empty, resumed, joined, raster.crs)


def _check_target(target: str | os.PathLike[str], *, overwrite: bool) -> Path:
    refuse_address(target, RasterError)
    path = given_path(target, RasterError)
    flag(overwrite, "overwrite", RasterError)
    if path.suffix.lower() not in _DRIVERS:
        raise RasterError(f"{target}: unknown ending {path.suffix!r}: use {', '.join(_DRIVERS)}")
    if path.is_dir():
        raise RasterError(f"{target} is a folder: choose another name")
    if os.path.lexists(path) and not overwrite:
        raise RasterError(f"{target} exists: choose another name, or pass overwrite=True")
    return path


def _plan(
    generator: MaskGenerator,
    source: str | os.PathLike[str],
    raster: Raster,
    tile: int,
    halo: int,
    min_area: int,
) -> dict[str, Any]:
    """Return what must be the same for a run to go on, as plain JSON values."""
    file = Path(source)
    stat = file.stat() if file.exists() else None
    model = getattr(generator, "model", None)
    return {
        "source": None if stat is None else [str(file.resolve()), stat.st_size, stat.st_mtime_ns],
        "tile": tile,
        "halo": halo,
        "bands": list(raster.bands),
        "stretch": None if raster.limits is None else [list(pair) for pair in raster.limits],
        "min_area": min_area,
        "model": getattr(model, "fingerprint", None) or type(generator).__name__,
        "options": repr(getattr(generator, "options", None)),
    }


def _segment(
    generator: MaskGenerator, raster: Raster, tile: Tile, min_area: int, margin: int
) -> list[Found] | None:
    """Return the objects of a tile; None where the window has no data."""
    pixels, inside = raster.read(tile.window)
    if not inside.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoMasksWarning)  # water and fields have none
        generated = generator.generate(pixels)
    found = []
    for mask, score, stability in _checked(generated, inside.shape):
        mask = mask & inside  # a copy: the generator's array stays as it is
        if mask.sum() < max(1, min_area):
            continue
        geometry = polygon(mask, tile.window.x0, tile.window.y0)
        if placed_here := place(geometry, score, stability, tile, raster.size, margin):
            found.append(placed_here)
    return found


def _checked(
    records: Any, shape: tuple[int, ...]
) -> Iterator[tuple[Bool[np.ndarray, "h w"], float, float]]:
    """Yield mask, predicted IoU and stability of what the generator gave; NaN where it has none.

    Raises:
        RasterError: something else than records of such masks.
    """
    try:
        for record in records:
            mask = to_mask(record["segmentation"])
            scores = [float(record.get(name, "nan")) for name in _SCORES]
            if mask.shape != shape:
                raise ValueError(f"a mask of shape {mask.shape} for an image of {shape}")
            yield mask, scores[0], scores[1]
    except (TypeError, ValueError, KeyError, AttributeError, SamjaxError) as error:
        raise RasterError(
            f"the generator gave no usable records ({type(error).__name__}: {error}): generate() "
            'returns a list of {"segmentation": mask of the image, "predicted_iou": number, ...}'
        ) from error


@contextmanager
def _shown(
    progress: Callable[[int, int], None] | None, total: int
) -> Iterator[Callable[[int, int], None]]:
    """Yield the caller's function, or one that moves a progress bar."""
    if progress is not None:
        yield progress
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="tile") as bar:
        yield lambda done, _: bar.update(done - bar.n)


def _write(path: Path, objects: Sequence[Found], raster: Raster, *, overwrite: bool) -> None:
    """Write the polygons; the target is replaced when they are complete."""
    import geopandas

    geometries = placed([each.geometry for each in objects], raster.transform)
    table = geopandas.GeoDataFrame(
        {
            "score": np.array([each.score for each in objects], np.float64),
            "stability": np.array([each.stability for each in objects], np.float64),
            "area_px": np.array([each.geometry.area for each in objects], np.int64),
            "area_m2": np.array(square_metres(geometries, raster.crs), np.float64),
            "parts": np.array([each.parts for each in objects], np.int32),
            "cut": np.array([each.cut for each in objects], bool),
        },
        geometry=geometries,
        crs=raster.crs or None,
    )
    suffix = path.suffix.lower()
    with (
        writing(path, RasterError),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        written = Path(folder) / f"objects{suffix}"
        with warnings.catch_warnings():
            # No CRS is what the raster has
            warnings.filterwarnings(
                "ignore", message="'crs' was not provided", category=UserWarning
            )
            table.to_file(
                written,
                driver=_DRIVERS[suffix],
                engine="pyogrio",
                layer=_LAYER,
                geometry_type="MultiPolygon" if suffix != ".geojson" else None,
                promote_to_multi=suffix != ".geojson",
            )
        check_outputs([path])
        if os.path.lexists(path) and not overwrite:
            raise RasterError(
                f"{path} was made by someone else meanwhile: move it away and run again, finished "
                "tiles are kept"
            )
        written.replace(path)
