"""12,000 x 12,000 pixels in less than 3 GB; the named group "big" of the tests.

Its small version, in every run: test_500_shapes_are_found_once_and_uncut, where no image is larger
than a tile with its halo.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas
import pytest

from tests.support.rasters import drawn_shapes, write_raster

PROGRAM = """
import resource, sys
import samjax
from samjax.geo import segment_raster
from tests.support.rasters import FindsColours

generator = FindsColours()
if sys.argv[3] == "real":
    sam = samjax.load(dtype="float32", device="cpu")
    generator = samjax.SamAutomaticMaskGenerator(sam, points_per_side=4)
segment_raster(generator, sys.argv[1], sys.argv[2], progress=lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.big
@pytest.mark.parametrize("kind", ["drawn", "real"])
def test_12000_pixels_in_3_gigabytes(tmp_path, kind):
    shapes = drawn_shapes(12_000, 500, large=6)
    source = write_raster(tmp_path / "scene.tif", 12_000, shapes)
    target = tmp_path / "objects.gpkg"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, source, target, kind],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.split()[-1])
    print(f"{kind}: {peak / 1e9:.2f} GB")
    assert peak < 3e9
    if kind == "drawn":
        table = geopandas.read_file(target)
        assert len(table) == 500
        assert sorted(table.area_px) == sorted(int(mask.sum()) for _, _, mask in shapes)
