"""Record what was loaded in models.lock.json: address, commit, sha256 of every file, date.

The cache has one such file, written by ``samjax.load``; a project can have another, written by
``samjax lock``. Writers take turns between processes, and readers never see half a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samjax.errors import DownloadError
from samjax.file_lock import taking_turns
from samjax.files import replacing

LOCK_FILE = "models.lock.json"
FORMAT = "samjax models lock/1"
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class LockedFile:
    """A file as it was: sha256 in hexadecimal and bytes.

    ``modified`` (nanoseconds) is the cache's: while it and the size stay, the hash counts as
    checked.
    """

    sha256: str
    size: int
    modified: int = 0


@dataclass(frozen=True)
class LockEntry:
    """What a name or address stood for on a day.

    Attributes:
        address: URL, address on the hub, or name of a local file.
        files: the files that were read, by name below ``folder``.
        date: when it was recorded, in UTC.
        pinned_by: what fixes the content: "sha256", "commit", either of them "quoted", "first
            download" or "file".
        commit: commit of the repository on the hub, else None.
        licence: SPDX name of the weights' licence, "" if unknown.
        folder: local folder of the files, of the cache's record only.
        read: the file or folder below ``folder`` that the reader opens.
    """

    address: str
    files: Mapping[str, LockedFile]
    date: str
    pinned_by: str
    commit: str | None = None
    licence: str = ""
    folder: str = ""
    read: str = ""

    @property
    def content(self) -> dict[str, str]:
        """Return the sha256 of each file, without the card, which says nothing of the weights."""
        return {name: file.sha256 for name, file in self.files.items() if name != "README.md"}

    @property
    def weights(self) -> dict[str, str]:
        """Return the sha256 of the weights' files, without configuration."""
        return {n: s for n, s in self.content.items() if not n.endswith(".json")} or self.content

    @property
    def day(self) -> str:
        """Return the date without the time."""
        return self.date[:10]

    def is_intact(self) -> bool:
        """Return whether all files are still there, with the size and time that they had."""
        for name, file in self.files.items():
            try:
                found = (Path(self.folder) / name).stat()
            except OSError:
                return False
            if (found.st_size, found.st_mtime_ns) != (file.size, file.modified):
                return False
        return bool(self.folder)

    def without_machine(self) -> LockEntry:
        """Return the entry for a project's lock: nothing that only holds on this machine."""
        files = {name: replace(file, modified=0) for name, file in self.files.items()}
        return replace(self, files=files, folder="")


def today() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locked_file(path: Path, sha256: str | None = None) -> LockedFile:
    """Describe a file; its sha256 is computed unless given."""
    found = path.stat()
    return LockedFile(sha256 or sha256_of(path), found.st_size, found.st_mtime_ns)


def read_lock(path: Path, *, missing_ok: bool = False) -> dict[str, LockEntry]:
    """Read a lock file: entries by the name or address that ``samjax.load`` was given.

    Raises:
        DownloadError: missing, unreadable, damaged, or of another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise DownloadError(
            f"{path}: no such lock file: check the path, or write one with samjax lock"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DownloadError(
            f"{path}: cannot be read as a lock file ({reason}): correct it, or move it away"
        ) from error
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r:.60}, not {FORMAT!r}")
        return {str(name): _entry(value) for name, value in content["models"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(
            f"{path}: not a lock file of samjax, or damaged ({_why(error)}): "
            "restore it, or delete it to start anew"
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, TypeError | AttributeError):
        return "not of the form that samjax lock writes"
    text = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:160]


def _entry(value: Mapping[str, Any]) -> LockEntry:
    commit = value.get("commit")
    files = {
        _inside(name): LockedFile(
            _hexadecimal("sha256", file["sha256"], 64),
            int(file["bytes"]),
            int(file.get("modified", 0)),
        )
        for name, file in value["files"].items()
    }
    if not files:
        raise ValueError("an entry without files")
    return LockEntry(
        address=str(value["address"]),
        files=files,
        date=str(value["date"]),
        pinned_by=str(value["pinned_by"]),
        commit=None if commit is None else _hexadecimal("commit", commit, 40),
        licence=str(value.get("licence", "")),
        folder=str(value.get("folder", "")),
        read=_inside(value["read"]) if value.get("read") else "",
    )


def _inside(name: object) -> str:
    """Return a relative name that stays below its folder; a lock file may come from anybody."""
    text = str(name)
    if text.startswith("/") or "\\" in text or ".." in text.split("/") or ":" in text:
        raise ValueError(f"the file name {text[:80]!r}")
    return text


def _hexadecimal(what: str, value: object, digits: int) -> str:
    text = str(value)
    if len(text) != digits or not _HEX.issuperset(text):
        raise ValueError(f"the {what} {text[:80]!r}")
    return text


def write_entries(path: Path, entries: Mapping[str, LockEntry]) -> None:
    """Add entries to a lock file, or replace those of the same name; other entries stay.

    Raises:
        DownloadError: what is there is no lock file, or an entry that it could not be read from.
        OSError: it cannot be written.
    """
    for name, entry in entries.items():
        if not entry.files:
            raise DownloadError(f"{name}: has no files to lock: name a checkpoint")
        for file in entry.files:
            try:
                _inside(file)
            except ValueError as error:
                raise DownloadError(f"{name}: {error} cannot be locked: rename it") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with taking_turns(path):
        known = read_lock(path, missing_ok=True)
        known.update(entries)
        content = {
            "format": FORMAT,
            "models": {name: _plain(entry) for name, entry in sorted(known.items())},
        }
        with replacing(path) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8")


def _plain(entry: LockEntry) -> dict[str, Any]:
    values: dict[str, Any] = {
        "address": entry.address,
        "commit": entry.commit,
        "date": entry.date,
        "pinned_by": entry.pinned_by,
        "licence": entry.licence,
        "folder": entry.folder,
        "read": entry.read,
    }
    kept = {name: value for name, value in values.items() if value or name == "commit"}
    kept["files"] = {
        name: {"sha256": file.sha256, "bytes": file.size}
        | ({"modified": file.modified} if file.modified else {})
        for name, file in sorted(entry.files.items())
    }
    return kept
