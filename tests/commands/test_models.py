"""Test the commands models, lock and download, and inspect of what they fetched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samjax.checkpoint.formats.safetensors import write_safetensors
from samjax.checkpoint.models import MODELS
from samjax.checkpoint.models_lock import read_lock
from samjax.cli import main
from samjax.commands.models import model_lines, model_records
from tests.support.hub_models import folder_files, weights
from tests.support.models import GOLDEN, seeded_tensors

ADDRESS = "hf://lab/small"


@pytest.fixture
def run(capsys):
    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_the_table(hub, run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for name in MODELS:
        assert any(line.startswith(f"{name} ") for line in out.splitlines())
    assert "vit_b " in out
    code, out, _ = run("models", "--json")
    records = json.loads(out)
    assert [record["name"] for record in records] == list(MODELS)
    assert not any(record["cached"] for record in records)
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_the_table_keeps_the_width(width):
    lines = model_lines(model_records(), width)
    longest = max(len(line) for line in lines)
    assert longest <= max(width, 84)
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.usefixtures("hub")
def test_what_the_first_download_pinned_is_told_apart(run):
    from samjax.checkpoint import sources
    from samjax.checkpoint.models_lock import LockedFile, LockEntry, write_entries

    entry = LockEntry(
        MODELS["vit_b_lm"].address,
        {"microsam_vit_b_lm.pt": LockedFile("a" * 64, 1234567)},
        "2026-01-02T00:00:00+00:00",
        "first download",
    )
    write_entries(sources.lock_path(), {"vit_b_lm": entry})
    _, out, _ = run("models")
    line = next(line for line in out.splitlines() if line.startswith("vit_b_lm "))
    assert "first download 2026-01-02" in line
    assert "1.2 MB" in line
    records = {record["name"]: record for record in json.loads(run("models", "--json")[1])}
    assert records["vit_b_lm"]["first_download"]["sha256"] == {"microsam_vit_b_lm.pt": "a" * 64}
    assert records["vit_b_lm"]["sha256"] is None
    assert records["vit_b"]["first_download"] is None
    assert records["vit_b"]["sha256"].startswith("ec2df627")


def test_download_and_inspect(hub, run):
    commit = hub.add("lab/small", folder_files())
    code, out, err = run("download", ADDRESS)
    assert (code, err) == (0, "")
    assert out.strip().endswith(f"snapshots/{commit}")
    hub.requests.clear()
    code, out, err = run("inspect", ADDRESS)
    assert (code, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert rows["commit"].strip() == commit
    assert rows["licence"].strip() == "apache-2.0"
    code, out, _ = run("inspect", ADDRESS, "--json")
    assert json.loads(out)["origin"]["commit"] == commit
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["vit_x", "photo.jpg", "lab/small"])
def test_download_of_what_has_no_address(run, name):
    code, out, err = run("download", name)
    assert (code, out) == (2, "")
    assert f"no official weights called {name!r}, and no other model: see samjax models" in err
    assert len(err.splitlines()) == 1


def test_lock_and_a_change(hub, run, tmp_path):
    first = hub.add("lab/small", folder_files())
    path = tmp_path / "models.lock.json"
    code, out, err = run("lock", ADDRESS, "embedded", "--out", str(path))
    assert (code, err) == (0, "")
    assert f"{ADDRESS}: commit {first}, sha256 " in out
    entries = read_lock(path)
    assert list(entries) == ["embedded", ADDRESS]
    assert str(tmp_path) not in path.read_text()
    before = path.read_bytes()
    assert "unchanged since" in run("lock", ADDRESS, "-o", str(path))[1]
    assert path.read_bytes() == before
    second = hub.repositories["lab/small"].commit(
        folder_files(**{"model.safetensors": weights(scale=2.0)})
    )
    code, _, err = run("lock", ADDRESS, "-o", str(path))
    assert code == 2
    assert "is another content there" in err
    assert "--update" in err
    assert path.read_bytes() == before
    assert run("lock", ADDRESS, "-o", str(path), "--update")[0] == 0
    assert read_lock(path)[ADDRESS].commit == second
    assert "embedded" in read_lock(path)


@pytest.mark.usefixtures("hub")
def test_lock_of_an_empty_folder(run, tmp_path):
    empty, path = tmp_path / "empty", tmp_path / "models.lock.json"
    empty.mkdir()
    code, out, err = run("lock", str(empty), "-o", str(path))
    assert (code, out) == (2, "")
    assert "a folder without files, no checkpoint" in err
    assert len(err.splitlines()) == 1
    assert not path.exists()


def test_download_of_a_file_without_weights(hub, run):
    hub.add("lab/small", folder_files())
    code, out, err = run("download", f"{ADDRESS}/config.json")
    assert (code, out) == (2, "")
    assert "no file of weights (model.safetensors, pytorch_model.bin)" in err
    code, _, err = run("download", f"{ADDRESS}@feature/x")
    assert code == 2
    assert "no revision 'feature'" in err
    assert "a / in its name is written %2F" in err


def test_segment_and_automask_refuse_what_the_lock_does_not_list(hub, run, tmp_path):
    from PIL import Image

    from tests.support.models import drawn_image

    hub.add("lab/small", folder_files())
    photo, lock = tmp_path / "photo.png", tmp_path / "models.lock.json"
    Image.fromarray(drawn_image(48, 64)).save(photo)
    assert run("lock", ADDRESS, "-o", str(lock))[0] == 0
    segment = ["segment", str(photo), "--point", "20,20", "--lock", str(lock)]
    automask = ["automask", str(photo), "--points-per-side", "4", "--lock", str(lock)]
    for number, command in enumerate((segment, automask)):
        out = tmp_path / f"out{number}"
        code, _, err = run(*command, "--out", str(out), "--model", ADDRESS)
        assert (code, [line for line in err.splitlines() if "refused" in line]) == (0, [])
        for other in ("embedded", f"{ADDRESS}@main"):
            code, _, err = run(*command, "--out", str(tmp_path / "no"), "--model", other)
            assert code == 2
            assert f"{other}: not in the lock ({ADDRESS}): add it with samjax lock" in err
        code, _, err = run(*command[:-1], str(tmp_path / "none.json"), "-o", str(tmp_path / "no"))
        assert code == 2
        assert "no such lock file" in err
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("hub")
def test_lock_never_replaces_another_file(run, tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("{}")
    code, _, err = run("lock", "embedded", "-o", str(path))
    assert code == 2
    assert "not a lock file of samjax" in err
    assert path.read_text() == "{}"


def test_the_commit_stands_in_the_results(hub, run, tmp_path):
    from PIL import Image

    from tests.support.models import drawn_image

    commit = hub.add("lab/small", folder_files())
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(drawn_image(40, 50)).save(photos / "photo.png")
    out = tmp_path / "masks"
    code, _, err = run(
        *("segment", str(photos / "photo.png"), "-p", "20,20", "-m", ADDRESS, "-o", str(out))
    )
    assert (code, err) == (0, "")
    assert json.loads((out / "photo.json").read_text())["origin"]["commit"] == commit
    out = tmp_path / "all"
    command = ("automask", str(photos), "-m", ADDRESS, "-o", str(out), "--points-per-side", "4")
    assert run(*command)[0] == 0
    assert json.loads((out / "run.json").read_text())["origin"]["commit"] == commit
    assert run(*command)[0] == 0  # goes on where it stopped: the record's date is no setting


def test_inspect_downloads(hub, run):
    commit = hub.add("lab/small", folder_files())
    code, out, err = run("inspect", ADDRESS)
    assert (code, err) == (0, "")
    assert f"hf://lab/small@{commit}" in out
    code, _, err = run("inspect", "hf://lab/none")
    assert code == 2
    assert "no such repository" in err


def test_inspect_where_nothing_can_be_recorded(hub, run, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    commit = hub.add("lab/small", folder_files())
    monkeypatch.setattr("samjax.checkpoint.sources.write_entries", refuse)
    for _ in range(2):
        code, out, err = run("inspect", ADDRESS)
        assert code == 0
        assert commit in out
        assert "cannot be written (Permission denied)" in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "meant"),
    [("hf:/lab/small", ADDRESS), ("vit-b", "vit_b"), ("sam_hq_vith", "sam_hq_vit_h")],
)
@pytest.mark.usefixtures("hub")
def test_download_tells_what_was_meant(run, source, meant):
    code, out, err = run("download", source)
    assert (code, out) == (2, "")
    assert f'did you mean "{meant}"?' in err


def safetensors_bytes(folder: Path, tensors: dict[str, np.ndarray]) -> bytes:
    write_safetensors(folder / "some.safetensors", tensors, None)
    return (folder / "some.safetensors").read_bytes()


def test_download_of_files_that_are_no_weights_of_a_sam(hub, run, tmp_path):
    other = safetensors_bytes(tmp_path, {"bert.encoder.weight": np.zeros((2, 2), np.float32)})
    hub.add("lab/table", {"a.csv": b"a,b", "README.md": b"# A table"})
    hub.add("lab/bert", {"config.json": b"{}", "model.safetensors": other})
    for address, names in (
        ("hf://lab/table/a.csv", "a.csv, README.md"),
        ("hf://lab/bert", "model.safetensors, config.json"),
    ):
        code, out, err = run("download", address)
        assert (code, out) == (2, "")
        assert f"{address}: fetched {names}, but no weights of a SAM are among them: " in err
        assert len(err.splitlines()) == 1


def test_a_part_of_a_sam_is_downloaded(hub, run, tmp_path):
    decoder = {k: v for k, v in seeded_tensors(GOLDEN).items() if k.startswith("mask_decoder.")}
    hub.add("lab/decoder", {"model.safetensors": safetensors_bytes(tmp_path, decoder)})
    assert run("download", "hf://lab/decoder")[0] == 0


# Programs that a shell starts in the background ignore an interrupt, and so would their children.
_INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("samjax", run_name="__main__")
"""


def download_process(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTIBLE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_command_lines_at_once(hub, tmp_path):
    commit = hub.add("lab/small", folder_files())
    lock = str(tmp_path / "models.lock.json")
    running = [download_process("lock", source, "-o", lock) for source in (ADDRESS, "embedded")]
    running.append(download_process("download", ADDRESS))
    for process in running:
        assert (process.communicate()[1], process.returncode) == ("", 0)
    assert sorted(read_lock(tmp_path / "models.lock.json")) == ["embedded", ADDRESS]
    assert read_lock(tmp_path / "models.lock.json")[ADDRESS].commit == commit


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_download_is_done_again(hub, how, run):
    from samjax.checkpoint.sources import lock_path

    commit = hub.add("lab/small", folder_files())
    hub.stall = True
    process = download_process("download", ADDRESS)
    assert hub.halfway.wait(60)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)  # the server still holds the file back
    hub.stall = False
    assert out == ""
    if how == signal.SIGINT:
        assert (process.returncode, err) == (130, "samjax: interrupted\n")
        assert not list(Path(os.environ["HF_HOME"]).rglob("*.incomplete"))
    assert not lock_path().exists()
    code, out, err = run("download", ADDRESS)
    assert (code, err) == (0, "")
    assert (Path(out.strip()) / "model.safetensors").read_bytes() == weights()
    assert read_lock(lock_path())[ADDRESS].commit == commit


def test_lock_of_what_holds_no_weights(hub, run, tmp_path):
    notes, empty, path = tmp_path / "notes", tmp_path / "empty", tmp_path / "models.lock.json"
    notes.mkdir()
    empty.mkdir()
    (notes / "README.md").write_text("# Notes")
    hub.add("lab/table", {"a.csv": b"a,b"})
    for source in (notes, notes / "README.md", empty, "hf://lab/table/a.csv"):
        code, out, err = run("lock", "embedded", str(source), "-o", str(path))
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert not path.exists()
