"""Odd values, places, targets and generators: the right picture, or one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from samjax.errors import RasterError
from samjax.geo import segment_raster
from tests.support.rasters import PLACED, FindsColours

RANDOM = np.random.default_rng(0).random((60, 90))


def write(path: Path, values: np.ndarray, transform: Affine = PLACED, crs="EPSG:32632") -> Path:
    """Write a raster of one band."""
    height, width = values.shape
    about = {"driver": "GTiff", "height": height, "width": width, "count": 1}
    with rasterio.open(path, "w", dtype=values.dtype, transform=transform, crs=crs, **about) as f:
        f.write(values[None])
    return path


def segment(generator, source, target, **options):
    return segment_raster(generator, source, target, progress=lambda *_: None, **options)


class Sees:
    """Keeps the image that it is given, and gives what it is told to."""

    def __init__(self, gives: object = ()):
        self.gives, self.image = gives, np.zeros(0)

    def generate(self, image):
        self.image = image
        return self.gives


@pytest.mark.parametrize(
    "values",
    [
        1e9 + RANDOM * 10,
        (3_000_000_000 + RANDOM * 2000).astype("uint32"),
        (2**60 + RANDOM * 1e6).astype("int64"),
        RANDOM * 1e300,
        RANDOM * 1e-50,
        (RANDOM * 3.4e38 * 2 - 3.4e38).astype("float32"),
        (RANDOM * 1000).astype("int16"),
    ],
    ids=["offset", "uint32", "int64", "huge", "tiny", "float32", "int16"],
)
def test_values_of_any_size_keep_their_grey_levels(tmp_path, values):
    generator = Sees()
    segment(generator, write(tmp_path / "values.tif", values), tmp_path / "out.gpkg")
    assert len(np.unique(generator.image)) > 200
    # The order of values is the order of greys
    order = np.argsort(values.ravel())
    assert (np.diff(generator.image[..., 0].ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("transform", "crs", "said"),
    [
        (Affine(0, 0, 500_000, 0, 0, 4_000_000), "EPSG:32632", "no area"),
        (Affine(10, 10, 0, 10, 10, 1), "EPSG:32632", "no area"),
        (Affine(0.5, 0, 0, 0, -1, -50), "EPSG:4326", "latitudes from -110 to -50"),
    ],
    ids=["zero", "line", "latitudes"],
)
def test_impossible_places_are_refused(tmp_path, transform, crs, said):
    source = write(tmp_path / "a.tif", np.uint8(RANDOM * 255), transform, crs)
    with pytest.raises(RasterError, match=said):
        segment(Sees(), source, tmp_path / "out.gpkg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(0.5, 0, -0.25, 0, -0.5, 90.25), "EPSG:4326"),
        (Affine(0.02, 0, 0, 0, -0.02, 99.5), "EPSG:4807"),
    ],
    ids=["pixels at the pole", "grads"],
)
def test_places_near_the_pole_are_read(tmp_path, transform, crs):
    values = np.uint8(np.random.default_rng(0).random((361, 8)) * 255)
    source = write(tmp_path / "a.tif", values, transform, crs)
    assert segment(Sees(), source, tmp_path / "out.gpkg").tiles == 1


@pytest.mark.parametrize(
    "gives",
    [
        None,
        5,
        [{}],
        [None],
        [{"segmentation": np.ones((3, 4), bool), "predicted_iou": 1.0}],
        [{"segmentation": np.ones((60, 90), bool), "predicted_iou": None}],
    ],
    ids=["nothing", "number", "empty", "none", "size", "score"],
)
def test_a_generator_that_gives_something_else_is_named(tmp_path, gives):
    source = write(tmp_path / "a.tif", np.uint8(RANDOM * 255))
    with pytest.raises(RasterError, match="the generator gave no usable records") as caught:
        segment(Sees(gives), source, tmp_path / "out.gpkg")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.gpkg").exists()


def test_the_generators_own_masks_stay_as_they_are(tmp_path):
    values = np.uint8(1 + RANDOM * 254)
    values[:20] = 0
    source = write(tmp_path / "a.tif", values)
    with rasterio.open(source, "r+") as file:
        file.nodata = 0
    mask = np.ones(values.shape, bool)
    mask.flags.writeable = False
    gives = [{"segmentation": mask, "predicted_iou": 1.0, "stability_score": 1.0}]
    assert segment(Sees(gives), source, tmp_path / "out.gpkg").objects == 1
    assert mask.all()


def test_folders_and_links_are_not_replaced(tmp_path):
    source = write(tmp_path / "a.tif", np.uint8(RANDOM * 255))
    (tmp_path / "folder.gpkg").mkdir()
    generator = Sees()
    with pytest.raises(RasterError, match="is a folder"):
        segment(generator, source, tmp_path / "folder.gpkg", overwrite=True)
    (tmp_path / "link.gpkg").symlink_to(tmp_path / "nowhere.gpkg")
    with pytest.raises(RasterError, match="exists"):
        segment(generator, source, tmp_path / "link.gpkg")
    assert generator.image.size == 0  # before anything is segmented


def test_a_target_that_somebody_makes_meanwhile_stays(tmp_path):
    source, target = write(tmp_path / "a.tif", np.uint8(RANDOM * 255)), tmp_path / "out.gpkg"

    class Races(FindsColours):
        def generate(self, image):
            target.write_text("mine")
            return super().generate(image)

    with pytest.raises(RasterError, match="by someone else meanwhile"):
        segment(Races(), source, target)
    assert target.read_text() == "mine"
    target.unlink()
    assert segment(Races(), source, target).resumed == 1


def test_arguments_are_refused_in_one_line(tmp_path):
    source = write(tmp_path / "a.tif", np.uint8(RANDOM * 255))
    for options, said in (
        ({"stretch": (0, 10**400)}, "stretch="),
        ({"min_area": -1}, "min_area is -1"),
    ):
        with pytest.raises(RasterError, match=said):
            segment(Sees(), source, tmp_path / "out.gpkg", **options)
    with pytest.raises(RasterError, match="source is empty"):
        segment(Sees(), "", tmp_path / "out.gpkg")
