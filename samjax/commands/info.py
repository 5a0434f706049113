"""Gather the rows of ``samjax info``: versions, devices, and whether a GPU lies idle."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from samjax import __version__
from samjax.checkpoint import download as hub
from samjax.checkpoint.models import MODELS

_PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
# The oldest drivers that JAX's wheels work with: docs.jax.dev, "Installing JAX".
_DRIVER_CUDA13, _DRIVER_CUDA12 = 580, 525
_PROC = Path("/proc/driver/nvidia/version")
_DEVICE = Path("/dev/nvidia0")


def info_rows() -> list[tuple[str, str]]:
    """Describe this installation as rows of (name, value), JAX's devices last."""
    rows = [("samjax", __version__), ("python", f"{platform.python_version()} ({sys.executable})")]
    rows += [(package, _version(package)) for package in _PACKAGES]
    rows += [
        ("platform", platform.platform()),
        ("compiled code", _compiled()),
        ("cache", _cache()),
    ]
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # a broken plugin raises what it likes
        return [*rows, ("devices", f"none, JAX does not start: {_first_line(error)}")]
    rows += [("device", f"{d.platform}:{d.id} {d.device_kind}{_memory(d)}") for d in devices]
    advice = idle_gpu(nvidia_driver(), {d.platform for d in devices})
    return [*rows, ("warning", advice)] if advice else rows


def _memory(device: Any) -> str:
    """Return a device's memory in words, and who may take it; "" where JAX does not tell."""
    from samjax.engine.devices import free_memory, images_at_once

    free = free_memory(device)
    if free is None:
        return ""
    limit = device.memory_stats()["bytes_limit"]
    held = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "").lower() not in ("0", "false")
    taken = "taken when JAX starts" if held else "taken as needed"
    return (
        f", {free / 1e9:.1f} of {limit / 1e9:.1f} GB free for JAX ({taken}; docs/gpu.md), "
        f"{images_at_once(device)} images at once"
    )


def _compiled() -> str:
    """Return the folder of compiled functions, in words."""
    from samjax.engine.devices import COMPILATION_VARIABLE, keep_compiled

    told = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = keep_compiled()
    return str(folder) if folder else told or f"not kept ({COMPILATION_VARIABLE} changes that)"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _cache() -> str:
    folder = hub.cache_folder()
    cached = [
        name for name, model in MODELS.items() if model.file and (folder / model.file).is_file()
    ]
    return f"{folder} ({', '.join(cached) or 'no downloads yet'})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nvidia_driver() -> str | None:
    """Return the NVIDIA driver's version, "" if a GPU does not tell, None without one."""
    try:
        if found := driver_version(_PROC.read_text()):
            return found
    except OSError:
        pass
    if tool := shutil.which("nvidia-smi"):
        query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            run = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            pass
        else:
            return run.stdout.strip().partition("\n")[0]
    return "" if _DEVICE.exists() else None


def driver_version(text: str) -> str | None:
    """Parse the version in the text of /proc/driver/nvidia/version."""
    match = re.search(r"Kernel Module\b.*?\s(\d+\.[\d.]+)", text)
    return match[1] if match else None


def idle_gpu(driver: str | None, platforms: Iterable[str]) -> str | None:
    """Return advice if there is an NVIDIA GPU and JAX uses the CPU only, else None."""
    if driver is None or set(platforms) != {"cpu"}:
        return None
    if chosen := os.environ.get("JAX_PLATFORMS"):
        return f"an NVIDIA GPU is here, but JAX uses the CPU: unset JAX_PLATFORMS ({chosen!r})"
    major = int(driver.split(".")[0]) if driver.split(".")[0].isdigit() else None
    named = f"NVIDIA driver {driver}" if driver else "an NVIDIA GPU"
    if major is not None and major < _DRIVER_CUDA12:
        return f"{named} is too old for JAX, which uses the CPU: update it to {_DRIVER_CUDA13}"
    extra = "cuda12" if major is not None and major < _DRIVER_CUDA13 else "cuda13"
    return f"{named} is here, but JAX uses the CPU: pip install 'samjax[{extra}]'"
