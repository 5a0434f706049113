"""The annotator in a real JupyterLab in Firefox: the flow of Chromium's tests, and its keys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

import samjax
from tests.browser.test_annotating import agree
from tests.browser.test_keys import focused
from tests.support.browser.pages import AnnotatorPage, NotebookPage, opened_notebook
from tests.support.browser.reference import exported, masks_of, near
from tests.support.models import drawn_image

CELL = """
import samjax

a = samjax.Annotator(
    samjax.load(), ["first.png", "second.png"], labels=("cat", "dog"), height=340, path="kept"
)
a
"""


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """Open one notebook for all tests here."""
    for name, seed in (("first.png", 0), ("second.png", 1)):
        Image.fromarray(drawn_image(160, 200, seed=seed)).save(lab[2] / name)
    with opened_notebook(module_page, lab, "firefox", CELL) as notebook:
        yield notebook


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator at its first image, without objects, in the point tool."""
    opened.python("a.go(0)\na.wait()\nfor e in a.prompts: a.delete(e['id'])\na.label('cat')")
    annotator = opened.annotator()
    annotator.until("data.image === '0' && data.objects === '0' && data.state === 'ready'")
    annotator.canvas.press("v")
    return annotator


def test_click_box_enter_undo_and_export(opened, annotator, embedded) -> None:
    with annotator.painted():
        annotator.click(60, 80)
    with annotator.painted():
        annotator.click(150, 30, button="right")
    annotator.press("Enter")
    annotator.until("data.active === '' && data.state === 'ready'")
    with annotator.painted():
        annotator.drag(100, 60, 160, 130)
    assert annotator.data("objects") == "2"
    with annotator.painted():
        annotator.act("undo")
    assert annotator.data("objects") == "1"
    with annotator.painted():
        annotator.press("Shift+Z")
    annotator.root.locator("button.samjax-label[data-label=dog]").click()
    annotator.act("commit")
    annotator.until("data.active === '' && data.state === 'ready'")
    agree(opened, annotator)
    annotator.press("PageDown")
    annotator.until("data.image === '1' && data.state === 'ready'")
    annotator.press("b")
    for corner in (20, 90):
        with annotator.painted():
            annotator.drag(corner, 30, corner + 50, 110)
    agree(opened, annotator)
    annotator.export()

    files = exported(opened.folder / "kept" / "annotations.json")
    assert [labels for _, _, labels in files] == [["cat", "dog"], ["dog", "dog"]]
    saved = samjax.Annotator(
        embedded,
        [opened.folder / "first.png", opened.folder / "second.png"],
        path=opened.folder / "kept",
        labels=("cat", "dog"),
    )
    saved.wait()
    first, second = saved.prompts
    assert near(first["predict"]["point_coords"], [[60, 80], [150, 30]])
    assert first["predict"]["point_labels"] == [1, 0]
    assert near(second["predict"]["box"], [100, 60, 160, 130])
    expected = masks_of(embedded, opened.folder / "first.png", saved.prompts)
    for mask, made in zip(files[0][1], expected, strict=True):
        assert mask.any()
        np.testing.assert_array_equal(mask, made)
    saved.close()


@pytest.mark.parametrize(
    "target",
    [
        "button.samjax-candidate[data-candidate='1']",
        "button.samjax-label[data-label='dog']",
        "button[data-action='outline']",
    ],
)
def test_enter_commits_after_a_click_on_a_button(annotator, target) -> None:
    with annotator.painted():
        annotator.click(60, 80)
    annotator.root.locator(target).click()
    annotator.until("data.state === 'ready'")
    assert focused(annotator)
    annotator.page.keyboard.press("Enter")
    annotator.until("data.active === ''", timeout=5000)
    if "outline" in target:
        annotator.root.locator(target).click()  # as it was


def test_digits_delete_and_undo_act_after_a_click_on_a_row(opened, annotator) -> None:
    with annotator.painted():
        annotator.click(60, 80)
    annotator.press("Enter")
    annotator.until("data.active === ''")
    annotator.root.locator(".samjax-objects [data-object]").first.click()
    annotator.until("data.active !== ''")
    annotator.page.keyboard.press("2")
    annotator.until("data.state === 'ready'")
    opened.python("assert a.labels == ['dog'], a.labels")
    annotator.page.keyboard.press("Delete")
    annotator.until("data.objects === '0'", timeout=5000)
    annotator.page.keyboard.press("z")
    annotator.until("data.objects === '1'", timeout=5000)


def test_space_and_drag_moves_the_image_and_the_wheel_zooms(opened, annotator) -> None:
    with annotator.painted():
        annotator.drag(30, 30, 120, 120)
    opened.python("before = [e['predict'] for e in a.prompts]")
    left, scale = (annotator.canvas.get_attribute(f"data-{n}") for n in ("offset-x", "scale"))
    annotator.page.keyboard.down("Space")
    annotator.drag(60, 60, 90, 90)
    annotator.page.keyboard.up("Space")
    annotator.page.wait_for_timeout(200)
    opened.python("assert [e['predict'] for e in a.prompts] == before")
    assert annotator.canvas.get_attribute("data-offset-x") != left
    annotator.page.mouse.move(*annotator.place(80, 80))
    annotator.page.mouse.wheel(0, -300)
    annotator.page.wait_for_timeout(300)
    assert float(annotator.canvas.get_attribute("data-scale")) > float(scale)
    annotator.press("f")


def test_sliders_obey_the_arrow_keys_and_text_fields_keep_theirs(annotator) -> None:
    with annotator.painted():
        annotator.click(60, 80)
    slider = annotator.root.locator("input.samjax-threshold")
    slider.click()
    before = float(slider.input_value())
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        annotator.page.keyboard.press(key)
    held = float(slider.input_value())
    assert held > before
    annotator.until("data.state === 'ready'")
    assert float(slider.input_value()) == held
    field = annotator.root.locator("input.samjax-newlabel")
    field.click()
    annotator.page.keyboard.type("zebra 1")
    assert field.input_value() == "zebra 1"
    assert annotator.data("objects") == "1"
    annotator.page.keyboard.press("Escape")
    assert focused(annotator)


def test_the_mouse_previews_and_brush_paints(opened, annotator) -> None:
    annotator.page.mouse.move(*annotator.place(60, 80))
    annotator.page.mouse.move(*annotator.place(62, 81))
    annotator.until("Number(data.hover) > 0")
    annotator.press("g")
    with annotator.painted():
        annotator.drag(30, 40, 90, 60)
    opened.python("assert a.masks[0][50, 60] and a.prompts[0]['strokes']")
    agree(opened, annotator)
