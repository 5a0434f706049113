"""Test reading .pth files: their tensors load, and attacks are refused."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from samjax.checkpoint.formats.pickle_machine import Stub
from samjax.checkpoint.formats.torch_file import read_torch_file
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make

FOUR = np.arange(4, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.pth"


def read(path: Path, content: bytes, **storages: bytes) -> object:
    make.write_zip(path, content, {key.lstrip("s"): data for key, data in storages.items()})
    return read_torch_file(path)


def refused(path: Path, content: bytes, **storages: bytes) -> str:
    """Return the error of a zip .pth: one line that begins with the file's name."""
    with pytest.raises(CheckpointError) as caught:
        read(path, content, **storages)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


# What comes back


def test_strided_tensors_share_their_storage(path: Path) -> None:
    content = make.dict_of(
        {
            "all": make.tensor("0", (2, 3)),
            "transposed": make.tensor("0", (3, 2), (1, 3), count=6),
            "column": make.tensor("0", (2,), (3,), count=6, offset=1),
            "expanded": make.tensor("0", (9,), (0,), count=6),
        }
    )
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = read(path, content, s0=values.tobytes())
    assert isinstance(result, dict)
    np.testing.assert_array_equal(result["all"], values)
    np.testing.assert_array_equal(result["transposed"], values.T)
    np.testing.assert_array_equal(result["column"], values[:, 1])
    assert isinstance(result["expanded"], Stub)


def test_unknown_storages_become_stubs(path: Path) -> None:
    result = read(path, make.tensor("0", (4,), kind="QInt8Storage"), s0=b"1234")
    assert isinstance(result, Stub)


# Storages


def test_storage_of_wrong_length(path: Path) -> None:
    text = refused(path, make.tensor("0", (4,)), s0=b"12345678")
    assert "storage '0': 8 bytes for 4 x float32: truncated or malicious" in text


def test_storage_that_is_missing(path: Path) -> None:
    assert "storage '0' is not in the zip" in refused(path, make.tensor("0", (4,)))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0), ((1,), (1,), 4), ((2,), (2**40,), 0)],
)
def test_tensors_that_reach_past_their_storage(
    path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    content = make.tensor("0", size, stride, count=4, offset=offset)
    assert "reaches past its storage of 4 elements" in refused(path, content, s0=FOUR.tobytes())


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((-1,), (1,), 0), ((2,), (-1,), 1), ((2,), (1,), -1), ((2,), (1, 1), 0), ((2**60,), (1,), 0)],
)
def test_shapes_that_are_no_shapes(
    path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    content = make.tensor("0", size, stride, count=4, offset=offset)
    assert "broken pickle" in refused(path, content, s0=FOUR.tobytes())


def test_tensors_must_agree_on_a_storage(path: Path) -> None:
    content = make.dict_of(
        {"a": make.tensor("0", (4,)), "b": make.tensor("0", (2,), kind="DoubleStorage")}
    )
    assert "tensors disagree" in refused(path, content, s0=FOUR.tobytes())


# Zips


def test_deflated_entries_are_refused(path: Path) -> None:
    make.write_zip(path, b"N", {"0": b"0" * 100}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"'archive/data.pkl' is compressed"):
        read_torch_file(path)


def _raw_zip(
    entries: list[tuple[str, bytes]], *, flags: int = 0, second: str | None = None
) -> bytes:
    """Write a zip whose central directory may lie: flags, or another name for entry 0."""
    body, directory = io.BytesIO(), io.BytesIO()
    for index, (name, data) in enumerate(entries):
        listed = (second if index == 0 and second else name).encode()
        sizes = (0, len(data), len(data))
        offset = body.tell()
        body.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, 0, 0, 0, *sizes, len(name), 0))
        body.write(name.encode() + data)
        directory.write(struct.pack("<4s6H3L", b"PK\1\2", 20, 20, flags, 0, 0, 0, *sizes))
        directory.write(struct.pack("<5H2L", len(listed), 0, 0, 0, 0, 0, offset) + listed)
    size = len(directory.getvalue())
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), size, body.tell(), 0)
    return body.getvalue() + directory.getvalue() + end


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_raw_zip([("a/data.pkl", b"N."), ("a/data.pkl", b"N.")]), "two zip entries are called"),
        (_raw_zip([("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]), "2 pickles named"),
        (_raw_zip([("a/b/data.pkl", b"N.")]), "0 pickles named"),
        (_raw_zip([("a/data.pkl", b"N.")], flags=1), "is encrypted"),
        (_raw_zip([("a/data.pkl", b"N.")], second="b/data.pkl"), "no header of its own"),
        (_raw_zip([("a/data.pkl", b"N."), ("a/byteorder", b"big")]), "big-endian"),
        (_raw_zip([("a/data.pkl", b"N."), ("a/constants.pkl", b"N.")]), "TorchScript"),
        (_raw_zip([("a/data.pkl", b"N."), ("a/code/__torch__.py", b"")]), "TorchScript"),
        (_raw_zip([("x.npy", b"")]), "an .npz archive"),
        (_raw_zip([("folder/sam.pth", b"")]), "a zip that contains 'folder/sam.pth'"),
        (_raw_zip([("word/document.xml", b"")]), "a zip without <root>/data.pkl"),
        (_raw_zip([("a/data.pkl", b"N.")])[:-30], "without its directory"),
        (b"PK\3\4" + bytes(100), "without its directory"),
        (b"", "empty file"),
        (b"abcdefgh", "not a file of torch.save"),
        (pickle.dumps({"a": 1}), "a plain pickle"),
    ],
)
def test_files_that_are_refused(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_zip64(path: Path) -> None:
    """Sizes, offsets and the directory's place in 64 bits, as PyTorch writes large files."""
    name, data = b"a/data.pkl", make.pickled(b"K\x07")
    wide = 0xFFFFFFFF
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    extra = struct.pack("<2H3Q", 1, 24, len(data), len(data), 0)
    entry = struct.pack("<4s6H3L", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, wide, wide)
    entry += struct.pack("<5H2L", len(name), len(extra), 0, 0, 0, 0, wide) + name + extra
    start = len(local) + len(data)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(entry), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, wide, wide, 0)
    path.write_bytes(local + data + entry + end64 + locator + end)
    assert read_torch_file(path) == 7


def test_overlapping_entries_are_refused(path: Path) -> None:
    raw = bytearray(_raw_zip([("a/data.pkl", b"N."), ("a/data/0", b"1234")]))
    first = raw.index(b"PK\1\2")
    raw[first + 20 : first + 28] = struct.pack("<2L", 42, 42)  # reaches into the second entry
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="overlap"):
        read_torch_file(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.pth: cannot be read"):
        read_torch_file(tmp_path / "nowhere.pth")


# Legacy streams


def test_legacy_stream(path: Path) -> None:
    pairs = {"b": np.arange(6, dtype=np.float32), "a": np.array([1, 2], np.int64)}
    content = make.dict_of(
        {
            "x": make.tensor("b", (2, 3), more=(b"N",)),
            "y": make.tensor("a", (2,), kind="LongStorage"),
            "slice": make.tensor(
                "b",
                (2,),
                count=6,
                more=(make.tuple_of(make.text("v"), make.integer(1), make.integer(2)),),
            ),
        }
    )
    path.write_bytes(make.legacy_bytes(content, pairs))
    result = read_torch_file(path)
    assert isinstance(result, dict)
    np.testing.assert_array_equal(result["x"], pairs["b"].reshape(2, 3))
    np.testing.assert_array_equal(result["y"], pairs["a"])
    np.testing.assert_array_equal(result["slice"], [1, 2])
    assert not result["x"].flags.writeable


def test_legacy_module_is_a_stub(path: Path) -> None:
    module = make.tuple_of(
        make.text("module"), make.named("my.net", "Net"), make.text("net.py"), make.text("code")
    )
    path.write_bytes(make.legacy_bytes(module + b"Q)\x81", {}))
    result = read_torch_file(path)
    assert isinstance(result, Stub)
    assert result.name == "my.net.Net"


GOOD = make.tensor("0", (4,))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (make.legacy_bytes(GOOD, {"0": FOUR})[:-1], "15 bytes for 4 x float32"),
        (make.legacy_bytes(GOOD, {"0": FOUR})[:-20], "lies past the end"),
        (make.legacy_bytes(GOOD, {"0": FOUR[:3]}), "3 elements, its tensors say 4"),
        (make.legacy_bytes(GOOD, {}), "storage '0' is not in the file"),
        (make.legacy_bytes(GOOD, {"0": FOUR, "1": FOUR}), "storage '1' has no known size"),
        (make.legacy_bytes(GOOD, {"0": FOUR}, little_endian=b"\x89"), "big-endian"),
        (make.legacy_bytes(GOOD, {"0": FOUR}, protocol=1000), "unknown legacy protocol"),
        (
            make.legacy_bytes(make.tensor("0", (2**40,)), {"0": FOUR}),
            "4 elements, its tensors say 1099511627776",
        ),
        (
            make.legacy_bytes(
                make.tensor(
                    "0",
                    (4,),
                    more=(make.tuple_of(make.text("v"), make.integer(2), make.integer(3)),),
                ),
                {"0": FOUR},
            ),
            "a view past the end of storage '0'",
        ),
    ],
)
def test_legacy_streams_that_are_refused(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert why in str(caught.value)


# Damage


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_damaged_files_are_read_or_refused(path: Path, container: str) -> None:
    weights = make.few_weights()
    if container == "zip":
        write_torch_file(path, {key: array[..., :2] for key, array in weights.items()})
        good = path.read_bytes()
    else:
        small = {key: array.reshape(-1)[:3] for key, array in weights.items()}
        arrays = {str(i): array for i, array in enumerate(small.values())}
        good = make.legacy_bytes(make.state_dict(small), arrays)
    random = np.random.default_rng(7)
    read_again = 0
    for _ in range(400):
        damaged = bytearray(good)
        for position in random.integers(0, len(good), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        if random.random() < 0.3:
            damaged = damaged[: random.integers(0, len(good))]
        path.write_bytes(damaged)
        try:
            content = read_torch_file(path)
        except CheckpointError:
            continue
        read_again += 1
        if isinstance(content, dict):
            for value in content.values():
                if isinstance(value, np.ndarray):
                    value.tobytes()
    assert 0 < read_again < 400


# Against torch


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "options",
    [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}],
    ids=["zip", "legacy", "protocol 4"],
)
def test_reads_what_torch_writes(path: Path, options: dict[str, object]) -> None:
    import torch

    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "base": base,
        "tied": base,
        "transposed": base.t(),
        "strided": base[1:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "bf16": torch.randn(5).bfloat16(),
        "f16": torch.randn(5).half(),
        "f64": torch.randn(5).double(),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "u16": torch.ones(3, dtype=torch.uint16),
        "f8": torch.ones(3).to(torch.float8_e4m3fn),
    }
    others = {"size": torch.Size([1, 2]), "device": torch.device("cpu"), "np": np.float64(2)}
    torch.save({**tensors, **others, "module": torch.nn.Linear(2, 2)}, path, **options)
    content = read_torch_file(path)
    assert isinstance(content, dict)
    for key, tensor in tensors.items():
        array = content[key]
        assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert array.shape == tuple(tensor.shape)
        expected = tensor.detach().double().numpy()
        np.testing.assert_array_equal(array.astype(np.float64), expected)
    assert np.shares_memory(content["base"], content["transposed"])
    assert content["size"] == (1, 2)
    assert isinstance(content["device"], Stub)
    assert content["module"].name == "torch.nn.modules.linear.Linear"
