"""Describe the machine, the versions of libraries and the commit of a result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import samjax
from benchmarks.speed.pool import available_mb
from benchmarks.speed.process import ROOT
from benchmarks.speed.task import cores

LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "torch",
    "segment-anything",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "keras",
    "keras-hub",
)


def cpu_name() -> str:
    """Return the CPU's name with the instruction sets that kernels depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", "")).split()
    wide = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if f in flags]
    model = fields.get("model name", platform.machine())
    numbers = "/".join(fields.get(k, "?") for k in ("cpu family", "model"))
    return f"{model} (family/model {numbers}; {', '.join(wide) or 'no wide units'})"


def memory_gb() -> float | None:
    """Return the machine's memory in 10^9 bytes, or None if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of samjax, Python and the installed LIBRARIES."""
    found = {"samjax": samjax.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git(*arguments: str) -> str | None:
    """Run git on this checkout and return its output, or None where git fails."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def commit() -> str | None:
    """Return the commit, with "+" if files differ from it."""
    name = git("rev-parse", "--short", "HEAD")
    return name and name + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))


def machine(device: jax.Device) -> dict[str, Any]:
    """Describe this computer and its load before the run."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_name(),
        "cores used": cores(),
        "memory, GB": memory_gb() and round(memory_gb() or 0, 1),
        "memory available, MB": available_mb() and round(available_mb() or 0),
        "device": device.device_kind,
        "os": platform.platform(),
        "load average before": load and [round(x, 2) for x in load],
    }


def surroundings() -> dict[str, Any]:
    """Return what the benchmarks of the annotator were measured with, and when."""
    return {
        "model": repr(samjax.load()),
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()})",
        "versions": versions(),
        "date": date.today().isoformat(),
    }
