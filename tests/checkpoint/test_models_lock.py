"""Test lock files: reading, writing by several processes, and damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from samjax.checkpoint.models_lock import (
    FORMAT,
    LockedFile,
    LockEntry,
    locked_file,
    read_lock,
    today,
    write_entries,
)
from samjax.errors import DownloadError

FILE = LockedFile("0" * 64, 7, 5)
ENTRY = LockEntry(
    "hf://owner/name@" + "a" * 40,
    {"model.safetensors": FILE, "README.md": LockedFile("1" * 64, 1)},
    "2026-01-02T03:04:05+00:00",
    "commit",
    commit="a" * 40,
    licence="MIT",
    folder="/somewhere",
)


def test_entries_come_back(tmp_path):
    path = tmp_path / "below" / "models.lock.json"
    write_entries(path, {"a": ENTRY})
    write_entries(path, {"b": ENTRY.without_machine()})
    found = read_lock(path)
    assert found["a"] == ENTRY
    assert found["b"] == ENTRY.without_machine()
    assert found["b"].folder == ""
    assert {file.modified for file in found["b"].files.values()} == {0}
    text = path.read_text()
    assert json.loads(text)["format"] == FORMAT
    assert text.endswith("\n")
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".tmp"] == []


def test_the_card_is_no_content():
    assert ENTRY.content == {"model.safetensors": "0" * 64}
    assert ENTRY.day == "2026-01-02"
    assert today()[4] == "-"


def test_intact_is_the_same_size_and_time(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    entry = LockEntry("w", {"w.pth": locked_file(path)}, today(), "file", folder=str(tmp_path))
    assert entry.is_intact()
    assert not entry.without_machine().is_intact()
    path.write_bytes(b"weights!")
    assert not entry.is_intact()
    path.unlink()
    assert not entry.is_intact()


def test_a_missing_lock(tmp_path):
    assert read_lock(tmp_path / "none.json", missing_ok=True) == {}
    with pytest.raises(DownloadError, match="no such lock file: check the path, or write one"):
        read_lock(tmp_path / "none.json")


def damaged(change) -> str:
    content = {
        "format": FORMAT,
        "models": {
            "a": {
                "address": "x",
                "commit": None,
                "date": "2026",
                "pinned_by": "file",
                "files": {"w.pth": {"sha256": "0" * 64, "bytes": 3}},
            }
        },
    }
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"format": 1}', "format 1, not"),
        (damaged(lambda c: c.pop("models")), "no 'models'"),
        (damaged(lambda c: c["models"]["a"].pop("files")), "no 'files'"),
        (damaged(lambda c: c["models"]["a"]["files"].clear()), "an entry without files"),
        (
            damaged(lambda c: c["models"]["a"]["files"]["w.pth"].update(sha256="no")),
            "the sha256 'no'",
        ),
        (damaged(lambda c: c["models"]["a"].update(commit="main")), "the commit 'main'"),
        (damaged(lambda c: c.update(models=[])), "not of the form that samjax lock writes"),
        (
            damaged(lambda c: c["models"]["a"]["files"].update({"../../etc/passwd": {}})),
            "the file name '../../etc/passwd'",
        ),
        (damaged(lambda c: c["models"]["a"].update(read="/etc/passwd")), "the file name"),
    ],
)
def test_a_damaged_lock_is_refused_and_kept(tmp_path, text, why):
    path = tmp_path / "models.lock.json"
    path.write_text(text)
    with pytest.raises(DownloadError) as caught:
        read_lock(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert why in message
    assert "\n" not in message
    with pytest.raises(DownloadError):
        write_entries(path, {"b": ENTRY})
    assert path.read_text() == text


def test_the_undamaged_one_is_read(tmp_path):
    path = tmp_path / "models.lock.json"
    path.write_text(damaged(lambda c: c))
    assert read_lock(path)["a"].files["w.pth"] == LockedFile("0" * 64, 3)


def test_no_entry_is_lost_between_processes(tmp_path):
    path = tmp_path / "models.lock.json"
    code = f"""if True:
        import sys
        from pathlib import Path
        from samjax.checkpoint.models_lock import LockedFile, LockEntry, write_entries
        for i in range(20):
            entry = LockEntry("x", {{"w": LockedFile("0" * 64, 1)}}, "2026", "file")
            write_entries(Path({str(path)!r}), {{f"{{sys.argv[1]}}{{i}}": entry}})
    """
    processes = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(read_lock(path)) == 40
    assert Path(path).stat().st_size > 0


def test_a_folder_in_the_place_of_a_lock(tmp_path):
    with pytest.raises(DownloadError, match=r"cannot be read as a lock file \(Is a directory\)"):
        read_lock(tmp_path)
    with pytest.raises(DownloadError, match="cannot be read"):
        write_entries(tmp_path, {"b": ENTRY})
    assert not list(tmp_path.iterdir())
