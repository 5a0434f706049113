"""The site builds without a warning, its links lead somewhere, and it has every public name."""

from __future__ import annotations

import importlib
import pkgutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

import samjax


class Page(HTMLParser):
    """Collects the targets and the anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if value and (name == "src" or (name == "href" and tag in ("a", "link"))):
                self.links.append(value)


def test_links_lead_to_pages_and_places_of_the_site(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 25
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
                continue
            anchors = pages[target].anchors if target in pages else set()
            if parts.fragment and target in pages and unquote(parts.fragment) not in anchors:
                broken.append(f"{path.name}: {link} (no such place)")
    assert not broken


def public_names() -> list[tuple[str, str]]:
    """Package and name of everything that the package and its parts export."""
    packages = ["samjax"]
    for found in pkgutil.iter_modules(samjax.__path__, "samjax."):
        if found.ispkg and not found.name.endswith("commands"):
            packages.append(found.name)
    assert {"samjax.masks", "samjax.annotations", "samjax.widget"} <= set(packages)
    return [
        (package, name)
        for package in packages
        for name in getattr(importlib.import_module(package), "__all__", ())
    ]


@pytest.fixture(scope="session")
def documented(site: Path) -> set[str]:
    """Full names of the reference, and the objects behind them."""
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda _, name: name)
    return {
        name
        for kind, names in inventory.items()
        if kind.startswith("py:") and kind != "py:module"
        for name in names
    }


def test_the_reference_has_every_public_name(documented: set[str]) -> None:
    objects = set()
    for full in documented:
        package, _, name = full.rpartition(".")
        try:
            objects.add(id(getattr(importlib.import_module(package), name)))
        except (ModuleNotFoundError, AttributeError):
            continue  # a member of a class
    lacking = [
        f"{package}.{name}"
        for package, name in public_names()
        if f"{package}.{name}" not in documented
        and id(getattr(importlib.import_module(package), name)) not in objects
    ]
    assert not lacking, "add them to docs/reference"


def test_every_error_is_in_the_reference(documented: set[str]) -> None:
    errors = importlib.import_module("samjax.errors")
    names = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert {f"samjax.errors.{n}" for n in names} <= documented | {"samjax.errors.SamjaxError"}


def test_notebooks_and_figures_are_in_it(site: Path) -> None:
    notebooks = sorted(path.stem for path in (site / "gallery").glob("0*.html"))
    assert len(notebooks) >= 6
    numbers = (site / "numbers.html").read_text("utf-8")
    assert numbers.count("<svg") + numbers.count(".svg") >= 6
    assert "<details>" in numbers
    assert "official PyTorch" in numbers  # the tables are rendered, not swallowed as comments
