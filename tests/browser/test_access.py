"""The annotator by touch and for screen readers: emulated fingers and axe-core in JupyterLab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.browser.pages import AnnotatorPage, NotebookPage, write_notebook
from tests.support.models import drawn_image

CELL = """
import samjax

a = samjax.Annotator(
    samjax.load(), ["touch.png"], labels=("cat", "dog"), height=340,
    detector=lambda *_: ([], [], []),
)
a
"""


@pytest.fixture(scope="module")
def opened(chromium: Browser, lab) -> Iterator[NotebookPage]:
    """Open a notebook on a screen that is touched."""
    Image.fromarray(drawn_image(160, 200)).save(lab[2] / "touch.png")
    write_notebook(lab[2] / "touch.ipynb", [CELL])
    viewport = {"width": 1024, "height": 900}
    context = chromium.new_context(viewport=viewport, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    notebook = NotebookPage(page, lab, "touch.ipynb")
    notebook.run_all()
    notebook.annotator().wait_ready()
    yield notebook
    notebook.close()
    context.close()


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator, without objects."""
    opened.python("for e in a.prompts: a.delete(e['id'])")
    annotator = opened.annotator()
    annotator.until("data.objects === '0' && data.state === 'ready'")
    return annotator


class Fingers:
    """Fingers on the page, through the browser's own protocol."""

    def __init__(self, page: Page):
        self.session = page.context.new_cdp_session(page)

    def send(self, kind: str, *points: tuple[float, float]) -> None:
        """Put fingers at places of the page, or lift them."""
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def test_tap_and_long_press(opened, annotator) -> None:
    fingers = Fingers(annotator.page)
    with annotator.painted():
        fingers.send("touchStart", annotator.place(60, 80))
        fingers.send("touchEnd")
    with annotator.painted():
        fingers.send("touchStart", annotator.place(150, 30))
        annotator.page.wait_for_timeout(700)
        fingers.send("touchEnd")
    opened.python("assert a.prompts[0]['predict']['point_labels'] == [1, 0], a.prompts")


def test_a_box_by_one_finger_and_a_pinch_by_two(opened, annotator) -> None:
    fingers = Fingers(annotator.page)
    with annotator.painted():
        fingers.send("touchStart", annotator.place(40, 40))
        fingers.send("touchMove", annotator.place(80, 80))
        fingers.send("touchMove", annotator.place(120, 120))
        fingers.send("touchEnd")
    opened.python("assert a.prompts[0]['predict']['box'] is not None")
    before = float(annotator.canvas.get_attribute("data-scale"))
    (x, y) = annotator.place(100, 80)
    fingers.send("touchStart", (x - 20, y), (x + 20, y))
    for k in range(1, 6):
        fingers.send("touchMove", (x - 20 - 8 * k, y), (x + 20 + 8 * k, y))
    fingers.send("touchEnd")
    annotator.page.wait_for_timeout(200)
    assert float(annotator.canvas.get_attribute("data-scale")) > 2 * before
    opened.python("assert len(a.prompts) == 1")  # fingers that zoom make no clicks
    annotator.press("f")


def _faults(annotator: AnnotatorPage) -> list[str]:
    found = Axe().run(annotator.page, context=".samjax-annotator").response["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
@pytest.mark.parametrize("state", ["objects", "images", "export", "help"])
def test_axe_finds_no_serious_fault(annotator, theme, state) -> None:
    annotator.page.evaluate(
        "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
    )
    shade = theme.split()[1].lower()
    annotator.until(f"data.theme === '{shade}'")
    annotator.page.wait_for_timeout(500)  # the host's styles come one after the other
    with annotator.painted():
        annotator.click(60, 80)
    annotator.press("Enter")
    with annotator.painted():
        annotator.drag(40, 40, 120, 120)
    key = {"images": "i", "export": "x", "help": "?"}.get(state)
    if key:
        annotator.press(key)
        annotator.page.wait_for_timeout(300)
    faults = _faults(annotator)
    annotator.page.keyboard.press("Escape")
    assert faults == []
