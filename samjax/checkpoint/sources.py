"""Find the checkpoint behind a name, an address or a path, fetch it, and record what it was.

A name or address is recorded in the cache's models.lock.json when it is first loaded. Afterwards
a change at the publisher is told (a branch of the hub moved on) or refused (a file that was
pinned); it never passes in silence. With a project's lock nothing else than its content loads.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from samjax.checkpoint import download, hub_files
from samjax.checkpoint.download import RemoteFile
from samjax.checkpoint.formats.open import open_tensor_file
from samjax.checkpoint.hub_address import (
    HubAddress,
    is_hub_address,
    parse_hub_address,
)
from samjax.checkpoint.hub_files import HubUnreachableError, Snapshot
from samjax.checkpoint.hub_folder import hub_cache, record_revision
from samjax.checkpoint.models import MODELS, PRESETS_BY_REPOSITORY, PublicModel
from samjax.checkpoint.models_lock import (
    LOCK_FILE,
    LockEntry,
    locked_file,
    read_lock,
    sha256_of,
    today,
    write_entries,
)
from samjax.checkpoint.origin import Located, Origin, warn
from samjax.errors import CheckpointError, DownloadError

Lock = Mapping[str, LockEntry]
WEBSITE = "https://huggingface.co"
_REPOSITORY_LIKE = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def lock_path() -> Path:
    """Return the lock file of the cache."""
    return download.cache_folder() / LOCK_FILE


def check_address(source: str) -> bool:
    """Return whether ``source`` is a model's name or a well-formed address on the hub.

    Raises:
        CheckpointError: an address on the hub that is not well-formed.
    """
    if is_hub_address(source):
        parse_hub_address(source)
        return True
    return source in MODELS


def intended_name(source: str | os.PathLike[str]) -> str | None:
    """Return the model's name that ``source`` differs from by a slip, or None."""
    names = {_plain(name): name for name in MODELS}
    close = difflib.get_close_matches(_plain(os.fspath(source)), names, 1, 0.9)
    return names[close[0]] if close else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def not_there(source: str | os.PathLike[str], names: str) -> CheckpointError:
    """Return the error for a source that is neither a path nor a known name."""
    text = os.fspath(source)
    if _REPOSITORY_LIKE.fullmatch(text) and not text.startswith("."):
        hint = f"; for the repository on the Hugging Face hub: hf://{text}"
    else:
        hint = "; check the path"
    return CheckpointError(
        f"{source}: no such file or folder, and not a model's name ({names} and others, see "
        f"samjax models){hint}"
    )


def fetch_source(source: str, *, lock: Lock | None = None, progress: bool = True) -> Located:
    """Return the local checkpoint of a name or an address on the hub, fetched if necessary.

    Args:
        source: a key of MODELS, or hf://owner/name[@revision][/file].
        lock: entries of a project's lock file; None: the cache's record alone decides.
        progress: show bars while downloading.

    Raises:
        DownloadError: cannot be fetched or verified, or is not what the lock says.
        CheckpointError: an address that is not well-formed, or without weights.
    """
    model = MODELS.get(source)
    records = read_lock(lock_path(), missing_ok=True)
    known = records.get(source)
    wanted = None if lock is None else _locked(lock, source)
    if model is None or model.on_hub:
        address = parse_hub_address(source if model is None else model.address)
        entry = _from_hub(source, address, model, records, wanted, progress)
    else:
        entry = _from_server(model, known, wanted, progress)
    if wanted is not None:
        check_content(source, entry, wanted)
    return _located(source, model, entry)


def cached_source(source: str) -> Located | None:
    """Return the local checkpoint of a name or address if it is in the cache, else None.

    The publisher is not asked.
    """
    model = MODELS.get(source)
    known = read_lock(lock_path(), missing_ok=True).get(source)
    if model is not None and not model.on_hub:
        path = download.cache_folder() / model.file
        if not path.is_file():
            return None
        if known is None or not known.is_intact():
            return Located(path)
    elif known is None or not known.is_intact():
        return None
    return _located(source, model, known)


def _located(source: str, model: PublicModel | None, entry: LockEntry) -> Located:
    path = Path(entry.folder) / entry.read
    if model is not None:
        return Located(path, Origin(source, entry, model.preset, model.purpose, model.page))
    repository = parse_hub_address(source).repository
    preset = PRESETS_BY_REPOSITORY.get(repository)
    return Located(path, Origin(source, entry, preset, "", f"{WEBSITE}/{repository}"))


# Files of web servers


def _from_server(
    model: PublicModel, known: LockEntry | None, wanted: LockEntry | None, progress: bool
) -> LockEntry:
    pin = wanted or (known if not model.sha256 else None)
    sha256 = model.sha256 or (
        pin.files[model.file].sha256 if pin and model.file in pin.files else ""
    )
    origin = model.hash_words
    if not model.sha256 and pin is not None:
        wrong = lock_path() if wanted is None else "the lock"
        origin = f"that of {pin.day}, the publisher changed the file or {wrong} is wrong"
    remote = RemoteFile(model.file, model.size, sha256, model.address, model.xxh128, origin)
    path = download.fetch_file(remote, progress=progress)
    if known and known.content == {model.file: sha256} and known.address == model.address:
        return replace(known, folder=str(path.parent), read=model.file)
    if known and known.content != {model.file: sha256} and sha256:
        _tell_change(model.name, known, f"sha256 {sha256}")
    if not sha256 and remote.known_hash is None:
        _accept_unchecked(model, path)
    file = locked_file(path, sha256 or None)
    entry = LockEntry(
        model.address,
        {model.file: file},
        today(),
        model.pinned_by,
        licence=model.licence,
        folder=str(path.parent),
        read=model.file,
    )
    _record(entry, model.name)
    return entry


def _accept_unchecked(model: PublicModel, path: Path) -> None:
    """Take a first download whose hash cannot be checked here, if it is a checkpoint at all."""
    try:
        open_tensor_file(path)
    except CheckpointError as error:
        path.unlink(missing_ok=True)
        raise DownloadError(f"{error}; it was thrown away, see {model.page}") from error
    warn(
        f"{model.name}: the published xxh128 was not checked, which needs pip install xxhash; "
        "the sha256 of this first download is what counts from now on"
    )


# Repositories of the hub


def _from_hub(
    source: str,
    address: HubAddress,
    model: PublicModel | None,
    records: Lock,
    wanted: LockEntry | None,
    progress: bool,
) -> LockEntry:
    """Return the entry of an address on the hub, fetched unless the cache has it.

    A commit is decided by the project's lock, else by the address, else, for a model of the
    table, by its first download, else by the hub.
    """
    known, moves = records.get(source), False
    decided = known.commit if model is not None and known is not None else None
    commit = wanted.commit if wanted is not None else address.commit or decided
    pinned = records.get(str(address.at(commit))) if commit else None
    here = next(
        (e for e in (known, pinned) if e and _is_here(e) and commit in (None, e.commit)), None
    )
    if here and (commit or hub_files.is_offline()):
        return here
    licence = model.licence if model else ""
    try:
        if commit is None or here is None:
            moves = commit is None
            found, commit, renamed = _ask(address, commit)
            licence = found or licence
            if renamed:
                warn(
                    f"{source}: the repository is called {renamed} now: hf://{renamed} is its "
                    "address, and somebody else may take the old name"
                )
        if here and here.commit == commit:
            return here
        snapshot = hub_files.fetch_snapshot(address, commit, progress=progress)
        if moves:
            record_revision(address, commit)
    except HubUnreachableError as error:
        if hub_files.is_offline() and here is None:
            snapshot = hub_files.find_snapshot(address.at(commit) if commit else address)
        elif here:
            warn(f"{error}; loaded from the cache: commit {here.commit}, recorded {here.day}")
            return here
        else:
            raise
    entry = _hub_entry(address, snapshot, licence, model)
    if model is not None and model.sha256 and model.sha256 not in entry.content.values():
        raise DownloadError(
            f"{source}: the sha256 of {entry.read} is not {model.hash_words}, the repository was "
            f"changed: see {model.page}"
        )
    _refuse_other_bytes(source, records.get(entry.address), entry)
    if known is not None and wanted is None and known.content != entry.content:
        _tell_change(source, known, f"commit {snapshot.commit}", address)
    if wanted is None:
        _record(entry, source, entry.address)
    else:
        _record(entry, entry.address)
    return entry


def _refuse_other_bytes(source: str, known: LockEntry | None, entry: LockEntry) -> None:
    """Refuse a commit that has other files than it had: a commit never changes."""
    for name, sha256 in ({} if known is None else known.content).items():
        if known and known.commit == entry.commit and entry.content.get(name, sha256) != sha256:
            raise DownloadError(
                f"{source}: refused, {name} of commit {entry.commit} is sha256 "
                f"{entry.content[name]} now and was {sha256} on {known.day}: the hub, a mirror or "
                f"{lock_path()} was tampered with"
            )


def _ask(address: HubAddress, commit: str | None) -> tuple[str, str, str]:
    """Return (licence, commit, the repository's new name or "")."""
    found = hub_files.ask_hub(address.at(commit) if commit else address)
    renamed = found.name if found.name.lower() != address.repository.lower() else ""
    return found.licence, commit or found.commit, renamed


def _hub_entry(
    address: HubAddress, snapshot: Snapshot, licence: str, model: PublicModel | None
) -> LockEntry:
    pinned_by = "commit" if model is None else model.pinned_by
    return LockEntry(
        str(address.at(snapshot.commit)),
        snapshot.files,
        today(),
        pinned_by,
        commit=snapshot.commit,
        licence=licence,
        folder=str(snapshot.folder),
        read=snapshot.read,
    )


def _is_here(entry: LockEntry) -> bool:
    """Return whether the entry's files are in the hub's cache of today's environment."""
    return Path(entry.folder).is_relative_to(hub_cache()) and entry.is_intact()


# Locks


def _locked(lock: Lock, source: str) -> LockEntry:
    if source not in lock:
        raise DownloadError(
            f"{source}: not in the lock ({', '.join(lock) or 'which is empty'}): add it with "
            f"samjax lock {source}, or leave the lock out"
        )
    return lock[source]


def check_content(source: str, entry: LockEntry, wanted: LockEntry) -> None:
    """Hash the files of ``entry`` and refuse anything else than the content of ``wanted``.

    Raises:
        DownloadError: another commit, another file, or other bytes.
    """
    for name, sha256 in wanted.content.items():
        path = Path(entry.folder) / name
        found = sha256_of(path) if path.is_file() else "missing"
        if found != sha256:
            raise DownloadError(
                f"{source}: refused, not what was locked on {wanted.day}: {name} is {found}, "
                f"locked is sha256 {sha256}: get the locked file, or lock the new one on purpose"
            )
    if extra := sorted(set(entry.content) - set(wanted.content)):
        raise DownloadError(
            f"{source}: refused, {extra[0]} is not in the lock of {wanted.day}: lock it again"
        )


def describe_path(path: Path) -> LockEntry:
    """Return an entry for a local file or folder, for a project's lock.

    Raises:
        CheckpointError: an empty folder.
    """
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    folder = path if path.is_dir() else path.parent
    if not inside:
        raise CheckpointError(f"{path}: a folder without files, no checkpoint: check the path")
    files = {p.relative_to(folder).as_posix(): locked_file(p) for p in inside}
    read = "" if path.is_dir() else path.name
    return LockEntry(path.name, files, today(), "file", folder=str(folder), read=read)


def check_path(source: str, path: Path, lock: Lock) -> None:
    """Refuse a local file or folder that is not in a project's lock, by name and content.

    Raises:
        DownloadError: not in the lock, or other content.
    """
    check_content(source, describe_path(path), _locked(lock, source))


def _record(entry: LockEntry, *sources: str) -> None:
    try:
        write_entries(lock_path(), dict.fromkeys(sources, entry))
    except OSError as error:
        warn(
            f"{lock_path()}: cannot be written ({error.strerror or error}): {sources[0]} was "
            "loaded, but a later change of it will not be noticed"
        )


def _tell_change(
    source: str, known: LockEntry, now: str, address: HubAddress | None = None
) -> None:
    hashes = ", ".join(known.content.values())
    former = f"commit {known.commit}" if known.commit else f"sha256 {hashes}"
    advice = ""
    if address is not None and known.commit:
        advice = f"; the former one is {address.at(known.commit)}"
    warn(f"{source}: changed by its publisher since {known.day}: {former} then, {now} now{advice}")
