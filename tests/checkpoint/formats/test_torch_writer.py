"""Test that written .pth files are read again by samjax and by torch."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from samjax.checkpoint.formats import torch_writer
from samjax.checkpoint.formats.torch_file import read_torch_file
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.errors import CheckpointError

FOUR = np.arange(4, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.pth"


def test_writer_and_reader_agree(path: Path) -> None:
    tensors = {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "f16": np.ones((2, 1, 3), np.float16),
        "bf16": np.arange(3).astype(ml_dtypes.bfloat16),
        "i64": np.array(-7, np.int64),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 2), np.float32),
        "big-endian": np.arange(3, dtype=">i4"),
    }
    write_torch_file(path, tensors)
    content = read_torch_file(path)
    assert isinstance(content, OrderedDict)
    assert list(content) == list(tensors)
    for key, array in tensors.items():
        np.testing.assert_array_equal(content[key], array, strict=array.dtype.isnative)
        assert not content[key].flags.writeable
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("wide_from", [2**30, 0], ids=["usual sizes", "64-bit sizes"])
def test_storages_are_aligned_and_views_of_the_file(
    path: Path, wide_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_writer, "_ZIP64_BYTES", wide_from)
    write_torch_file(path, {"a": np.ones(3, np.float32), "b": np.ones(5, np.float32)})
    content = read_torch_file(path)
    assert isinstance(content, dict)
    for array in content.values():
        assert array.ctypes.data % 64 == 0
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)


def test_writing_fails_without_leaving_a_file(path: Path) -> None:
    with pytest.raises(CheckpointError, match="'a' is uint16, which PyTorch files do not hold"):
        write_torch_file(path, {"a": np.zeros(1, np.uint16)})
    assert not list(path.parent.iterdir())
    path.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_torch_file(path / "x.pth", {"a": FOUR})
    assert list(path.parent.iterdir()) == [path]


def test_writing_replaces_a_file_that_is_being_read(path: Path) -> None:
    write_torch_file(path, {"a": FOUR})
    content = read_torch_file(path)
    assert isinstance(content, dict)
    write_torch_file(path, {"a": content["a"] + 1})
    np.testing.assert_array_equal(content["a"], FOUR)
    again = read_torch_file(path)
    assert isinstance(again, dict)
    np.testing.assert_array_equal(again["a"], FOUR + 1)


@pytest.mark.parity
def test_torch_reads_what_is_written(path: Path) -> None:
    import torch

    random = np.random.default_rng(0)
    tensors = {
        "f32": random.standard_normal((3, 4), np.float32),
        "transposed": random.standard_normal((3, 4), np.float32).T,
        "f16": random.standard_normal(5).astype(np.float16),
        "f64": random.standard_normal(5),
        "i64": np.array(-7),
        "i32": np.arange(3, dtype=np.int32),
        "i16": np.arange(3, dtype=np.int16),
        "i8": np.arange(3, dtype=np.int8),
        "u8": np.arange(3, dtype=np.uint8),
        "bool": np.array([True, False]),
        "c64": np.ones(2, np.complex64),
        "empty": np.zeros((0, 2), np.float32),
        "bf16": random.standard_normal(5).astype(ml_dtypes.bfloat16),
    }
    write_torch_file(path, tensors)
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert list(loaded) == list(tensors)
        for key, array in tensors.items():
            tensor = loaded[key]
            assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
            if key == "bf16":
                tensor, array = tensor.view(torch.int16), array.view(np.int16)
            np.testing.assert_array_equal(tensor.numpy(), array, strict=True)
