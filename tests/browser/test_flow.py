"""Run notebook 02 from the first click to the exported file, in JupyterLab and Notebook 7."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage import data

import samjax
from tests.support.browser.hosts import ROOT
from tests.support.browser.pages import NotebookPage
from tests.support.browser.reference import exported, masks_of, near

NAME = "02_click_to_segment.ipynb"


PICTURES = [Path(data.__file__).parent / name for name in ("astronaut.png", "coffee.png")]


@pytest.mark.parametrize("host", ["lab", "notebook7"])
def test_notebook_02(host, page, embedded, request) -> None:
    server = request.getfixturevalue(host)
    folder: Path = server[2]
    shutil.copy(ROOT / "notebooks" / NAME, folder)
    notebook = NotebookPage(page, server, NAME)
    notebook.run_all()
    annotator = notebook.annotator()
    annotator.wait_ready()
    # The notebook begins with two objects: the user goes on without them.
    assert annotator.data("objects") == "2"
    notebook.python("for entry in annotator.prompts: annotator.delete(entry['id'])")
    annotator.until("data.objects === '0' && data.state === 'ready'")
    annotator.root.locator('button.samjax-label[data-label="person"]').click()

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
    annotator.root.locator('button.samjax-label[data-label="helmet"]').click()
    annotator.press("Enter")
    annotator.export()
    notebook.close()

    # The prompts, as saved; the masks, made again from them without the widget.
    images = PICTURES
    saved = samjax.Annotator(
        embedded, images, path=folder / "annotations", labels=["person", "helmet", "thing"]
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
    assert [labels for _, _, labels in files] == [["person", "thing"], ["helmet"]]
    assert [size for size, _, _ in files] == [(512, 512), (400, 600)]
    for (_, masks, _), image, entries in zip(files, images, prompts, strict=True):
        for mask, expected in zip(masks, masks_of(embedded, image, entries), strict=True):
            assert mask.any()
            np.testing.assert_array_equal(mask, expected)

    # The second box's other candidate was another mask than the best one.
    predictor = samjax.SamPredictor(embedded)
    predictor.set_image(images[0])
    found = predictor.predict(**second["predict"])
    assert second["candidate"] == np.argsort(-found.scores, kind="stable")[1]
