"""Measure the preview under the mouse: decoded in the page, and by a kernel that answers late.

    python -m benchmarks.widget_hover --runtime FOLDER --out hover.json

The command opens JupyterLab in headless Chromium on the embedded checkpoint and a drawn image of
1024 x 768 pixels, and moves the mouse to 50 places: first with a kernel that hears of everything
--late milliseconds late and makes the previews, then with the same kernel while the page decodes
(samjax.Annotator(decode_in_page=FOLDER)). A preview's time runs from the pointermove event to the
frame in which it is painted. The first is told apart; four seconds later come those that count,
since browsers compile WebAssembly better while it runs, which the page does meanwhile. FOLDER
holds the files of onnxruntime-web. The memory is what the page's process has in RAM at the end. It
needs pip install 'samjax[browser,export]', psutil and Chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import check_json, write_json
from benchmarks.jupyterlab import TALL, Lab, jupyterlab
from benchmarks.speed.machine import surroundings
from benchmarks.widget_latency import SIZE, drawn_image, percentiles, places

KERNEL = """
import time

import samjax
from samjax.widget.page_link import PageLink

receive = PageLink.receive


def late(self, content):
    time.sleep(LATE)
    return receive(self, content)


PageLink.receive = late
annotator = samjax.Annotator(samjax.load().warmup(), "image.png", decode_in_page=SOURCE)
annotator
"""

# Records milliseconds from a move of the mouse to the frame in which its preview was painted, and
# from the embedding's arrival to the first preview.
WATCH = """(root) => {
  window.latencies = [];
  let moved = null;
  let shown = root.dataset.hover;
  root.querySelector("canvas.samjax-canvas").addEventListener(
    "pointermove", () => { moved ??= performance.now(); }, true);
  new MutationObserver(() => {
    if (root.dataset.hover === shown || moved === null) return;
    shown = root.dataset.hover;
    const start = moved;
    requestAnimationFrame(() => {
      window.latencies.push(performance.now() - start);
      moved = null;
    });
  }).observe(root, { attributes: true, attributeFilter: ["data-hover"] });
}"""
# Looks now and then: a wait of playwright asks at every frame, which a page without a GPU paints.
SHOWN = """(i) => new Promise((done) => {
  const look = () => (window.latencies.length > i ? done() : setTimeout(look, 20));
  look();
})"""
REST = 4000  # milliseconds
READY = "data.decoder === 'off' || data.decodes === '0'"


def page_megabytes() -> float:
    """Return what the largest page of the browsers that run has in RAM."""
    import psutil

    return max(
        each.memory_info().rss / 1e6
        for each in psutil.process_iter(["cmdline"])
        if "--type=renderer" in (each.info["cmdline"] or ())
    )


def measure(lab: Lab, source: str | bool, late: float, count: int) -> dict[str, Any]:
    """Move the mouse to ``count`` places; ``late`` is in milliseconds."""
    before = f"LATE, SOURCE = {late / 1000}, {source!r}\n"
    with lab.notebook(before + KERNEL, TALL) as notebook:
        page, annotator = notebook.page, notebook.annotator()
        start = page.evaluate("() => performance.now()")
        annotator.until(READY)
        page.evaluate(WATCH, annotator.root.element_handle())
        for i, (x, y) in enumerate(places(count + 1, SIZE)):
            page.mouse.move(*annotator.place(x, y))
            page.evaluate(SHOWN, i)
            if i == 0:
                first = page.evaluate("() => performance.now()") - start
                page.wait_for_timeout(REST)
        found = np.array(page.evaluate("() => window.latencies"))[1:]
        memory = page_megabytes()
    return {
        "preview": percentiles(found),
        "ready image to first preview": round(first),
        "page MB": round(memory),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the results if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widget_hover", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--runtime", type=Path, required=True, help="files of onnxruntime-web")
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--late", type=float, default=300, help="milliseconds")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    if given.moves < 1:
        raise samjax.SamjaxError(f"--moves {given.moves}: at least 1")
    check_json(given.out)
    rows = {}
    with jupyterlab() as lab:
        drawn_image().save(lab.folder / "image.png")
        for name, source in (("kernel", False), ("page", str(given.runtime.resolve()))):
            rows[name] = measure(lab, source, given.late, given.moves)
            p50, p95 = (rows[name]["preview"][key] for key in ("p50", "p95"))
            print(
                f"decoded by the {name}: preview p50 / p95 {p50:.0f} / {p95:.0f} ms, the first "
                f"{rows[name]['ready image to first preview']} ms after the image was ready, page "
                f"{rows[name]['page MB']} MB",
                flush=True,
            )
    found = {
        "moves": given.moves,
        "kernel is late by ms": given.late,
        "decoded by": rows,
    } | surroundings()
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    exit_code(main)
