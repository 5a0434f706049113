"""Test the detection of formats by first bytes, safetensors, and Hugging Face folders."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from samjax.checkpoint.formats.open import open_tensor_file
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make

ONES = {"a": np.ones((2, 3), np.float32), "b": np.zeros((), np.float32)}


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_tensor_file(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.count(str(path)) == 1
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html>", "an HTML or XML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\x1f\x8b\x08\x00" + bytes(9), "a gzip archive"),
        (b"sam.pth".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "tf_model.h5"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05", "an ONNX model".removeprefix("an ")),
        (b"\x93NUMPY\x01\x00", ".npy array"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\x80\x04}\x94.", "a plain pickle"),
        (b'{"weight_map": {}}', "JSON text"),
        (bytes(1000), "begins with zeros"),
        (b"PK\x05\x06" + bytes(18), "empty zip"),
        (b"what is this", "begins with b'what is '"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(content)
    assert why in refused(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "a folder without weights" in refused(tmp_path)
    (tmp_path / "sam.pth").touch()
    assert "name a file in it, such as sam.pth" in refused(tmp_path)
    (tmp_path / "snapshots").mkdir()
    assert "the Hugging Face cache" in refused(tmp_path)
    (tmp_path / "tf_model.h5").touch()
    assert "only TensorFlow weights" in refused(tmp_path)
    (tmp_path / "adapter_config.json").touch()
    assert "a PEFT adapter" in refused(tmp_path)


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for write, container in (
        (lambda: write_torch_file(path, ONES), "zip .pth"),
        (lambda: make.write_safetensors(path, ONES, {"format": "pt"}), "safetensors"),
        (lambda: path.write_bytes(make.legacy_bytes(b"}", {})), "legacy .pth"),
    ):
        write()
        opened = open_tensor_file(path)
        assert opened.container == container
        if container != "legacy .pth":
            assert isinstance(opened.content, dict)
            np.testing.assert_array_equal(opened.content["a"], ONES["a"], strict=True)
            assert opened.content["b"].shape == ()
            assert not opened.content["a"].flags.writeable
        assert opened.metadata == ({"format": "pt"} if container == "safetensors" else {})


# safetensors


def _safetensors(header: object, data: bytes = bytes(8), length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def _entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("dtype", "code"),
    [
        (np.float64, "F64"),
        (np.float16, "F16"),
        (ml_dtypes.bfloat16, "BF16"),
        (np.int64, "I64"),
        (np.uint8, "U8"),
        (np.bool_, "BOOL"),
    ],
)
def test_safetensors_dtypes(tmp_path: Path, dtype: type, code: str) -> None:
    array = np.array([0, 1, 1]).astype(dtype)
    header = {"x": _entry(code, [3], [0, array.nbytes])}
    (tmp_path / "x").write_bytes(_safetensors(header, array.tobytes()))
    content = open_tensor_file(tmp_path / "x").content
    assert isinstance(content, dict)
    assert content["x"].dtype == array.dtype
    np.testing.assert_array_equal(content["x"], array)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_safetensors({"x": _entry()}, length=2**30), "a safetensors header of 1073741824 bytes"),
        (_safetensors({"x": _entry()}, bytes(4)), "reaches past the file"),
        (_safetensors({"x": _entry()}, bytes(12)), "4 bytes behind the last tensor"),
        (_safetensors({"x": _entry(shape=[3])}), "8 bytes for 3 x float32"),
        (_safetensors({"x": _entry(offsets=[8, 0])}), "-8 bytes for 2 x float32"),
        (_safetensors({"x": _entry(offsets=[-8, 0])}), "a broken safetensors entry"),
        (_safetensors({"x": _entry(shape=[True])}), "a broken safetensors entry"),
        (_safetensors({"x": _entry(shape=[1] * 40)}), "a broken safetensors entry"),
        (_safetensors({"x": {}}), "a broken safetensors entry"),
        (_safetensors({"x": 5}), "a broken safetensors entry"),
        (_safetensors({"x": _entry(dtype="F4")}), "dtype 'F4', not supported"),
        (_safetensors({"x": _entry(), "y": _entry()}), "overlap or leave gaps"),
        (_safetensors({"x": _entry(offsets=[4, 12])}, bytes(12)), "overlap or leave gaps"),
        (_safetensors(b'{"x": 1, "x": 2}'), "a key occurs twice"),
        (_safetensors(b'{"x": '), "is not JSON"),
        (_safetensors(b'{"x": ' + b"[" * 100_000), "is not JSON"),
        (_safetensors(b'{"x": ' + b"9" * 10_000 + b"}"), "is not JSON"),
    ],
)
def test_safetensors_that_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert why in refused(path)


def test_damaged_safetensors_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    good = make.write_safetensors(path, ONES).read_bytes()
    random = np.random.default_rng(3)
    for _ in range(400):
        damaged = bytearray(good)
        for position in random.integers(0, len(good), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        path.write_bytes(damaged[: len(good) - random.integers(0, 2)])
        try:
            open_tensor_file(path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017


# Hugging Face folders


def _sharded(folder: Path, weight_map: dict[str, object], kind: str = "model.safetensors") -> Path:
    make.write_safetensors(folder / "one.safetensors", {"a": ONES["a"]})
    make.write_safetensors(folder / "two.safetensors", {"b": ONES["b"]})
    (folder / f"{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_sharded_folder(tmp_path: Path, kind: str) -> None:
    _sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, kind)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"resample": 2}}')
    opened = open_tensor_file(tmp_path)
    assert opened.container == "Hugging Face folder, 2 shards"
    assert isinstance(opened.content, dict)
    assert set(opened.content) == {"a", "b"}
    assert opened.config == {"model_type": "sam"}
    assert opened.preprocessor == {"resample": 2}


@pytest.mark.parametrize(
    ("weight_map", "why"),
    [
        ({"a": "../one.safetensors"}, "is not a plain file name"),
        ({"a": "/etc/passwd"}, "is not a plain file name"),
        ({"a": "C:one"}, "is not a plain file name"),
        ({"a": ".."}, "is not a plain file name"),
        ({"a": ""}, "is not a plain file name"),
        ({"a": 5}, "is not a plain file name"),
        ({"a": "three.safetensors"}, "this shard is missing"),
        ({"a": "two.safetensors"}, "the index says None"),
        ({"a": "one.safetensors", "c": "one.safetensors"}, "1 of its tensors are in no"),
        ({}, "has no weight_map"),
    ],
)
def test_bad_indexes(tmp_path: Path, weight_map: dict[str, object], why: str) -> None:
    assert why in refused(_sharded(tmp_path, weight_map))


def test_bad_config(tmp_path: Path) -> None:
    make.write_safetensors(tmp_path / "model.safetensors", ONES)
    (tmp_path / "config.json").write_text("[1]")
    assert "config.json: this file is not a JSON object" in refused(tmp_path)


def test_folder_with_damaged_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "model.safetensors: not a checkpoint: a Git LFS pointer" in refused(tmp_path)


@pytest.mark.parity
def test_agrees_with_the_safetensors_package(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    arrays = {
        "f32": random.standard_normal((2, 3), np.float32),
        "bf16": random.standard_normal(5).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 3), np.float16),
        "i64": np.arange(3),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    content = open_tensor_file(tmp_path / "x.safetensors").content
    assert isinstance(content, dict)
    assert set(content) == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(content[key], array, strict=True)
