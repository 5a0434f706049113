"""Shapes and dtypes of all annotated arrays are checked; fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports samjax: every annotation of the package is checked from here on.
install_import_hook("samjax", "beartype.beartype")

from samjax.devices import COMPILATION_VARIABLE  # noqa: E402
from tests.models import DRAWN, PLAIN, drawn_image  # noqa: E402

_COMPILED = "/jax/core/compile/backend_compile_duration"


def pytest_configure(config: pytest.Config) -> None:
    """Compiled functions are kept with pytest's cache: shared by its workers, never the user's."""
    cache = config.rootpath / ".pytest_cache" / "compiled"
    os.environ.setdefault(COMPILATION_VARIABLE, str(cache))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Parity tests import torch, browser tests playwright, which other runs need not have.

    In a run that asks for them (``-m parity``, ``-m browser``) a missing one is an error, never
    a skip.
    """
    name, expression = collection_path.name, config.option.markexpr
    if name not in ("parity", "browser"):
        return None
    asked = f"not {name}" not in expression and (name in expression or not expression)
    return None if asked else True


class CompileCounter:
    """Listens to JAX and counts what XLA compiles."""

    def __init__(self) -> None:
        self.events = 0

    def __call__(self, event: str, duration: float, **_: object) -> None:
        if event == _COMPILED:
            assert duration >= 0  # "time saved" by compiled code that was kept may be negative
            self.events += 1


@pytest.fixture(scope="session")
def _counter() -> CompileCounter:
    import jax.monitoring

    counter = CompileCounter()
    jax.monitoring.register_event_duration_secs_listener(counter)
    return counter


class Compilations:
    """``count`` compilations since the fixture was asked for, or since ``reset``."""

    def __init__(self, counter: CompileCounter):
        self._counter = counter
        self.reset()

    def reset(self) -> None:
        self._start = self._counter.events

    @property
    def count(self) -> int:
        return self._counter.events - self._start


@pytest.fixture
def compilations(_counter: CompileCounter) -> Compilations:
    """A fresh count of XLA compilations."""
    return Compilations(_counter)


@pytest.fixture(scope="session")
def embedded():
    """The checkpoint that comes with the package, in float32."""
    import samjax

    return samjax.load()


@pytest.fixture(scope="session")
def small():
    """A small network with random weights and padded windows."""
    import samjax

    return samjax.load(PLAIN)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph of a person, 606 x 512 pixels, uint8 RGB."""
    import samjax

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return samjax.read_image(path)


@pytest.fixture
def predictor(embedded, photo) -> Iterator:
    """A predictor of the embedded checkpoint with the photograph set."""
    import samjax

    made = samjax.SamPredictor(embedded)
    made.set_image(photo)
    return made


@pytest.fixture(params=DRAWN)
def drawn(request: pytest.FixtureRequest) -> np.ndarray:
    """Drawn images: landscape, portrait, square and very small ones."""
    return drawn_image(*request.param)
