"""Look at the panels in JupyterLab: many classes, names that are half typed, and the help."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_annotating import dots
from tests.support.browser.pages import AnnotatorPage, NotebookPage, opened_notebook

CELL = """
import samjax

a = samjax.Annotator(samjax.load(), ["many.png"], labels=[f"class {i}" for i in range(80)])
a
"""


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """Open an image with eighty classes."""
    dots(2)[0].save(lab[2] / "many.png")
    with opened_notebook(module_page, lab, "panels", CELL) as notebook:
        yield notebook


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator."""
    return opened.annotator()


def test_a_name_that_was_not_entered_stays(annotator):
    entry = annotator.root.locator(".samjax-newlabel")
    entry.fill("half a na")
    annotator.root.locator(".samjax-canvas").focus()
    expect(entry).to_have_value("half a na")
    entry.press("Escape")
    expect(entry).to_have_value("")


def test_the_class_of_the_object_is_scrolled_into_view(annotator, opened):
    opened.python("a.click(60, 60)\na.label('class 77')")
    chip = annotator.root.locator('[data-label="class 77"]')
    expect(chip).to_have_attribute("aria-pressed", "true", timeout=60_000)
    box, panel = chip.bounding_box(), annotator.root.locator(".samjax-labels").bounding_box()
    assert panel["y"] - 1 <= box["y"] <= panel["y"] + panel["height"] - box["height"] + 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 700])
def test_all_commands_of_the_help_can_be_read(annotator, tmp_path, width, theme):
    page = annotator.root.page
    size = page.viewport_size
    page.set_viewport_size({"width": width, "height": 900})
    annotator.root.evaluate("(node, theme) => (node.dataset.theme = theme)", theme)
    annotator.root.locator('[data-action="help"]').click()
    panel = annotator.root.locator(".samjax-help")
    expect(panel).to_be_visible()
    panel.screenshot(path=tmp_path / f"help_{theme}_{width}.png")
    cut = panel.evaluate(
        """(node) => [...node.querySelectorAll("dt, dd")].filter((each) => {
          const [own, all] = [each.getBoundingClientRect(), node.getBoundingClientRect()];
          return own.right > all.left + node.clientWidth || own.left < all.left
            || each.scrollWidth > each.clientWidth + 1
            || own.bottom - all.top + node.scrollTop > node.scrollHeight;
        }).length"""
    )
    panel.click()
    page.set_viewport_size(size)
    assert cut == 0
