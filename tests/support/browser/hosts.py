"""Start notebook servers on a free port, each with its own folder, settings and kernels."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
START_SECONDS = 90
TOKEN = "samjax"


def free_port() -> int:
    """Find a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def jupyter(app: str, folder: Path) -> Iterator[str]:
    """Serve ``folder`` in JupyterLab ("lab") or Notebook 7 ("notebook"), and yield the address.

    Nothing of the user's own settings is read or written. The page gets ``window.jupyterapp``,
    through which tests run the application's commands by name.
    """
    home = folder / ".jupyter"
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    port = free_port()
    name = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[app]
    module = {"lab": "jupyterlab", "notebook": "notebook"}[app]
    command = [
        *(sys.executable, "-m", module, "--no-browser", "--allow-root"),
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        f"--{name}.expose_app_in_browser=True",
        f"--{name}.user_settings_dir={home / 'settings'}",
        f"--{name}.workspaces_dir={home / 'workspaces'}",
        "--LabApp.extension_manager=readonly",
    ]
    own = {"JUPYTER_CONFIG_DIR": home, "JUPYTER_RUNTIME_DIR": home, "IPYTHONDIR": home / "ipython"}
    address = f"http://127.0.0.1:{port}"
    with _serving(command, folder, own, f"{address}/api/status?token={TOKEN}"):
        yield address


@contextmanager
def marimo(notebook: Path) -> Iterator[str]:
    """Run a file as a marimo application and yield its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "marimo", "run", str(notebook)),
        *("--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)),
    ]
    own = {"XDG_CONFIG_HOME": notebook.parent / ".config", "MARIMO_SKIP_UPDATE_CHECK": "1"}
    address = f"http://127.0.0.1:{port}"
    with _serving(command, notebook.parent, own, f"{address}/health"):
        yield address


@contextmanager
def _serving(
    command: Sequence[str], folder: Path, own: dict[str, object], health: str
) -> Iterator[None]:
    environment = {**os.environ, **{key: str(value) for key, value in own.items()}}
    # The kernels import the samjax that is tested, installed or not.
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part
    )
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(server, health, log)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen, health: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
