"""Automatic masks in JupyterLab: a slider filters them without a new run, a lasso adds many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from tests.browser.test_annotating import agree
from tests.support.browser.pages import AnnotatorPage, NotebookPage, write_notebook

CELL = """
import samjax

# A small grid that meets every disc; the thresholds are the annotator's own.
a = samjax.Annotator(samjax.load(), "many.png", automatic={"points_per_side": 10}, height=400)
runs = []
generate = samjax.SamAutomaticMaskGenerator.generate


def counted(self, *arguments, **options):
    runs.append(1)
    return generate(self, *arguments, **options)


samjax.SamAutomaticMaskGenerator.generate = counted
a
"""
# Scores and areas of all masks, the score that is shown from on, and the numbers on the id map
LOADED = """(root) => {
  const { automatic } = root.samjaxPage;
  const { loaded, floor } = automatic;
  const drawn = new Set(loaded.map);
  drawn.delete(0);
  return { scores: loaded.scores, floor, drawn: [...drawn].map((number) => number - 1) };
}"""


DISCS = [(39 + 74 * (i % 4), 40 + 80 * (i // 4)) for i in range(12)]  # their centres (x, y)
RADIUS = 24


def drawn_discs() -> Image.Image:
    """Draw twelve discs, larger than the gaps of the grid of points, on 300 x 240 pixels."""
    image = Image.new("RGB", (300, 240), (30, 26, 44))
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(0)
    for x, y in DISCS:
        colour = tuple(int(v) for v in rng.integers(120, 256, 3))
        draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=colour)
    return image


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """Open one notebook, with the automatic masks made once for all tests here."""
    drawn_discs().save(lab[2] / "many.png")
    write_notebook(lab[2] / "picking.ipynb", [CELL])
    notebook = NotebookPage(module_page, lab, "picking.ipynb")
    notebook.run_all()
    annotator = notebook.annotator()
    annotator.wait_ready()
    annotator.press("a")
    annotator.until("Number(data.automatic) > 10")
    yield notebook
    notebook.close()


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator without objects, with automatic masks to pick from."""
    opened.python("for e in a.prompts: a.delete(e['id'])")
    annotator = opened.annotator()
    annotator.until("data.objects === '0' && data.state === 'ready'")
    if not annotator.data("automatic"):
        annotator.press("a")
    annotator.until("data.automatic !== ''")
    return annotator


def shown(annotator: AnnotatorPage) -> dict:
    """Read what the page shows, and check that the line beside the slider says so."""
    loaded = annotator.root.evaluate(LOADED)
    count = sum(score >= loaded["floor"] for score in loaded["scores"])
    text = annotator.root.locator(".samjax-automatic").inner_text()
    assert f"{count} of {len(loaded['scores'])} masks" in text
    # A mask may lie wholly below smaller ones; none of a lower score is drawn.
    assert all(loaded["scores"][i] >= loaded["floor"] for i in loaded["drawn"])
    assert len(loaded["drawn"]) > 0.7 * count
    return {**loaded, "count": count}


def move(annotator: AnnotatorPage, key: str, times: int = 1) -> None:
    """Move the score's slider by keys, as a person with the focus in it does."""
    slider = annotator.root.locator("input.samjax-score")
    slider.focus()
    for _ in range(times):
        annotator.page.keyboard.press(key)


def test_the_slider_starts_at_the_checkpoint_and_filters_without_a_run(opened, annotator) -> None:
    opened.python("assert len(runs) == 1, runs")
    first = shown(annotator)
    own = opened.value("samjax.load().automatic_thresholds.pred_iou_thresh")
    slider = annotator.root.locator("input.samjax-score")
    assert first["floor"] == own == float(slider.input_value())
    assert 0 < first["count"] < len(first["scores"])
    before = annotator.root.evaluate("(root) => root.samjaxPage.state.told.replies")
    move(annotator, "ArrowRight", 10)
    fewer = shown(annotator)
    assert fewer["floor"] == pytest.approx(own + 0.1)
    assert fewer["count"] <= first["count"]
    move(annotator, "Home")
    every = shown(annotator)
    assert every["count"] == len(every["scores"]) > first["count"]
    # The keys of a slider are not the annotator's: nothing was sent, and nothing was made again.
    assert annotator.root.evaluate("(root) => root.samjaxPage.state.told.replies") == before
    annotator.root.evaluate("(root) => root.samjaxPage.kernel.send('hello')")
    annotator.until("data.state === 'ready'")
    annotator.page.wait_for_timeout(300)
    assert shown(annotator)["floor"] == every["floor"]  # the person's, after a reconnect
    opened.python("assert len(runs) == 1, runs")
    move(annotator, "ArrowRight", round((own - every["floor"]) / 0.01))
    assert shown(annotator)["floor"] == pytest.approx(own)


def test_a_lasso_adds_the_shown_masks_inside_and_one_undo_takes_them_back(
    opened, annotator
) -> None:
    held = shown(annotator)
    left = [(x, y) for x, y in DISCS if x < 150]
    x1 = max(x for x, _ in left) + RADIUS + 5
    corners = [(3, 3), (x1, 3), (x1, 236), (3, 236), (3, 8)]
    expected = annotator.root.evaluate(
        "(root, ring) => root.samjaxPage.automatic.inside(ring)", [list(c) for c in corners]
    )
    assert len(expected) >= len(left)
    assert all(held["scores"][i] >= held["floor"] for i in expected)
    mouse = annotator.page.mouse
    mouse.move(*annotator.place(*corners[0]))
    mouse.down()
    for corner in corners[1:]:
        mouse.move(*annotator.place(*corner), steps=6)
    mouse.up()
    annotator.until("data.objects !== '0' && data.state === 'ready'")
    masks = agree(opened, annotator)
    assert len(masks) == pytest.approx(len(expected), abs=1)  # the pointer's path is not exact
    opened.python("assert all(e['committed'] for e in a.prompts)")
    # What lies under the discs of the left half is there, and nothing of the right half.
    there = "(root, at) => at.map((pixel) => root.samjaxPage.automatic.at(pixel))"
    numbers = annotator.root.evaluate(there, left)
    found = [place for place, i in zip(left, numbers, strict=True) if i - 1 in expected]
    assert len(found) >= 5
    opened.python(f"import numpy as np\nunion, x1 = np.any(a.masks, 0), {x1}")
    assert all(opened.value(f"[bool(union[y, x]) for x, y in {found}]"))
    assert not any(opened.value(f"[bool(union[y, x]) for x, y in {DISCS} if x > x1]"))
    annotator.press("z")
    annotator.until("data.objects === '0' && data.state === 'ready'")
    assert annotator.data("automatic")  # still picking


def test_a_click_picks_the_mask_there_and_a_hidden_one_is_not_picked(opened, annotator) -> None:
    there = "(root, at) => at.find((pixel) => root.samjaxPage.automatic.at(pixel))"
    x, y = annotator.root.evaluate(there, [list(disc) for disc in DISCS])
    with annotator.painted():
        annotator.click(x, y)
    opened.python(f"assert len(a.masks) == 1 and a.masks[0][{y}, {x}]")
    annotator.press("z")
    annotator.until("data.objects === '0' && data.state === 'ready'")
    floor = shown(annotator)["floor"]
    move(annotator, "End")
    assert annotator.root.evaluate("(root, p) => root.samjaxPage.automatic.at(p)", [x, y]) == 0
    annotator.click(x, y)
    annotator.page.wait_for_timeout(300)
    annotator.until("data.objects === '0' && data.state === 'ready'")
    move(annotator, "ArrowLeft", round((1 - floor) / 0.01))
    assert shown(annotator)["floor"] == pytest.approx(floor)
