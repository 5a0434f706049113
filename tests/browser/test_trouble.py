"""Test trouble in real sessions: two widgets, restarts, bad files, huge photographs, haste."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

import samjax
from tests.support.browser.pages import NotebookPage, write_notebook
from tests.support.browser.reference import exported, masks_of
from tests.support.models import drawn_image

START = """
import numpy as np
import samjax

sam = samjax.load()
"""


@pytest.fixture
def image(tmp_path) -> Path:
    """Draw an image of 200 x 160 pixels into a file."""
    path = tmp_path / "drawn.png"
    Image.fromarray(drawn_image(160, 200)).save(path)
    return path


def opened(page: Page, lab, name: str, *cells: str) -> NotebookPage:
    """Open a notebook of these cells and run it."""
    write_notebook(lab[2] / name, [START, *cells])
    notebook = NotebookPage(page, lab, name)
    notebook.run_all()
    return notebook


def test_two_widgets_are_two_sessions_and_the_cell_may_run_again(page, lab, image) -> None:
    cells = [f"a = samjax.Annotator(sam, {str(image)!r}, height=240)\na"]
    cells += [f"b = samjax.Annotator(sam, {str(image)!r}, height=240)\nb"]
    notebook = opened(page, lab, "two.ipynb", *cells)
    first, second = notebook.annotator(0), notebook.annotator(1)
    first.wait_ready()
    with first.painted():
        first.click(60, 80)
    second.wait_ready()
    with second.painted():
        second.drag(40, 40, 120, 120)
    with second.painted():
        second.click(150, 30, button="right")
    notebook.python(
        "assert [len(e['predict']['point_labels']) for e in a.prompts] == [1], a.prompts\n"
        "assert [e['predict']['box'] is None for e in b.prompts] == [False], b.prompts"
    )
    # Again: a new widget in place of the old one, which answers, and the other one lives on.
    notebook.command("notebook:run-all-cells")
    page.wait_for_function("() => document.querySelectorAll('.samjax-annotator').length === 2")
    fresh = notebook.annotator(0)
    fresh.until("data.state === 'ready' && data.objects === '0'")
    fresh.wait_ready()
    with fresh.painted():
        fresh.click(60, 80)
    notebook.python("assert len(a.masks) == 1 and a.masks[0].any()")
    notebook.close()


def test_work_is_back_after_a_restart_of_the_kernel(page, lab, image, embedded) -> None:
    folder = lab[2] / "kept"
    cell = f"a = samjax.Annotator(sam, {str(image)!r}, path={str(folder)!r}, height=240)\na"
    notebook = opened(page, lab, "restart.ipynb", cell)
    annotator = notebook.annotator()
    annotator.wait_ready()
    with annotator.painted():
        annotator.drag(40, 40, 120, 120)
    annotator.press("Enter")
    annotator.until("data.active === ''")

    notebook.restart()
    notebook.run_all()
    page.wait_for_function(
        "() => document.querySelector('.samjax-annotator')?.dataset.state === 'ready' &&"
        " document.querySelectorAll('.samjax-annotator').length === 1"
    )
    annotator = notebook.annotator()
    annotator.until("data.objects === '1'")
    annotator.export()
    notebook.close()
    ((_, masks, _),) = exported(folder / "annotations.json")
    restored = samjax.Annotator(embedded, str(image), path=folder)
    restored.wait()
    (expected,) = masks_of(embedded, str(image), restored.prompts)
    np.testing.assert_array_equal(masks[0], expected)


def test_rapid_hovers_do_not_pile_up(page, lab, image) -> None:
    notebook = opened(page, lab, "hover.ipynb", f"a = samjax.Annotator(sam, {str(image)!r})\na")
    annotator = notebook.annotator()
    annotator.wait_ready()
    x0, y0 = annotator.place(10, 10)
    x1, y1 = annotator.place(190, 150)
    for i in range(200):
        part = i / 199
        page.mouse.move(x0 + part * (x1 - x0), y0 + (part * 7 % 1) * (y1 - y0))
    annotator.until("Number(data.hover) >= 1")
    sent = annotator.number("hover-sent")
    assert 1 <= sent < 200
    with annotator.painted():
        annotator.click(60, 80)
    assert annotator.data("objects") == "1"
    notebook.close()


def test_bad_files_huge_photographs_and_clicks_that_come_too_early(page, lab, image) -> None:
    folder = lab[2]
    (folder / "broken.jpg").write_bytes(b"not an image")
    huge = np.zeros((4000, 6000, 3), np.uint8)
    huge[1000:3000, 2000:4500] = (200, 120, 60)
    Image.fromarray(huge).save(folder / "huge.jpg")
    slow = """
import time

encode = sam.encode


def slowly(image):
    time.sleep(4)
    return encode(image)


sam.encode = slowly
"""
    cell = f"a = samjax.Annotator(sam, [{str(image)!r}, 'broken.jpg', 'huge.jpg'], height=300)\na"
    notebook = opened(page, lab, "trouble.ipynb", slow, cell)
    annotator = notebook.annotator()
    # The picture is there, its embedding is not yet: the click is taken and decoded later.
    annotator.until("data.state === 'encoding'")
    annotator.canvas.scroll_into_view_if_needed()
    page.wait_for_function(
        "(canvas) => Number(canvas.dataset.scale) > 0", arg=annotator.canvas.element_handle()
    )
    with annotator.painted():
        annotator.click(60, 80)
    assert annotator.data("objects") == "1"

    annotator.act("next-image")
    annotator.until("data.image === '1' && data.state === 'error'")
    assert "broken.jpg" in annotator.status.inner_text()
    annotator.act("next-image")
    annotator.until("data.image === '2' && data.state === 'ready'")
    assert annotator.canvas.get_attribute("data-image-width") == "6000"
    with annotator.painted():
        annotator.drag(2000, 1000, 4500, 3000)
    notebook.python(
        "assert a.masks[0].shape == (4000, 6000)\n"
        "box = a.prompts[0]['predict']['box']\n"
        "assert np.abs(np.subtract(box, [2000, 1000, 4500, 3000])).max() < 25, box\n"
        "p = samjax.SamPredictor(sam)\n"
        "p.set_image('huge.jpg')\n"
        "e = a.prompts[0]\n"
        "expected = p.predict(**e['predict']).masks[e['candidate']]\n"
        "assert np.array_equal(a.masks[0], expected)"
    )
    annotator.act("previous-image")
    annotator.act("previous-image")
    annotator.until("data.image === '0' && data.state === 'ready' && data.objects === '1'")
    notebook.close()
