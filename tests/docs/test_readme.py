"""The README's snippets run in order, from the wheel that its first command builds."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from samjax.engine.devices import COMPILATION_VARIABLE
from tests.support.snippets import run_page, snippets

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A scratch folder with what the README's first command needs of a checkout."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    shutil.copytree(ROOT / "samjax", tmp_path / "samjax", ignore=ignored)
    return tmp_path


def reader_environment(folder: Path) -> dict[str, str]:
    """The environment of a reader whose ``pip install .`` needs no network.

    pip builds the wheel of the scratch folder for real, with the build backend that is installed
    here, and unpacks it into a folder of its own, from which commands and imports come.
    """
    installed = folder / "installed"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTEST_"))}
    return {
        **kept,
        "PIP_TARGET": str(installed),
        "PIP_UPGRADE": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # the value is that of build_isolation: off
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONPATH": str(installed),
        "PYTHONSAFEPATH": "1",  # else python finds the sources of the scratch folder first
        "PATH": os.pathsep.join(
            [str(installed / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        COMPILATION_VARIABLE: os.environ[COMPILATION_VARIABLE],
        "MPLBACKEND": "agg",
    }


def test_every_snippet_runs_in_order(checkout: Path) -> None:
    said = run_page(README, checkout, reader_environment(checkout))
    assert len(re.findall(r"^--- README.md:\d+ ", said, re.MULTILINE)) == len(
        snippets(README.read_text("utf-8"))
    )
    assert (checkout / "installed" / "samjax" / "weights" / "tiny_448.safetensors").is_file()
    assert (checkout / "samjax-demo" / "demo.png").is_file()
    assert (checkout / "clicked" / "photo_mask_1.png").is_file()
    # Thresholds of the README are for the embedded checkpoint: there are masks to see.
    found = json.loads((checkout / "masks" / "annotations.json").read_text("utf-8"))
    assert len(found["annotations"]) >= 5
    assert (checkout / "annotations" / "coco.json").is_file()


def test_the_snippets_are_those_of_a_short_page() -> None:
    text = README.read_text("utf-8")
    languages = [one.language for one in snippets(text)]
    assert languages.index("bash") == 0
    assert languages[1] == "python"
    assert "Annotator" in snippets(text)[1].text  # the annotator comes first
    assert text.count("```") == 2 * len(languages)  # every block is run
    assert len(text.split()) < 850


def test_links_lead_to_files_of_the_checkout() -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", README.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (ROOT / target.partition("#")[0]).exists(), target
