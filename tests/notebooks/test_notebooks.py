"""Run every notebook from top to bottom in its own kernel, and check the outputs it stores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from docs.publish import badge, repository
from notebooks.run import LIMIT, execute, main, notebooks, pictures

NOTEBOOKS = notebooks()
PICTURES = {"01_quickstart": 6, "04_your_checkpoint": 1, "06_under_the_bonnet": 6}
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def kinds(notebook: Any) -> list[tuple[str, int]]:
    """Return the type of each cell and the number of its pictures."""
    return [(c.cell_type, pictures(nbformat.from_dict({"cells": [c]}))) for c in notebook.cells]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel client
@by_name
def test_runs_and_shows_the_pictures_that_are_stored(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    made = execute(path, tmp_path)
    assert kinds(made) == kinds(stored), "store them anew: python -m notebooks.run"
    assert pictures(made) >= PICTURES.get(path.stem, 2)
    for old, new in zip(stored.cells, made.cells, strict=True):
        assert bool(old.get("outputs")) == bool(new.get("outputs"))


@by_name
def test_stored_outputs_are_complete_small_and_without_traces_of_a_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.encode()) < LIMIT
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom"
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    assert not [out for out in outputs if out.get("name") == "stderr"]
    assert "widgets" not in notebook.metadata
    assert not re.search(r"/root/|/home/|/tmp/|site-packages", text)


@by_name
def test_the_first_cells_say_what_it_is_and_how_to_install(path: Path) -> None:
    first, second, *_ = nbformat.read(path, as_version=4).cells
    assert first.source.startswith("# ")
    assert badge(repository(), path.name) in first.source  # empty before publishing
    assert 'find_spec("samjax") is None' in second.source
    assert "%pip install" in second.source
    assert "github.com/samjax" not in path.read_text("utf-8")  # an account that is not ours


def test_links_between_notebooks_lead_somewhere() -> None:
    assert len(NOTEBOOKS) == 7
    for path in NOTEBOOKS:
        for target in re.findall(r"\]\((\w+\.ipynb)\)", path.read_text("utf-8")):
            assert (path.parent / target).is_file()


def test_names_that_are_no_notebooks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["99"]) == 2
    assert "no notebook begins with 99: there are 01_quickstart.ipynb, " in capsys.readouterr().err
