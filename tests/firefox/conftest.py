"""Start JupyterLab and Firefox as Debian packages it, which playwright drives by WebDriver BiDi."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, sync_playwright

from tests.support.browser.hosts import jupyter
from tests.support.browser.pages import watched

VIEWPORT = {"width": 1280, "height": 1000}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as needing Firefox."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.firefox)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Start JupyterLab: yield its name, address and folder."""
    folder = tmp_path_factory.mktemp("lab")
    with jupyter("lab", folder) as address:
        yield "lab", address, folder


@pytest.fixture(scope="module")
def module_page() -> Iterator[Page]:
    """Open a page in headless Firefox; if it cannot be, tests fail and are not skipped."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.fail("no firefox on the PATH: install it (Debian: apt-get install firefox-esr)")
    with sync_playwright() as playwright:
        browser = playwright.firefox.launch(channel="moz-firefox", executable_path=path)
        try:
            context = browser.new_context(viewport=VIEWPORT)
        except Error as error:
            pytest.fail(f"{error}: pip install 'samjax[firefox]' has a playwright that fits")
        with watched(context) as page:
            yield page
        browser.close()
