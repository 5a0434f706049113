"""Test samjax.show in JupyterLab: it works without a kernel, and is a picture if untrusted."""

from __future__ import annotations

import nbformat
import numpy as np
from PIL import Image

import samjax
from tests.support.browser.pages import NotebookPage
from tests.support.models import drawn_image


def test_show_in_a_notebook_that_is_not_trusted_and_in_one_that_is(page, lab) -> None:
    code = """
import numpy as np
import samjax

rows, columns = np.mgrid[:160, :200]
masks = [columns < 90, columns > 110]
samjax.show("viewed.png", masks, [0.9, 0.8], ["left", "right"])
"""
    Image.fromarray(drawn_image(160, 200)).save(lab[2] / "viewed.png")
    columns = np.mgrid[:160, :200][1]
    viewer = samjax.show(drawn_image(160, 200), [columns < 90, columns > 110])
    cell = nbformat.v4.new_code_cell(code)
    data = viewer._repr_mimebundle_()
    cell.outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=1)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab[2] / "viewer.ipynb")

    opened = NotebookPage(page, lab, "viewer.ipynb")
    still = page.locator("img.samjax-still")
    still.wait_for()
    assert still.evaluate("(img) => img.naturalWidth") == 200
    assert page.locator(".samjax-viewer svg").count() == 0

    opened.run_all()
    left = page.locator(".samjax-viewer path.samjax-m0")
    left.wait_for()
    assert not still.is_visible()
    opacity = "(path) => Number(getComputedStyle(path).fillOpacity)"
    assert left.evaluate(opacity) == 0.5
    page.locator(".samjax-legend .samjax-c1").hover()  # only the right one is lit now
    page.wait_for_function(f"(path) => ({opacity})(path) === 0", arg=left.element_handle())
    page.locator(".samjax-legend .samjax-c0").click()
    left.wait_for(state="hidden")
    opened.close()
