import numpy as np
import pytest
from scipy import ndimage

from samjax.errors import AnnotationError
from samjax.masks.polygons import (
    Polygon,
    join_rings,
    mask_to_polygons,
    polygons_to_mask,
    polygons_to_rle,
    simplify,
)
from samjax.masks.rle import mask_to_rle, rle_to_mask, to_coco_rle
from tests.support.masks import MASKS, blobs, noise

each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def winding(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Compute a ring's winding number around each pixel's centre by rays."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    turns = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        if y0 != y1:
            crossed = (np.minimum(y0, y1) < y) & (y < np.maximum(y0, y1))
            left = x > x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            turns += np.where(crossed & left, np.sign(y0 - y1).astype(int), 0)
    return turns


def area(ring: np.ndarray) -> float:
    (x, y), (x1, y1) = ring.T, np.roll(ring, -1, 0).T
    return (x * y1 - x1 * y).sum() / 2


def rings_of(polygons: list[Polygon]) -> list[np.ndarray]:
    return [ring for polygon in polygons for ring in polygon.rings]


@each_mask
def test_filling_the_rings_gives_the_mask_back(mask):
    polygons = mask_to_polygons(mask)
    turns = sum((winding(ring, mask.shape) for ring in rings_of(polygons)), np.zeros(mask.shape))
    np.testing.assert_array_equal(turns, mask)
    np.testing.assert_array_equal(polygons_to_mask(polygons, mask.shape), mask)


@each_mask
def test_parts_and_holes_are_those_connected_by_edges(mask):
    polygons = mask_to_polygons(mask)
    labels, count = ndimage.label(mask)
    assert len(polygons) == count
    for polygon in polygons:
        part = polygons_to_mask([polygon], mask.shape)
        (number,) = np.unique(labels[part])
        np.testing.assert_array_equal(part, labels == number)
        _, outside = ndimage.label(~np.pad(part, 1))
        assert len(polygon.holes) == outside - 1


@each_mask
def test_rings_are_simple_and_turn_the_right_way(mask):
    for polygon in mask_to_polygons(mask):
        assert area(polygon.outer) > 0
        assert all(area(hole) < 0 for hole in polygon.holes)
        for ring in polygon.rings:
            assert len(np.unique(ring, axis=0)) == len(ring) >= 4
            step = np.roll(ring, -1, 0) - ring
            assert ((step == 0).sum(1) == 1).all()  # along the grid
            assert ((step * np.roll(step, -1, 0)).sum(1) == 0).all()  # a turn at every vertex


@each_mask
def test_one_ring_for_everything_fills_the_same(mask):
    rings = rings_of(mask_to_polygons(mask))
    if not rings:
        return
    ring = join_rings(rings)
    turns = winding(ring, mask.shape)
    np.testing.assert_array_equal(turns, mask)  # even-odd and non-zero alike
    np.testing.assert_array_equal(polygons_to_mask([ring], mask.shape), mask)
    assert (ring != np.roll(ring, 1, 0)).any(1).all()


def test_many_random_masks_come_back():
    rng = np.random.default_rng(0)
    for seed in range(150):
        mask = noise(*rng.integers(1, 20, 2), seed)
        polygons = mask_to_polygons(mask)
        np.testing.assert_array_equal(polygons_to_mask(polygons, mask.shape), mask)
        if polygons:
            ring = join_rings(rings_of(polygons))
            np.testing.assert_array_equal(polygons_to_mask([ring], mask.shape), mask)


def test_coordinates_are_pixel_corners_of_the_image():
    mask = np.zeros((6, 9), bool)
    mask[2:4, 5:8] = True
    (polygon,) = mask_to_polygons(mask)
    assert polygon.outer.tolist() == [[5, 2], [8, 2], [8, 4], [5, 4]]
    for form in (mask_to_rle(mask), to_coco_rle(mask)):
        assert mask_to_polygons(form)[0].outer.tolist() == polygon.outer.tolist()


def test_bridges_are_the_shortest():
    # Three unit squares in a row, gaps of 2 and 3: there and back over both, nowhere else.
    mask = np.zeros((3, 9), bool)
    mask[1, [0, 3, 7]] = True
    ring = join_rings(rings_of(mask_to_polygons(mask)))
    length = np.hypot(*(np.roll(ring, -1, 0) - ring).T).sum()
    assert length == pytest.approx(3 * 4 + 2 * (2 + 3))


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_simplified_polygons_differ_near_the_edge_only(tolerance, seed):
    mask = np.pad(blobs(160, 120, seed), 2)
    exact, simple = mask_to_polygons(mask), mask_to_polygons(mask, tolerance=tolerance)
    assert [len(polygon.holes) for polygon in exact] == [len(polygon.holes) for polygon in simple]
    differs = polygons_to_mask(simple, mask.shape) != mask
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    # Distance of a pixel's centre to the edge, half a pixel before the next centre.
    assert (np.maximum(inside, outside)[differs] - 0.5 <= tolerance).all()
    vertices = [sum(map(len, rings_of(polygons))) for polygons in (exact, simple)]
    assert vertices[1] < vertices[0] * (0.35 if tolerance >= 1 else 1)


def test_simplifying_leaves_no_vertex_further_away_and_no_line():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 * np.stack([np.cos(angle), np.sin(angle)], 1)
    simple = simplify(circle, 0.5)
    start, step = simple, np.roll(simple, -1, 0) - simple
    offset = circle[:, None] - start
    share = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0, 1)
    distance = np.hypot(*np.moveaxis(offset - share[..., None] * step, -1, 0)).min(1)
    assert len(simple) < 40
    assert distance.max() <= 0.5
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert simplify(square, 10.0).tolist() == square.tolist()


def test_any_polygon_is_filled_as_pycocotools_does_and_cut_at_the_border():
    triangle = np.array([[-5.0, -5.0], [30.0, 4.5], [3.2, 30.0]])
    mask = polygons_to_mask([triangle], (12, 16))
    difference = mask != (winding(triangle, (12, 16)) != 0)
    edge = ndimage.binary_dilation(mask) & ndimage.binary_dilation(~mask)
    assert not (difference & ~edge).any()
    assert not polygons_to_mask([], (4, 5)).any()
    assert rle_to_mask(polygons_to_rle([], (4, 5))).shape == (4, 5)


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        ([[0, 0], [1, 1]], "at least 3"),
        ([[0, 0], [1, 1], [np.nan, 2]], "NaN or infinite"),
        ([[0, 0], [1, 1], [np.inf, 2]], "NaN or infinite"),
    ],
)
def test_unusable_rings_are_an_error(ring, message):
    with pytest.raises(AnnotationError, match=message):
        polygons_to_mask([np.array(ring, float)], (4, 4))


@pytest.mark.parametrize("tolerance", [-1.0, np.inf, np.nan])
def test_unusable_tolerances_are_an_error(tolerance):
    with pytest.raises(AnnotationError, match="tolerance is"):
        mask_to_polygons(np.ones((3, 3), bool), tolerance=tolerance)
