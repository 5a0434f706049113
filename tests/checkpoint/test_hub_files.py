"""Test models on the Hugging Face hub, with a server on the loopback that speaks its API."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import samjax
from samjax.checkpoint import hub_files
from samjax.checkpoint.models_lock import read_lock
from samjax.checkpoint.sources import fetch_source, lock_path
from samjax.errors import CheckpointError, CheckpointWarning, DownloadError
from tests.support.hub_models import CARD, folder_files, weights
from tests.support.hub_server import TOKEN

NAME = "lab/small-sam"
ADDRESS = f"hf://{NAME}"


def failure(source: str = ADDRESS, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch_source(source, **options)
    text = str(caught.value)
    assert text.startswith(f"{source}: "), text
    assert "\n" not in text
    return text


def test_a_fresh_download_asks_for_what_is_needed(hub, capfd):
    commit = hub.add(NAME, folder_files())
    located = fetch_source(ADDRESS)
    assert located.path == Path(os.environ["HF_HOME"]).resolve() / (
        f"hub/models--lab--small-sam/snapshots/{commit}"
    )
    names = {path.name for path in located.path.iterdir()}
    assert names == {"config.json", "preprocessor_config.json", "model.safetensors", "README.md"}
    assert (located.path / "model.safetensors").read_bytes() == weights()
    assert not hub.asked("training.log")
    assert not hub.asked("pytorch_model.bin")
    assert hub.asked(f"HEAD /{NAME}/resolve/{commit}/model.safetensors")
    assert located.origin.entry.commit == commit
    assert located.origin.entry.licence == "apache-2.0"
    assert capfd.readouterr() == ("", "")  # no terminal: no bar


def test_the_commit_is_told(hub):
    commit = hub.add(NAME, folder_files())
    sam = samjax.load(ADDRESS)
    assert f"{ADDRESS} at commit {commit}" in str(sam)
    assert sam.preset.name == "sam"
    assert any(f"hf://{NAME}@{commit}" in note for note in sam.notes)
    assert sam.card == CARD.decode()
    record = sam.origin.as_dict()
    assert record["commit"] == commit
    assert json.loads(json.dumps(record)) == record


def test_a_cached_commit_asks_nothing(hub):
    commit = hub.add(NAME, folder_files())
    first = fetch_source(f"{ADDRESS}@{commit}")
    hub.requests.clear()
    assert fetch_source(f"{ADDRESS}@{commit}").path == first.path
    assert hub.requests == []


def test_a_cached_branch_asks_once_for_its_commit(hub):
    hub.add(NAME, folder_files())
    fetch_source(ADDRESS)
    hub.requests.clear()
    fetch_source(ADDRESS)
    assert hub.requests == [f"GET /api/models/{NAME}"]


def test_offline_from_a_filled_cache(hub, monkeypatch):
    hub.add(NAME, folder_files())
    path = fetch_source(ADDRESS).path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert fetch_source(ADDRESS).path == path
    assert hub.requests == []


def test_offline_from_a_cache_that_another_program_filled(hub, monkeypatch):
    from huggingface_hub import snapshot_download

    commit = hub.add(NAME, folder_files())
    snapshot_download(NAME, endpoint=hub.url, cache_dir=hub_files.hub_cache())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    located = fetch_source(ADDRESS)
    assert located.origin.entry.commit == commit
    assert (located.path / "model.safetensors").read_bytes() == weights()
    assert "pytorch_model.bin" not in located.origin.entry.content


def test_offline_and_not_in_the_cache(hub, monkeypatch):
    hub.add(NAME, folder_files())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = failure()
    assert "not in the cache" in text
    assert "HF_HUB_OFFLINE" in text
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", "feature%2Fx"])
def test_revisions(hub, revision):
    hub.add(NAME, folder_files())
    other = hub.repositories[NAME].commit(
        folder_files(**{"model.safetensors": weights(scale=2.0)}), revision.replace("%2F", "/")
    )
    located = fetch_source(f"{ADDRESS}@{revision}")
    assert located.origin.entry.commit == other
    assert (located.path / "model.safetensors").read_bytes() == weights(scale=2.0)


def test_an_unknown_revision(hub):
    hub.add(NAME, folder_files())
    text = failure(f"{ADDRESS}@nowhere")
    assert "no revision 'nowhere'" in text
    assert f"{hub.url}/{NAME}/commits" in text


def test_a_file_of_several(hub):
    hub.add(NAME, {"b.pth": weights(".pth"), "l.pth": weights(".pth", 2.0), "README.md": CARD})
    located = fetch_source(f"{ADDRESS}/b.pth")
    assert located.path.name == "b.pth"
    assert samjax.load(f"{ADDRESS}/b.pth").origin.entry.read == "b.pth"
    with pytest.raises(CheckpointError, match=f"several files.*{ADDRESS}/b.pth"):
        fetch_source(ADDRESS)


def test_a_bin_goes_through_the_restricted_reader(hub):
    files = folder_files(**{"pytorch_model.bin": weights(".bin")})
    del files["model.safetensors"]
    hub.add(NAME, files)
    sam = samjax.load(ADDRESS)
    assert "pytorch_model.bin" in sam.origin.entry.content
    files["pytorch_model.bin"] = b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00exit\x85R."
    hub.add("lab/evil", files)
    with pytest.raises(CheckpointError, match="no code was run"):
        samjax.load("hf://lab/evil")


# Who may read


def test_a_private_repository_without_and_with_a_token(hub, monkeypatch):
    hub.add(NAME, folder_files(), private=True)
    text = failure()
    assert "no such repository, or a private one (401)" in text
    assert "set HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", "hf_weak")
    assert "no permission for this repository (403)" in failure()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token (401)" in failure()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_source(ADDRESS).path.is_dir()


def test_a_gated_repository(hub, monkeypatch):
    hub.add(NAME, folder_files(), gated=True)
    text = failure()
    assert f"gated (401): accept its conditions at {hub.url}/{NAME}" in text
    monkeypatch.setenv("HF_TOKEN", "hf_weak")
    assert "gated (403)" in failure()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_source(ADDRESS).path.is_dir()


def test_no_such_repository(hub, monkeypatch):
    assert "no such repository" in failure("hf://lab/nothing")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "no such repository, or a private one (404)" in failure("hf://lab/nothing")
    assert hub.asked("/api/models/lab/nothing")


def test_a_bare_name_is_a_path_and_the_error_suggests_the_address(hub):
    with pytest.raises(CheckpointError, match=r"hf://lab/small-sam"):
        samjax.load(NAME)
    with pytest.raises(CheckpointError) as caught:
        samjax.load("./lab/small-sam")
    assert "hf://" not in str(caught.value)
    assert hub.requests == []


def test_a_renamed_repository_loads_and_says_so(hub):
    commit = hub.add("lab/new-name", folder_files())
    hub.add(NAME, {})
    hub.repositories[NAME].new_name = "lab/new-name"
    with pytest.warns(CheckpointWarning, match="called lab/new-name now: hf://lab/new-name"):
        located = fetch_source(ADDRESS)
    assert located.origin.entry.commit == commit
    assert (located.path / "model.safetensors").read_bytes() == weights()


# What changes


def test_a_branch_that_moved_is_told_once(hub):
    old = hub.add(NAME, folder_files())
    fetch_source(ADDRESS)
    new = hub.repositories[NAME].commit(folder_files(**{"model.safetensors": weights(scale=2.0)}))
    with pytest.warns(CheckpointWarning) as caught:
        located = fetch_source(ADDRESS)
    text = str(caught[0].message)
    assert f"commit {old} then, commit {new} now" in text
    assert f"the former one is hf://{NAME}@{old}" in text
    assert (located.path / "model.safetensors").read_bytes() == weights(scale=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch_source(ADDRESS)
        assert fetch_source(f"{ADDRESS}@{old}").origin.entry.commit == old


def test_a_commit_that_changed_the_card_only_is_no_change_of_the_model(hub):
    hub.add(NAME, folder_files())
    fetch_source(ADDRESS)
    new = hub.repositories[NAME].commit(folder_files(**{"README.md": b"# Better words\n"}))
    located = fetch_source(ADDRESS)
    assert located.origin.entry.commit == new
    assert located.origin.card == "# Better words\n"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_wrong_hash_is_refused_and_thrown_away(hub, file):
    right = folder_files()
    hub.add(NAME, right)
    hub.replaced[file] = right[file][:-1] + b"?"
    text = failure()
    assert f"the hash of {file} is not the hub's, the file was thrown away" in text
    assert not list(Path(os.environ["HF_HOME"]).rglob(file))
    hub.replaced.clear()
    assert fetch_source(ADDRESS).path.is_dir()


def test_a_file_damaged_in_the_cache_is_fetched_anew(hub):
    hub.add(NAME, folder_files())
    file = fetch_source(ADDRESS).path / "model.safetensors"
    file.resolve().write_bytes(weights()[:-1] + b"?")
    os.utime(file.resolve(), ns=(1, 1))
    assert (fetch_source(ADDRESS).path / "model.safetensors").read_bytes() == weights()


def test_other_bytes_under_the_same_commit_are_refused(hub):
    commit = hub.add(NAME, folder_files())
    entry = fetch_source(ADDRESS).origin.entry
    shutil.rmtree(os.environ["HF_HOME"])
    hub.repositories[NAME].commits[commit]["model.safetensors"] = weights(scale=2.0)
    text = failure()
    assert f"refused, model.safetensors of commit {commit}" in text
    assert f"was {entry.content['model.safetensors']} on {entry.day}" in text
    assert read_lock(lock_path())[ADDRESS] == entry


# What breaks


def test_a_broken_transfer_is_resumed(hub):
    hub.add(NAME, folder_files())
    hub.breaks = 1
    assert (fetch_source(ADDRESS).path / "model.safetensors").read_bytes() == weights()
    assert len(hub.asked("GET /cdn/")) == 2


def test_a_transfer_that_always_breaks(hub):
    hub.add(NAME, folder_files())
    hub.silent.add("/cdn/")
    text = failure()
    assert "no connection to the hub" in text
    assert not list(Path(os.environ["HF_HOME"]).rglob("*.incomplete"))


def test_the_hub_is_down(hub):
    hub.add(NAME, folder_files())
    hub.statuses["/api/"] = 503
    assert "the hub is down (503): try again later" in failure()
    hub.statuses.clear()
    path = fetch_source(ADDRESS).path
    hub.statuses["/api/"] = 503
    with pytest.warns(CheckpointWarning, match="is down.*loaded from the cache: commit"):
        assert fetch_source(ADDRESS).path == path


def test_no_connection(hub, monkeypatch):
    hub.add(NAME, folder_files())
    path = fetch_source(ADDRESS).path
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(CheckpointWarning, match="no connection.*loaded from the cache: commit"):
        assert fetch_source(ADDRESS).path == path
    text = failure("hf://lab/other")
    assert "no connection to the hub (" in text
    assert "HF_ENDPOINT" in text


def test_too_many_requests(hub):
    hub.add(NAME, folder_files())
    hub.statuses["/api/"] = 429
    assert "too many requests (429)" in failure()


def test_a_disk_that_is_full(hub, monkeypatch):
    import huggingface_hub.file_download as inside

    hub.add(NAME, folder_files())

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inside, "http_get", full)
    text = failure()
    assert "is full: make room, or set HF_HOME" in text
    assert not read_lock(lock_path(), missing_ok=True)


def test_a_cache_that_cannot_be_used(hub, tmp_path, monkeypatch):
    hub.add(NAME, folder_files())
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "a file"))
    assert "cannot be used as the hub's cache" in failure()


def test_without_the_library(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    text = failure()
    assert "pip install 'samjax[hub]'" in text
    assert hub.requests == []


def test_two_processes_at_once(hub):
    commit = hub.add(NAME, folder_files())
    code = f"""if True:
        from samjax.checkpoint.sources import fetch_source
        found = fetch_source({ADDRESS!r})
        print(found.origin.entry.commit, len((found.path / "model.safetensors").read_bytes()))
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in processes]
    assert answers == [f"{commit} {len(weights())}\n"] * 2
    assert read_lock(lock_path())[ADDRESS].commit == commit


# MedSAM


def test_medsam_is_known_by_its_repository(hub):
    files = folder_files(**{"pytorch_model.bin": weights(".bin")})
    del files["model.safetensors"]
    hub.add("wanglab/medsam-vit-base", files)
    with pytest.warns(CheckpointWarning, match="preset medsam.*image processor would choose sam"):
        sam = samjax.load("hf://wanglab/medsam-vit-base")
    assert sam.preset.name == "medsam"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = samjax.load("hf://wanglab/medsam-vit-base", preprocess="sam")
    assert asked.preset.name == "sam"


@pytest.mark.parametrize("endpoint", ["notaurl", "http://[bad", "ftp://x", "http://"])
@pytest.mark.usefixtures("hub")
def test_an_endpoint_that_is_no_address_is_named(monkeypatch, endpoint: str):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match=r"HF_ENDPOINT is .*give an address"):
        fetch_source(ADDRESS)


def test_a_file_that_no_lock_could_name_leaves_the_lock_readable(hub):
    hub.add(NAME, {"a\\b.pth": weights(".pth")})
    with pytest.warns(CheckpointWarning, match="cannot be locked: rename it"):
        fetch_source(ADDRESS)
    hub.add("lab/other", {"b.pth": weights(".pth")})
    assert fetch_source("hf://lab/other").path.name == "b.pth"


# Half a cache, copied caches, and disks


def test_offline_from_a_copied_cache(hub, tmp_path, monkeypatch):
    hub.add(NAME, folder_files())
    commit = fetch_source(ADDRESS).origin.entry.commit
    dev = hub.repositories[NAME].commit(folder_files(), revision="feature/x")
    fetch_source(f"{ADDRESS}@feature%2Fx")
    shutil.copytree(os.environ["HF_HOME"], tmp_path / "copy", symlinks=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "copy"))
    monkeypatch.setenv("SAMJAX_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert fetch_source(ADDRESS).origin.entry.commit == commit
    assert fetch_source(f"{ADDRESS}@feature%2Fx").origin.entry.commit == dev
    assert hub.requests == []


def test_a_locked_commit_is_not_recorded_as_the_branch(hub):
    old = hub.add(NAME, folder_files())
    lock = {ADDRESS: fetch_source(ADDRESS).origin.entry.without_machine()}
    new = hub.repositories[NAME].commit(folder_files(**{"README.md": b"# New"}))
    fetch_source(ADDRESS)
    shutil.rmtree(hub_files.hub_cache() / f"models--lab--small-sam/snapshots/{old}")
    assert fetch_source(ADDRESS, lock=lock).origin.entry.commit == old
    reference = hub_files.hub_cache() / "models--lab--small-sam/refs/main"
    assert reference.read_text() == new


def test_offline_with_half_a_cache(hub, monkeypatch):
    commit = hub.add(NAME, folder_files())
    folder = fetch_source(ADDRESS).path
    lock_path().unlink()
    (folder / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for address in (ADDRESS, f"{ADDRESS}@{commit}"):
        text = failure(address)
        assert "without the weights that it names, and the hub is not asked" in text
        assert "HF_HUB_OFFLINE" in text
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert (fetch_source(ADDRESS).path / "model.safetensors").read_bytes() == weights()


def test_too_little_room_is_noticed_before_the_download(hub, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    hub.add(NAME, folder_files())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "GB: make room, or set HF_HOME to a folder on another disk" in failure()
    assert not hub.asked("/resolve/")
    monkeypatch.undo()


def test_files_that_are_there_need_no_room(hub, monkeypatch):
    hub.add(NAME, folder_files())
    fetch_source(ADDRESS)
    hub.repositories[NAME].commit(folder_files(**{"README.md": b"# New"}))
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert fetch_source(ADDRESS).origin.card == "# New"


def test_the_hubs_library_prints_nothing_of_its_own(hub, capfd):
    hub.add(NAME, folder_files())
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    folder = hub_files.hub_cache() / "models--lab--small-sam"
    folder.mkdir(parents=True)
    (folder / "trees").write_text("a file where the library writes its list of files: it warns")
    fetch_source(ADDRESS)
    assert capfd.readouterr() == ("", "")
    assert logger.level == level
