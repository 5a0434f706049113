"""Fetch checkpoints from the Hugging Face hub into its own cache, through huggingface_hub.

Environment:
    HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE: as huggingface_hub reads them.

huggingface_hub takes half a second to import and does so only where the hub has to be asked.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samjax.checkpoint import download
from samjax.checkpoint.hub_address import CARD, HubAddress, choose_files
from samjax.checkpoint.hub_folder import hub_cache, refuse_small_disk
from samjax.checkpoint.models_lock import LockedFile, locked_file
from samjax.errors import CheckpointError, DownloadError, SamjaxError

_TRUE = ("1", "ON", "YES", "TRUE")
_SECONDS = 10  # for an answer about a repository, not for its files
_ATTEMPTS = 2  # a damaged file in the cache is fetched anew once


class HubUnreachableError(DownloadError):
    """Reports that the hub cannot be asked: offline, no connection, or it is down."""


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at a commit, checked, in the hub's cache.

    Attributes:
        commit: the commit.
        folder: the snapshot's folder.
        read: the file or folder below it that the reader opens, "" for the folder itself.
        files: each file with its sha256.
    """

    commit: str
    folder: Path
    read: str
    files: Mapping[str, LockedFile]


@dataclass(frozen=True)
class Repository:
    """What the hub says of a repository: its present name and the commit of a revision."""

    name: str
    commit: str
    licence: str


def is_offline() -> bool:
    """Return whether the user told the hub's library to stay offline."""
    told = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return told.upper() in _TRUE


def _endpoint() -> str | None:
    """Return the user's address of the hub, as it is now and not when the library was imported."""
    given = (os.environ.get("HF_ENDPOINT") or "").rstrip("/")
    if not given:
        return None
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        advice = "give an address such as https://hub.example.org"
        raise DownloadError(f"HF_ENDPOINT is {given!r}: {advice}")
    return given


def ask_hub(address: HubAddress) -> Repository:
    """Ask the hub for the commit of the address's revision.

    Raises:
        HubUnreachableError: offline, no connection, or the hub is down.
        DownloadError: no such repository or revision, or no permission.
    """
    _refuse_offline(address)
    hub = _library(address)
    with _hub_errors(address):
        info = hub.HfApi(endpoint=_endpoint()).model_info(
            address.repository, revision=address.revision, timeout=_SECONDS
        )
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return Repository(info.id, info.sha, tags[0] if tags else "")


def _refuse_offline(address: HubAddress) -> None:
    if is_offline():
        raise HubUnreachableError(
            f"{address}: not in the cache ({hub_cache()}), and the hub is not asked because "
            "HF_HUB_OFFLINE is set: unset it, or copy the cache of a machine that has the model"
        )


def fetch_snapshot(address: HubAddress, commit: str, *, progress: bool = True) -> Snapshot:
    """Fetch the files of an address at a commit and check each by the hash that the hub has.

    Files that are in the hub's cache already are not fetched again. A file that does not match
    is thrown away and fetched once more.

    Args:
        address: the address; its file limits the choice.
        commit: the commit, 40 hexadecimal digits.
        progress: show bars on stderr, if that is a terminal or a notebook.

    Raises:
        HubUnreachableError: offline, no connection, or the hub is down.
        DownloadError: no permission, a broken download, a full disk, or a wrong hash.
        CheckpointError: the repository has no weights, or several that could be meant.
    """
    _refuse_offline(address)
    hub = _library(address)
    with _hub_errors(address, commit), _bars(hub.utils, progress):
        listed = {
            entry.path: entry
            for entry in hub.HfApi(endpoint=_endpoint()).list_repo_tree(
                address.repository, recursive=True, revision=commit
            )
            if hasattr(entry, "blob_id")  # folders are listed, too
        }
        chosen = choose_files(listed, address)
        refuse_small_disk(address, [listed[name] for name in chosen.names])
        for attempt in range(1, _ATTEMPTS + 1):
            # In this thread, which an interrupt ends at once; those of snapshot_download it cannot
            for name in chosen.weights:
                hub.hf_hub_download(
                    address.repository,
                    name,
                    revision=commit,
                    cache_dir=hub_cache(),
                    endpoint=_endpoint(),
                )
            folder = Path(
                hub.snapshot_download(
                    address.repository,
                    revision=commit,
                    allow_patterns=[escape(name) for name in chosen.names],
                    cache_dir=hub_cache(),
                    endpoint=_endpoint(),
                )
            )
            try:
                files = {name: _checked(folder / name, listed[name]) for name in chosen.names}
            except _WrongHashError as wrong:
                if attempt == _ATTEMPTS:
                    raise DownloadError(
                        f"{address}: {wrong}, the file was thrown away: a proxy's page or a "
                        "damaged copy; run it again"
                    ) from None
    return Snapshot(commit, folder, chosen.read, files)


def find_snapshot(address: HubAddress) -> Snapshot:
    """Find the files of an address in the hub's cache, filled by any program, without the hub.

    Raises:
        HubUnreachableError: not there, or not whole.
    """
    hub = _library(address)
    with _hub_errors(address):
        try:
            repositories = hub.scan_cache_dir(hub_cache()).repos
        except hub.errors.CacheNotFound:
            repositories = ()
        found = [r for r in repositories if r.repo_id == address.repository]
        wanted = address.revision or "main"
        half = False
        for revision in (revision for r in found for revision in r.revisions):
            if wanted in (revision.commit_hash, *revision.refs):
                names = {
                    file.file_path.relative_to(revision.snapshot_path).as_posix(): file.blob_path
                    for file in revision.files
                }
                try:
                    chosen = choose_files(names, address)
                except CheckpointError:
                    half = True
                    continue
                files = {name: _checked_blob(names[name]) for name in chosen.names}
                return Snapshot(revision.commit_hash, revision.snapshot_path, chosen.read, files)
    if half:
        raise HubUnreachableError(
            f"{address}: in the cache ({hub_cache()}) without the weights that it names, and the "
            "hub is not asked because HF_HUB_OFFLINE is set: unset it"
        )
    _refuse_offline(address)
    raise HubUnreachableError(f"{address}: not in the cache ({hub_cache()})")


def card_of(folder: Path) -> str:
    """Return the text of the model card in a snapshot, "" without one."""
    try:
        return (folder / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class _WrongHashError(Exception):
    pass


def _checked(path: Path, listed: Any) -> LockedFile:
    """Return the file with its sha256, compared with the hub's sha256 (LFS) or git's own hash."""
    found = locked_file(path)
    if listed.lfs is not None:
        right = found.sha256 == listed.lfs.sha256
    else:
        data = path.read_bytes()
        right = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == listed.blob_id
    if not right:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise _WrongHashError(f"the hash of {listed.path} is not the hub's")
    return found


def _checked_blob(blob: Path) -> LockedFile:
    """Return a file of the cache, which names files of git LFS by their sha256."""
    found = locked_file(blob)
    if re.fullmatch("[0-9a-f]{64}", blob.name) and found.sha256 != blob.name:
        raise DownloadError(f"{blob}: damaged, its sha256 is not its name: delete it and go online")
    return found


def _library(address: HubAddress) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise DownloadError(
            f"{address}: needs huggingface_hub, which is not installed: "
            "pip install 'samjax[hub]', or download the repository and name its folder"
        ) from None
    return huggingface_hub


@contextmanager
def _bars(bars: Any, progress: bool) -> Iterator[None]:
    """Hide the bars of huggingface_hub where nobody wants or sees them."""
    if (progress and download._someone_watches()) or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


@contextmanager
def _hub_errors(address: HubAddress, commit: str | None = None) -> Iterator[None]:
    """Turn errors of huggingface_hub, its HTTP library and the disk into one line that helps."""
    import httpx2
    from huggingface_hub import constants, errors, get_token

    page = f"{_endpoint() or constants.ENDPOINT}/{address.repository}"
    logger = logging.getLogger("huggingface_hub")
    token = "set HF_TOKEN, or run hf auth login" if not get_token() else "check your HF_TOKEN"
    try:
        with nullcontext() if os.environ.get("HF_HUB_VERBOSITY") else download._quiet(logger):
            yield
    except SamjaxError:
        raise
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{address}: gated ({_status(error)}): accept its conditions at {page}, then {token}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{address}: no such repository, or a private one ({_status(error)}): check the name "
            f"at {page}; for a private one {token}"
        ) from error
    except errors.RevisionNotFoundError as error:
        slash = "" if address.file is None else "; a / in its name is written %2F"
        raise DownloadError(
            f"{address}: the repository has no revision {commit or address.revision or 'main'!r}: "
            f"name a branch, a tag or a whole commit, see {page}/commits{slash}"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubUnreachableError(
            f"{address}: not in the cache, and HF_HUB_OFFLINE is set: unset it"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _http_error(address, error, token) from error
    except errors.LocalEntryNotFoundError as error:
        raise HubUnreachableError(f"{address}: {_no_connection(_deepest(error))}") from error
    except httpx2.TransportError as error:
        raise HubUnreachableError(f"{address}: {_no_connection(_deepest(error))}") from error
    except httpx2.HTTPError as error:
        raise DownloadError(f"{address}: the download failed ({error}): run it again") from error
    except OSError as error:
        raise _disk_error(address, error) from error
    except ValueError as error:  # names and tokens that its HTTP library or cache cannot take
        reason = " ".join(str(error).split())
        raise DownloadError(
            f"{address}: the hub's library refuses it ({reason[:200]}): check the address, the "
            "names of its files, and HF_TOKEN"
        ) from error


def _http_error(address: HubAddress, error: Any, token: str) -> DownloadError:
    """Return the error for an answer of the hub that has no class of its own."""
    status = _status(error)
    if status == 401:
        return DownloadError(f"{address}: the hub does not accept the token (401): {token}")
    if status == 403:
        return DownloadError(
            f"{address}: the token has no permission for this repository (403): give it read "
            f"access, or {token}"
        )
    if status == 429:
        return HubUnreachableError(f"{address}: too many requests (429): wait a while, or {token}")
    if status >= 500:
        return HubUnreachableError(f"{address}: the hub is down ({status}): try again later")
    return DownloadError(f"{address}: the hub answered {status}: check the address")


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _no_connection(reason: str) -> str:
    return (
        f"no connection to the hub ({reason}): go online, or set HF_ENDPOINT to a mirror of it; "
        "a model that is in the cache loads with HF_HUB_OFFLINE=1"
    )


def _deepest(error: BaseException) -> str:
    """Return the first line of the error at the bottom of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:160]


def _disk_error(address: HubAddress, error: OSError) -> DownloadError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"{address}: the disk or quota of {hub_cache()} is full: make room, or set HF_HOME to "
            "a folder on another disk"
        )
    if error.errno is None:  # huggingface_hub's own: a body that is too short, a missing header
        reason = str(error).strip().splitlines()[0][:200]
        return DownloadError(f"{address}: the download failed ({reason}): run it again")
    return DownloadError(
        f"{address}: {error.filename or hub_cache()} cannot be used as the hub's cache "
        f"({error.strerror or error}): correct it, or set HF_HOME to a folder you can write to"
    )
