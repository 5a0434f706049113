import base64
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.errors import AnnotationError, ImageError, PromptError
from samjax.masks.polygons import polygons_to_mask
from samjax.masks.rle import OUTPUT_MODES, convert_segmentation
from samjax.viz.overlay import overlay
from samjax.viz.viewer import LEGEND

GREY = np.full((90, 120, 3), 128, np.uint8)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:90, :120]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


MASKS = np.stack([disc(40, 40, 12), disc(45, 60, 40) & ~disc(45, 60, 15)])


def svg(viewer: samjax.viz.viewer.Viewer) -> ElementTree.Element:
    """Parse the drawing of a viewer."""
    (text,) = re.findall(r"<svg.*?</svg>", viewer.html, re.S)
    return ElementTree.fromstring(text)


def filled(path: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    """Fill the pixels that a path encloses, by the even-odd rule."""
    mask = np.zeros(size, bool)
    for ring in path.get("d", "").split("Z")[:-1]:
        points = np.array([p.split(",") for p in ring.removeprefix("M").split("L")], float)
        mask ^= polygons_to_mask([points], size)
    return mask


def test_every_mask_is_a_path_that_encloses_its_pixels_small_ones_on_top():
    paths = svg(samjax.show(GREY, MASKS)).findall(".//path")
    assert [path.get("class") for path in paths] == ["samjax-m1", "samjax-m0"]
    for path, mask in zip(paths, MASKS[::-1], strict=True):
        union = (filled(path, (90, 120)) | mask).sum()
        assert (filled(path, (90, 120)) & mask).sum() / union > 0.95
        assert path.get("fill-rule") == "evenodd"


def test_names_and_scores_are_shown_and_cannot_inject_markup():
    viewer = samjax.show(GREY, MASKS, [0.934, 0.5], ["<script>alert(1)</script>", "a & b"])
    assert "<script" not in viewer.html
    titles = [title.text for title in svg(viewer).findall(".//title")]
    assert titles == ["a & b 0.50", "<script>alert(1)</script> 0.93"]
    assert viewer.html.count('<input type="checkbox" checked>') == 2
    assert "a &amp; b <small>0.50</small>" in viewer.html


@pytest.mark.parametrize("form", OUTPUT_MODES)
def test_records_bring_their_scores_and_labels(form):
    records = [
        {"segmentation": convert_segmentation(mask, form), "predicted_iou": 0.25, "label": "cell"}
        for mask in MASKS
    ]
    viewer = samjax.show(GREY, records)
    assert [title.text for title in svg(viewer).findall(".//title")] == ["cell 0.25"] * 2
    given = samjax.show(GREY, records, [0.5, 0.75], ["x", "y"])
    assert [title.text for title in svg(given).findall(".//title")] == ["y 0.75", "x 0.50"]


def test_the_still_is_the_overlay_and_goes_along_as_png():
    viewer = samjax.show(GREY, MASKS, points=[[40, 40]], point_labels=[1], boxes=[[20, 10, 90, 80]])
    bundle = viewer._repr_mimebundle_()
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    expected = overlay(
        GREY, MASKS, np.array([[40, 40]]), np.array([1]), np.array([[20, 10, 90, 80]])
    )
    np.testing.assert_array_equal(np.asarray(picture), expected)
    assert bundle["text/plain"] == "Viewer(2 masks, 120 x 90 pixels)"
    json.dumps(bundle)  # a notebook is JSON


def test_one_mask_a_list_and_none():
    one = samjax.show(GREY, MASKS[0])
    assert one.count == 1
    assert samjax.show(GREY, list(MASKS)).count == 2
    assert samjax.show(GREY, []).count == 0
    assert not svg(samjax.show(GREY, np.zeros((1, 90, 120), bool))).find(".//path").get("d")


def test_prompts_are_drawn_where_they_are():
    drawing = svg(
        samjax.show(
            GREY,
            MASKS,
            points=[[30, 20], [80, 60], [1, 1]],
            point_labels=[1, 0, -1],
            boxes=[[10, 12, 50, 40]],
        )
    )
    markers = [g.get("transform") for g in drawing.findall(".//g[@transform]")]
    assert markers == ["translate(30.5 20.5)", "translate(80.5 60.5)"]  # centres of pixels
    assert len(drawing.findall(".//circle")) == len(drawing.findall(".//polygon")) == 1
    frames = drawing.findall(".//rect")
    place = [tuple(float(f.get(k)) for k in ("x", "y", "width", "height")) for f in frames]
    assert set(place) == {(10.5, 12.5, 40, 28)}


def test_large_images_are_shown_smaller_with_masks_and_prompts_in_place():
    image = np.zeros((900, 1200, 3), np.uint8)
    mask = np.zeros((900, 1200), bool)
    mask[300:600, 400:800] = True
    viewer = samjax.show(image, mask, points=[[599.5, 449.5]], max_size=120)
    assert viewer.still.size == (120, 90)
    drawing = svg(viewer)
    (path,) = drawing.findall(".//path")
    expected = np.zeros((90, 120), bool)
    expected[30:60, 40:80] = True
    np.testing.assert_array_equal(filled(path, (90, 120)), expected)
    assert drawing.find(".//g[@transform]").get("transform") == "translate(60.0 45.0)"


def test_many_masks_have_no_entries_of_their_own():
    labels = np.arange(90 * 120).reshape(90, 120) // 60
    masks = [labels == i for i in range(LEGEND + 1)]
    viewer = samjax.show(GREY, masks)
    assert "checkbox" not in viewer.html
    assert f"{LEGEND + 1} masks" in viewer.html
    assert len(svg(viewer).findall(".//path")) == LEGEND + 1


def test_saving(tmp_path):
    viewer = samjax.show(GREY, MASKS)
    page = viewer.save(tmp_path / "new" / "masks.html")
    assert viewer.html in page.read_text("utf-8")
    with Image.open(viewer.save(tmp_path / "masks.png")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(viewer.still))
    with Image.open(viewer.save(tmp_path / "masks.JPG")) as picture:
        assert picture.size == (120, 90)
    with pytest.raises(ImageError, match=r"unknown ending '\.svg'"):
        viewer.save(tmp_path / "masks.svg")


def test_wrong_use():
    with pytest.raises(AnnotationError, match="2 masks but 1 scores"):
        samjax.show(GREY, MASKS, [0.5])
    with pytest.raises(AnnotationError, match="2 masks but 3 labels"):
        samjax.show(GREY, MASKS, labels=["a", "b", "c"])
    with pytest.raises(AnnotationError, match="mask of 4 x 5 pixels in an image of 90 x 120"):
        samjax.show(GREY, np.zeros((1, 4, 5), bool))
    with pytest.raises(ImageError, match=r"alpha is 1\.5"):
        samjax.show(GREY, MASKS, alpha=1.5)
    with pytest.raises(ImageError, match="sizes must be 1 or more"):
        samjax.show(GREY, MASKS, max_size=0)
    with pytest.raises(PromptError, match="labels were passed without points"):
        samjax.show(GREY, MASKS, point_labels=[1])
    with pytest.raises(ImageError, match="no such file"):
        samjax.show("missing.png", MASKS)


def test_the_submodules_of_the_readme_can_be_imported_from_the_package():
    code = "from samjax import annotations; annotations.write_coco"
    subprocess.run([sys.executable, "-c", code], check=True)
