"""Test pickles in .pth files: plain values load, code never runs, bombs are refused."""

from __future__ import annotations

import contextlib
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from samjax.checkpoint.formats import pickle_machine
from samjax.checkpoint.formats.pickle_machine import Stub
from samjax.checkpoint.formats.restricted_pickle import load_pickle
from samjax.checkpoint.formats.torch_file import read_torch_file
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make


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


def test_plain_python_values_are_kept(path: Path) -> None:
    values = {
        "none": None,
        "numbers": [1, -2, 2.5, True, 10**30, 300, 70000],
        "bytes": b"\x00\xff",
        "nested": {"tuple": (1, (2, 3), ()), 5: "five", (1, "a"): 0},
        "set": {1, 2},
        "frozen": frozenset({"a"}),
    }
    for protocol in (2, 3, 4, 5):
        body = pickle.dumps(values, protocol)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", body)
        assert read_torch_file(path) == values


def test_recursive_values_do_not_hang(path: Path) -> None:
    loop: list[object] = [1]
    loop.append(loop)
    body = pickle.dumps(loop, 2)
    result = read(path, body[2:-1])
    assert isinstance(result, list)
    assert result[1] is result


def test_objects_become_stubs(path: Path) -> None:
    body = make.dict_of(
        {
            "called": make.call("torch.optim", "Adam", make.integer(1)),
            "made": make.named("argparse", "Namespace") + b")\x81" + make.dict_of({}) + b"b",
            "filled": make.named("a", "B") + b")\x81" + make.text("k") + b"K\x01s",
            "class": make.named("torch", "float32"),
        }
    )
    result = read(path, body)
    assert isinstance(result, dict)
    assert {key: stub.name for key, stub in result.items()} == {
        "called": "torch.optim.Adam",
        "made": "argparse.Namespace",
        "filled": "a.B",
        "class": "torch.float32",
    }


# Code in the file


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_no_code_runs(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    body = pickle.dumps({"weights": _Payload(target)}, protocol)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", body)
    if protocol == 0:
        with pytest.raises(CheckpointError, match="refused"):
            read_torch_file(tmp_path / "x.pth")
    else:
        result = read_torch_file(tmp_path / "x.pth")
        assert isinstance(result, dict)
        assert result["weights"].name.endswith(".system")
    assert not target.exists()
    # The payload is real: pickle itself runs it.
    pickle.loads(body)
    assert target.exists()


@pytest.mark.parametrize(
    ("name", "opcodes"),
    [
        ("EXT1", b"\x82\x01"),
        ("EXT2", b"\x83\x01\x00"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
        ("PERSID", b"P0\n"),
        ("INST", b"(ios\nsystem\n"),
        ("OBJ", b"(cos\nsystem\no"),
        ("NEXT_BUFFER", b"\x97"),
        ("READONLY_BUFFER", b"N\x98"),
        ("0xff", b"\xff"),
    ],
)
def test_opcodes_that_torch_never_writes_are_refused(path: Path, name: str, opcodes: bytes) -> None:
    assert f"opcode {name} at byte" in refused(path, opcodes)


@pytest.mark.parametrize(
    "opcodes",
    [
        b"",  # STOP on an empty stack
        b"t",  # no mark
        b"a",
        b"h\x07",  # never memoized
        b"j\xff\xff\xff\xff",
        b"N)R",  # a call of None
        b"K\x01K\x02\x86Q",  # a persistent id that is no storage
        b"](K\x01u",  # items of a list
        b"X\xff\xff\xff\xffabc",  # a string longer than the file
        b"\x8b\xff\xff\xff\xff",  # a negative length
        b"cnoname",
        b"c" + b"a" * 600 + b"\nb\n",
        make.named("a\x1b[31m", "b"),  # control characters
        make.call("collections", "OrderedDict", b"K\x01"),
        make.call("copyreg", "_reconstructor", b"K\x01"),
        make.call("torch._utils", "_rebuild_tensor_v2", b"K\x01"),
    ],
)
def test_malformed_pickles_are_refused(path: Path, opcodes: bytes) -> None:
    assert "broken pickle" in refused(path, opcodes)


def test_unknown_protocols_are_refused(path: Path) -> None:
    assert "pickle protocol 9 is unknown" in refused(path, b"\x80\x09N")


def test_bombs_are_defused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.thread_time()
    # Tuples of tuples, 2**2000 leaves: shared, hence small; as a key, hashing would not end.
    doubling = b")q\x00" + b"0h\x00h\x00\x86q\x00" * 2000
    assert isinstance(read(path, doubling), tuple)
    result = read(path, b"}" + doubling + b"Ns")
    assert isinstance(result, dict)
    assert isinstance(next(iter(result)), Stub)
    # A long integer
    assert "integer of 4,000 bytes" in refused(
        path, b"\x8b" + struct.pack("<i", 4000) + b"1" * 4000
    )
    # Work: each step copies a list
    monkeypatch.setattr(pickle_machine, "MAX_STEPS", 20_000)
    assert "more than 20,000 steps" in refused(path, b"N" * 20_001)
    copies = b"](" + b"N" * 500 + b"eq\x00" + b"c__builtin__\nset\nh\x00\x85R0" * 100
    assert "more than 20,000 steps" in refused(path, copies + b"N")
    # Integers that collide in a dict
    monkeypatch.setattr(pickle_machine, "MAX_UNSALTED_KEYS", 100)
    keys = b"".join(make.integer(k * (2**61 - 1)) + b"N" for k in range(1, 102))
    assert "more than 100 keys" in refused(path, b"}(" + keys + b"u")
    assert time.thread_time() - start < 5, "a second of a core: this is a hang"


def test_a_key_must_not_occur_twice(path: Path) -> None:
    assert "'a' occurs twice" in refused(path, b"}(" + (make.text("a") + b"N") * 2 + b"u")


def test_large_pickles_are_refused(path: Path) -> None:
    size = pickle_machine.MAX_PICKLE_BYTES
    assert "larger than 32 MiB" in refused(path, b"B" + struct.pack("<I", size) + bytes(size))


# Keys that collide


def _dict_of_integers(values: list[int], width: int) -> bytes:
    keys = (
        b"\x8b" + struct.pack("<i", width) + value.to_bytes(width, "little", signed=True) + b"N"
        for value in values
    )
    return b"}(" + b"".join(keys) + b"u."


@pytest.mark.parametrize(
    ("number", "width"),
    [
        (lambda k: (2**7900 + k) * (2**61 - 1), 1000),
        (lambda k: (k + 1) << 44, 8),
        (lambda k: -((k + 1) << 40), 8),
    ],
    ids=["1000 bytes", "high bits", "negative"],
)
def test_colliding_keys_take_no_time(number: Callable[[int], int], width: int) -> None:
    def seconds(number: Callable[[int], int]) -> float:
        data = b"\x80\x02" + _dict_of_integers([number(k) for k in range(20_000)], width)
        start = time.thread_time()
        with contextlib.suppress(CheckpointError):
            load_pickle(memoryview(data), {}, lambda _: None)
        return time.thread_time() - start

    harmless = seconds(lambda k: 3 ** (30 if width == 8 else 4900) + 7919 * k)
    assert seconds(number) < 3 * harmless + 0.5  # where they collide, it is ten times and more


def test_colliding_keys_in_tuples_and_sets() -> None:
    wide = (2**7900 * (2**61 - 1)).to_bytes(1000, "little", signed=True)
    number = b"\x8b" + struct.pack("<i", 1000) + wide
    value, _ = load_pickle(memoryview(b"\x80\x02}(" + number + b"\x85Nu."), {}, lambda _: None)
    assert isinstance(value, dict)
    assert all(isinstance(key, Stub) for key in value)
    data = b"\x80\x04\x8f(" + b"".join(
        b"\x8a\x08" + (k << 40).to_bytes(8, "little", signed=True) for k in range(1, 1000)
    )
    with pytest.raises(CheckpointError, match="more than 500 keys that are not text"):
        load_pickle(memoryview(data + b"\x90."), {}, lambda _: None)


def test_an_optimizers_numbered_state_is_read() -> None:
    keys = b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(2000))
    value, _ = load_pickle(memoryview(b"\x80\x02}(" + keys + b"u."), {}, lambda _: None)
    assert value == dict.fromkeys(range(2000))
    keys = b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(20_001))
    with pytest.raises(CheckpointError, match="more than 20,000 numbered keys"):
        load_pickle(memoryview(b"\x80\x02}(" + keys + b"u."), {}, lambda _: None)
