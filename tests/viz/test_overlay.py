import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from samjax.errors import AnnotationError, ImageError, PromptError
from samjax.masks.rle import to_coco_rle, to_rle
from samjax.prediction import Prediction
from samjax.viz.overlay import NEGATIVE, PALETTE, POSITIVE, draw_candidates, overlay
from samjax.viz.viewer import show

GREY = 100


@pytest.fixture
def image() -> np.ndarray:
    return np.full((120, 160, 3), GREY, np.uint8)


def square(y: int, x: int, side: int, shape=(120, 160)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


NOTHING = np.zeros((0, 120, 160), bool)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=-1)


def test_nothing_to_draw_gives_an_equal_copy(image):
    drawn = overlay(image, NOTHING)
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)
    np.testing.assert_array_equal(overlay(image, np.zeros((2, 120, 160), bool)), image)


def test_the_fill_is_exact_inside_and_absent_outside(image):
    before = image.copy()
    mask = square(30, 40, 50)
    drawn = overlay(image, mask[None], alpha=0.25, outline=False)
    expected = np.rint(GREY + 0.25 * (np.array(PALETTE[0]) - GREY))
    np.testing.assert_array_equal(drawn[mask], np.broadcast_to(expected, (2500, 3)))
    assert not changed(image, drawn)[~mask].any()
    np.testing.assert_array_equal(image, before)  # the input is left alone


def test_the_outline_hugs_the_edge_on_both_sides(image):
    mask = square(30, 40, 50)
    edge = changed(image, overlay(image, mask[None], alpha=0.0))
    assert edge[55, 39]
    assert edge[55, 40]
    # The line's centre has the mask's full colour.
    line = overlay(image, mask[None], alpha=0.0)[55, 39:41].astype(int)
    assert np.abs(line - PALETTE[0]).max() < 25
    rows, cols = np.nonzero(edge)
    assert rows.min() >= 30 - 6
    assert cols.max() < 90 + 6
    assert not edge[40:70, 50:80].any()  # nothing in the middle: a line, not a haze


def test_the_outline_of_a_diagonal_edge_is_smooth(image):
    y, x = np.mgrid[:120, :160]
    drawn = overlay(image, (x > y)[None], alpha=0.0, colors=[(255, 0, 0)])
    across = drawn[60, :, 0].astype(int)
    assert len(np.unique(across)) >= 4  # steps of coverage, not on or off


def test_thin_structures_keep_an_outline(image):
    mask = np.zeros((120, 160), bool)
    mask[60, 20:140] = True
    drawn = overlay(image, mask[None], alpha=0.0)
    assert changed(image, drawn)[60, 25:135].all()


def test_small_masks_stay_on_top_and_colours_follow_the_index(image):
    small, large = square(50, 60, 20), square(10, 20, 100)
    colours = [(250, 0, 0), (0, 0, 250)]
    drawn = overlay(image, np.stack([small, large]), alpha=1.0, outline=False, colors=colours)
    np.testing.assert_array_equal(drawn[60, 70], colours[0])
    np.testing.assert_array_equal(drawn[20, 30], colours[1])
    swapped = overlay(
        image, np.stack([large, small]), alpha=1.0, outline=False, colors=colours[::-1]
    )
    np.testing.assert_array_equal(swapped, drawn)


def test_a_pixel_in_many_masks_is_filled_once_by_the_smallest(image):
    masks = np.stack([square(10, 20, 100 - 5 * i) for i in range(9)])
    drawn = overlay(image, masks, alpha=0.5, outline=False)
    alone = overlay(image, masks[-1:], alpha=0.5, outline=False, colors=PALETTE[8:9])
    np.testing.assert_array_equal(drawn[12:60, 22:70], alone[12:60, 22:70])


def test_colours_repeat(image):
    masks = np.stack([square(10 * i, 10 * i, 8) for i in range(3)])
    drawn = overlay(image, masks, alpha=1.0, outline=False, colors=[(1, 2, 3), (4, 5, 6)])
    np.testing.assert_array_equal(drawn[24, 24], drawn[4, 4])
    many = np.stack([square(0, 0, 3)] * (len(PALETTE) + 1))
    overlay(image, many)


def test_the_palette_is_distinct_from_itself_and_the_points():
    colours = np.array([*PALETTE, POSITIVE, NEGATIVE], float)
    distance = np.linalg.norm(colours[:, None] - colours, axis=-1)
    assert distance[~np.eye(len(colours), dtype=bool)].min() > 45


def test_points_differ_by_colour_and_by_shape(image):
    points = np.array([[40, 60], [120, 60]])
    drawn = overlay(image, NOTHING, points, np.array([1, 0]))
    # Beside the white sign, the discs show their colour.
    assert (np.abs(drawn == POSITIVE).all(axis=-1))[:, :80].any()
    assert (np.abs(drawn == NEGATIVE).all(axis=-1))[:, 80:].any()
    plus, minus = drawn[50:71, 30:51], drawn[50:71, 110:131]
    np.testing.assert_array_equal(plus[10, 10], [255] * 3)
    np.testing.assert_array_equal(minus[10, 10], [255] * 3)
    # A plus on its side is a plus; a minus is not.
    np.testing.assert_allclose(plus.astype(int), plus.swapaxes(0, 1), atol=2)
    assert np.abs(minus.astype(int) - minus.swapaxes(0, 1)).max() > 100
    disc, diamond = changed(image, drawn)[50:71, 30:51], changed(image, drawn)[50:71, 110:131]
    assert (disc != diamond).any()


def test_points_are_centred_on_their_pixel(image):
    drawn = changed(image, overlay(image, NOTHING, np.array([[80.0, 60.0]])))
    rows, cols = np.nonzero(drawn)
    assert (rows.mean(), cols.mean()) == pytest.approx((60, 80), abs=0.01)


def test_labels_default_to_positive_and_padding_is_not_drawn(image):
    points = np.array([[40.0, 60.0]])
    default = overlay(image, NOTHING, points)
    np.testing.assert_array_equal(default, overlay(image, NOTHING, points, np.array([1])))
    np.testing.assert_array_equal(overlay(image, NOTHING, points, np.array([-1])), image)


@pytest.mark.parametrize("point", [(0, 0), (159, 119), (-3, 60), (-500, 60), (80, 1e6)])
def test_points_may_touch_or_leave_the_image(image, point):
    drawn = overlay(image, NOTHING, np.array([point], float))
    near = -5 <= point[0] <= 164 and -5 <= point[1] <= 124
    assert changed(image, drawn).any() == near


def test_markers_and_lines_grow_with_the_image():
    def marker_pixels(side: int) -> int:
        blank = np.full((side, side, 3), GREY, np.uint8)
        drawn = overlay(blank, np.zeros((0, side, side), bool), np.array([[side / 2, side / 2]]))
        return int(changed(blank, drawn).sum())

    assert marker_pixels(1600) / marker_pixels(800) == pytest.approx(4, rel=0.2)


def test_a_box_is_a_frame_at_its_place(image):
    drawn = overlay(image, NOTHING, boxes=np.array([[30, 20, 110, 90]]))
    np.testing.assert_array_equal(drawn[55, 30], [255] * 3)
    np.testing.assert_array_equal(drawn[90, 70], [255] * 3)
    frame = changed(image, drawn)
    assert not frame[26:84, 36:104].any()
    rows, cols = np.nonzero(frame)
    assert (rows.min() + rows.max(), cols.min() + cols.max()) == (20 + 90, 30 + 110)
    overlay(image, NOTHING, boxes=np.array([[-50.0, -50, 500, 500], [5, 5, 5, 5]]))


def test_wrong_use(image):
    with pytest.raises(ImageError, match=r"alpha is 1\.5"):
        overlay(image, NOTHING, alpha=1.5)
    with pytest.raises(ImageError, match="colors is empty"):
        overlay(image, NOTHING, colors=[])
    with pytest.raises(PromptError, match="point_labels were passed without points"):
        overlay(image, NOTHING, point_labels=np.array([1]))
    with pytest.raises(ImageError, match="no masks to draw"):
        draw_candidates(image, NOTHING, np.zeros(0))


def test_candidates_are_ranked_by_falling_score(image):
    masks = np.stack([square(0, 0, 60), square(60, 0, 60), square(0, 100, 60)])
    scores = np.array([0.2, 0.9, 0.5], np.float32)
    drawn = draw_candidates(image, masks, scores, panel_width=160)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (40 + 120 + 12, 3 * 160 + 4 * 12, 3)
    for rank, index in enumerate((1, 2, 0)):
        left = 12 + rank * (160 + 12)
        panel = drawn[40:160, left : left + 160]
        filled = (panel != GREY).any(axis=-1)
        inner = square(0, 0, 0)
        inner[4:-4, 4:-4] = True
        overlap = (filled & masks[index] & inner).sum() / (masks[index] & inner).sum()
        assert overlap == 1
        assert (filled & ~masks[index]).sum() < 0.1 * filled.size


def test_candidates_have_titles_in_a_white_band(image):
    masks = np.stack([square(20, 20, 40)] * 2)
    drawn = draw_candidates(image, masks, np.array([0.9, 0.8]), panel_width=160)
    for left in (12, 12 + 160 + 12):
        title = drawn[5:38, left : left + 160]
        assert (title == 255).all(axis=-1).mean() > 0.7
        assert (title < 100).any()
    other = draw_candidates(image, masks, np.array([0.9, 0.7]), panel_width=160)
    assert (other[:38] != drawn[:38]).any()  # the score is written there
    np.testing.assert_array_equal(other[40:160], drawn[40:160])


def test_candidates_wrap_into_rows_and_the_prompt_is_scaled(image):
    masks = np.stack([square(20, 20, 40)] * 5)
    drawn = draw_candidates(image, masks, np.linspace(1, 0, 5), panel_width=80, columns=2)
    assert drawn.shape == (3 * (60 + 40) + 12, 2 * 80 + 3 * 12, 3)
    point = np.array([[120.0, 60.0]])
    prompt = draw_candidates(image, masks[:1], np.array([1.0]), point, panel_width=320)
    # Twice the size: the point's centre is at twice the place, on the white sign.
    assert prompt[40 + 120, 12 + 240].min() > 220
    assert prompt[40 + 60, 12 + 120].min() < 220


def test_a_real_photograph_stays_recognisable():
    photo = np.asarray(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    mask = ((x - 255) / 85) ** 2 + ((y - 180) / 120) ** 2 < 1
    drawn = overlay(photo, mask[None], np.array([[250, 200]]), np.array([1]))
    far = ((x - 255) / 95) ** 2 + ((y - 180) / 130) ** 2 > 1
    np.testing.assert_array_equal(drawn[far], photo[far])
    inside = ((x - 255) / 75) ** 2 + ((y - 180) / 110) ** 2 < 1
    correlation = np.corrcoef(photo[inside][:, 0], drawn[inside][:, 0])[0, 1]
    assert correlation > 0.9


def test_pyplot_is_never_imported():
    code = """if True:
        import sys, numpy as np
        from samjax.viz.overlay import draw_candidates
        draw_candidates(np.zeros((8, 8, 3), np.uint8), np.ones((1, 8, 8), bool), np.ones(1))
        assert "matplotlib.figure" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_overlay_and_show_take_masks_as_people_have_them(image):
    first, second = square(30, 40, 50), square(60, 20, 30)
    stack = np.stack([first, second])
    logits = np.where(stack, 3.5, -0.25).astype(np.float32)
    both = [
        stack,
        list(stack),
        logits,
        list(logits),
        stack.astype(np.uint8) * 255,
        stack.astype(np.float64),
        [Image.fromarray(each) for each in stack],
        [Image.fromarray(each.astype(np.uint8) * 255) for each in stack],
        [to_coco_rle(each) for each in stack],
        [[to_rle(first)], [to_rle(second)]],  # of predict_many(..., output="rle")
        [{"segmentation": each, "predicted_iou": 0.5} for each in stack],
        [{"segmentation": to_coco_rle(first)}, second],
        stack[:, None],  # of predict_many
        jnp.asarray(stack),
        Prediction(stack, np.array([0.25, 0.75], np.float32), logits),
    ]
    expected = overlay(image, stack)
    for given in both:
        np.testing.assert_array_equal(overlay(image, given), expected, err_msg=repr(given)[:90])
        assert show(image, given).count == 2
    alone = [
        first,
        logits[0],
        Image.fromarray(first),
        to_coco_rle(first),
        {"segmentation": first},
        {"segmentation": logits[0]},
        [first],
    ]
    for given in alone:
        np.testing.assert_array_equal(overlay(image, given), overlay(image, first[None]))
        assert show(image, given).count == 1
    assert "0.75" in show(image, both[-1]).html


def test_images_of_any_kind_give_a_uint8_picture(image, tmp_path):
    mask = square(30, 40, 50)
    Image.fromarray(image).save(tmp_path / "grey.png")
    expected = overlay(image, mask)
    for given in (image[..., 0], image / np.float32(255), Image.fromarray(image).convert("L")):
        drawn = overlay(given, mask)
        assert drawn.dtype == np.uint8
        np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(overlay(tmp_path / "grey.png", mask), expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.full((120, 160), 0.3) * np.linspace(0, 1, 160), "probabilities > 0.5"),
        (np.arange(120 * 160).reshape(120, 160), "labels == 1"),
        (np.full((120, 160), np.nan), "NaN"),
        (np.zeros(7), "shape"),
        ("mask.png", "str"),
        ([np.zeros((5, 5), bool)], "5 x 5"),
        ([None], "NoneType"),
        ({"counts": 3}, "size"),
        (np.array([["a"]]), "segmentation is"),
    ],
)
def test_masks_that_cannot_be_drawn_are_told_in_one_line(image, wrong, words):
    for draw in (overlay, show):
        with pytest.raises(AnnotationError, match=words) as error:
            draw(image, wrong)
        assert "\n" not in str(error.value)
