"""Click, draw a box and export in a marimo application."""

from __future__ import annotations

import numpy as np
from PIL import Image

import samjax
from tests.support.browser.hosts import marimo
from tests.support.browser.pages import AnnotatorPage
from tests.support.browser.reference import exported, masks_of, near
from tests.support.models import drawn_image

APP = """
import marimo

app = marimo.App()


@app.cell
def _():
    import numpy
    import samjax

    annotator = samjax.Annotator(samjax.load(), "drawn.png", path="masks", height=300)
    annotator
    return numpy, samjax


@app.cell
def _(numpy, samjax):
    samjax.show("drawn.png", numpy.eye(160, 200, dtype=bool) | True, labels=["everything"])
    return


if __name__ == "__main__":
    app.run()
"""


def test_click_and_box(page, tmp_path, embedded) -> None:
    Image.fromarray(drawn_image(160, 200)).save(tmp_path / "drawn.png")
    (tmp_path / "app.py").write_text(APP)
    with marimo(tmp_path / "app.py") as address:
        page.goto(address)
        annotator = AnnotatorPage(page, page.locator(".samjax-annotator").first)
        annotator.wait_ready()
        with annotator.painted():
            annotator.click(60, 80)
        annotator.press("Enter")
        with annotator.painted():
            annotator.drag(40, 40, 120, 120)
        assert annotator.data("objects") == "2"
        annotator.press("Enter")
        annotator.export()
        # The light viewer's entry hides its mask, with no kernel asked.
        viewer = page.locator(".samjax-viewer")
        mask = viewer.locator("path.samjax-m0")
        mask.wait_for()  # the second cell may take longer than the first
        viewer.locator(".samjax-c0").click()
        mask.wait_for(state="hidden")
    ((_, masks, _),) = exported(tmp_path / "masks" / "annotations.json")
    saved = samjax.Annotator(embedded, str(tmp_path / "drawn.png"), path=tmp_path / "masks")
    saved.wait()
    first, second = saved.prompts
    assert near(first["predict"]["point_coords"], [[60, 80]])
    assert near(second["predict"]["box"], [40, 40, 120, 120])
    expected = masks_of(embedded, tmp_path / "drawn.png", saved.prompts)
    np.testing.assert_array_equal(np.stack(masks), np.stack(expected))
