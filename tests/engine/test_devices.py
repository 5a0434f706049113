"""Test devices and dtypes by name, batches on several devices, and the compilation cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import samjax
from samjax.engine import devices
from samjax.errors import DeviceError
from tests.support.models import PLAIN, drawn_image

ROOT = Path(__file__).parents[2]
AUTOMATIC = {
    ("cpu", None): "float32",
    ("tpu", None): "bfloat16",
    ("gpu", "6.1"): "float32",
    ("gpu", "7.0"): "float16",
    ("gpu", "7.5"): "float16",  # Turing, such as Colab's T4
    ("gpu", "8.0"): "bfloat16",
    ("gpu", "8.9"): "bfloat16",
    ("gpu", "9.0"): "bfloat16",
    ("gpu", "12.0"): "bfloat16",
    ("gpu", "gfx90a"): "float32",
}


def device(platform: str, capability: str | None) -> SimpleNamespace:
    known = {} if capability is None else {"compute_capability": capability}
    return SimpleNamespace(platform=platform, **known)


@pytest.mark.parametrize(("platform", "capability"), AUTOMATIC)
def test_automatic_dtype(platform: str, capability: str | None):
    chosen = devices.automatic_dtype(device(platform, capability))
    assert chosen == AUTOMATIC[platform, capability]


def test_auto_is_said_and_is_the_default():
    sam = samjax.load(PLAIN)
    assert sam.dtype == np.float32  # on a CPU
    assert "float32, precision highest" in repr(sam)
    assert samjax.load(PLAIN, dtype="bfloat16").dtype.name == "bfloat16"


def test_unknown_dtypes_and_devices():
    with pytest.raises(DeviceError, match="use auto, float32"):
        samjax.load(PLAIN, dtype="int8")
    with pytest.raises(DeviceError, match="JAX sees cpu:0"):
        samjax.load(PLAIN, device="tpu")
    with pytest.raises(DeviceError, match="empty list"):
        samjax.load(PLAIN, device=[])


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "width"),
    [
        ("gpu", "9.0", "bfloat16", 208),
        ("gpu", "8.0", "bfloat16", 112),
        ("gpu", "8.0", "float32", 0),
        ("gpu", "7.5", "float16", 0),
        ("cpu", None, "bfloat16", 0),
    ],
)
def test_fused_attention_where_it_runs(platform, capability, dtype, width, monkeypatch):
    """cuDNN takes heads of 128, from compute capability 9.0 on of 256; elsewhere all fall back."""

    def fused(q, k, v):  # noqa: ARG001
        if q.shape[-1] > (256 if capability == "9.0" else 128):
            raise NotImplementedError("Unsupported head dim")
        return q

    monkeypatch.setattr(devices, "fused_attention", fused)
    monkeypatch.setattr(jax, "device_put", lambda x, device: x)  # noqa: ARG005
    devices._widest_fused.cache_clear()
    chosen = SimpleDevice(platform, capability)
    assert devices.chunks_for(chosen, np.dtype(devices.DTYPES[dtype])).fused_width == width
    devices._widest_fused.cache_clear()


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "kernel", "reason"),
    [
        ("gpu", "8.0", "bfloat16", lambda q, *_: q + 1, "its results are off by"),
        ("gpu", "9.0", "float16", None, "it failed (no such backend)"),
        ("gpu", "8.0", "float32", None, "in bfloat16 or float16"),
        ("gpu", "7.5", "float16", None, "from Ampere on"),
        ("cpu", None, "bfloat16", None, "not used on cpu in bfloat16: it is written for NVIDIA"),
    ],
)
def test_the_attention_kernel_falls_back_with_a_warning(
    platform, capability, dtype, kernel, reason, monkeypatch
):
    def failing(*_):
        raise NotImplementedError("no such backend\nand a long story")

    monkeypatch.setattr(devices, "attend_pallas", kernel or failing)
    monkeypatch.setattr(devices, "_widest_fused", lambda *_: 112)
    monkeypatch.setattr(jax, "device_put", lambda x, device: x)  # noqa: ARG005
    chosen, kind = SimpleDevice(platform, capability), np.dtype(devices.DTYPES[dtype])
    with pytest.warns(UserWarning, match=re.escape(reason)):
        chunks = devices.chunks_for(chosen, kind, "pallas")
    assert chunks == devices.chunks_for(chosen, kind)


def test_the_attention_kernel_is_used_where_it_is_right(monkeypatch):
    interpreted = partial(devices.attend_pallas, interpret=True)
    monkeypatch.setattr(devices, "attend_pallas", interpreted)
    monkeypatch.setattr(devices, "_widest_fused", lambda *_: 112)
    monkeypatch.setattr(jax, "device_put", lambda x, device: x)  # noqa: ARG005
    chosen, kind = SimpleDevice("gpu", "8.0"), np.dtype(devices.DTYPES["bfloat16"])
    chunks = devices.chunks_for(chosen, kind, "pallas")
    assert (chunks.kernel, chunks.fused_width) == ("pallas", 112)
    assert devices.chunks_for(chosen, kind).kernel == "none"


def test_a_model_asked_for_the_kernel_on_a_cpu_works_and_says_so():
    image = drawn_image(60, 80)
    with pytest.warns(UserWarning, match="is not used on cpu"):
        sam = samjax.load(attention="pallas")
    assert "Pallas" not in str(sam)
    masks = []
    for each in (sam, samjax.load()):
        predictor = samjax.SamPredictor(each)
        predictor.set_image(image)
        masks.append(predictor.predict([[40, 30]], [1])[0])
    np.testing.assert_array_equal(*masks)
    with pytest.raises(DeviceError, match="attention 'flash' is not known: use auto, pallas"):
        samjax.load(attention="flash")


class SimpleDevice(SimpleNamespace):
    """Stands in for a JAX device, and is hashable, too."""

    def __init__(self, platform: str, capability: str | None):
        super().__init__(**vars(device(platform, capability)))

    def __hash__(self) -> int:
        return id(self)


def python(code: str, **environment: str | None) -> str:
    """Run ``code`` in a process of its own; a variable that is None is removed."""
    merged = os.environ | environment
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


SHARDED = """
import numpy as np, samjax
from tests.support.models import DRAWN, PLAIN, drawn_image
sam = samjax.load(PLAIN, device="all")
assert len(sam.devices) == 3, sam
predictor = samjax.SamPredictor(sam)
images = [drawn_image(*DRAWN[i % len(DRAWN)], seed=i) for i in range(7)]
several = list(predictor.encode_images(iter(images)))
assert len(several) == len(images)
for image, embedding in zip(images, several):
    alone = predictor.encode_image(image)
    assert embedding.features.devices() == {sam.device}
    np.testing.assert_allclose(embedding.features, alone.features, rtol=0, atol=1e-5)
    assert embedding.original_size == alone.original_size == image.shape[:2]
    assert embedding.image_hash == alone.image_hash
prompts = [{"boxes": [[2, 3, 20, 30]]}] * 7
found = predictor.predict_images(images, prompts)
for image, one in zip(images, found):
    predictor.set_image(image)
    np.testing.assert_array_equal(one.masks, predictor.predict_many(**prompts[0]).masks)
print(sam.devices[-1])
"""


def test_batches_over_three_devices():
    flags = "--xla_force_host_platform_device_count=3"
    assert "cpu" in python(SHARDED, XLA_FLAGS=flags).lower()


COMPILED = """
import jax, samjax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
from tests.support.models import PLAIN
samjax.load(PLAIN).warmup()
print(sum(event.endswith("/cache_hits") for event in events))
"""
UNSET = {"JAX_COMPILATION_CACHE_DIR": None, devices.COMPILATION_VARIABLE: None}


def test_compiled_code_is_kept_for_the_next_process(tmp_path):
    home = UNSET | {"SAMJAX_CACHE": str(tmp_path)}
    assert python(COMPILED, **home) == "0"
    kept = list((tmp_path / "compiled").rglob("*-cache"))
    assert len(kept) >= 3  # the encoder and two buckets of clicks
    assert int(python(COMPILED, **home)) >= 3


def test_compiled_code_goes_where_it_is_told(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    python(COMPILED, **UNSET | {devices.COMPILATION_VARIABLE: str(here)})
    assert list(here.rglob("*-cache"))
    elsewhere = {"JAX_COMPILATION_CACHE_DIR": str(there), "SAMJAX_CACHE": str(tmp_path / "no")}
    python(COMPILED, **UNSET | elsewhere)
    assert not (tmp_path / "no").exists()
    off = {devices.COMPILATION_VARIABLE: "off", "SAMJAX_CACHE": str(tmp_path / "no")}
    assert python(COMPILED, **UNSET | off) == "0"
    assert not (tmp_path / "no").exists()


def test_a_folder_that_cannot_be_made_hinders_nobody(tmp_path):
    (tmp_path / "file").write_text("in the way")
    blocked = {devices.COMPILATION_VARIABLE: str(tmp_path / "file" / "folder")}
    assert python(COMPILED, **UNSET | blocked) == "0"


def gpu(capability: str, **stats: int) -> SimpleNamespace:
    found = device("gpu", capability)
    found.memory_stats = lambda: stats or None
    return found


@pytest.mark.parametrize(
    ("one", "images"),
    [
        (device("cpu", None), 1),
        (gpu("7.5", bytes_limit=15 << 30), 1),  # a T4
        (gpu("8.0"), 8),
        (gpu("9.0", bytes_limit=60 << 30, bytes_in_use=1 << 30), 8),
        (gpu("8.9", bytes_limit=4 << 30, bytes_in_use=1 << 30), 4),
        (gpu("8.9", bytes_limit=1 << 30, bytes_in_use=2 << 30), 1),
    ],
)
def test_batches_fit_the_free_memory(one: SimpleNamespace, images: int):
    assert devices.images_at_once(one) == images


def test_out_of_memory_names_the_batch_and_what_to_set():
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    with (
        pytest.raises(DeviceError, match=r"encoding 8 images at once: set sam.images_at_once bel"),
        devices.naming_memory(8, "gpu:0"),
    ):
        raise error
    with pytest.raises(DeviceError, match="one image: use a"), devices.naming_memory(1, "gpu:0"):
        raise error
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="else"), devices.naming_memory(8, "x"):
        raise other


def test_a_batch_size_of_ones_own():
    sam = samjax.load(PLAIN)
    assert sam.images_at_once == 1
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(3)]
    predictor = samjax.SamPredictor(sam)
    single = [np.asarray(e.features) for e in predictor.encode_images(pictures)]
    sam.images_at_once = 2
    double = [np.asarray(e.features) for e in predictor.encode_images(pictures)]
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
