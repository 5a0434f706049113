"""Drive a notebook and an annotator in the browser as a user would: mouse, keys, buttons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import BrowserContext, Locator, Page

from tests.support.browser.hosts import TOKEN

_READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.sessionContext?.session?.kernel?.status === "idle";
}"""
_RUN = """async (code) => {
  const { session } = window.jupyterapp.shell.currentWidget.sessionContext;
  const reply = await session.kernel.requestExecute({ code }).done;
  return reply.content.status === "ok" ? null : reply.content.ename + ": " + reply.content.evalue;
}"""


@contextmanager
def watched(context: BrowserContext) -> Iterator[Page]:
    """Open a page; uncaught errors of the widget fail the test, those of the host do not."""
    page = context.new_page()
    page.set_default_timeout(120_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    yield page
    context.close()
    # anywidget loads a widget's module from a blob's address.
    assert not [error for error in errors if "blob:" in error]


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


class NotebookPage:
    """Drives a notebook that is open in JupyterLab or Notebook 7."""

    def __init__(self, page: Page, host: tuple[str, str, Path], name: str):
        kind, address, self.folder = host
        self.page, self.name = page, name
        route = {"lab": "lab/tree", "notebook": "notebooks"}[kind]
        page.goto(f"{address}/{route}/{name}?token={TOKEN}&reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(_READY)

    def command(self, name: str) -> None:
        """Run a command of the application, as its menus do."""
        self.page.evaluate(f"() => window.jupyterapp.commands.execute({json.dumps(name)})")

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def restart(self) -> None:
        """Restart the kernel, which loses its state."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
        self.wait_for_kernel()

    def python(self, code: str) -> None:
        """Run code in the kernel and wait for it."""
        error = self.page.evaluate(_RUN, code)
        assert error is None, error

    def value(self, expression: str, imports: str = "import json") -> Any:
        """Compute an expression in the kernel and return it; it must be JSON."""
        file = self.folder / "value.json"
        code = f"import json\n{imports}\nopen({str(file)!r}, 'w').write(json.dumps({expression}))"
        self.python(code)
        return json.loads(file.read_text())

    def close(self) -> None:
        """Shut the kernel down, to free its memory."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def annotator(self, number: int = 0) -> AnnotatorPage:
        """Return the annotator at that position in the notebook."""
        return AnnotatorPage(self.page, self.page.locator(".samjax-annotator").nth(number))


class AnnotatorPage:
    """Drives one annotator on the page; coordinates are pixels of its image."""

    def __init__(self, page: Page, root: Locator):
        self.page, self.root = page, root
        self.canvas = root.locator("canvas.samjax-canvas")
        self.status = root.locator(".samjax-status")

    def data(self, name: str) -> str:
        """Read the attribute data-``name``."""
        return self.root.get_attribute(f"data-{name}") or ""

    def number(self, name: str) -> int:
        return int(self.data(name) or 0)

    def until(self, condition: str, timeout: float | None = None) -> None:
        """Wait until a condition on ``data`` (the element's data-attributes) holds."""
        self.root.wait_for(state="attached")
        self.page.wait_for_function(
            f"(root) => {{ const data = root.dataset; return {condition}; }}",
            arg=self.root.element_handle(),
            timeout=timeout,
        )

    def wait_ready(self) -> None:
        self.until("data.state === 'ready'")
        self.canvas.scroll_into_view_if_needed()

    @contextmanager
    def painted(self) -> Iterator[None]:
        """Wait at the end of the block until the masks that it changes are painted."""
        before = self.number("decoded")
        yield
        self.until(f"Number(data.decoded) > {before} && data.state === 'ready'")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Convert a pixel of the image to a position on the page."""
        box = self.canvas.bounding_box()
        assert box is not None

        def given(name: str) -> float:
            return float(self.canvas.get_attribute(f"data-{name}") or "nan")

        scale = given("scale")
        return (
            box["x"] + x * scale + given("offset-x"),
            box["y"] + y * scale + given("offset-y"),
        )

    def click(self, x: float, y: float, button: str = "left") -> None:
        self.page.mouse.click(*self.place(x, y), button=button)

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.page.mouse.move(*self.place(x0, y0))
        self.page.mouse.down()
        self.page.mouse.move(*self.place((x0 + x1) / 2, (y0 + y1) / 2), steps=3)
        self.page.mouse.move(*self.place(x1, y1), steps=3)
        self.page.mouse.up()

    def act(self, action: str) -> None:
        self.root.locator(f"button[data-action={action}]").click()

    def export(self) -> None:
        """Export as the dialog proposes it, and wait for it."""
        self.act("export")
        self.root.locator(".samjax-export [type=submit]").click()
        self.page.wait_for_function(
            "(status) => status.textContent.includes('annotations.json')",
            arg=self.status.element_handle(),
        )

    def press(self, key: str) -> None:
        """Press a key with the canvas in focus."""
        self.canvas.press(key)


@contextmanager
def opened_notebook(
    page: Page, lab: tuple[str, str, Path], name: str, cell: str
) -> Iterator[NotebookPage]:
    """Open a notebook of one cell that shows an annotator, and close it at the end.

    Opening it is most of the time of a test: tests of a module share it.
    """
    path = write_notebook(lab[2] / f"{name}.ipynb", [cell])
    notebook = NotebookPage(page, lab, path.name)
    notebook.run_all()
    notebook.annotator().wait_ready()
    yield notebook
    notebook.close()
