"""Keys and clicks that come before the page has heard of the last ones, and in a dialog."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.browser.pages import AnnotatorPage, NotebookPage, opened_notebook
from tests.support.models import drawn_image

CELL = """
import samjax

a = samjax.Annotator(samjax.load(), ["first.png", "second.png"], path="hasty", height=340)
a
"""


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """One notebook for all tests here: opening it is most of the time."""
    for name in ("first.png", "second.png"):
        Image.fromarray(drawn_image(160, 200)).save(lab[2] / name)
    with opened_notebook(module_page, lab, "haste", CELL) as notebook:
        yield notebook


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """The annotator, on the first image with one object."""
    opened.python("a.go(0)\nfor e in a.prompts: a.delete(e['id'])\na.click(60, 80)")
    annotator = opened.annotator()
    annotator.until("data.image === '0' && data.objects === '1' && data.state === 'ready'")
    annotator.canvas.press("v")
    return annotator


def test_a_click_right_after_the_key_for_another_image_is_not_done_there(annotator) -> None:
    # In one piece, so that the kernel cannot answer before the click.
    annotator.root.evaluate("""(root) => {
        root.samjaxPage.act("next-image");
        root.samjaxPage.actions.click([120, 90], 1);
    }""")
    annotator.until("data.image === '1' && data.state === 'ready'")
    assert annotator.data("objects") == "0"


def test_keys_go_to_the_export_dialog_that_a_key_opened(annotator) -> None:
    annotator.press("x")
    dialog = annotator.root.locator(".samjax-export")
    assert dialog.is_visible()
    cells = annotator.page.locator(".jp-Cell").count()
    for key in ("Delete", "PageDown", "a", "d", "d"):  # two of them of JupyterLab's cells
        annotator.page.keyboard.press(key)
    annotator.page.wait_for_timeout(300)
    assert annotator.page.locator(".jp-Cell").count() == cells
    assert annotator.data("objects") == "1"
    assert (annotator.data("image"), annotator.data("automatic")) == ("0", "")
    annotator.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    annotator.page.keyboard.press("Delete")
    annotator.until("data.objects === '0'", timeout=5000)


def test_enter_exports(annotator, lab) -> None:
    annotator.act("export")
    annotator.root.get_by_label("Format", exact=True).select_option("coco")
    path = annotator.root.get_by_label("Path on the server")
    path.fill("by_enter.json")
    path.press("Enter")
    annotator.page.wait_for_function(
        "(status) => status.textContent.includes('written to by_enter.json')",
        arg=annotator.status.element_handle(),
        timeout=5000,
    )
    assert not annotator.root.locator(".samjax-export").is_visible()
    assert (lab[2] / "by_enter.json").is_file()


def test_the_name_of_an_image_is_typed_into_the_list(annotator) -> None:
    annotator.press("i")
    annotator.page.keyboard.type("second")
    rows = annotator.root.locator(".samjax-imagerows > *:visible")
    assert annotator.root.locator(".samjax-imagefilter input").input_value() == "second"
    expect(rows).to_have_count(1)  # the kernel tells the names
    annotator.page.keyboard.press("Escape")
    annotator.page.keyboard.press("Delete")
    annotator.until("data.objects === '0'", timeout=5000)


def test_an_export_keeps_the_notebook(annotator, lab) -> None:
    notebook = lab[2] / "haste.ipynb"
    before = notebook.read_bytes()
    annotator.act("export")
    annotator.root.get_by_label("Format", exact=True).select_option("coco")
    annotator.root.get_by_label("Path on the server").fill("haste.ipynb")
    annotator.root.locator(".samjax-export [type=submit]").click()
    annotator.page.wait_for_function(
        "(status) => status.textContent.includes('haste.ipynb was not written by samjax')",
        arg=annotator.status.element_handle(),
        timeout=5000,
    )
    assert notebook.read_bytes() == before
