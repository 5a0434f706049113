"""Start servers and one Chromium for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser.hosts import jupyter
from tests.support.browser.pages import watched

VIEWPORT = {"width": 1280, "height": 1000}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as needing Chromium."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Launch headless Chromium; if it is missing, tests fail and are not skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("no chromium on the PATH: install it (Debian: apt-get install chromium)")
    # As root, as in most containers, Chromium refuses to start with its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """Open a new page for one test."""
    with watched(chromium.new_context(viewport=VIEWPORT)) as page:
        yield page


@pytest.fixture(scope="module")
def module_page(chromium: Browser) -> Iterator[Page]:
    """Open a page that the tests of a file share."""
    with watched(chromium.new_context(viewport=VIEWPORT)) as page:
        yield page


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Start JupyterLab: yield its name, address and folder."""
    folder = tmp_path_factory.mktemp("lab")
    with jupyter("lab", folder) as address:
        yield "lab", address, folder


@pytest.fixture(scope="session")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Start Notebook 7: yield its name, address and folder."""
    folder = tmp_path_factory.mktemp("notebook")
    with jupyter("notebook", folder) as address:
        yield "notebook", address, folder
