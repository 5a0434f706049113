"""Every notebook runs from top to bottom, in a kernel of its own, on the embedded checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"01_quickstart": 6, "04_your_checkpoint": 1, "06_under_the_bonnet": 5}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel client
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel imports the samjax that is tested, installed or not.
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # else no figure is shown in the notebook
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    noise = [out for out in outputs if out.get("name") == "stderr" or out.output_type == "error"]
    assert not noise
    assert sum("image/png" in out.get("data", {}) for out in outputs) >= PICTURES.get(path.stem, 2)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_on_colab_and_installs_only_where_it_must(path: Path) -> None:
    first, second, *_ = nbformat.read(path, as_version=4).cells
    assert first.source.startswith("# ")
    assert f"colab.research.google.com/github/samjax/samjax/blob/main/notebooks/{path.name}" in (
        first.source
    )
    assert 'find_spec("samjax") is None' in second.source
    assert "%pip install" in second.source


def test_links_between_notebooks_lead_somewhere() -> None:
    assert len(NOTEBOOKS) == 6
    for path in NOTEBOOKS:
        for target in re.findall(r"\]\((\w+\.ipynb)\)", path.read_text("utf-8")):
            assert (path.parent / target).is_file()
