"""From releasing the mouse to the new mask painted: the annotator's latency in JupyterLab.

    python -m benchmarks.widget_latency --out latency.json

Opens JupyterLab in headless Chromium on the embedded checkpoint and a drawn image of 1024 x 768
pixels, and clicks 50 times. A click's time runs from the pointerup event to the animation frame
in which the page has counted and painted the new mask (performance.now, in the page). The decode
share (network and masks, of the same click) is measured in the kernel; the rest is the widget's
own: messages, run lengths, painting, JupyterLab. The mouse rests --pause milliseconds before each
click, as a person's does; with 0 the click also waits for the hover's preview and for what is left
of the click before. Needs pip install 'samjax[browser]' and Chromium.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import write_json
from samjax.files import made_folder

SIZE = (1024, 768)  # width, height in pixels
GOAL = 100.0  # milliseconds of the widget's own share at p95
TIMEOUT = 300_000  # milliseconds: a first compilation on a busy machine

# The decode is all that a click asks of SamPredictor.predict: the network, and its masks at the
# image's size. The hover's previews are decoded in a thread of their own and not counted.
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
annotator.on("mask", clicked)
annotator.on("commit", lambda _: pending.clear())
annotator
"""

# Milliseconds from the release of the mouse to the frame after the mask was painted.
WATCH = """(root) => {
  window.latencies = [];
  let released = null;
  root.querySelector("canvas.samjax-canvas").addEventListener(
    "pointerup", () => { released = performance.now(); }, true);
  let counted = root.dataset.decoded;
  new MutationObserver(() => {
    if (root.dataset.decoded === counted) return;
    counted = root.dataset.decoded;
    const start = released;
    requestAnimationFrame(() => window.latencies.push(performance.now() - start));
  }).observe(root, { attributes: true, attributeFilter: ["data-decoded"] });
}"""


def drawn_image() -> Image.Image:
    """Discs on a slope of colours."""
    width, height = SIZE
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 120, width), np.linspace(0, 120, height))
    picture = Image.fromarray(np.stack([x + 40, y + 60, 200 - x], -1).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for cx, cy in places(40):
        radius = rng.uniform(30, 80)
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        draw.ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def places(count: int) -> list[tuple[float, float]]:
    """Where to click: (x, y) in pixels, seeded, away from the border."""
    rng = np.random.default_rng(1)
    return [tuple(p) for p in (rng.uniform(0.1, 0.9, (count, 2)) * SIZE).tolist()]


def percentiles(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """p50 and p95, in milliseconds."""
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}


def clicks(
    page: Any, annotator: Any, count: int, pause: float, warm: int = 5
) -> Float[np.ndarray, " n"]:
    """The latency of each click, in milliseconds; each is one object's first or next point."""
    page.evaluate(WATCH, annotator.root.element_handle())
    for i, (x, y) in enumerate(places(count + warm)):
        if i % 5 == 0:
            annotator.press("Enter")  # a new object every five clicks
        page.mouse.move(*annotator.place(x, y))
        page.wait_for_timeout(pause)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(f"() => window.latencies.length > {i}", timeout=TIMEOUT)
    return np.array(page.evaluate("() => window.latencies"))[warm:]


def measure(count: int, pause: float) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Run JupyterLab and click: milliseconds of each click, and of its decode."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise samjax.SamjaxError(
            "playwright is not installed: pip install 'samjax[browser]'"
        ) from None

    from tests.browser.hosts import jupyter
    from tests.browser.pages import NotebookPage, write_notebook

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise samjax.SamjaxError("no chromium on the PATH: install it")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        drawn_image().save(folder / "image.png")
        write_notebook(folder / "latency.ipynb", [KERNEL])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with jupyter("lab", folder) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(TIMEOUT)
            notebook = NotebookPage(page, ("lab", address, folder), "latency.ipynb")
            notebook.run_all()
            annotator = notebook.annotator()
            annotator.wait_ready()
            total = clicks(page, annotator, count, pause)
            notebook.python("open('decode.json', 'w').write(json.dumps(decodes))")
            notebook.close()
        browser.close()
        decode = np.array(json.loads((folder / "decode.json").read_text()))
    return total, decode[-count:]


def report(total: Float[np.ndarray, " n"], decode: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """What was measured, with the machine it was measured on; times in milliseconds."""
    own = total - decode
    return {
        "clicks": len(total),
        "image": list(SIZE),
        "model": repr(samjax.load()),
        "total": percentiles(total),
        "decode": percentiles(decode),
        "own": percentiles(own),
        "goal": f"own share at p95 under {GOAL:.0f} ms",
        "reached": bool(np.percentile(own, 95) < GOAL),
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()})",
        "versions": {"samjax": samjax.__version__, "jax": jax.__version__},
        "date": str(date.today()),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widget_latency", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--pause", type=float, default=300, help="milliseconds before a click")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    if given.clicks < 1:
        raise samjax.SamjaxError(f"--clicks {given.clicks}: at least 1")
    if given.out is not None and given.out.is_dir():
        raise samjax.SamjaxError(f"--out {given.out}: a folder: name a JSON file")
    if given.out is not None:
        made_folder(given.out.parent)
    found = report(*measure(given.clicks, given.pause))
    print(json.dumps(found, indent=1))
    if given.out is not None:
        write_json(given.out, found)
    total, decode, own = (found[key] for key in ("total", "decode", "own"))
    print(
        f"\nClick to painted mask in JupyterLab, {SIZE[0]} x {SIZE[1]} image, {found['clicks']} "
        f"clicks, p50 / p95: {total['p50']:.0f} / {total['p95']:.0f} ms, of which decode "
        f"{decode['p50']:.0f} / {decode['p95']:.0f} ms and the widget's own share "
        f"{own['p50']:.0f} / {own['p95']:.0f} ms (goal: under {GOAL:.0f} ms at p95)"
    )


if __name__ == "__main__":
    exit_code(main)
