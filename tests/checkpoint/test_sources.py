"""Test models by name: the table, their servers, pins, locks, and what a name costs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

import samjax
from samjax.checkpoint import models, origin, sources
from samjax.checkpoint.download import OFFICIAL
from samjax.checkpoint.hub_address import intended_address
from samjax.checkpoint.models import MODELS, PublicModel
from samjax.checkpoint.models_lock import read_lock, write_entries
from samjax.checkpoint.sources import cached_source, fetch_source, lock_path
from samjax.engine.load import find_source
from samjax.errors import CheckpointError, CheckpointWarning, DownloadError
from samjax.image.preset import get_preset
from tests.support.hub_models import folder_files, weights

FILE = weights(".pth")
CHANGED = weights(".pth", 2.0)
SHA256 = hashlib.sha256(FILE).hexdigest()


def named(hub, **options) -> PublicModel:
    """Make an entry of the table whose file lies on the test's server."""
    hub.releases["/files/small.pth"] = FILE
    address = f"{hub.url}/files/small.pth"
    return PublicModel(
        "small", address, "tests", "https://example.org", "MIT", file="small.pth", **options
    )


@pytest.fixture
def table(monkeypatch):
    """Return a function that adds models to the table of names."""

    def add(*more: PublicModel) -> None:
        changed = MODELS | {model.name: model for model in more}
        for module in (models, origin, sources):
            monkeypatch.setattr(module, "MODELS", changed)

    return add


def failure(source: str, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch_source(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The table


def test_every_entry_is_whole():
    assert list(MODELS)[:3] == list(OFFICIAL)
    for name, model in MODELS.items():
        assert name == model.name
        assert get_preset(model.preset).name == model.preset
        assert model.purpose
        assert re.match("https:/{2}[a-z]", model.page)
        assert re.match(r"(https|hf):/{2}[\w.-]+/", model.address)
        assert re.fullmatch("([0-9a-f]{64})?", model.sha256)
        assert re.fullmatch("([0-9a-f]{32})?", model.xxh128)
        assert model.on_hub == (not model.file)
        pinned = model.pinned_by.removeprefix("quoted ")
        assert pinned in ("sha256", "commit", "first download")
        assert (pinned != model.pinned_by) == bool(model.quoted_from)
        if model.quoted_from:
            assert pinned != "first download"
        if model.on_hub:
            address = sources.parse_hub_address(model.address)
            assert address.commit or address.revision is None
        elif not model.sha256:
            assert model.xxh128
    for values in (
        [m.address for m in MODELS.values()],
        [m.file for m in MODELS.values() if m.file],
    ):
        assert len(set(values)) == len(values)


def test_what_the_projects_publish():
    for name, remote in OFFICIAL.items():
        assert (MODELS[name].sha256, MODELS[name].size) == (remote.sha256, remote.size)
        assert MODELS[name].address.endswith(f"segment_anything/{remote.name}")
    assert MODELS["mobile_sam"].size == 40_728_226
    assert MODELS["mobile_sam"].sha256.startswith("6dbb9052")
    assert MODELS["vit_b_lm"].preset == "microsam"
    assert MODELS["vit_b_lm_v1"].sha256.startswith("e8f5feb1")
    assert MODELS["medsam"].preset == "medsam"
    assert sources.parse_hub_address(MODELS["medsam"].address).commit.startswith("de8488b")
    # Only micro-sam's first release states sha256 of its own files
    own = {name for name, model in MODELS.items() if model.pinned_by == "sha256"}
    assert own == {"vit_b_lm_v1", "vit_b_em_organelles_v1", "vit_b_em_boundaries_v1"}
    assert not [name for name, model in MODELS.items() if model.pinned_by == "commit"]
    assert MODELS["vit_b"].quoted_from == MODELS["mobile_sam"].quoted_from == "micro_sam/util.py"
    assert MODELS["medsam"].pinned_by == "quoted commit"
    assert MODELS["sam_hq_vit_h"].pinned_by == "quoted sha256"
    assert MODELS["sam_hq_vit_b"].pinned_by == MODELS["vit_b_lm"].pinned_by == "first download"


# Servers


def test_a_published_hash(hub, table, capfd):
    table(named(hub, sha256=SHA256, size=len(FILE), preset="microsam"))
    sam = samjax.load("small")
    assert hub.requests == ["GET /files/small.pth"]
    assert sam.preset.name == "microsam"
    assert sam.origin.entry.content == {"small.pth": SHA256}
    assert read_lock(lock_path())["small"] == sam.origin.entry
    assert "small: " in str(sam)
    assert samjax.load("small", preprocess="sam").preset.name == "sam"
    assert len(hub.requests) == 1
    assert capfd.readouterr() == ("", "")


def test_a_wrong_hash(hub, table):
    table(named(hub, sha256=SHA256, size=len(FILE)))
    hub.releases["/files/small.pth"] = FILE[:-1] + b"?"
    assert "the sha256 is not the published one, the file was thrown away" in failure("small")
    assert not list(Path(os.environ["SAMJAX_CACHE"]).glob("small*"))
    table(named(hub, sha256=SHA256, size=len(FILE), quoted_from="somebody"))
    hub.releases["/files/small.pth"] = FILE[:-1] + b"?"
    assert "the sha256 is not the one quoted from somebody" in failure("small")


@pytest.mark.parametrize("status", [403, 404, 503])
def test_the_server_refuses(hub, table, status):
    table(named(hub, sha256=SHA256))
    hub.statuses["/files"] = status
    assert f"{hub.url}/files/small.pth: the server answered {status}" in failure("small")


def test_a_first_download_is_checked_by_xxhash_and_pinned(hub, table):
    table(named(hub, xxh128=xxhash.xxh128(FILE).hexdigest()))
    entry = fetch_source("small").origin.entry
    assert entry.content == {"small.pth": SHA256}
    assert entry.pinned_by == "first download"
    (Path(os.environ["SAMJAX_CACHE"]) / "small.pth").unlink()
    hub.releases["/files/small.pth"] = CHANGED
    text = failure("small")
    assert f"the sha256 is not that of {entry.day}" in text
    assert str(lock_path()) in text
    text = failure("small", lock={"small": entry.without_machine()})
    assert f"the sha256 is not that of {entry.day}, the publisher changed the file or the lock" in (
        text
    )
    assert not (Path(os.environ["SAMJAX_CACHE"]) / "small.pth").exists()
    hub.releases["/files/small.pth"] = FILE
    assert fetch_source("small").path.read_bytes() == FILE


def test_a_first_download_with_a_wrong_xxh128(hub, table):
    table(named(hub, xxh128=xxhash.xxh128(CHANGED).hexdigest()))
    assert "the xxh128 is not the published one" in failure("small")
    assert not read_lock(lock_path(), missing_ok=True)


def test_a_first_download_without_xxhash(hub, table, monkeypatch):
    monkeypatch.setattr("samjax.checkpoint.download.find_spec", lambda _: None)
    table(named(hub, xxh128=xxhash.xxh128(CHANGED).hexdigest()))
    with pytest.warns(CheckpointWarning, match="xxh128 was not checked.*pip install xxhash"):
        entry = fetch_source("small").origin.entry
    assert entry.content == {"small.pth": SHA256}
    fetch_source("small")  # no second warning


def test_a_login_page_is_never_pinned(hub, table, monkeypatch):
    monkeypatch.setattr("samjax.checkpoint.download.find_spec", lambda _: None)
    table(named(hub, xxh128="0" * 32))
    hub.releases["/files/small.pth"] = b"<!doctype html><p>Please log in"
    assert "an HTML or XML page" in failure("small")
    assert not list(Path(os.environ["SAMJAX_CACHE"]).glob("small*.pth"))
    assert not read_lock(lock_path(), missing_ok=True)


def test_a_table_that_has_another_hash_later_is_told(hub, table):
    table(named(hub, sha256=SHA256))
    fetch_source("small")
    hub.releases["/files/small.pth"] = CHANGED
    later = hashlib.sha256(CHANGED).hexdigest()
    table(replace(named(hub), sha256=later))
    hub.releases["/files/small.pth"] = CHANGED
    with pytest.warns(CheckpointWarning, match=f"{SHA256} then, sha256 {later} now"):
        assert fetch_source("small").path.read_bytes() == CHANGED


# Named models on the hub


def test_a_model_on_the_hub_is_pinned_by_its_first_download(hub, table):
    first = hub.add("lab/small", folder_files())
    table(PublicModel("small", "hf://lab/small", "tests", "https://example.org"))
    assert fetch_source("small").origin.entry.commit == first
    hub.repositories["lab/small"].commit(folder_files(**{"model.safetensors": weights(scale=2.0)}))
    hub.requests.clear()
    assert fetch_source("small").origin.entry.commit == first
    assert hub.requests == []


def test_a_pinned_commit(hub, table):
    first = hub.add("lab/small", folder_files())
    hub.repositories["lab/small"].commit({"README.md": b"empty now"})
    address = f"hf://lab/small@{first}"
    table(PublicModel("small", address, "tests", "https://example.org", preset="medsam"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sam = samjax.load("small")
    assert sam.origin.entry.commit == first
    assert sam.preset.name == "medsam"


def test_a_published_sha256_of_a_file_on_the_hub(hub, table):
    hub.add("lab/small", {"small.pth": FILE})
    address = "hf://lab/small/small.pth"
    model = PublicModel("small", address, "tests", "https://example.org", sha256="0" * 64)
    table(model)
    assert "the sha256 of small.pth is not the published one" in failure("small")
    table(replace(model, sha256=SHA256))
    assert fetch_source("small").path.read_bytes() == FILE


# Locks


def lock_of(source: str, path: Path) -> dict:
    write_entries(path, {source: fetch_source(source).origin.entry.without_machine()})
    return read_lock(path)


def test_a_lock_loads_the_locked_commit(hub, tmp_path):
    address = "hf://lab/small"
    old = hub.add("lab/small", folder_files())
    lock = lock_of(address, tmp_path / "lock.json")
    new = hub.repositories["lab/small"].commit(
        folder_files(**{"model.safetensors": weights(scale=2.0)})
    )
    with pytest.warns(CheckpointWarning, match="changed"):
        assert fetch_source(address).origin.entry.commit == new
    sam = samjax.load(address, lock=tmp_path / "lock.json")
    assert sam.origin.entry.commit == old
    hub.repositories["lab/small"].commits.pop(old)
    assert fetch_source(address, lock=lock).origin.entry.commit == old  # from the cache


def test_a_lock_refuses_anything_else(hub, table, tmp_path):
    table(named(hub, sha256=SHA256))
    lock = lock_of("small", tmp_path / "lock.json")
    assert "hf://lab/small: not in the lock (small): add it with samjax lock" in failure(
        "hf://lab/small", lock=lock
    )
    changed = replace(lock["small"], files={"small.pth": replace(
        lock["small"].files["small.pth"], sha256="f" * 64)})  # fmt: skip
    text = failure("small", lock={"small": changed})
    assert f"refused, not what was locked on {changed.day}: small.pth is {SHA256}" in text
    path = tmp_path / "lock.json"
    with pytest.raises(DownloadError, match="embedded: not in the lock"):
        samjax.load(lock=path)
    with pytest.raises(DownloadError, match="embedded: not in the lock"):
        samjax.load("small", base="embedded", lock=path)
    with pytest.raises(DownloadError, match="no such lock file"):
        samjax.load("small", lock=tmp_path / "other.json")


def test_a_lock_hashes_the_bytes_whatever_their_time(hub, table, tmp_path):
    table(named(hub, sha256=SHA256))
    lock = lock_of("small", tmp_path / "lock.json")
    path = fetch_source("small").path
    when = path.stat().st_mtime_ns
    path.write_bytes(FILE[:-1] + b"?")
    os.utime(path, ns=(when, when))
    assert "refused" in failure("small", lock=lock)


def test_a_lock_of_local_files(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(FILE)
    lock = tmp_path / "lock.json"
    write_entries(lock, {str(path): sources.describe_path(path).without_machine()})
    sam = samjax.load(path, lock=lock)
    assert sam.source == str(path)
    spec = samjax.ModelSpec(str(path), lock=str(lock))
    assert spec.load().fingerprint == sam.fingerprint
    assert set(spec.files()) == {path, lock}
    kept = pickle.dumps(sam)
    assert pickle.loads(kept).fingerprint == sam.fingerprint
    with pytest.raises(CheckpointError, match='the model is "": give a name'):
        samjax.load("", lock=lock)
    path.write_bytes(CHANGED)
    for load in (lambda: samjax.load(path, lock=lock), spec.load, lambda: pickle.loads(kept)):
        with pytest.raises(DownloadError, match="refused, not what was locked"):
            load()
    with pytest.raises(DownloadError, match="no such lock file"):
        replace(spec, lock=str(tmp_path / "none.json")).check()


def test_a_cache_that_cannot_be_written_is_told(hub, table, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    table(named(hub, sha256=SHA256))
    monkeypatch.setattr(sources, "write_entries", refuse)
    with pytest.warns(CheckpointWarning, match="cannot be written .Permission denied"):
        assert fetch_source("small").path.read_bytes() == FILE


# Without the publisher


def test_the_cache_answers_alone(hub, table):
    table(named(hub, sha256=SHA256))
    hub.add("lab/small", folder_files())
    for source in ("small", "hf://lab/small"):
        assert cached_source(source) is None
        fetch_source(source)
        hub.requests.clear()
        assert cached_source(source).origin.entry == read_lock(lock_path())[source]
        assert hub.requests == []


def test_an_address_that_is_none():
    with pytest.raises(CheckpointError, match="no owner and name"):
        samjax.load("hf://small")


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("sam_hq_vith", "sam_hq_vit_h"),
        ("SlimSAM-77", "slimsam_77"),
        ("sam_vit_base", "sam-vit-base"),
        ("vit_b_medical_imagin", "vit_b_medical_imaging"),
        ("hf:/lab/small", "hf://lab/small"),
        ("https://huggingface.co/lab/small", "hf://lab/small"),
    ],
)
def test_a_slip_is_told(source, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=rf'did you mean .*"{meant}"') as caught:
        samjax.load(source)
    assert str(caught.value).startswith(f"{source}: no such file or folder, and not a model's name")


def test_a_path_is_no_slip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("lab/small", "photo.jpg", "weights/finetuned.pth", "nonsense"):
        assert sources.intended_name(source) is None
        assert intended_address(source) is None
    Path("hf:/lab").mkdir(parents=True)
    Path("hf:/lab/small.pth").write_bytes(FILE)
    assert samjax.load("hf:/lab/small.pth").source == "hf:/lab/small.pth"


# What it costs


def test_a_name_costs_less_than_50_ms(hub, table, monkeypatch):
    first = hub.add("lab/small", folder_files())
    address = f"hf://lab/small@{first}"
    table(
        named(hub, sha256=SHA256, size=len(FILE)),
        PublicModel("hubbed", address, "tests", "https://example.org"),
    )
    for source in ("small", "hubbed", address):
        path = fetch_source(source).path
        hub.requests.clear()
        times = []
        for _ in range(5):
            start = time.process_time()  # of this process: other work on the machine is not in it
            located = find_source(source)
            times.append(time.process_time() - start)
        assert located.path == path
        assert min(times) < 0.05  # a path costs nothing, all else is the same
        assert hub.requests == []
        stats, opened = [], []
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", _noting(stats, os.stat))
            patch.setattr(io, "open", _noting(opened, io.open))
            find_source(source)
        assert 0 < len(stats) <= 30
        assert {Path(file).name for file in opened} <= {"models.lock.json", "small.pth.verified"}


def _noting(calls: list, function):
    def noting(path, *args, **options):
        calls.append(path)
        return function(path, *args, **options)

    return noting


def test_finding_a_name_in_a_new_process_imports_no_library_of_the_network(hub):
    commit = hub.add("lab/small", folder_files())
    fetch_source(f"hf://lab/small@{commit}")
    code = f"""if True:
        import sys, time
        import samjax
        assert not {{"requests", "pooch", "huggingface_hub", "httpx2"}} & set(sys.modules)
        import samjax.engine.load
        start = time.process_time()
        samjax.engine.load.find_source("hf://lab/small@{commit}")
        print(time.process_time() - start)
        assert not {{"requests", "pooch", "huggingface_hub", "httpx2"}} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.05


def test_a_converted_file_tells_its_source(hub, tmp_path):
    from samjax.cli import main

    commit = hub.add("lab/small", folder_files())
    for target in ("out.safetensors", "out"):
        assert main(["convert", "hf://lab/small", str(tmp_path / target)]) == 0
        notes = samjax.load(tmp_path / target).notes
        assert any(f"hf://lab/small@{commit}" in note for note in notes)
    header = (tmp_path / "out.safetensors").read_bytes()[8:600]
    assert b'"samjax.source"' in header
    assert json.dumps(commit)[1:-1].encode() in header
