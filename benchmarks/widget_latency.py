"""Measure the annotator's latency in JupyterLab, from releasing the mouse to the painted mask.

    python -m benchmarks.widget_latency --out latency.json

The command opens JupyterLab in headless Chromium on the embedded checkpoint and a drawn image, and
clicks 50 times: on an image of 1024 x 768 pixels, on the same with 300 objects on it, and on one
of 12 megapixels. A click's time runs from the pointerup event to the
animation frame in which the page has decoded and painted the new mask (performance.now, in the
page). The decode time (network and masks, of the same click) is measured in the kernel; the rest
is the widget's own share: messages, run lengths, painting, JupyterLab. The mouse rests --pause
milliseconds before each click, as a person's does; with 0 the click also waits for the preview of
the hover and for unfinished work of the previous click. It needs pip install 'samjax[browser]' and
Chromium.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import check_json, write_json
from benchmarks.jupyterlab import TALL, TIMEOUT, jupyterlab
from benchmarks.speed.machine import surroundings

SIZE = (1024, 768)  # width, height in pixels


@dataclass(frozen=True)
class Case:
    """An image has a size, and objects on it before the first click.

    ``goal`` is the most that the widget's own share may take at p95, in milliseconds.
    """

    name: str
    size: tuple[int, int]
    objects: int
    goal: float


CASES = (
    Case("1024 x 768", SIZE, 0, 40.0),
    Case("1024 x 768 with 300 objects", SIZE, 300, 60.0),
    Case("12 megapixels", (4000, 3000), 0, 100.0),
)

# The decode time is that of SamPredictor.predict: the network, and the masks at the image's size.
# Previews of the hover are decoded in a thread of their own and not counted.
KERNEL = """
import json
import threading
import time

import samjax

pending, decodes = [], []
predict = samjax.SamPredictor.predict


def timed(self, **prompt):
    start = time.perf_counter()
    found = predict(self, **prompt)
    if "hover" not in threading.current_thread().name:
        pending.append(1e3 * (time.perf_counter() - start))
    return found


def clicked(_):
    decodes.append(sum(pending))
    pending.clear()


samjax.SamPredictor.predict = timed
annotator = samjax.Annotator(samjax.load().warmup(), "image.png")
for x, y in PLACES:
    annotator.box(x - 12, y - 12, x + 12, y + 12, new=True)
if PLACES:
    annotator.new_object()
pending.clear()
annotator.on("mask", clicked)
annotator.on("commit", lambda _: pending.clear())
annotator
"""

# Records milliseconds from the release of the mouse to the frame after the mask was painted.
WATCH = """(root) => {
  window.latencies = [];
  window.traffic = [];
  root.samjaxPage.model.on("msg:custom", (message, buffers) => {
    if (message.kind !== "update") return;
    const bytes = buffers.reduce((sum, each) => sum + each.byteLength, 0);
    window.traffic.push(JSON.stringify(message).length + bytes);
  });
  let released = null;
  root.querySelector("canvas.samjax-canvas").addEventListener(
    "pointerup", () => { released = performance.now(); }, true);
  let counted = root.dataset.decoded;
  new MutationObserver(() => {
    if (root.dataset.decoded === counted) return;
    counted = root.dataset.decoded;
    const start = released;
    if (start === null) return;
    requestAnimationFrame(() => window.latencies.push(performance.now() - start));
  }).observe(root, { attributes: true, attributeFilter: ["data-decoded"] });
}"""


def drawn_image(size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw discs on a colour gradient."""
    width, height = size
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 120, width), np.linspace(0, 120, height))
    picture = Image.fromarray(np.stack([x + 40, y + 60, 200 - x], -1).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for cx, cy in places(40, size):
        radius = rng.uniform(0.03, 0.08) * width
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        draw.ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def places(count: int, size: tuple[int, int] = SIZE, seed: int = 1) -> list[tuple[float, float]]:
    """Draw click positions (x, y) in pixels, seeded and away from the border."""
    rng = np.random.default_rng(seed)
    return [tuple(p) for p in (rng.uniform(0.1, 0.9, (count, 2)) * size).tolist()]


def percentiles(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Compute p50 and p95, in milliseconds."""
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}


def clicks(
    page: Any, annotator: Any, size: tuple[int, int], count: int, pause: float, warm: int = 5
) -> Float[np.ndarray, " n"]:
    """Click and return the latency of each click, in milliseconds.

    Every fifth click starts a new object; the others refine the current one.
    """
    page.evaluate(WATCH, annotator.root.element_handle())
    for i, (x, y) in enumerate(places(count + warm, size)):
        if i % 5 == 0:
            annotator.press("Enter")
        page.mouse.move(*annotator.place(x, y))
        page.wait_for_timeout(pause)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(f"() => window.latencies.length > {i}", timeout=TIMEOUT)
    return np.array(page.evaluate("() => window.latencies"))[warm:]


@dataclass(frozen=True)
class Measured:
    """The clicks of a case: milliseconds in all and of the decode, and bytes of the answers."""

    total: Float[np.ndarray, " n"]
    decode: Float[np.ndarray, " n"]
    traffic: Float[np.ndarray, " m"]


def measure(cases: Sequence[Case], count: int, pause: float) -> Iterator[tuple[Case, Measured]]:
    """Run JupyterLab and click in the image of each case."""
    with jupyterlab() as lab:
        for case in cases:
            drawn_image(case.size).save(lab.folder / "image.png")
            before = f"PLACES = {places(case.objects, case.size, seed=2)}\n"
            with lab.notebook(before + KERNEL, TALL) as notebook:
                annotator = notebook.annotator()
                annotator.until(f"Number(data.objects) === {case.objects}")
                total = clicks(notebook.page, annotator, case.size, count, pause)
                decode = np.array(notebook.value("decodes"))[-count:]
                traffic = np.array(notebook.page.evaluate("() => window.traffic"))
            yield case, Measured(total, decode, traffic)


def report(case: Case, found: Measured) -> dict[str, Any]:
    """Summarise the latencies of a case, in milliseconds."""
    own = found.total - found.decode
    return {
        "image": list(case.size),
        "objects": case.objects,
        "total": percentiles(found.total),
        "decode": percentiles(found.decode),
        "own": percentiles(own),
        "answer_bytes": round(float(np.median(found.traffic))),
        "goal": f"own share at p95 under {case.goal:.0f} ms",
        "reached": bool(np.percentile(own, 95) < case.goal),
    }


def line(case: Case, found: dict[str, Any]) -> str:
    """Write the result of a case as one line."""
    total, decode, own = (found[key] for key in ("total", "decode", "own"))
    return (
        f"{case.name}: click to painted mask p50 / p95 {total['p50']:.0f} / {total['p95']:.0f} ms, "
        f"of which decode {decode['p50']:.0f} / {decode['p95']:.0f} ms and the widget's own share "
        f"{own['p50']:.0f} / {own['p95']:.0f} ms (goal: under {case.goal:.0f} ms at p95); "
        f"{found['answer_bytes']} bytes an answer"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the results if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widget_latency", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--pause", type=float, default=300, help="milliseconds before a click")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    if given.clicks < 1:
        raise samjax.SamjaxError(f"--clicks {given.clicks}: at least 1")
    check_json(given.out)
    rows = {}
    for case, measured in measure(CASES, given.clicks, given.pause):
        rows[case.name] = report(case, measured)
        print(line(case, rows[case.name]), flush=True)
    found = {"clicks": given.clicks, "cases": rows} | surroundings()
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    exit_code(main)
