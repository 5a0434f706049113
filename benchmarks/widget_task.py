"""Measure the time of a task in the annotator: 20 nuclei of one image, as a person boxes them.

    python -m benchmarks.widget_task --out task.json --gif annotator.gif

Opens JupyterLab in headless Chromium on the embedded checkpoint and a drawn image, and boxes each
nucleus with the mouse, in two ways: with Enter after each box, as the annotator asked for until
its box tool made each box an object; and with that tool. The pointer moves at the same speed in
both, rests before it presses, and a key takes as long as one of a practised hand; the page's own
waiting is in the time, too: a drag begins when the answer to the last one is painted. With
``--gif`` the second way is recorded as it looks in the notebook, from screenshots of equal steps
of the person's time. Needs pip install 'samjax[browser]' and Chromium.
"""

from __future__ import annotations

import argparse
import json
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.commands import exit_code
from benchmarks.files import write_json
from benchmarks.jupyterlab import jupyterlab

SIZE = (640, 480)  # width, height of the image, pixels
COUNT = 20  # nuclei
SPEED = 900.0  # of the pointer, CSS pixels a second
REST = 0.12  # seconds before a press and before a release
KEY = 0.28  # seconds that a key takes (Card, Moran and Newell 1980: an average typist)
STEP = 0.04  # seconds between two places of the pointer
FRAME = 0.125  # seconds of the person's time that a picture of the recording stands for
WIDTH = 800  # of the recording, pixels
COLOURS = 256  # of the recording
ARROW = ((0, 0), (0, 17), (4, 13), (7, 19), (10, 18), (7, 12), (12, 12))

KERNEL = """
import samjax

annotator = samjax.Annotator(
    samjax.load().warmup(), "nuclei.png", labels=("nucleus", "debris"), height=400,
    automatic={"points_per_side": 16},
)
annotator
"""


def drawn_nuclei() -> tuple[Image.Image, list[tuple[float, float, float, float]]]:
    """Draw stained nuclei on a dark ground; returns their boxes (x0, y0, x1, y1) in pixels."""
    rng = np.random.default_rng(4)
    width, height = SIZE
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), (26, 22, 42), float) + rng.normal(0, 4, (height, width, 1))
    boxes: list[tuple[float, float, float, float]] = []
    while len(boxes) < COUNT:
        cx, cy = rng.uniform(35, width - 35), rng.uniform(35, height - 35)
        a, b, turn = rng.uniform(15, 26), rng.uniform(12, 18), rng.uniform(0, np.pi)
        places = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
        if any(abs(px - cx) < 58 and abs(py - cy) < 50 for px, py in places):
            continue
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2
        colour = np.array([96, 104, 226]) * rng.uniform(0.75, 1.1)
        pixels[inside < 1] = (colour - 34 * inside[inside < 1, None]) + rng.normal(0, 5)
        rows, columns = np.nonzero(inside < 1)
        boxes.append((columns.min() - 3, rows.min() - 3, columns.max() + 3, rows.max() + 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image, sorted(boxes, key=lambda box: (round(box[1] / 100), box[0]))


class Recording:
    """Pictures of the annotator at equal steps of a person's time."""

    def __init__(self, annotator: Any):
        self.annotator = annotator
        self._due = 0.0
        self.frames: list[Image.Image] = []

    def at(self, seconds: float, pointer: tuple[float, float]) -> None:
        """Take a picture if one is due; ``pointer`` is drawn, in CSS pixels of the page."""
        if seconds < self._due:
            return
        self._due = seconds + FRAME
        box = self.annotator.root.bounding_box()
        frame = Image.open(BytesIO(self.annotator.root.screenshot())).convert("RGB")
        draw = ImageDraw.Draw(frame)
        arrow = [(pointer[0] - box["x"] + x, pointer[1] - box["y"] + y) for x, y in ARROW]
        draw.polygon(arrow, fill="white", outline="black")
        height = round(frame.height * WIDTH / frame.width)
        self.frames.append(frame.resize((WIDTH, height), Image.Resampling.LANCZOS))

    def save(self, path: Path) -> None:
        """Write an animated GIF."""
        # One palette, of all that is ever seen: colours do not flicker.
        seen = self.frames[:: max(1, len(self.frames) // 9)]
        strip = Image.new("RGB", (WIDTH, sum(frame.height for frame in seen)))
        for i, frame in enumerate(seen):
            strip.paste(frame, (0, i * frame.height))
        palette = strip.quantize(COLOURS, Image.Quantize.MEDIANCUT)
        none = Image.Dither.NONE
        first, *others = (f.quantize(palette=palette, dither=none) for f in self.frames)
        duration = round(1000 * FRAME)
        first.save(path, save_all=True, append_images=others, duration=duration, loop=0)


class Person:
    """Moves, drags and presses keys at a person's pace, and counts what it does."""

    def __init__(self, page: Any, annotator: Any, recording: Recording | None):
        self._page, self.annotator, self._recording = page, annotator, recording
        self._at = (200.0, 300.0)
        self.actions = 0
        self.seconds = 0.0  # of the person; the page's own waiting is added by `wait`

    def _spend(self, seconds: float) -> None:
        self.seconds += seconds
        if self._recording:
            self._recording.at(self.seconds, self._at)
        else:
            self._page.wait_for_timeout(1000 * seconds)

    def move(self, to: tuple[float, float]) -> None:
        """Move the pointer to a place of the page."""
        start = self._at
        distance = float(np.hypot(to[0] - start[0], to[1] - start[1]))
        steps = max(1, round(distance / SPEED / STEP))
        for i in range(1, steps + 1):
            part = i / steps
            self._at = (
                start[0] + part * (to[0] - start[0]),
                start[1] + part * (to[1] - start[1]),
            )
            self._page.mouse.move(*self._at)
            self._spend(distance / SPEED / steps)

    def drag(self, box: tuple[float, float, float, float]) -> None:
        """Drag a box, in pixels of the image, and wait for its mask."""
        self.actions += 1
        self.move(self.annotator.place(box[0], box[1]))
        self._spend(REST)
        with self._answered():
            self._page.mouse.down()
            self.move(self.annotator.place(box[2], box[3]))
            self._spend(REST)
            self._page.mouse.up()

    def key(self, key: str) -> None:
        """Press a key."""
        self.actions += 1
        self._page.keyboard.press(key)
        self._spend(KEY)

    def rest(self, seconds: float) -> None:
        """Look at what was done."""
        until = self.seconds + seconds
        while self.seconds < until:
            self._page.wait_for_timeout(100)
            self._spend(FRAME)

    def click(self, x: float, y: float) -> None:
        """Click at a pixel of the image."""
        self.actions += 1
        self.move(self.annotator.place(x, y))
        self._spend(REST)
        self._page.mouse.down()
        self._page.mouse.up()

    def _answered(self) -> Any:
        return self.annotator.painted()


def annotate(page: Any, annotator: Any, boxes: list, new: bool, gif: Path | None) -> dict[str, Any]:
    """Box all nuclei; returns the actions and the seconds that it took.

    Args:
        page: of the browser.
        annotator: on it, without objects.
        boxes: of the nuclei.
        new: whether each box is a new object; else Enter follows each.
        gif: file of a recording, which makes the time worthless.
    """
    recording = Recording(annotator) if gif else None
    person = Person(page, annotator, recording)
    start = time.perf_counter()
    annotator.canvas.focus()
    person.key("b" if new else "v")
    for box in boxes:
        person.drag(box)
        if not new:
            person.key("Enter")
            annotator.until("data.active === '' && data.state === 'ready'")
    seconds = time.perf_counter() - start
    assert annotator.number("objects") == len(boxes)
    if recording and gif:
        _go_on(person, boxes)
        recording.save(gif)
    return {"actions": person.actions, "seconds": round(seconds, 1)}


def _go_on(person: Person, boxes: list) -> None:
    """Show in the recording what follows: candidates, classes, the outline, export, automatic."""
    person.rest(0.6)
    for _ in range(3):
        person.key("m")
        person.rest(0.6)
    centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
    for x, y in (centres[2], centres[9]):
        person.click(x, y)  # in the box tool a click selects the mask there
        person.rest(0.5)
        person.key("2")
        person.rest(0.3)
    person.key("l")
    person.rest(1.2)
    person.key("r")
    person.rest(1.2)
    person.key("Escape")
    person.key("x")
    person.rest(1.6)
    person.key("Escape")
    person.key("a")
    person.annotator.until("data.automatic !== ''")
    for x, y in (centres[5], centres[12]):
        person.move(person.annotator.place(x, y))
        person.rest(0.8)
    person.rest(0.8)
    person.key("Escape")


def measure(gif: Path | None) -> dict[str, Any]:
    """Run JupyterLab and do the task in both ways."""
    image, boxes = drawn_nuclei()
    with jupyterlab() as lab:
        image.save(lab.folder / "nuclei.png")
        with lab.notebook(KERNEL) as notebook:
            annotator = notebook.annotator()
            found = {}
            for way, new, film in (
                ("recording", True, gif),  # first: its objects are the first ones
                ("Enter after each box", False, None),
                ("each box a new object", True, None),
            ):
                if way == "recording" and film is None:
                    continue
                found[way] = annotate(notebook.page, annotator, boxes, new, film)
                notebook.python("for e in annotator.prompts: annotator.delete(e['id'])")
                annotator.until("data.objects === '0' && data.state === 'ready'")
    found.pop("recording", None)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widget_task", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--gif", type=Path, help="a GIF of the second way")
    given = parser.parse_args(arguments)
    found = measure(given.gif)
    print(json.dumps(found, indent=1))
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    exit_code(main)
