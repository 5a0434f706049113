import numpy as np
import pytest
from scipy import ndimage

from samjax.errors import AnnotationError, ImageError
from samjax.masks.rle import OUTPUT_MODES, convert_segmentation
from samjax.viz.automatic import draw_masks
from samjax.viz.overlay import PALETTE

GREY = np.full((90, 120, 3), 128, np.uint8)


def disc(y: float, x: float, radius: float) -> dict:
    rows, columns = np.mgrid[:90, :120]
    return {"segmentation": (rows - y) ** 2 + (columns - x) ** 2 < radius**2}


def test_fills_blend_one_colour_of_the_palette_and_leave_the_rest():
    mask = disc(40, 50, 20)["segmentation"]
    picture = draw_masks(GREY, [{"segmentation": mask}], outline=False, alpha=0.25)
    (colour,) = np.unique(picture[mask], axis=0)
    np.testing.assert_array_equal(colour, np.rint(0.75 * 128 + 0.25 * np.array(PALETTE[0])))
    assert (picture[~mask] == 128).all()
    assert (GREY == 128).all()


@pytest.mark.parametrize("form", OUTPUT_MODES)
def test_small_masks_are_on_top_whatever_their_order_and_form(form):
    records = [disc(45, 60, radius) for radius in (10, 40, 25)]
    records = [
        {"segmentation": convert_segmentation(each["segmentation"], form)} for each in records
    ]
    picture = draw_masks(GREY, records, outline=False)
    seen = [tuple(picture[45, 60 + x]) for x in (0, 18, 33, 50)]
    assert len(set(seen)) == 4
    assert seen[-1] == (128, 128, 128)
    np.testing.assert_array_equal(picture, draw_masks(GREY, records[::-1], outline=False))


def test_edges_are_thin_lines_around_the_masks():
    mask = disc(45, 60, 30)["segmentation"]
    drawn = draw_masks(GREY, [{"segmentation": mask}]).astype(int)
    plain = draw_masks(GREY, [{"segmentation": mask}], outline=False)
    changed = (drawn != plain).any(-1)
    near = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=3)
    assert changed[mask ^ ndimage.binary_erosion(mask)].all()
    assert not changed[~near].any()


def test_neighbours_differ_in_colour_among_more_masks_than_colours():
    labels = np.add.outer(np.arange(90) // 10 * 12, np.arange(120) // 10) + 1  # 108 tiles
    records = [{"segmentation": labels == i} for i in range(1, 109)]
    picture = draw_masks(GREY, records, outline=False)[5::10, 5::10].astype(int)
    assert (picture[1:] != picture[:-1]).any(-1).all()
    assert (picture[:, 1:] != picture[:, :-1]).any(-1).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == len(PALETTE)


def test_seeds_deal_the_colours_anew_and_repeatably():
    records = [disc(20, 20, 15), disc(60, 80, 20)]
    pictures = [draw_masks(GREY, records, seed=seed) for seed in (0, 1, 1)]
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[1], pictures[2])


def test_the_extremes_of_images_and_masks():
    np.testing.assert_array_equal(draw_masks(GREY, []), GREY)
    empty = {"segmentation": np.zeros((90, 120), bool)}
    np.testing.assert_array_equal(draw_masks(GREY, [empty]), GREY)
    one = np.zeros((1, 1, 3), np.uint8)
    assert draw_masks(one, [{"segmentation": np.ones((1, 1), bool)}]).shape == (1, 1, 3)
    strip = np.zeros((3, 2000, 3), np.uint8)
    mask = np.zeros((3, 2000), bool)
    mask[:, 500:] = True
    assert draw_masks(strip, [{"segmentation": mask}])[1, 1500].any()


def test_wrong_use_is_named():
    with pytest.raises(ImageError, match=r"alpha is 1\.5"):
        draw_masks(GREY, [disc(9, 9, 5)], alpha=1.5)
    with pytest.raises(AnnotationError, match="90 x 120 pixels in an image of 9 x 9"):
        draw_masks(GREY[:9, :9], [disc(9, 9, 5)])
