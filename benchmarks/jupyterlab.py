"""Run JupyterLab and headless Chromium for the benchmarks of the annotator."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import samjax

TIMEOUT = 300_000  # milliseconds: a first compilation on a busy machine
NARROW, TALL = (1180, 760), (1280, 1000)  # sizes of the page, CSS pixels


class Lab:
    """Holds a running JupyterLab, the browser on it, and the folder that it serves."""

    def __init__(self, browser: Any, address: str, folder: Path):
        self._browser, self._address, self.folder = browser, address, folder

    @contextmanager
    def notebook(self, code: str, viewport: tuple[int, int] = NARROW) -> Iterator[Any]:
        """Run a notebook of one cell in a page of its own; yields the `NotebookPage`."""
        from tests.support.browser.pages import NotebookPage, write_notebook

        write_notebook(self.folder / "benchmark.ipynb", [code])
        width, height = viewport
        page = self._browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(TIMEOUT)
        host = ("lab", self._address, self.folder)
        notebook = NotebookPage(page, host, "benchmark.ipynb")
        if viewport == NARROW:
            notebook.command("application:toggle-left-area")
        notebook.run_all()
        notebook.annotator().wait_ready()
        yield notebook
        notebook.close()
        page.close()


@contextmanager
def jupyterlab() -> Iterator[Lab]:
    """Start JupyterLab in a temporary folder, and Chromium.

    Raises:
        SamjaxError: playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise samjax.SamjaxError(
            "playwright is not installed: pip install 'samjax[browser]'"
        ) from None

    from tests.support.browser.hosts import jupyter

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise samjax.SamjaxError("no chromium on the PATH: install it")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with jupyter("lab", folder) as address:
            yield Lab(browser, address, folder)
        browser.close()
