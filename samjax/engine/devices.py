"""Choose devices, dtypes, chunks of work and the compilation cache for this machine.

Environment:
    SAMJAX_COMPILATION_CACHE: folder for compiled functions, or "off". Unset: below the user's
        cache folder, unless JAX's own setting names one (JAX_COMPILATION_CACHE_DIR).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from samjax.arguments import shown
from samjax.checkpoint.download import cache_folder
from samjax.errors import DeviceError
from samjax.files import given_path
from samjax.model.attention import (
    ACCELERATOR_CHUNKS,
    CPU_CHUNKS,
    Chunks,
    attend_added,
    fused_attention,
)
from samjax.model.pallas_attention import attend_pallas

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
DeviceChoice: TypeAlias = str | jax.Device | Sequence[str | jax.Device] | None
PRECISIONS = ("highest", "high", "default")
ATTENTIONS = ("auto", "pallas")
_ALIASES = {"gpu": ("cuda", "rocm"), "cuda": ("gpu",), "rocm": ("gpu",)}


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        DeviceError: not one of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"precision {precision!r} is not known: use {', '.join(PRECISIONS)}")


def check_attention(attention: str) -> None:
    """Refuse an unknown implementation of attention.

    Raises:
        DeviceError: not one of ``ATTENTIONS``.
    """
    if attention not in ATTENTIONS:
        raise DeviceError(f"attention {shown(attention)} is not known: use {', '.join(ATTENTIONS)}")


COMPILATION_VARIABLE = "SAMJAX_COMPILATION_CACHE"
# Faster compilations are not kept. JAX's own limit of a second would leave out most of SAM's.
_WORTH_KEEPING_SECONDS = 0.1
# Head widths, relative positions included, that fused attention is tried with, largest first:
# global blocks of ViT-H and ViT-B/L, windows of ViT-H and ViT-B/L.
_FUSED_WIDTHS = (208, 192, 112, 96)
# Images that an accelerator encodes at once: enough to keep it busy.
_BATCH = 8
# Memory of one of them: 0.21 GB (ViT-B) to 0.29 GB (ViT-H) in XLA's account, and its results.
_IMAGE_BYTES = 2**29


_process: int | None = None  # that first asked JAX for a device


def remember_process() -> None:
    """Remember that JAX runs in this process."""
    global _process
    _process = _process or os.getpid()


def check_process() -> None:
    """Refuse to go on in a child that was forked when JAX was running.

    Raises:
        DeviceError: a fork takes none of JAX's threads along; the child would wait for ever.
    """
    if _process is not None and _process != os.getpid():
        raise DeviceError(
            "this process was forked after JAX had started, and would wait for ever for JAX's "
            'threads, which stayed behind: use multiprocessing.get_context("spawn"), a loaded '
            "model can be pickled; or call samjax.load in the children only"
        )


def choose_device(device: str | jax.Device | None) -> jax.Device:
    """Return the device of a name ("cpu", "gpu", "tpu", "gpu:1"); None gives JAX's first.

    Raises:
        DeviceError: JAX has no such device here.
    """
    check_process()
    remember_process()
    if device is None:
        try:
            return jax.devices()[0]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"JAX finds no device ({reason}): check JAX_PLATFORMS and your drivers"
            ) from None
    if isinstance(device, jax.Device):
        return device
    if not isinstance(device, str):
        raise DeviceError(f"device is {shown(device)}: pass a name or a jax.Device")
    name, _, index = device.partition(":")
    try:
        return jax.devices(name)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        raise DeviceError(
            f"no device {device!r} here: JAX sees {found}; choose one of these, or install "
            "JAX for your accelerator (pip install 'samjax[cuda13]')"
        ) from None


def check_same_device(device: Any, dtype: Any, current: jax.Device) -> None:
    """Refuse the arguments of PyTorch's ``to`` that would move or cast the model.

    Args:
        device: a name as PyTorch's or JAX's, an object whose text is one, or None.
        dtype: anything but None is refused.
        current: device of the weights.

    Raises:
        DeviceError: another device, or a dtype.
    """
    text = str(device)
    kind = re.search(r"b?float\d+|half", f"{text} {dtype}")
    if dtype is not None or kind:
        name = kind.group().replace("half", "float16") if kind else str(dtype)
        raise DeviceError(
            f"the dtype is chosen while loading: write samjax.load(..., dtype={name!r})"
        )
    if device is None or device == current:
        return
    name, _, index = text.partition(":")
    name = {"cuda": "gpu"}.get(name, name)
    if name not in (current.platform, *_ALIASES.get(current.platform, ())) or (
        index and int(index) != current.id
    ):
        wanted = f"{name}:{index}" if index else name
        raise DeviceError(
            f"the weights are on {current}: the device is chosen while loading, write "
            f"samjax.load(..., device={wanted!r})"
        )


def choose_devices(device: DeviceChoice) -> list[jax.Device]:
    """Return the devices of a name, of "all" (JAX's first platform) or of a list of devices.

    Raises:
        DeviceError: JAX has no such device here, or an empty list.
    """
    if device == "all":
        return list(jax.devices(choose_device(None).platform))
    if device is None or isinstance(device, (str, jax.Device)):
        return [choose_device(device)]
    if not isinstance(device, Iterable):
        raise DeviceError(f"device is {shown(device)}: pass a name, a jax.Device or a list")
    chosen = [choose_device(one) for one in device]
    if not chosen:
        raise DeviceError('an empty list of devices: give at least one, or "all"')
    return chosen


def choose_dtype(dtype: str | np.dtype | type, device: jax.Device | None = None) -> np.dtype:
    """Return the dtype of a name; "auto" (with ``device``) gives its fastest, see automatic_dtype.

    Raises:
        DeviceError: not one of float32, bfloat16, float16 (or auto).
    """
    try:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        name = shown(dtype)
    if name == "auto" and device is not None:
        name = automatic_dtype(device)
    if name not in DTYPES:
        known = [*DTYPES] if device is None else ["auto", *DTYPES]
        raise DeviceError(f"dtype {name!r} is not supported: use {', '.join(known)}")
    return np.dtype(DTYPES[name])


def automatic_dtype(device: Any) -> str:
    """Return the name of the fastest dtype that a device is good at.

    TPUs and NVIDIA from Ampere on get bfloat16, Volta and Turing float16, all others float32.
    On a CPU bfloat16 is faster, too (``dtype="bfloat16"``), but float32 keeps the official
    numbers there.
    """
    if device.platform == "tpu":
        return "bfloat16"
    capability = compute_capability(device)
    if capability >= (8, 0):
        return "bfloat16"
    return "float16" if capability >= (7, 0) else "float32"


def compute_capability(device: Any) -> tuple[int, int]:
    """Return NVIDIA's compute capability, (8, 0) for an A100; (0, 0) for any other device."""
    try:
        major, _, minor = str(device.compute_capability).partition(".")
        return int(major), int(minor)
    except (AttributeError, ValueError):  # a CPU has none, and AMD's is "gfx90a"
        return 0, 0


def chunks_for(device: Any, dtype: np.dtype, attention: str = "auto") -> Chunks:
    """Return the chunks in which the network's work runs on a device.

    With ``attention`` "pallas" a kernel of samjax's own takes the global blocks. Where it cannot
    run, a warning says why, and the work is done as without it.
    """
    chunks = CPU_CHUNKS if device.platform == "cpu" else ACCELERATOR_CHUNKS
    able = compute_capability(device) >= (8, 0) and dtype != np.float32
    if able:
        chunks = replace(chunks, fused_width=_widest_fused(device, dtype.name))
    if attention == "pallas":
        reason = "it is written for NVIDIA GPUs from Ampere on, in bfloat16 or float16"
        if able:
            reason = _kernel_failure(device, dtype.name)
        if not reason:
            return replace(chunks, kernel="pallas")
        warnings.warn(
            f'attention="pallas" is not used on {device.platform} in {dtype.name}: {reason}',
            UserWarning,
            stacklevel=4,
        )
    return chunks


@lru_cache
def _kernel_failure(device: Any, dtype: str) -> str:
    """Return why the attention kernel fails on a device, or gives wrong results; "" if neither."""
    n, c = 16, 64
    heads = [
        np.random.default_rng(i).standard_normal((1, n * n, c)).astype(DTYPES[dtype])
        for i in range(3)
    ]
    tables = [0.2 * np.random.default_rng(i).standard_normal((n, n, c)) for i in (3, 4)]
    given = jax.device_put([*heads, *(t.astype(DTYPES[dtype]) for t in tables)], device)
    try:
        found = jax.jit(attend_pallas)(*given)
        expected = jax.jit(attend_added, static_argnums=5)(*given, None)
        gap = float(jnp.abs(found.astype(jnp.float32) - expected.astype(jnp.float32)).max())
    except Exception as error:  # every layer of the stack raises its own kind
        return f"it failed ({str(error).strip().splitlines()[0][:200] or type(error).__name__})"
    return "" if gap < 0.05 else f"its results are off by {gap:.2g}"


@lru_cache
def _widest_fused(device: Any, dtype: str) -> int:
    """Return the largest head width that fused attention takes; 0 if it does not run at all.

    Widths are tried, since the limit depends on the GPU, on cuDNN's version and on JAX's.
    """
    for width in _FUSED_WIDTHS:
        x = jax.device_put(np.zeros((1, 256, 1, width), DTYPES[dtype]), device)
        try:
            jax.block_until_ready(jax.jit(fused_attention)(x, x, x))
        except Exception:  # every layer of the stack raises its own kind
            continue
        return width
    return 0


def images_at_once(device: Any) -> int:
    """Return the batch size of the image encoder: a power of two that fits the free memory.

    A CPU's cores are busy with one image. So are GPUs without fused attention (Volta, Turing):
    XLA's account of a T4 has no more images a second in a batch of 8 than one by one.
    """
    if device.platform == "cpu" or (0, 0) < compute_capability(device) < (8, 0):
        return 1
    free = free_memory(device)
    if free is None:
        return _BATCH
    room = min(_BATCH, free // _IMAGE_BYTES)
    return 1 << (room.bit_length() - 1) if room else 1


def free_memory(device: Any) -> int | None:
    """Return the bytes that JAX can still allocate on a device; None where it does not tell."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))


@contextmanager
def naming_memory(images: int, device: Any) -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names the batch and the remedies.

    Raises:
        DeviceError: the device's memory did not suffice.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        batch = "one image" if images == 1 else f"{images} images at once"
        lower = "" if images == 1 else f"set sam.images_at_once below {images}, "
        raise DeviceError(
            f"{device}: out of memory while encoding {batch}: {lower}use a smaller dtype or model, "
            "or end other programs on the device (docs/gpu.md tells how to share it)"
        ) from error


def keep_compiled() -> Path | None:
    """Let JAX keep compiled functions on disk, so that the next process does not compile them.

    The setting is JAX's and concerns everything that this process compiles from then on.

    Returns:
        The folder that samjax chose; None where SAMJAX_COMPILATION_CACHE is "off", where JAX's
        cache was already set, or where the folder cannot be made.
    """
    chosen = os.environ.get(COMPILATION_VARIABLE)
    settings = jax.config.values
    if chosen == "off" or settings["jax_compilation_cache_dir"] is not None:
        return None
    folder = given_path(chosen, DeviceError) if chosen else cache_folder() / "compiled"
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
    """Name the processor: code compiled for one may not run on another that shares the home."""
    known = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        known += [next((x for x in lines if x.lower().startswith(("flags", "features"))), "")]
    return f"{platform.machine()}-{hashlib.sha256(repr(known).encode()).hexdigest()[:12]}"
