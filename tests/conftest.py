"""Check the shapes and dtypes of all annotated arrays, and define fixtures for many tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports samjax: every annotation of the package is checked from here on.
install_import_hook("samjax", "beartype.beartype")

from samjax.engine.devices import COMPILATION_VARIABLE  # noqa: E402
from tests.support.hub_server import HubServer  # noqa: E402
from tests.support.models import DRAWN, PLAIN, drawn_image  # noqa: E402

_COMPILED = "/jax/core/compile/backend_compile_duration"


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled functions in pytest's cache, shared by its workers, never in the user's."""
    cache = config.rootpath / ".pytest_cache" / "compiled"
    os.environ.setdefault(COMPILATION_VARIABLE, str(cache))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the groups whose packages other runs need not have.

    In a run that selects one (``-m parity``, ``-m firefox``, ...) a missing package (torch,
    playwright, Sphinx, Ray) is an error, never a skip.
    """
    name, expression = collection_path.name, config.option.markexpr
    if name not in ("parity", "browser", "firefox", "site", "ray"):
        return None
    asked = f"not {name}" not in expression and (name in expression or not expression)
    return None if asked else True


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse connections to other machines: no test may touch the network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Start a hub on the loopback, with empty caches of its own and nobody logged in."""
    import huggingface_hub.constants as constants

    server = HubServer()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SAMJAX_MIRROR", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("SAMJAX_CACHE", str(tmp_path / "cache"))
    # What huggingface_hub read when it was imported
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    yield server
    server.close()


class CompileCounter:
    """Listens to JAX and counts the compilations of XLA."""

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
    """Counts compilations since the fixture was requested, or since ``reset``."""

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
    """Start a new count of XLA compilations."""
    return Compilations(_counter)


@pytest.fixture(scope="session")
def embedded():
    """Load the checkpoint that comes with the package, in float32."""
    import samjax

    return samjax.load()


@pytest.fixture(scope="session")
def small():
    """Build a small network with random weights and padded windows."""
    import samjax

    return samjax.load(PLAIN)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """Read a photograph of a person, 606 x 512 pixels, uint8 RGB."""
    import samjax

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return samjax.read_image(path)


@pytest.fixture
def predictor(embedded, photo) -> Iterator:
    """Make a predictor of the embedded checkpoint with the photograph set."""
    import samjax

    made = samjax.SamPredictor(embedded)
    made.set_image(photo)
    return made


@pytest.fixture(params=DRAWN)
def drawn(request: pytest.FixtureRequest) -> np.ndarray:
    """Draw landscape, portrait, square and very small images."""
    return drawn_image(*request.param)
