"""Rasters become polygons: each object once, whole, and where it is."""

from __future__ import annotations

import os
import warnings

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

import samjax
from samjax.errors import RasterError
from samjax.geo import segment_raster
from tests.support.rasters import (
    PLACED,
    FindsColours,
    drawn_shapes,
    truth,
    write_raster,
)


def quiet(done: int, total: int) -> None:
    assert done <= total


def segment(generator, source, target, **options):
    return segment_raster(
        generator, source, target, **({"tile": 256, "halo": 64, "progress": quiet} | options)
    )


def matched(table, expected, pixel=0.3):
    """Compare every polygon with the truth that it meets, and return how many pairs there are."""
    tree = shapely.STRtree(expected)
    pairs = [(row, k) for row, g in enumerate(table.geometry) for k in tree.query(g, "intersects")]
    for row, k in pairs:
        found = table.geometry[row]
        assert found.is_valid
        # A thousandth of a pixel
        assert found.hausdorff_distance(expected[k]) < 1e-3 * pixel
        assert found.symmetric_difference(expected[k]).area < 1e-3 * pixel**2
    return {row for row, _ in pairs}, {k for _, k in pairs}, len(pairs)


def test_500_shapes_are_found_once_and_uncut(tmp_path):
    shapes = drawn_shapes(2000, 500, large=4)
    source = write_raster(tmp_path / "scene.tif", 2000, shapes)
    generator = FindsColours()
    report = segment(generator, source, tmp_path / "objects.gpkg")
    table = geopandas.read_file(tmp_path / "objects.gpkg", layer="objects")
    assert report.objects == len(table) == len(shapes) == 500
    rows, found, pairs = matched(table, truth(shapes, PLACED))
    assert len(rows) == len(found) == pairs == 500
    # Bars of 667 pixels are in three tiles or more, and in no window whole
    assert report.joined == 4
    assert sorted(table.parts)[-4:] >= [3, 3, 3, 3]
    assert not table.cut.any()
    # Memory: no image is larger than a tile with its halo
    assert report.tiles == len(generator.seen) == 64
    assert max(generator.seen) == (384, 384, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["objects.gpkg", "scene.tif"]


def test_tiles_that_disagree_by_a_pixel(tmp_path):
    """An object's centre moves across the seam, or away from it: still once, never lost."""
    shapes = drawn_shapes(2000, 500, large=4)
    source = write_raster(tmp_path / "scene.tif", 2000, shapes)
    segment(FindsColours(wobbles=True), source, tmp_path / "objects.gpkg", tile=250)
    table = geopandas.read_file(tmp_path / "objects.gpkg")
    expected = truth(shapes, PLACED)
    pairs = shapely.STRtree(expected).query(table.geometry.values, "intersects").T
    assert len(table) == len(pairs) == len({k for _, k in pairs}) == 500
    for row, k in pairs:
        shared = table.geometry[row].intersection(expected[k]).area
        assert shared > 0.75 * expected[k].area


def test_attributes_and_holes(tmp_path):
    shapes = drawn_shapes(600, 60, seed=1)
    write_raster(tmp_path / "scene.tif", 600, shapes)
    report = segment(FindsColours(), tmp_path / "scene.tif", tmp_path / "objects.gpkg")
    table = geopandas.read_file(tmp_path / "objects.gpkg")
    assert table.crs == "EPSG:32633"
    assert "32633" in report.crs
    np.testing.assert_array_equal(
        sorted(table.area_px), sorted(int(mask.sum()) for _, _, mask in shapes)
    )
    np.testing.assert_allclose(table.area_m2, table.area_px * 0.09, rtol=1e-9)
    np.testing.assert_allclose(table.area_m2, table.geometry.area, rtol=1e-9)
    np.testing.assert_allclose(np.sort(table.score), np.arange(1, 61) / 255, atol=1e-9)
    holes = sum(len(part.interiors) for g in table.geometry for part in g.geoms)
    assert holes == 20  # a third are rings


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.3, 0.1, 500_000, 0.1, -0.3, 4_649_776),
        Affine(0.42, 0.11, 500_000, 0.27, -0.17, 4_649_776),
    ],
)
def test_rotated_rasters(tmp_path, transform):
    shapes = drawn_shapes(600, 40)
    source = write_raster(tmp_path / "scene.tif", 600, shapes, transform=transform)
    segment(FindsColours(), source, tmp_path / "objects.fgb")
    table = geopandas.read_file(tmp_path / "objects.fgb")
    assert len(table) == 40
    rows, found, pairs = matched(table, truth(shapes, transform), pixel=0.2)
    assert len(rows) == len(found) == pairs == 40
    pixel = abs(transform.determinant)
    np.testing.assert_allclose(table.area_m2, table.area_px * pixel, rtol=1e-9)


def test_degrees_are_measured_on_the_ellipsoid(tmp_path):
    transform = Affine(1e-5, 0, 13.0, 0, -1e-5, 60.0)
    shapes = [(50, 60, np.ones((100, 200), bool))]
    source = write_raster(tmp_path / "scene.tif", 300, shapes, transform=transform, crs="EPSG:4326")
    segment(FindsColours(), source, tmp_path / "objects.gpkg")
    (area,) = geopandas.read_file(tmp_path / "objects.gpkg").area_m2
    # At 60 degrees north a degree is 111,412 m long and 55,800 m wide (WGS 84)
    assert area == pytest.approx(1e-3 * 111_412 * 2e-3 * 55_800, rel=2e-3)


@pytest.mark.parametrize("transform", [None, Affine(2, 0, 10, 0, -2, 90)])
def test_without_a_coordinate_system(tmp_path, transform):
    shapes = drawn_shapes(600, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        source = write_raster(tmp_path / "scan.tif", 600, shapes, transform=transform, crs=None)
    report = segment(FindsColours(), source, tmp_path / "objects.gpkg")
    table = geopandas.read_file(tmp_path / "objects.gpkg")
    assert report.crs == ""
    assert table.crs is None or "Undefined" in table.crs.name
    assert table.area_m2.isna().all()
    rows, found, pairs = matched(table, truth(shapes, transform or Affine.identity()), pixel=1)
    assert len(rows) == len(found) == pairs == 30


def write_bands(path, values, **profile):
    """Write bands x height x width."""
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width,
        dtype=values.dtype, transform=PLACED, crs="EPSG:32633", **profile,
    ) as file:  # fmt: skip
        file.write(values)
    return path


class Keeps:
    """Keeps the image that it is given, and finds nothing."""

    def generate(self, image):
        self.image = image
        return []


def test_eleven_bands(tmp_path):
    values = np.arange(11, dtype=np.uint16)[:, None, None] * 100 + np.zeros((11, 50, 60), np.uint16)
    values[:, 0, 0] = 0
    values[:, 0, 1] = 4000
    source = write_bands(tmp_path / "scene.tif", values)
    with pytest.raises(RasterError, match=r"has 11 bands: choose one, or three as red, green"):
        segment(Keeps(), source, tmp_path / "a.gpkg")
    for bands, message in (
        ((0, 1, 2), "bands 1 to 11; they count from 1"),
        ((3, 2), "give one band, or three"),
        ((12,), "bands 1 to 11"),
    ):
        with pytest.raises(RasterError, match=message):
            segment(Keeps(), source, tmp_path / "a.gpkg", bands=bands)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]
    keeps = Keeps()
    report = segment(keeps, source, tmp_path / "a.gpkg", bands=(9, 5, 3), stretch=(0, 1000))
    assert report.objects == 0
    np.testing.assert_array_equal(keeps.image[20, 20], [204, 102, 51])
    np.testing.assert_array_equal(keeps.image[0, :2], [[0] * 3, [255] * 3])
    pairs = [(0, 800), (0, 800), (200, 400)]
    segment(keeps, source, tmp_path / "a.gpkg", bands=(9, 5, 3), stretch=pairs, overwrite=True)
    np.testing.assert_array_equal(keeps.image[20, 20], [255, 128, 0])


def test_the_stretch_is_one_for_all_tiles(tmp_path):
    """Between percentiles of the whole raster, so that no seam is seen; NaN is no data."""
    ramp = np.linspace(0, 10, 600, dtype=np.float32)[None, None] + np.zeros((1, 500, 1), np.float32)
    ramp[0, :10, :10] = np.nan
    source = write_bands(tmp_path / "scene.tif", ramp)
    images = []

    class KeepsAll:
        def generate(self, image):
            images.append(image)
            return []

    segment(KeepsAll(), source, tmp_path / "a.gpkg", halo=0)
    row = np.concatenate([image[20, :, 0] for image in images[:3]]).astype(int)
    assert len(row) == 600
    np.testing.assert_allclose(row, np.clip((ramp[0, 20] - 0.2) / 9.6, 0, 1) * 255, atol=1.1)
    assert (images[0][:10, :10] == 0).all()


def test_no_data_is_no_object(tmp_path):
    values = np.full((3, 300, 600), 200, np.uint8)
    values[:, :, 256:] = 7  # nodata: the right-hand tiles are empty
    values[:, 100:140, 100:140] = 7
    source = write_bands(tmp_path / "scene.tif", values, nodata=7)

    class Everything:
        calls = 0

        def generate(self, image):
            self.calls += 1
            mask = np.ones(image.shape[:2], bool)
            return [{"segmentation": mask, "predicted_iou": 0.9, "stability_score": 0.9}]

    everything = Everything()
    report = segment(everything, source, tmp_path / "a.gpkg", halo=0)
    assert everything.calls == 2
    assert report.empty == 4
    table = geopandas.read_file(tmp_path / "a.gpkg")
    assert table.area_px.sum() == 300 * 256 - 40 * 40


def break_block(path, column, row):
    """Overwrite a block of the file's compressed bytes with others."""
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
        size = int(file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1))
    whole = path.read_bytes()
    path.write_bytes(whole[:offset] + b"\xff" * size + whole[offset + size :])
    return whole


def test_a_broken_tile_is_named_and_mended(tmp_path):
    shapes = drawn_shapes(1024, 80)
    source = write_raster(tmp_path / "scene.tif", 1024, shapes)
    whole = break_block(source, 2, 1)
    first = FindsColours()
    with pytest.raises(RasterError, match=r"columns 192 to 576, rows 0 to 320 cannot be read") as e:
        segment(first, source, tmp_path / "a.gpkg")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "a.gpkg").exists()
    assert len(first.seen) >= 1
    source.write_bytes(whole)
    os.utime(source, ns=(0, 0))
    with pytest.raises(RasterError, match="a run with another source: run that again, or pass"):
        segment(first, source, tmp_path / "a.gpkg")
    assert segment(FindsColours(), source, tmp_path / "a.gpkg", overwrite=True).objects == 80


def test_goes_on_where_it_was_interrupted(tmp_path):
    shapes = drawn_shapes(1024, 80)
    source = write_raster(tmp_path / "scene.tif", 1024, shapes)
    with pytest.raises(KeyboardInterrupt):
        segment(FindsColours(stop=6), source, tmp_path / "a.gpkg")
    with pytest.raises(RasterError, match="a run with another halo"):
        segment(FindsColours(), source, tmp_path / "a.gpkg", halo=32)
    rest = FindsColours()
    report = segment(rest, source, tmp_path / "a.gpkg")
    assert (report.resumed, len(rest.seen)) == (5, 11)
    segment(FindsColours(), source, tmp_path / "b.gpkg")
    a, b = (geopandas.read_file(tmp_path / name) for name in ("a.gpkg", "b.gpkg"))
    assert a.equals(b)
    assert len(a) == 80
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gpkg", "b.gpkg", "scene.tif"]


def test_a_damaged_part_is_named(tmp_path):
    source = write_raster(tmp_path / "scene.tif", 600, drawn_shapes(600, 20))
    with pytest.raises(KeyboardInterrupt):
        segment(FindsColours(stop=3), source, tmp_path / "a.gpkg")
    part = tmp_path / "a.gpkg.parts" / "000001.json"
    part.write_text(part.read_text()[:-20])
    with pytest.raises(RasterError, match=r"000001\.json is damaged .*: delete it"):
        segment(FindsColours(), source, tmp_path / "a.gpkg")
    part.unlink()
    assert segment(FindsColours(), source, tmp_path / "a.gpkg").objects == 20


def test_targets(tmp_path):
    source = write_raster(tmp_path / "scene.tif", 300, drawn_shapes(300, 9))
    (tmp_path / "there.gpkg").write_text("mine")
    same = tmp_path / "scene.gpkg"
    same.symlink_to(source)
    before = source.read_bytes()
    for target, options, message in (
        ("a.shp", {}, r"unknown ending '\.shp': use \.gpkg"),
        ("there.gpkg", {}, r"there\.gpkg exists: choose another name, or pass overwrite=True"),
        ("scene.gpkg", {"overwrite": True}, "is an input and would be replaced"),
        ("a.gpkg", {"tile": 0}, "give a tile of 1 pixel or more"),
        ("a.gpkg", {"halo": 300}, "give a tile of 1 pixel or more and a halo"),
        ("a.gpkg", {"stretch": (3, 1)}, "low must be below high"),
        ("a.gpkg", {"stretch": (1, 2, 3)}, r"give \(low, high\)"),
    ):
        with pytest.raises(RasterError, match=message):
            segment(FindsColours(), source, tmp_path / target, **options)
    with pytest.raises(RasterError, match="cannot be read as a raster"):
        segment(FindsColours(), tmp_path / "there.gpkg", tmp_path / "b.gpkg")
    with pytest.raises(RasterError, match="cannot be read as a raster"):
        segment(FindsColours(), tmp_path / "nowhere.tif", tmp_path / "b.gpkg")
    waves = write_bands(tmp_path / "waves.tif", np.ones((1, 30, 30), np.complex64))
    with pytest.raises(RasterError, match="holds complex values"):
        segment(FindsColours(), waves, tmp_path / "b.gpkg")
    assert source.read_bytes() == before
    assert (tmp_path / "there.gpkg").read_text() == "mine"
    for name in ("a.geojson", "deep/er/a.gpkg"):
        assert segment(FindsColours(), source, tmp_path / name).objects == 9
        assert len(geopandas.read_file(tmp_path / name)) == 9


def test_the_real_generator(embedded, photo, tmp_path):
    source = write_bands(tmp_path / "scene.tif", photo[:400, :400].transpose(2, 0, 1).copy())
    generator = samjax.SamAutomaticMaskGenerator(embedded, points_per_side=6)
    report = segment(generator, source, tmp_path / "a.gpkg", halo=32)
    table = geopandas.read_file(tmp_path / "a.gpkg")
    assert report.tiles == 4
    assert len(table) > 5
    assert table.geometry.is_valid.all()
    assert table.score.between(0, 1.1).all()
    assert table.geometry.within(shapely.box(*rasterio.open(source).bounds).buffer(1e-6)).all()
