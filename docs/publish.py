"""Write the address of the project's repository into every file that names it.

    python -m docs.publish --repository OWNER/NAME      # of GitHub
    python -m docs.publish --repository https://gitlab.com/OWNER/NAME
    python -m docs.publish --clear                      # no address: install from a checkout

Until it has run, no file names an address. It writes pyproject.toml (project.urls, from which the
site takes its links), CITATION.cff, README.md, the page on GPU and Colab, and the first two cells
of each notebook: a badge that opens it on Colab, and the cell that installs samjax there. Running
it again changes the address; a second run with the same address changes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.commands import exit_code
from samjax.errors import SamjaxError
from samjax.files import replacing

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "main"
GUARD = 'find_spec("samjax") is None'  # marks the cell that installs samjax
COLAB = "https://colab.research.google.com"
BADGE = re.compile(r"\n*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*")
PLAIN = """\
# Installs samjax where it is missing, as on Colab: upload the wheel beside this notebook, which
# `pip wheel --no-deps .` makes in a checkout. On your own machine run `pip install .` there.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("samjax") is None:
    wheels = sorted(Path().glob("samjax-*.whl"))
    assert wheels, "samjax is not installed: upload its wheel beside this notebook, run this again"
    %pip install -q {wheels[-1]}"""
PUBLISHED = """\
# Installs samjax where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("samjax") is None:
    %pip install -q "git+{address}\""""


def repository(root: Path = ROOT) -> str | None:
    """Return the address that pyproject.toml names, or None before publishing."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def full_address(given: str) -> str:
    """Return the https address of OWNER/NAME (of GitHub) or of a full address.

    Raises:
        SamjaxError: neither of both.
    """
    text = given.strip().removesuffix("/").removesuffix(".git")
    if re.fullmatch(r"[A-Za-z0-9][\w-]*/[\w.-]+", text):
        return f"https://github.com/{text}"
    parts = urlsplit(text)
    plain = re.fullmatch(r"(/[\w.-]+){2,}", parts.path) and not (parts.query or parts.fragment)
    if parts.scheme == "https" and re.fullmatch(r"[\w.-]+\.\w+", parts.netloc) and plain:
        return text
    raise SamjaxError(
        f"--repository {given}: give OWNER/NAME, or a full address such as "
        "https://gitlab.com/OWNER/NAME"
    )


def colab(address: str, notebook: str) -> str | None:
    """Return the address that opens a notebook on Colab, which reads GitHub alone."""
    parts = urlsplit(address)
    if parts.netloc != "github.com":
        return None
    return f"{COLAB}/github{parts.path}/blob/{BRANCH}/notebooks/{notebook}"


def badge(address: str | None, notebook: str) -> str:
    """Return the Markdown of the Colab badge, empty without an address that Colab can open."""
    target = colab(address, notebook) if address else None
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({target})" if target else ""


def in_notebook(path: Path, text: str, address: str | None) -> str:
    """Write badge and install cell of a notebook.

    Raises:
        SamjaxError: the notebook has no title or no install cell.
    """
    notebook = json.loads(text)
    first = notebook["cells"][0]
    install = [c for c in notebook["cells"] if GUARD in "".join(c["source"])]
    if not "".join(first["source"]).startswith("# ") or len(install) != 1:
        raise SamjaxError(f"begin with a cell '# Title', and with one cell that asks {GUARD}")
    title, _, rest = BADGE.sub("\n\n", "".join(first["source"])).partition("\n")
    parts = [title, badge(address, path.name), rest.strip("\n")]
    _set_source(first, "\n\n".join(part for part in parts if part))
    _set_source(install[0], PUBLISHED.format(address=address) if address else PLAIN)
    install[0]["metadata"]["tags"] = ["remove-cell"]  # the site does not show it
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _set_source(cell: dict, text: str) -> None:
    cell["source"] = text.splitlines(keepends=True)


def between(text: str, marker: str, content: str) -> str:
    """Replace the lines between ``<!-- marker -->`` and ``<!-- /marker -->``.

    Raises:
        SamjaxError: the markers are missing.
    """
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if not re.search(rf"{start}.*?{end}", text, re.DOTALL):
        raise SamjaxError(f"no lines {start} and {end}: put them back")
    lines = "\n".join([start, content, end] if content else [start, end])
    return re.sub(rf"{start}.*?{end}", lambda _: lines, text, flags=re.DOTALL)


def in_readme(_: Path, text: str, address: str | None) -> str:
    """Write the badge and the install line of README.md."""
    text = between(text, "badges", badge(address, "01_quickstart.ipynb"))
    line = f'Without a checkout: `pip install "git+{address}"`.' if address else ""
    return between(text, "install", line)


def in_colab_page(path: Path, text: str, address: str | None) -> str:
    """Write the badges of all notebooks on the page on GPU and Colab."""
    names = [one.name for one in sorted((path.parents[2] / "notebooks").glob("*.ipynb"))]
    badges = {name: badge(address, name) for name in names}
    lines = [f"- `{name}` {mark}" for name, mark in badges.items() if mark]
    return between(text, "badges", "\n".join(lines))


def in_pyproject(_: Path, text: str, address: str | None) -> str:
    """Write the table project.urls of pyproject.toml."""
    text = re.sub(r"\[project\.urls\]\n(?:[^\[\n].*\n)*\n", "", text)
    if not address:
        return text
    lines = f'[project.urls]\nRepository = "{address}"\nIssues = "{address}/issues"\n\n'
    if "[project.scripts]" not in text:
        raise SamjaxError("pyproject.toml has no [project.scripts]: put it back")
    return text.replace("[project.scripts]", f"{lines}[project.scripts]", 1)


def in_citation(_: Path, text: str, address: str | None) -> str:
    """Write the address of CITATION.cff."""
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.MULTILINE)
    return text.rstrip("\n") + "\n" + (f'repository-code: "{address}"\n' if address else "")


Writer = Callable[[Path, str, str | None], str]


def pages(root: Path) -> Iterator[tuple[Path, Writer]]:
    """Yield each file that names the address, with the function that writes it."""
    yield root / "pyproject.toml", in_pyproject
    yield root / "CITATION.cff", in_citation
    yield root / "README.md", in_readme
    yield root / "docs" / "howto" / "gpu_and_colab.md", in_colab_page
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        yield path, in_notebook


def publish(root: Path, address: str | None) -> list[Path]:
    """Write an address, or none, into all files of a checkout; return those that changed.

    Raises:
        SamjaxError: a file has lost its markers; no file is written then.
    """
    made = {}
    for path, write in pages(root):
        before = path.read_text("utf-8")
        try:
            after = write(path, before, address)
        except SamjaxError as error:
            raise SamjaxError(f"{path.relative_to(root)}: {error}") from None
        if after != before:
            made[path] = after
    for path, after in made.items():
        with replacing(path) as temporary:
            temporary.write_text(after, "utf-8")
    return list(made)


def main(arguments: list[str] | None = None) -> None:
    """Publish under the address that the command line gives."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.publish", description=(__doc__ or "").split("\n\n")[0]
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--repository", metavar="OWNER/NAME", help="of GitHub, or a full address")
    choice.add_argument("--clear", action="store_true", help="remove the address everywhere")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    address = None if given.clear else full_address(given.repository)
    changed = publish(given.root, address)
    for path in changed:
        print(f"wrote {path.relative_to(given.root)}")
    print(f"{len(changed)} files written; the address is {address or 'none'}")


if __name__ == "__main__":
    exit_code(main)
