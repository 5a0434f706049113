"""Draw rasters with shapes whose polygons are known, and find them without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import scipy.ndimage
import shapely
from rasterio.transform import Affine

# 30 cm pixels, UTM
PLACED = Affine(0.3, 0, 500_000, 0, -0.3, 4_649_776)


@dataclass
class FindsColours:
    """Finds every connected region that is not black, as a generator of masks would.

    ``seen`` are the shapes of the images that it was given; ``stop`` is the number of the call
    that fails; with ``wobbles`` every second image's masks lack their first row and column.
    """

    stop: int | None = None
    wobbles: bool = False
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Return a record for each region; its score tells its colour."""
        self.seen.append(image.shape)
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        regions, count = scipy.ndimage.label(image.any(-1))
        records = []
        for number, box in enumerate(scipy.ndimage.find_objects(regions), 1):
            mask = np.zeros(regions.shape, bool)
            mask[box] = regions[box] == number
            if self.wobbles and len(self.seen) % 2:
                mask[box[0].start] = mask[:, box[1].start] = False
            if not mask.any():  # one row or column at the image's edge
                continue
            red = image[mask][0, 0]
            records.append(
                {"segmentation": mask, "predicted_iou": float(red) / 255, "stability_score": 1.0}
            )
        assert len(records) == count or self.wobbles
        return records


def drawn_shapes(
    size: int, count: int, seed: int = 0, large: int = 0
) -> list[tuple[int, int, np.ndarray]]:
    """Draw ``count`` shapes that do not touch: (x, y, mask) of rectangles, discs and rings.

    The first ``large`` of them are bars as long as a third of the raster.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil(large / 2 + np.sqrt(large**2 / 4 + count)))  # (side - large) rows of cells
    cell = size // side
    shapes = []
    rows = list(range(side))
    for i in range(large):
        length, y = size // 3, rows.pop() * cell + 3
        x = int(rng.integers(1, size - length - 1))
        shapes.append((x, y, np.ones((int(rng.integers(5, cell - 6)), length), bool)))
        if i % 2:  # a hole in the middle
            shapes[-1][2][2:-2, length // 3 : length // 2] = False
    cells = [(r, c) for r in rows for c in range(side)]
    for i, k in enumerate(rng.permutation(len(cells))[: count - large]):
        row, column = cells[k]
        h, w = (int(v) for v in rng.integers(cell // 3, cell - 3, 2))
        y, x = row * cell + 1, column * cell + 1
        yy, xx = np.mgrid[:h, :w]
        distance = ((yy - h / 2 + 0.5) / (h / 2)) ** 2 + ((xx - w / 2 + 0.5) / (w / 2)) ** 2
        mask = [np.ones((h, w), bool), distance <= 1, (distance <= 1) & (distance > 0.3)][i % 3]
        shapes.append((x, y, mask))
    return shapes


def write_raster(
    path: Path,
    size: int,
    shapes: list[tuple[int, int, np.ndarray]],
    *,
    transform: Affine | None = PLACED,
    crs: str | None = "EPSG:32633",
    block: int = 256,
    **profile: Any,
) -> Path:
    """Write a tiled grey GeoTIFF of the shapes, each with a value of its own."""
    placed = {} if transform is None else {"transform": transform}
    options = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "crs": crs}
    options |= {"tiled": True, "blockxsize": block, "blockysize": block, **placed, **profile}
    image = np.zeros((size, size), np.uint8)
    for i, (x, y, mask) in enumerate(shapes):
        image[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = 1 + i % 255
    with rasterio.open(path, "w", width=size, height=size, **options) as file:
        file.write(image, 1)
    return path


def truth(shapes: list[tuple[int, int, np.ndarray]], transform: Affine) -> list[Any]:
    """Return each shape as the union of its pixels' squares, in coordinates.

    Runs of pixels become rectangles: another way than the library's.
    """
    matrix = np.array([[transform.a, transform.b], [transform.d, transform.e]])
    corner = np.array([transform.c, transform.f])
    found = []
    for x, y, mask in shapes:
        runs = []
        for row, line in enumerate(mask):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], line.view(np.int8), [0]])))
            for start, stop in edges.reshape(-1, 2):
                runs.append(shapely.box(x + start, y + row, x + stop, y + row + 1))
        union = shapely.union_all(runs)
        found.append(shapely.transform(union, lambda xy: xy @ matrix.T + corner))
    return found
