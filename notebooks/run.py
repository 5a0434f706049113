"""Run the notebooks from top to bottom and store their outputs: ``python -m notebooks.run``.

    python -m notebooks.run                 # all of them
    python -m notebooks.run 01 06           # those whose names begin so

Each runs in a kernel of its own, in an empty folder. Stored pictures are JPEG where that is
smaller, state of widgets and addresses of this machine are left out, and nothing is stored
if a cell fails or writes to stderr.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
LIMIT = 1_500_000  # bytes of a stored notebook
_WIDGET = "application/vnd.jupyter.widget-view+json"
_OVERWRITTEN = re.compile(r"[^\n]*\r")  # states of a progress bar
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def notebooks() -> list[Path]:
    """Return the paths of the notebooks, sorted."""
    return sorted(HERE.glob("*.ipynb"))


def execute(path: Path, folder: Path) -> Any:
    """Return a notebook that was run from top to bottom in ``folder``, with outputs to store.

    Args:
        path: of the notebook; the file stays as it is.
        folder: working folder of the kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        RuntimeError: a cell wrote to stderr.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel imports the samjax beside these notebooks, installed or not.
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "MPLBACKEND")}
    parts = (str(HERE.parent), before["PYTHONPATH"])
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in parts if part)
    os.environ.pop("MPLBACKEND", None)  # else no figure is shown in the notebook
    try:
        NotebookClient(
            notebook,
            timeout=900,
            kernel_name="python3",
            store_widget_state=False,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}: a cell wrote to stderr: {output['text'][:500]}")
            _shrink(output)
    return notebook


def pictures(notebook: Any) -> int:
    """Return the number of pictures among the outputs of a notebook."""
    kinds = {"image/png", "image/jpeg"}
    outputs = (out for cell in notebook.cells for out in cell.get("outputs", []))
    return sum(bool(kinds & set(output.get("data", {}))) for output in outputs)


def _shrink(output: Any) -> None:
    """Store a picture as JPEG where that is smaller, and nothing that needs this kernel."""
    if output.output_type == "stream":
        text = _ESCAPES.sub("", output["text"].replace("\r\n", "\n"))
        output["text"] = _OVERWRITTEN.sub("", text)
    data = output.get("data", {})
    data.pop(_WIDGET, None)
    if "image/png" not in data:
        return
    data.pop("image/jpeg", None)  # Pillow offers both; this one is made below, at one quality
    png = base64.b64decode(data["image/png"])
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "JPEG", quality=85, optimize=True)
    if len(file.getvalue()) < len(png):
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(file.getvalue()).decode("ascii")
        output.metadata.pop("image/png", None)


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks that are named, or all, and store their outputs."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.run", description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 01; all if none")
    names = parser.parse_args(arguments).names
    chosen = [path for path in notebooks() if not names or path.name.startswith(tuple(names))]
    if not chosen:
        known = ", ".join(path.name for path in notebooks())
        print(f"no notebook begins with {', '.join(names)}: there are {known}", file=sys.stderr)
        return 2
    for path in chosen:
        with tempfile.TemporaryDirectory() as folder:
            made = execute(path, Path(folder))
        text = nbformat.writes(made) + "\n"
        if len(text.encode()) > LIMIT:
            size = len(text.encode()) / 1e6
            print(f"{path.name}: {size:.1f} MB with outputs, at most 1.5", file=sys.stderr)
            return 1
        path.write_text(text, "utf-8")
        print(f"{path.name}: {pictures(made)} pictures, {len(text.encode()) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
