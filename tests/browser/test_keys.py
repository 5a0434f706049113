"""Keys work in JupyterLab wherever the focus is inside the annotator, text fields excepted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.support.browser.pages import AnnotatorPage, NotebookPage, opened_notebook
from tests.support.models import drawn_image

CELL = """
import samjax

a = samjax.Annotator(samjax.load(), "keys.png", labels=("cat", "dog"), height=340)
a
"""
RESET = "for e in a.prompts: a.delete(e['id'])\na.label('cat')\na.set_threshold(0)"


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """One notebook for all tests here: opening it is most of the time."""
    Image.fromarray(drawn_image(160, 200)).save(lab[2] / "keys.png")
    with opened_notebook(module_page, lab, "keys", CELL) as notebook:
        yield notebook


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """The annotator, without objects, in the point tool."""
    opened.python(RESET)
    annotator = opened.annotator()
    annotator.until("data.objects === '0' && data.state === 'ready'")
    annotator.canvas.press("v")
    return annotator


def focused(annotator: AnnotatorPage) -> bool:
    """Whether the canvas has the focus."""
    return annotator.canvas.evaluate("(canvas) => canvas.getRootNode().activeElement === canvas")


def clicked(annotator: AnnotatorPage) -> None:
    """One object in work."""
    with annotator.painted():
        annotator.click(60, 80)


@pytest.mark.parametrize(
    "target",
    [
        "button.samjax-candidate[data-candidate='1']",
        "button.samjax-label[data-label='dog']",
        "button[data-action='multimask']",
        "button[data-action='outline']",
        "button[data-action='sign']",
    ],
)
def test_enter_commits_after_a_click_on_a_button(annotator, target) -> None:
    clicked(annotator)
    annotator.root.locator(target).click()
    annotator.until("data.state === 'ready'")
    assert focused(annotator)
    annotator.page.keyboard.press("Enter")
    annotator.until("data.active === ''", timeout=5000)
    if "sign" in target or "outline" in target or "multimask" in target:
        annotator.root.locator(target).click()  # as it was
    annotator.until("data.state === 'ready'")


def test_digits_act_after_a_click_on_a_row(annotator) -> None:
    clicked(annotator)
    annotator.press("Enter")
    annotator.until("data.active === ''")
    annotator.root.locator(".samjax-objects [data-object]").first.click()
    annotator.until("data.active !== ''")
    annotator.page.keyboard.press("2")
    annotator.page.wait_for_function(
        "(root) => root.querySelector('.samjax-object').textContent.includes('dog')",
        arg=annotator.root.element_handle(),
        timeout=5000,
    )
    annotator.page.keyboard.press("Delete")
    annotator.until("data.objects === '0'", timeout=5000)
    annotator.page.keyboard.press("z")
    annotator.until("data.objects === '1'", timeout=5000)


@pytest.mark.parametrize(
    "target",
    ["button.samjax-candidate[data-candidate='1']", "button.samjax-label[data-label='dog']"],
)
def test_space_and_drag_moves_the_image_and_leaves_the_object_alone(
    opened, annotator, target
) -> None:
    with annotator.painted():
        annotator.drag(30, 30, 120, 120)
    annotator.root.locator(target).click()
    annotator.until("data.state === 'ready'")
    opened.python("before = [e['predict'] for e in a.prompts]")
    left = annotator.canvas.get_attribute("data-offset-x")
    annotator.page.keyboard.down("Space")
    annotator.drag(60, 60, 90, 90)
    annotator.page.keyboard.up("Space")
    annotator.page.wait_for_timeout(200)
    opened.python("assert [e['predict'] for e in a.prompts] == before")
    assert annotator.canvas.get_attribute("data-offset-x") != left
    annotator.press("f")


def test_enter_presses_the_button_that_tab_reached(annotator) -> None:
    clicked(annotator)
    first = annotator.root.locator(".samjax-bar button:not(:disabled)").first
    annotator.canvas.press("Shift+Tab")
    last = annotator.root.locator("button[data-action='help']")
    assert last.evaluate("(button) => button === document.activeElement")
    annotator.page.keyboard.press("Enter")
    assert annotator.root.locator(".samjax-help").is_visible()
    annotator.page.keyboard.press("Escape")
    assert not annotator.root.locator(".samjax-help").is_visible()
    assert focused(annotator)
    assert first.is_visible()


@pytest.mark.parametrize("name", ["threshold", "opacity", "radius"])
def test_sliders_obey_the_arrow_keys(annotator, name) -> None:
    clicked(annotator)
    annotator.root.locator(".samjax-display").evaluate("(details) => { details.open = true; }")
    slider = annotator.root.locator(f"input.samjax-{name}")
    slider.scroll_into_view_if_needed()
    slider.click()
    before = float(slider.input_value())
    annotator.page.keyboard.press("ArrowRight")
    annotator.page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) > before
    annotator.page.keyboard.press("ArrowLeft")
    held = float(slider.input_value())
    assert held > before
    annotator.until("data.state === 'ready'")
    assert float(slider.input_value()) == held
    annotator.page.keyboard.press("Enter")  # still a key of the annotator
    annotator.until("data.active === ''", timeout=5000)


def test_a_late_answer_does_not_move_the_threshold_back(annotator) -> None:
    clicked(annotator)
    slider = annotator.root.locator("input.samjax-threshold")
    before = slider.input_value()  # of the tests before: new objects begin with it
    # In one piece, so that the kernel cannot answer before the page looks at its older state.
    after = slider.evaluate("""(input) => {
        input.value = "1.5";
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.closest(".samjax-annotator").samjaxPage.refresh();
        return input.value;
    }""")
    assert after == "1.5"
    annotator.until("root.samjaxPage.state.told.threshold === 1.5")
    assert slider.input_value() == "1.5"
    annotator.page.keyboard.press("z")
    annotator.until("root.samjaxPage.state.told.threshold !== 1.5")
    assert slider.input_value() == before


def test_the_threshold_stays_that_of_the_object_it_was_moved_for(opened, annotator) -> None:
    clicked(annotator)
    annotator.press("Enter")
    with annotator.painted():
        annotator.click(150, 120)
    # Three positions and another object, faster than the kernel can answer.
    annotator.root.evaluate("""(root) => {
        const input = root.querySelector("input.samjax-threshold");
        for (const value of ["1", "2", "3"]) {
            input.value = value;
            input.dispatchEvent(new Event("input", { bubbles: true }));
        }
        root.querySelector(".samjax-object[aria-pressed=false]").click();
    }""")
    annotator.until("data.state === 'ready'")
    opened.python(
        "held = [e['mask_threshold'] for e in a.prompts]\nassert held == [0.0, 3.0], held"
    )
    slider = annotator.root.locator("input.samjax-threshold")
    assert slider.input_value() == "0"


def test_rows_chips_and_thumbnails_are_updated_not_made_again(annotator) -> None:
    clicked(annotator)
    mark = "(root) => root.querySelectorAll({}).forEach((e) => {{ e.marked = true; }})"
    count = "(root) => [...root.querySelectorAll({})].filter((e) => e.marked).length"
    selector = "'.samjax-object, .samjax-label, .samjax-candidate'"
    annotator.root.evaluate(mark.format(selector))
    held = annotator.root.evaluate(count.format(selector))
    assert held == 1 + 2 + 3
    with annotator.painted():
        annotator.click(120, 90)
    annotator.page.keyboard.press("2")
    annotator.until("data.state === 'ready'")
    assert annotator.root.evaluate(count.format(selector)) == held


def test_keys_of_a_text_field_stay_in_it(annotator) -> None:
    clicked(annotator)
    field = annotator.root.locator("input.samjax-newlabel")
    field.click()
    annotator.page.keyboard.type("zebra 1")
    assert field.input_value() == "zebra 1"
    assert annotator.data("objects") == "1"
    annotator.page.keyboard.press("Escape")
    assert focused(annotator)
