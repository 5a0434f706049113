"""What depends on the machine: devices, dtypes, how work is cut, where compiled code is kept.

Environment:
    SAMJAX_COMPILATION_CACHE: folder for compiled functions, or "off". Unset: below the user's
        cache folder, unless JAX was already told where (JAX_COMPILATION_CACHE_DIR).
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from samjax.checkpoint.hub import cache_folder
from samjax.errors import DeviceError
from samjax.model.attention import ACCELERATOR_CHUNKS, CPU_CHUNKS, Chunks, fused_attention

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
PRECISIONS = ("highest", "high", "default")
COMPILATION_VARIABLE = "SAMJAX_COMPILATION_CACHE"
# Compilations that take less are done again. JAX's own second would leave out most of SAM's.
_WORTH_KEEPING_SECONDS = 0.1
# Head widths, relative positions included, that fused attention is tried with, largest first:
# global blocks of ViT-H and ViT-B/L, windows of ViT-H and ViT-B/L.
_FUSED_WIDTHS = (208, 192, 112, 96)


def choose_device(device: str | jax.Device | None) -> jax.Device:
    """The device of that name: "cpu", "gpu", "tpu", "gpu:1"; None: JAX's first.

    Raises:
        DeviceError: JAX has no such device here.
    """
    if device is None:
        try:
            return jax.devices()[0]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"JAX finds no device ({reason}): check JAX_PLATFORMS and your drivers"
            ) from None
    if not isinstance(device, str):
        return device
    name, _, index = device.partition(":")
    try:
        return jax.devices(name)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        raise DeviceError(
            f"no device {device!r} here: JAX sees {found}; choose one of these, or install "
            "JAX for your accelerator (pip install 'samjax[cuda13]')"
        ) from None


def choose_devices(device: str | jax.Device | Sequence[jax.Device] | None) -> list[jax.Device]:
    """As choose_device; besides "all", all of JAX's first platform, or a list of devices.

    Raises:
        DeviceError: JAX has no such device here, or an empty list.
    """
    if device == "all":
        return list(jax.devices(choose_device(None).platform))
    if device is None or isinstance(device, (str, jax.Device)):
        return [choose_device(device)]
    chosen = list(device)
    if not chosen:
        raise DeviceError('an empty list of devices: give at least one, or "all"')
    return chosen


def choose_dtype(dtype: str | np.dtype | type, device: jax.Device | None = None) -> np.dtype:
    """The dtype of that name; "auto" is the fastest that ``device``, if given, is good at.

    Raises:
        DeviceError: not one of float32, bfloat16, float16 (or auto).
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name == "auto" and device is not None:
        name = automatic_dtype(device)
    if name not in DTYPES:
        known = [*DTYPES] if device is None else ["auto", *DTYPES]
        raise DeviceError(f"dtype {name!r} is not supported: use {', '.join(known)}")
    return np.dtype(DTYPES[name])


def automatic_dtype(device: Any) -> str:
    """bfloat16 on TPUs and on NVIDIA from Ampere on, float16 on Volta and Turing, else float32.

    On a CPU bfloat16 is faster, too (``dtype="bfloat16"``), but there the official numbers go
    first.
    """
    if device.platform == "tpu":
        return "bfloat16"
    capability = compute_capability(device)
    if capability >= (8, 0):
        return "bfloat16"
    return "float16" if capability >= (7, 0) else "float32"


def compute_capability(device: Any) -> tuple[int, int]:
    """(8, 0) of an A100, (9, 0) of an H100; (0, 0) of everything that is not NVIDIA's."""
    try:
        major, _, minor = str(device.compute_capability).partition(".")
        return int(major), int(minor)
    except (AttributeError, ValueError):  # a CPU has none, and AMD's is "gfx90a"
        return 0, 0


def chunks_for(device: Any, dtype: np.dtype) -> Chunks:
    """How to cut the network's work on that device."""
    if device.platform == "cpu":
        return CPU_CHUNKS
    if compute_capability(device) >= (8, 0) and dtype != np.float32:
        return replace(ACCELERATOR_CHUNKS, fused_width=_widest_fused(device, dtype.name))
    return ACCELERATOR_CHUNKS


@lru_cache
def _widest_fused(device: Any, dtype: str) -> int:
    """The largest head width that the fused attention takes here; 0 if it does not run at all.

    Tried, not looked up: it depends on the GPU, on cuDNN's version and on JAX's.
    """
    for width in _FUSED_WIDTHS:
        x = jax.device_put(np.zeros((1, 256, 1, width), DTYPES[dtype]), device)
        try:
            jax.block_until_ready(jax.jit(fused_attention)(x, x, x))
        except Exception:  # every layer of the stack has its own kind
            continue
        return width
    return 0


def keep_compiled() -> Path | None:
    """Let JAX keep compiled functions on disk, so that the next process does not compile them.

    Returns the folder that samjax chose; None where SAMJAX_COMPILATION_CACHE is "off", where JAX
    was already told what to do, or where the folder cannot be made. The setting is JAX's and
    concerns everything that this process compiles from then on.
    """
    chosen = os.environ.get(COMPILATION_VARIABLE)
    settings = jax.config.values
    if chosen == "off" or settings["jax_compilation_cache_dir"] is not None:
        return None
    folder = Path(chosen).expanduser() if chosen else cache_folder() / "compiled"
    folder = folder / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None  # a read-only home must not keep anybody from working
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if settings["jax_persistent_cache_min_compile_time_secs"] == 1.0:  # JAX's default
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_SECONDS)
    return folder


def _machine() -> str:
    """Names the processor: code compiled for one may not run on another that shares the home."""
    known = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        known += [next((x for x in lines if x.lower().startswith(("flags", "features"))), "")]
    return f"{platform.machine()}-{hashlib.sha256(repr(known).encode()).hexdigest()[:12]}"
