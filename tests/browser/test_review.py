"""Review opened masks in JupyterLab: keys, corrections, undo, progress, and what is exported."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from samjax.annotations import write_coco
from tests.browser.test_annotating import agree, dots
from tests.support.browser.pages import AnnotatorPage, NotebookPage, write_notebook

CELL = """
import samjax
from samjax.widget.row_runs import row_runs

a = samjax.Annotator(
    samjax.load(), ["seen.png", "more.png"], annotations="seen.json", path="reviewed", height=400
)
a
"""
SCORES = (0.9, 0.2, 0.7, 0.5)  # of the discs, in their order


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """Open four masks of one image and one of another; the second lacks its right half."""
    folder, images = lab[2], []
    rows, columns = np.mgrid[:240, :300]
    for name, count in (("seen.png", 4), ("more.png", 1)):
        picture, places = dots(count)
        picture.save(folder / name)
        records = []
        for i, (x, y, radius) in enumerate(places):
            mask = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
            mask &= (columns < x) | (i != 1)
            record = {"segmentation": mask, "label": "dot", "predicted_iou": SCORES[i]}
            records.append({**record, "id": 70 + i + 10 * len(images)})
        images.append((name, (240, 300), records))
    write_coco(folder / "seen.json", images, shapes="polygons")
    write_notebook(folder / "review.ipynb", [CELL])
    notebook = NotebookPage(module_page, lab, "review.ipynb")
    notebook.run_all()
    notebook.annotator().wait_ready()
    yield notebook
    notebook.close()


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator."""
    return opened.annotator()


def progress(annotator: AnnotatorPage, text: str) -> None:
    """Wait until the row of the review says so."""
    expect(annotator.root.locator(".samjax-reviewtext")).to_have_text(text, timeout=60_000)


def test_a_review_from_the_first_key_to_the_export(opened, annotator) -> None:
    before = {
        a["id"]: a for a in json.loads((opened.folder / "seen.json").read_text())["annotations"]
    }
    progress(annotator, "0 of 5 reviewed, 0 of 4 in this image")
    scale = float(annotator.canvas.get_attribute("data-scale") or 0)
    annotator.press("q")
    annotator.until("data.active === '2'")  # the lowest score
    x, y, radius = dots(4)[1][1]
    annotator.page.wait_for_function(
        "([canvas, scale]) => Number(canvas.dataset.scale) > 2 * scale",
        arg=[annotator.canvas.element_handle(), scale],
    )
    with annotator.painted():
        annotator.click(x + radius / 2, y)
    opened.python(f"assert a.masks[1][{round(y)}, {round(x + radius / 2)}]")
    agree(opened, annotator)
    annotator.press("y")
    annotator.until("data.active === '4'")
    progress(annotator, "1 of 5 reviewed, 1 of 4 in this image")
    annotator.press("w")
    annotator.until("data.active === '3' && data.objects === '3'")
    annotator.press("z")  # the mind is changed
    annotator.until("data.active === '4' && data.objects === '4'")
    annotator.press("u")
    annotator.until("data.active === '3'")
    annotator.press("u")
    annotator.until("data.active === '1'")
    annotator.press("y")  # the last by its score: another image
    annotator.until("data.image === '1' && data.active === '1'")
    progress(annotator, "2 of 5 reviewed, 0 of 1 in this image")
    annotator.act("accept")
    annotator.until("data.image === '0' && data.active === '4'")
    annotator.press("q")
    annotator.press("x")
    annotator.root.get_by_label("Only those that were reviewed").check()
    annotator.root.locator(".samjax-export [type=submit]").click()
    expect(annotator.status).to_contain_text("3 masks of 2 images written to")
    found = json.loads((opened.folder / "reviewed" / "annotations.json").read_text())
    after = {a["id"]: a for a in found["annotations"]}
    assert sorted(after) == [70, 71, 80]
    assert (after[70], after[80]) == (before[70], before[80])
    assert after[71]["area"] > before[71]["area"]
    assert {
        a["id"]: a for a in json.loads((opened.folder / "seen.json").read_text())["annotations"]
    } == before
