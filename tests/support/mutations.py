"""Checkpoints of every family, damaged at random, read in a process with little memory.

    python -m tests.support.mutations FOLDER COUNT SEED [own]

Prints one JSON object: how many were refused, how many loaded, how many of these with other values
than the original's ("changed": nothing told the difference), and what went wrong. With "own" the
files are those of samjax's own folder, which has hashes; no other format of these has a checksum
that its readers check.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import resource
import shutil
import signal
import struct
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from samjax.checkpoint.families.official import OfficialWeights, ReadOptions
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make
from tests.support import layouts
from tests.support.models import sized

Mutation = Callable[[bytes, np.random.Generator], bytes]

SECONDS = 5
MEMORY = 2**30  # bytes beyond what the process needs before it reads anything
CONFIG = sized(grid=4, window=2, patch=4, width=8, embed=16)
CANARY = "canary"

# Pickles that would run code, or cost much, in a reader that trusts them
SPLICES = (
    make.call("posix", "system", make.text(f"touch {CANARY}")),
    make.call("builtins", "exec", make.text(f"open({CANARY!r}, 'w')")),
    make.call("subprocess", "Popen", make.text(f"touch {CANARY}")),
    make.named("pathlib", "Path") + make.tuple_of(make.text(CANARY)) + b"\x81",
    make.call("torch", "_utils._rebuild_tensor_v2", b"]", b"]"),
    make.call("numpy.core.multiarray", "_reconstruct", make.text("x"), make.integer(2**40)),
    make.call("builtins", "bytearray", make.integer(2**40)),
    make.call("torch", "Size", make.integer(2**62)),
    b"(" * 2000 + b"t" * 2000,
    b"]" + b"2" * 500 + b"e",
    b"\x8a\xff" + b"\xff" * 255,
    b"X\xff\xff\xff\x7f",
    b"\x95" + b"\xff" * 8,
    make.integer(2**63),
    b"Pcos\nsystem\n",
    b"\x82\x01",
    b"\x97\x98",
)


def files(folder: Path) -> dict[str, tuple[Path, ReadOptions]]:
    """One valid file of each kind of container and layout, by name."""
    tensors = to_official(random_parameters(CONFIG), CONFIG)
    base = OfficialWeights("official", "base", tensors, (), None, 1e-5)
    alone, with_base = ReadOptions(), ReadOptions(base)
    saved: dict[str, tuple[dict[str, np.ndarray], ReadOptions]] = {
        "official": (tensors, alone),
        "sam-lora": (layouts.pairs(tensors)[0], with_base),
        "samed": (
            layouts.pairs(tensors, decoder=True)[0],
            dataclasses.replace(with_base, image_size=32),
        ),
        "inline samed": (layouts.inline_samed(tensors)[0], alone),
        "inline micro-sam": (layouts.inline_microsam(tensors)[0], alone),
        "decoder": (layouts.parts(tensors, layouts.DECODER), with_base),
        "encoder": (layouts.parts(tensors, layouts.ENCODER), with_base),
    }
    made: dict[str, tuple[Path, ReadOptions]] = {}
    for name, (content, options) in saved.items():
        path = folder / f"{name}.pth"
        write_torch_file(path, content)
        made[f"{name}, zip"] = path, options
    for name in ("official", "sam-lora", "decoder"):
        content, options = saved[name]
        path = folder / f"{name}.safetensors"
        make.write_safetensors(path, content)
        made[f"{name}, safetensors"] = path, options
        path = folder / f"{name}.legacy.pth"
        arrays = {str(i): array for i, array in enumerate(content.values())}
        path.write_bytes(make.legacy_bytes(make.state_dict(content), arrays))
        made[f"{name}, legacy"] = path, options
    adapter = folder / "adapter"
    adapter.mkdir()
    make.write_safetensors(adapter / "adapter_model.safetensors", layouts.peft(tensors)[0])
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"attn.qkv": 2}}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    made["peft"] = adapter, with_base
    for name, wrapper, prefix, others in (
        ("torch_em", "model_state", "sam.", {"decoder_state": b"}", "init": make.call("a", "B")}),
        ("sam-med2d", "model", "", {"optimizer": make.call("torch.optim", "Adam")}),
        ("lightning", "state_dict", "model.", {"pytorch-lightning_version": make.text("2")}),
        ("medsam training", "model", "module.", {"optimizer": b"}", "epoch": b"K\x01"}),
    ):
        content = {prefix + key: array for key, array in tensors.items()}
        pickled = make.dict_of(others | {wrapper: make.state_dict(content)})
        path = make.write_zip(folder / f"{name}.pth", pickled, make.storages_of(content))
        made[name] = path, alone
    return made


def own_folder(folder: Path) -> dict[str, tuple[Path, ReadOptions]]:
    """samjax's own format."""
    path = folder / "own"
    parameters = random_parameters(CONFIG)
    save_orbax_folder(path, Checkpoint(parameters, CONFIG, "official", "sam", ("a note",)))
    return {"samjax's folder": (path, ReadOptions())}


# Mutations: (bytes, random numbers) -> bytes


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bits, half of the time where names, sizes and offsets are: at the ends."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        near_end = rng.random() < 0.7
        span = min(len(data), 12_000) if near_end else len(data)
        at = int(rng.integers(span))
        at = at if rng.random() < 0.5 else len(data) - 1 - at
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def cut_out(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 5000)) :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    stop = start + int(rng.integers(1, 5000))
    return data[:stop] + data[start:stop] + data[stop:]


def wrong_number(data: bytes, rng: np.random.Generator) -> bytes:
    """A length or offset of 2, 4 or 8 bytes that is small, huge or negative."""
    kind, values = (
        ("<H", (0, 1, 0xFFFF)),
        ("<I", (0, 1, 2**31 - 1, 2**32 - 1)),
        ("<Q", (0, 2**40, 2**63 - 1, 2**64 - 1)),
    )[int(rng.integers(3))]
    packed = struct.pack(kind, values[int(rng.integers(len(values)))])
    at = int(rng.integers(max(1, min(len(data), 12_000) - len(packed))))
    at = at if rng.random() < 0.5 else len(data) - len(packed) - at
    return data[:at] + packed + data[at + len(packed) :]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """A hostile pickle inside the pickle: in a zip the entry stays whole."""
    hostile = SPLICES[int(rng.integers(len(SPLICES)))]

    def put(pickle: bytes) -> bytes:
        at = int(rng.integers(2, max(3, min(len(pickle), 4000))))
        after = at + (int(rng.integers(40)) if rng.random() < 0.5 else 0)
        return pickle[:at] + hostile + pickle[after:]

    return _rezip(
        data, lambda name, content: put(content) if name.endswith(".pkl") else content
    ) or put(data)


def huge_size(data: bytes, rng: np.random.Generator) -> bytes:
    """A storage, tensor or header that declares more than there is."""
    numbers = (
        b"J\x08\x00\x00\x00",
        b"J\x10\x00\x00\x00",
        b"K\x04",
        b'"shape": [',
        b'"data_offsets": [',
    )
    found = [n for n in numbers if n in data]
    if not found:
        return wrong_number(data, rng)
    old = found[int(rng.integers(len(found)))]
    new = b"\x8a\x06\x00\x00\x00\x00\x00\x10" if old[:1] in b"JK" else old + b"1099511627776, "
    change = lambda content: content.replace(old, new, int(rng.integers(1, 4)))  # noqa: E731
    return _rezip(data, lambda name, c: change(c) if name.endswith(".pkl") else c) or change(data)


def twice(data: bytes, rng: np.random.Generator) -> bytes:
    """Two zip entries of one name, or a folder's worth of other names."""
    return _rezip(data, lambda _, content: content, again=rng) or repeat(data, rng)


def compress(data: bytes, rng: np.random.Generator) -> bytes:
    return _rezip(data, lambda _, c: c, method=zipfile.ZIP_DEFLATED) or truncate(data, rng)


def _rezip(
    data: bytes,
    change: Callable[[str, bytes], bytes],
    again: np.random.Generator | None = None,
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """The zip with changed entries; b"" for what is no zip."""
    if data[:2] != b"PK":
        return b""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        entries = [
            (info.filename, change(info.filename, old.read(info))) for info in old.infolist()
        ]
        if again is not None:
            name, content = entries[int(again.integers(len(entries)))]
            entries.append((name, content if again.random() < 0.5 else b"other"))
        for name, content in entries:
            new.writestr(name, content)
    return out.getvalue()


MUTATIONS = (
    flip_bits, flip_bits, truncate, cut_out, repeat, wrong_number, splice, splice, huge_size, twice,
    compress,
)  # fmt: skip


def other_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Another number, word or name in JSON text: it stays JSON."""
    found = list(re.finditer(rb"\d+|true|false|null|[a-z_]+", data))
    if not found or b"{" not in data[:2]:
        return flip_bits(data, rng)
    place = found[int(rng.integers(len(found)))]
    values = (b"0", b"1", b"2", b"8", b"-1", b"1e9", b"NaN", b"true", b"null", b"[]", b'"x"', b"{}")
    return data[: place.start()] + values[int(rng.integers(len(values)))] + data[place.end() :]


def damage_folder(source: Path, target: Path, mutate: Mutation, rng: np.random.Generator) -> None:
    """Copy a folder with one file damaged: half of the time one of JSON, if there are any."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    text = [path for path in files if path.read_bytes()[:1] == b"{"]
    chosen = text if text and rng.random() < 0.5 else files
    path = chosen[int(rng.integers(len(chosen)))]
    path.write_bytes(mutate(path.read_bytes(), rng))


class HangError(BaseException):
    """A file took too long; no Exception, so that no handler swallows it."""


def _alarm(*_: object) -> None:
    raise HangError


def is_same(found: Checkpoint, wanted: Checkpoint) -> bool:
    """Whether values, sizes and preset are the original's, bit for bit."""
    return (
        (found.config, found.preprocess) == (wanted.config, wanted.preprocess)
        and found.parameters.keys() == wanted.parameters.keys()
        and all(
            np.asarray(found.parameters[k]).dtype == np.asarray(v).dtype
            and np.asarray(found.parameters[k]).tobytes() == np.asarray(v).tobytes()
            for k, v in wanted.parameters.items()
        )
    )


def check(path: Path, options: ReadOptions, wanted: Checkpoint | None = None) -> str:
    """ "refused", "loaded" or "changed" (loaded, not as wanted); else a fault, described."""
    start = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, 60)  # of a busy machine; the limit is on its own time
    try:
        loaded = read_checkpoint(path, options=options)
        outcome = "loaded"
        sizes = {np.asarray(v).size for v in loaded.parameters.values()}
        if not sizes or max(sizes) > 10**6:
            outcome = f"a model of {max(sizes, default=0)} values from a small file"
        elif wanted is not None and not is_same(loaded, wanted):
            outcome = "changed"
    except CheckpointError as error:
        text = str(error)
        one_line = "\n" not in text and text.startswith(str(path)) and len(text) < 2500
        outcome = "refused" if one_line else f"not one line: {text[:300]!r}"
    except HangError:
        outcome = "hangs"
    except BaseException as error:  # the point of the exercise
        outcome = f"{type(error).__name__}: {error!s:.300}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.process_time() - start > SECONDS:
        outcome = f"{time.process_time() - start:.0f} seconds"
    return outcome


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main(folder: Path, count: int, seed: int, kind: str = "") -> dict:
    """Damage and read ``count`` files."""
    warnings.filterwarnings("ignore", "Duplicate name")  # of zipfile, which is asked for them
    made = own_folder(folder) if kind == "own" else files(folder)
    mutations = MUTATIONS + (other_number,) * (4 if kind == "own" else 0)
    for name, (path, options) in made.items():
        if (outcome := check(path, options)) != "loaded":
            return {"faults": [f"{name}, undamaged: {outcome}"]}
    # NumPy arrays of their own: the files are overwritten
    originals = {name: _kept(read_checkpoint(path, options=o)) for name, (path, o) in made.items()}
    if kind != "own":  # TensorStore's threads reserve more address space than they use
        limit = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _alarm)
    ran: list[str] = []
    watched = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec")
    sys.addaudithook(lambda event, _: ran.append(event) if event in watched else None)
    ran.clear()
    outcomes: Counter[str] = Counter()
    by_mutation: Counter[str] = Counter()
    faults = []
    names = list(made)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        name = names[index % len(names)]
        source, options = made[name]
        mutate = mutations[int(rng.integers(len(mutations)))]
        if source.is_dir():
            target = folder / "damaged"
            damage_folder(source, target, mutate, rng)
        else:
            target = folder / "damaged.pth"
            target.write_bytes(mutate(source.read_bytes(), rng))
        ran.clear()  # writing the file imports and compiles nothing that counts
        outcome = check(target, options, originals[name])
        if ran or (folder / CANARY).exists() or Path(CANARY).exists():
            outcome = f"code was run ({', '.join(ran) or CANARY})"
        result = outcome if outcome in ("refused", "loaded", "changed") else "fault"
        outcomes[result] += 1
        by_mutation[f"{mutate.__name__} {result}"] += 1
        if result == "fault":
            faults.append(f"{name}, {mutate.__name__}, seed {seed}, {index}: {outcome}")
    return {"faults": faults[:20], **outcomes, "by mutation": by_mutation}


def _kept(checkpoint: Checkpoint) -> Checkpoint:
    arrays = {name: np.array(value) for name, value in checkpoint.parameters.items()}
    return dataclasses.replace(checkpoint, parameters=arrays)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:4]), *sys.argv[4:])))
