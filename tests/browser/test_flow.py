"""Notebook 02 from the first click to the exported file, in JupyterLab and Notebook 7."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

import samjax
from tests.browser.hosts import ROOT
from tests.browser.pages import NotebookPage
from tests.browser.reference import exported, masks_of, near

NAME = "02_click_to_segment.ipynb"


def notebook_images() -> list:
    """The images of notebook 02, made by its own cell."""
    cell = next(
        cell.source
        for cell in nbformat.read(ROOT / "notebooks" / NAME, as_version=4).cells
        if "images = [" in cell.source
    )
    names: dict = {}
    exec(compile(ast.parse(cell), NAME, "exec"), names)
    return names["images"]


@pytest.mark.parametrize("host", ["lab", "notebook7"])
def test_notebook_02(host, page, embedded, photo, request) -> None:
    server = request.getfixturevalue(host)
    folder: Path = server[2]
    shutil.copy(ROOT / "notebooks" / NAME, folder)
    notebook = NotebookPage(page, server, NAME)
    notebook.run_all()
    annotator = notebook.annotator()
    annotator.wait_ready()
    assert annotator.data("objects") == "0"

    with annotator.painted():
        annotator.click(460, 150)
    assert annotator.data("objects") == "1"
    with annotator.painted():
        annotator.click(250, 420, button="right")
    annotator.press("Enter")

    with annotator.painted():
        annotator.drag(165, 90, 330, 310)
    annotator.until("data.objects === '2'")
    with annotator.painted():
        annotator.act("undo")
    annotator.until("data.objects === '1'")
    with annotator.painted():
        annotator.act("redo")
    with annotator.painted():
        annotator.root.locator('button.samjax-candidate[data-candidate="1"]').click()
    annotator.root.locator('button.samjax-label[data-label="thing"]').click()
    annotator.act("commit")

    annotator.act("next-image")
    annotator.until("data.image === '1' && data.state === 'ready'")
    assert annotator.data("objects") == "0"
    with annotator.painted():
        annotator.drag(240, 160, 330, 240)
    annotator.root.locator('button.samjax-label[data-label="cell"]').click()
    annotator.press("Enter")
    annotator.act("export")
    page.wait_for_function(
        "(status) => status.textContent.includes('annotations.json')",
        arg=annotator.status.element_handle(),
    )
    notebook.close()

    # The prompts, as saved; the masks, made again from them without the widget.
    images = notebook_images()
    saved = samjax.Annotator(
        embedded, images, path=folder / "annotations", labels=["person", "cell", "thing"]
    )
    saved.wait()
    first, second = saved.prompts
    assert near(first["predict"]["point_coords"], [[460, 150], [250, 420]])
    assert first["predict"]["point_labels"] == [1, 0]
    assert first["label"] == "person"
    assert near(second["predict"]["box"], [165, 90, 330, 310])
    assert second["label"] == "thing"
    prompts = [saved.prompts]
    saved.next_image()
    saved.wait()
    (third,) = saved.prompts
    assert near(third["predict"]["box"], [240, 160, 330, 240])
    prompts.append(saved.prompts)

    files = exported(folder / "annotations" / "annotations.json")
    assert [labels for _, _, labels in files] == [["person", "thing"], ["cell"]]
    assert [size for size, _, _ in files] == [photo.shape[:2], images[1].shape[:2]]
    for (_, masks, _), image, entries in zip(files, images, prompts, strict=True):
        for mask, expected in zip(masks, masks_of(embedded, image, entries), strict=True):
            assert mask.any()
            np.testing.assert_array_equal(mask, expected)

    # The second box's other candidate was another mask than the best one.
    predictor = samjax.SamPredictor(embedded)
    predictor.set_image(images[0])
    found = predictor.predict(**second["predict"])
    assert second["candidate"] == np.argsort(-found.scores, kind="stable")[1]
