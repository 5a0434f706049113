"""Run the fenced Python and shell snippets of a Markdown page in order, as a reader would.

    python tests/support/snippets.py PAGE

runs them in the current folder. Python snippets share their variables, as the cells of a notebook
do; shell snippets stop at the first command that fails. It imports nothing of the checkout, so
that the snippets find what they install.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """Holds a fenced block: its language, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int


def snippets(page: str) -> list[Snippet]:
    """Return the Python and shell blocks of a page; blocks without a language are no snippets."""
    return [
        Snippet(found[1], found[2], page.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(page)
    ]


def run(snippet: Snippet, name: str, variables: dict[str, Any]) -> None:
    """Run one snippet; ``variables`` are those of the Python session.

    Raises:
        RuntimeError: a shell command failed.
    """
    print(f"--- {name}:{snippet.line} ({snippet.language})", flush=True)
    if snippet.language == "python":
        importlib.invalidate_caches()  # a shell snippet may have installed packages
        lines = "\n" * snippet.line  # errors name the line of the page
        exec(compile(lines + snippet.text, name, "exec"), variables)
        return
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", snippet.text], check=False)
    if done.returncode:
        raise RuntimeError(f"{name}:{snippet.line}: exit code {done.returncode}")


def run_page(page: Path, folder: Path, environment: Mapping[str, str]) -> str:
    """Run the snippets of a page in a process of their own, and return what they print.

    Raises:
        AssertionError: a snippet failed; with everything that was printed.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}: a snippet failed\n{done.stdout[-4000:]}"
    return done.stdout


def main(page: Path) -> None:
    """Run all snippets of a page in the current folder."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    for snippet in snippets(page.read_text("utf-8")):
        run(snippet, page.name, variables)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
