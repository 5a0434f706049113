"""``python -m docs.publish`` writes the repository's address everywhere, and takes it back."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from docs import publish
from samjax.errors import SamjaxError

ROOT = Path(__file__).parents[2]
ADDRESS = "https://github.com/someone/segments"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that name the address, none of them published."""
    for path, _ in publish.pages(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    publish.publish(tmp_path, None)
    return tmp_path


def contents(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text("utf-8") for p, _ in publish.pages(root)}


def cells(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def test_every_file_gets_the_address_and_loses_it_again(checkout, capsys):
    before = contents(checkout)
    assert not any(ADDRESS in text for text in before.values())
    publish.main(["--repository", "someone/segments", "--root", str(checkout)])
    after = contents(checkout)
    assert [name for name, text in after.items() if ADDRESS not in text] == [
        "docs/howto/gpu_and_colab.md"  # which has Colab's address of it
    ]
    assert "github/someone/segments/blob/main/notebooks/" in after["docs/howto/gpu_and_colab.md"]
    assert f"{len(after)} files written; the address is {ADDRESS}" in capsys.readouterr().out
    assert publish.repository(checkout) == ADDRESS
    publish.main(["--repository", "someone/segments", "--root", str(checkout)])
    assert contents(checkout) == after
    publish.main(["--repository", "https://gitlab.com/a/b", "--root", str(checkout)])
    assert not any("someone" in text for text in contents(checkout).values())
    publish.main(["--clear", "--root", str(checkout)])
    assert contents(checkout) == before


def test_a_notebook_opens_on_colab_and_installs_from_the_repository(checkout):
    publish.publish(checkout, ADDRESS)
    for path in sorted((checkout / "notebooks").glob("*.ipynb")):
        first, *rest = cells(path)
        title, badge, *_ = first.split("\n\n")
        assert title.startswith("# ")
        assert badge.endswith(
            f"(https://colab.research.google.com/github/someone/segments/blob/main/notebooks/"
            f"{path.name})"
        )
        (install,) = (cell for cell in rest if publish.GUARD in cell)
        assert f'%pip install -q "git+{ADDRESS}"' in install


def test_an_unpublished_notebook_says_how_to_install(checkout):
    for path in sorted((checkout / "notebooks").glob("*.ipynb")):
        first, *rest = cells(path)
        assert "colab" not in first
        (install,) = (cell for cell in rest if publish.GUARD in cell)
        assert "pip install ." in install
        assert "wheel" in install


def test_other_hosts_have_no_colab_badge(checkout):
    publish.publish(checkout, "https://gitlab.com/group/sub/name")
    assert "colab.research" not in (checkout / "README.md").read_text("utf-8")
    urls = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert urls["Repository"] == "https://gitlab.com/group/sub/name"


@pytest.mark.parametrize(
    "given", ["", "name", "a/b/c", "http://github.com/a/b", "https://github.com/a", "a/b?x", "-/b"]
)
def test_what_is_no_address_is_refused(given, checkout):
    before = contents(checkout)
    with pytest.raises(SamjaxError, match="give OWNER/NAME"):
        publish.main([f"--repository={given}", "--root", str(checkout)])
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", "<!-- install -->", ""),
        ("pyproject.toml", "[project.scripts]", "[project.other]"),
        ("notebooks/01_quickstart.ipynb", 'find_spec(\\"samjax\\")', "nothing("),
    ],
)
def test_a_file_without_its_place_is_named_and_none_is_written(name, old, new, checkout):
    path = checkout / name
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    before = contents(checkout)
    with pytest.raises(SamjaxError, match=name):
        publish.publish(checkout, ADDRESS)
    assert contents(checkout) == before


def test_the_project_s_files_are_as_the_command_leaves_them():
    """Nothing would change if the command ran again with the address that is set."""
    for path, write in publish.pages(ROOT):
        text = path.read_text("utf-8")
        if path.suffix != ".ipynb":  # notebooks are saved by other programs, too
            assert write(path, text, publish.repository()) == text
