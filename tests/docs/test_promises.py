"""Test that every promise names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("promises*.md"))


def promises(page: Path) -> list[tuple[str, str]]:
    """The (promise, tests) of each row of the page's tables."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in rows if row[0] not in ("promise", "---")]


def test_there_are_promises():
    assert sum(len(promises(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_promise_names_tests_that_exist(page: Path):
    for promise, tests in promises(page):
        named = re.findall(r"`([^`]*)`", tests)
        assert named, promise
        file = ""
        for name in named:
            path, _, function = name.partition("::")
            file = path or file
            assert (ROOT / file).exists(), f"{promise}: {file}"
            if function:
                text = (ROOT / file).read_text(encoding="utf-8")
                assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{promise}: {name}"
            else:
                assert file.startswith("tests/"), name
