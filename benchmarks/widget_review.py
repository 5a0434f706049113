"""Measure a review in the annotator: 20 predicted masks, of which five are wrong.

    python -m benchmarks.widget_review --out review.json

Opens JupyterLab in headless Chromium on the embedded checkpoint and a drawn image of nuclei. Masks
that samjax predicts from boxes are written as COCO, five of them damaged: a part is missing, or a
part too much. They are opened by ``annotations=``, reviewed by the keys of the review, corrected
by clicks and exported by the dialog, by a person as in `benchmarks.widget_task`. The fifteen others
must come out of the export bit for bit as they went in. Needs pip install 'samjax[browser]' and
Chromium.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.jupyterlab import jupyterlab
from benchmarks.widget_task import COUNT, REST, Person, drawn_nuclei
from samjax.annotations import read_coco, write_coco
from samjax.masks.upscale import mask_iou
from samjax.widget.row_runs import runs_to_mask

WRONG = 5  # masks that are damaged
KERNEL = """
import samjax

annotator = samjax.Annotator(
    samjax.load().warmup(), "nuclei.png", annotations="masks.json", path="work", height=400
)
annotator
"""

ENOUGH, CLICKS = 0.9, 6  # a person is content with this IoU, or gives up after so many clicks
RUNS = """(root) => {
  const { state } = root.samjaxPage;
  return Array.from(state.masks.get(state.told.active).runs);
}"""


def predicted_nuclei(folder: Path) -> dict[int, np.ndarray]:
    """Write nuclei.png and masks.json; return the undamaged masks of the damaged annotations."""
    image, boxes = drawn_nuclei()
    image.save(folder / "nuclei.png")
    predictor = samjax.SamPredictor(samjax.load())
    predictor.set_image(np.asarray(image))
    found = predictor.predict_many(boxes=boxes, multimask_output=False)
    records, good = [], {}
    for i, (mask, score) in enumerate(zip(found.masks[:, 0], found.scores[:, 0], strict=True)):
        record: dict[str, Any] = {"segmentation": mask, "label": "nucleus", "id": 100 + i}
        record["predicted_iou"] = min(0.99, float(score))
        if i % (len(boxes) // WRONG) == 1:
            record["segmentation"] = _damaged(mask, boxes[i], missing=len(good) % 2 == 0)
            record["predicted_iou"] = 0.5 + i / 1000
            good[100 + i] = mask
        records.append(record)
    size = (image.height, image.width)
    write_coco(folder / "masks.json", [("nuclei.png", size, records)], shapes="polygons")
    return good


def _damaged(mask: np.ndarray, box: Any, missing: bool) -> np.ndarray:
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    if missing:  # the right half
        return mask & (columns < (x0 + x1) / 2)
    x, y, radius = x1 + 1, (y0 + y1) / 2, (y1 - y0) / 3
    return mask | ((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


class Reviewer(Person):
    """Reviews by keys, and clicks into the largest error until a mask is good."""

    clicks = 0

    def correct(self, good: np.ndarray) -> None:
        """Click where most is missing, or right-click where most is too much.

        A click that made the mask worse is taken back, and the mask left as it was.
        """
        before = 0.0
        for number in range(CLICKS + 1):
            runs = np.array(self.annotator.root.evaluate(RUNS), np.uint32)
            mask = runs_to_mask(runs, good.shape)
            iou = float(mask_iou(mask, good))
            if iou < before:
                with self._answered():
                    self.key("z")
                return
            if iou >= ENOUGH or number == CLICKS:
                return
            before = iou
            depth = ndimage.distance_transform_edt(mask ^ good)
            y, x = np.unravel_index(np.argmax(depth), good.shape)
            with self._answered():
                self.actions += 1
                self.clicks += 1
                self.move(self.annotator.place(float(x), float(y)))
                self._spend(REST)
                self._page.mouse.click(*self._at, button="left" if good[y, x] else "right")

    def decide(self, key: str) -> None:
        """Press a key of the review, and wait until another object is shown."""
        before = self.annotator.data("active")
        self.key(key)
        self.annotator.until(f"data.active !== '{before}' && data.state === 'ready'")


def review(page: Any, annotator: Any, good: dict[int, np.ndarray]) -> dict[str, Any]:
    """Review all masks, correct the damaged ones, and export; returns actions and seconds."""
    person = Reviewer(page, annotator, None)
    annotator.canvas.focus()
    start = time.perf_counter()
    person.decide("q")
    for number in range(COUNT):
        chosen = 99 + int(annotator.data("active"))
        if (chosen in good) != (number < len(good)):
            raise samjax.SamjaxError(f"{chosen} is shown in place {number}: not by its score")
        if chosen in good:
            person.correct(good[chosen])
        person.decide("y")
    person.key("q")
    annotator.export()
    person.actions += 2  # the two buttons that export
    seconds = time.perf_counter() - start
    return {"actions": person.actions, "clicks": person.clicks, "seconds": round(seconds, 1)}


def compared(folder: Path, good: dict[int, np.ndarray]) -> dict[str, Any]:
    """Compare the export with what was opened: others byte for byte, corrections by IoU."""
    before = {a["id"]: a for a in json.loads((folder / "masks.json").read_text())["annotations"]}
    after = json.loads((folder / "work" / "annotations.json").read_text())["annotations"]
    unchanged = [a["id"] for a in after if json.dumps(a) == json.dumps(before[a["id"]])]
    ious: dict[int, list[float]] = {number: [] for number in good}
    for path in (folder / "masks.json", folder / "work" / "annotations.json"):
        for record in read_coco(path, "binary_mask")[0].records:
            if record["id"] in good:
                iou = float(mask_iou(record["segmentation"], good[record["id"]]))
                ious[record["id"]].append(round(iou, 3))
    return {"masks": len(after), "unchanged": len(unchanged), "iou before and after": ious}


def measure(screenshots: Path | None = None) -> dict[str, Any]:
    """Run JupyterLab, review the masks there, and compare the export."""
    with jupyterlab() as lab:
        good = predicted_nuclei(lab.folder)
        with lab.notebook(KERNEL) as notebook:
            page, annotator = notebook.page, notebook.annotator()
            if screenshots:
                screenshots.mkdir(parents=True, exist_ok=True)
                annotator.canvas.press("q")
                annotator.until("data.active !== '' && data.state === 'ready'")
                page.wait_for_timeout(500)
                page.screenshot(path=screenshots / "review.png")
                annotator.canvas.press("q")
                annotator.canvas.press("Shift+n")
                annotator.until("data.active === '' && data.state === 'ready'")
                page.wait_for_timeout(500)
                page.screenshot(path=screenshots / "opened.png")
            found = review(page, annotator, good)
            if screenshots:
                page.screenshot(path=screenshots / "done.png")
            return found | compared(lab.folder, good)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widget_review", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the page")
    given = parser.parse_args(arguments)
    found = measure(given.screenshots)
    print(json.dumps(found, indent=1))
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    exit_code(main)
