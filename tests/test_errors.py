"""Messages are one line that a terminal shows as it is, whatever names a file brings."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samjax import errors
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.cli import main
from samjax.errors import CheckpointError, CheckpointWarning, DownloadError, SamjaxError, printable
from tests.support import checkpoint_files as make
from tests.support.models import GOLDEN

CLEAR, RED, TITLE, BACKWARDS = "\x1b[2J", "\x9b31m", "\x1b]0;owned\x07", "\u202efdp.exe"
HOSTILE = f"a{CLEAR}{RED}{TITLE}{BACKWARDS}\r\nsamjax: fine"
ONE = np.ones(1, np.float32)
SAM = to_official(random_parameters(GOLDEN), GOLDEN)


def is_clean(text: str) -> bool:
    return all(line.isprintable() for line in text.removesuffix("\n").split("\n"))


def test_printable_is_one_line_and_keeps_what_it_can():
    assert printable("Zürich 写真 é.pth") == "Zürich 写真 é.pth"
    assert printable(HOSTILE).isprintable()
    assert printable("a\x1b[2J\n\udc80") == r"a\x1b[2J \udc80"


@pytest.mark.parametrize(
    "kind",
    [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, SamjaxError)],
)
def test_every_error_of_samjax_is_printable(kind):
    error = kind(HOSTILE)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind("plain")) == "plain"


def test_errors_of_the_disk_stay_as_they_are():
    assert isinstance(DownloadError("x"), OSError)
    assert DownloadError("x").errno is None


def test_warnings_too():
    with pytest.warns(CheckpointWarning) as caught:
        warnings.warn(HOSTILE, CheckpointWarning, stacklevel=1)
    assert str(caught[0].message).isprintable()


def _hostile_files(folder: Path) -> dict[str, Path]:
    """A file for each place that a name can come from."""
    made = {}

    def torch(name: str, tensors: dict[str, np.ndarray]) -> None:
        made[name] = folder / f"{name}.pth"
        write_torch_file(made[name], tensors)

    torch("an unexpected key", SAM | {f"mask_decoder.{HOSTILE}": ONE})
    torch("a family's key", {f"image_encoder.trunk.{HOSTILE}": ONE})
    torch("no SAM", {HOSTILE: ONE, f"{HOSTILE}.b": ONE})
    torch("prefixes", {f"{HOSTILE}.{p}.{k}": v for p in "ab" for k, v in SAM.items()})
    torch("numbers", SAM | {"image_encoder.blocks.77777.x": ONE})
    pickled = {
        "a global": make.dict_of({"w": make.call("os", "system")}),
        "a key": make.dict_of({HOSTILE: make.call("a", "B")}),
        "an unknown wrapper": make.dict_of({HOSTILE: make.state_dict({"w": ONE})}),
        "no tensors": make.dict_of({HOSTILE: b"N"}),
        "a storage": make.dict_of({"w": make.tensor(HOSTILE[:60], (1,))}),
    }
    for name, content in pickled.items():
        made[name] = make.write_zip(folder / f"{name}.pth", content, {"0": ONE.tobytes()})
    made["a zip entry"] = make.write_zip(
        folder / "entry.pth", b"}", others={f"{HOSTILE}/x.pth": b"", f"{HOSTILE}": b""}
    )
    made["safetensors"] = make.write_safetensors(folder / "x.safetensors", {HOSTILE: ONE})
    made["a path"] = folder / HOSTILE.replace("/", "")
    made["a path"].write_bytes(b"what")
    own = folder / "own"
    parameters = dict(random_parameters(GOLDEN)) | {HOSTILE.replace("/", ""): ONE}
    save_orbax_folder(own, Checkpoint(parameters, GOLDEN, HOSTILE, None))
    made["an array of a folder"] = own
    return made


def test_names_in_files_do_not_reach_the_terminal(tmp_path, capsys):
    for name, path in _hostile_files(tmp_path).items():
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert str(caught.value).isprintable(), name
        gc.collect()  # what earlier tests left behind may print as it is freed
        capsys.readouterr()
        assert main(["inspect", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, f"{name}: {err}"
        assert is_clean(err), name


def test_what_is_told_of_a_good_file_is_clean_too(tmp_path, capsys):
    path = tmp_path / "sam.pth"
    write_torch_file(path, SAM | {HOSTILE: ONE})
    own = tmp_path / "own"
    for command in (["inspect", str(path)], ["inspect", str(path), "--json"],
                    ["convert", str(path), str(own)], ["inspect", str(own)]):  # fmt: skip
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert is_clean(out), command
        assert is_clean(err), command
        assert out


# Addresses


@pytest.mark.parametrize("address", ["https://h.example/a/x.png", "HTTP://h.example/x", "s3://b/x"])
def test_addresses_are_refused_as_they_were_typed(tmp_path, monkeypatch, capsys, address):
    import samjax
    from samjax.files import made_folder

    monkeypatch.chdir(tmp_path)
    said = f"{address}: an address, and files are read here: download it"
    for call in (
        lambda: samjax.read_image(address),
        lambda: samjax.read_image(Path(address)),
        lambda: samjax.load(address),
        lambda: samjax.load(Path(address)),
        lambda: samjax.load("x", base=address),
        lambda: made_folder(address),
    ):
        with pytest.raises(SamjaxError) as caught:
            call()
        assert said in str(caught.value)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "x.png")
    point = ["--point", "1,1"]
    for command in (
        ["segment", address, *point],
        ["segment", "x.png", *point, "--model", address],
        ["segment", "x.png", *point, "--out", address],
        ["inspect", address],
        ["convert", address, "out"],
    ):
        assert main(command) == 2
        assert said in capsys.readouterr().err, command
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


# Notebooks


CELL = """
import samjax
def mine(name):
    return samjax.load(name)
mine("vit-b")
"""


@pytest.mark.parametrize("mode", ["Context", "Verbose"])
def test_a_notebook_shows_the_callers_frames_and_the_message(tmp_path, mode):
    script = tmp_path / "cell.ipy"
    script.write_text(f"%xmode {mode}\n{CELL}")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", str(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"IPYTHONDIR": str(tmp_path)},
    )
    shown = done.stdout + done.stderr
    assert "return samjax.load(name)" in shown
    assert "CheckpointError: vit-b: no such file or folder" in shown
    assert ("in find_source" in shown) == (mode == "Verbose")


def _raised_in(file: Path) -> SamjaxError:
    """The error of a call of samjax in a script of this name."""
    code = compile("from samjax import read_image\nread_image('no-such-file.png')", file, "exec")
    with pytest.raises(SamjaxError) as caught:
        exec(code, {})
    return caught.value


@pytest.mark.parametrize("name", ["samjax_demo.py", "samjax-work/cell.py", "samjax.py"])
def test_a_script_beside_the_package_is_the_callers(name):
    script = Path(errors.__file__).parents[1] / name
    shown = errors.callers_frames(_raised_in(script).__traceback__)
    files = []
    while shown is not None:
        files.append(shown.tb_frame.f_code.co_filename)
        shown = shown.tb_next
    assert files[:2] == [__file__, str(script)]  # jaxtyping's frames may follow
