"""Make the pictures of README and start page anew, in a real JupyterLab.

    python -m docs.pictures

It needs the extras ``browser`` and ``docs`` and Chromium. The photograph is scikit-image's coins,
of the Brooklyn Museum, with no known copyright restrictions.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from scipy import ndimage
from skimage.data import coins

import samjax
from samjax.commands.demo import run_demo
from samjax.engine.spec import ModelSpec
from samjax.viz.automatic import draw_masks
from tests.support.browser.hosts import jupyter
from tests.support.browser.pages import NotebookPage, write_notebook

HERE = Path(__file__).parent
CODE = """
import samjax

sam = samjax.load()
annotator = samjax.Annotator(sam, ["coins.png"], labels=("coin", "scratch"), height=520)
annotator
"""
# Chosen for this photograph and the embedded checkpoint
AUTOMATIC = {
    "points_per_side": 32,
    "pred_iou_thresh": 0.45,
    "stability_score_thresh": 0.5,
    "box_nms_thresh": 0.3,
    "min_area": 2000,
    "max_area": 14000,
    "containment_thresh": 0.7,
}
BOXED = 8  # coins that are cut out by boxes; the last one stays active


def photograph() -> Image.Image:
    """Return the photograph at twice its size, so that outlines are smooth."""
    picture = Image.fromarray(coins()).convert("RGB")
    return picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS)


def boxes(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Return boxes (x0, y0, x1, y1) of the coins, a few pixels wide of them, row by row."""
    grey = ndimage.gaussian_filter(np.asarray(picture.convert("L"), float), 3)
    bright = ndimage.binary_fill_holes(grey > ndimage.uniform_filter(grey, 181) + 12)
    found = []
    parts, _ = ndimage.label(ndimage.binary_opening(bright, iterations=6))
    for rows, columns in ndimage.find_objects(parts):
        box = columns.start - 4, rows.start - 4, columns.stop + 4, rows.stop + 4
        if 60 < box[2] - box[0] < 160 and 60 < box[3] - box[1] < 160:
            found.append(box)
    return sorted(found, key=lambda box: (round((box[1] + box[3]) / 280), box[0]))


def annotator_picture(picture: Image.Image, folder: Path) -> Image.Image:
    """Draw boxes in the annotator as a user does, and take its picture."""
    picture.save(folder / "coins.png")
    write_notebook(folder / "coins.ipynb", [CODE])
    with jupyter("lab", folder) as address, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        page = browser.new_page(viewport={"width": 1480, "height": 1000})
        page.set_default_timeout(180_000)
        notebook = NotebookPage(page, ("lab", address, folder), "coins.ipynb")
        notebook.run_all()
        annotator = notebook.annotator()
        annotator.wait_ready()
        for number, box in enumerate(boxes(picture)[:BOXED]):
            if number:
                annotator.press("Enter")
            with annotator.painted():
                annotator.drag(*box)
        page.mouse.move(2, 2)
        page.wait_for_timeout(500)
        annotator.root.screenshot(path=folder / "annotator.png")
        notebook.close()
        browser.close()
    return Image.open(folder / "annotator.png").convert("RGB")


def automatic_picture(picture: Image.Image) -> Image.Image:
    """Draw the automatic masks of the photograph."""
    generator = samjax.SamAutomaticMaskGenerator(samjax.load(), **AUTOMATIC)
    records = generator.generate(picture)
    return Image.fromarray(draw_masks(np.asarray(picture), records))


def beside(left: Image.Image, right: Image.Image, gap: int = 24) -> Image.Image:
    """Put two pictures beside each other, centred, on white."""
    size = left.width + gap + right.width, max(left.height, right.height)
    both = Image.new("RGB", size, "white")
    both.paste(left, (0, (size[1] - left.height) // 2))
    both.paste(right, (left.width + gap, (size[1] - right.height) // 2))
    return both


def main() -> None:
    """Write annotator.jpg and demo.jpg."""
    picture = photograph()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for line in run_demo(folder / "demo", ModelSpec()):
            print(line)
        demo = Image.open(folder / "demo" / "demo.png").convert("RGB")
        demo.thumbnail((1000, 1000))
        demo.save(HERE / "demo.jpg", quality=85)
        clicked = annotator_picture(picture, folder)
    found = automatic_picture(picture)
    found.thumbnail((560, 560))
    both = beside(clicked, found)
    path = HERE / "annotator.jpg"
    both.save(path, quality=90, optimize=True, subsampling=0)
    print(f"{path}: {both.width} x {both.height}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
