"""The official weights: where they are, what they must hash to, and a cache that is fetched once.

Environment:
    SAMJAX_CACHE: folder for downloaded weights, instead of the platform's cache folder.
    SAMJAX_MIRROR: base URL that replaces the official one; the sha256 is checked all the same.
    HTTP_PROXY, HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE: as `requests` reads them.

pooch and requests are imported where they are used: a cached file needs neither.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samjax.errors import DownloadError

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
CACHE_VARIABLE = "SAMJAX_CACHE"
MIRROR_VARIABLE = "SAMJAX_MIRROR"

_CONNECT_READ_SECONDS = (15, 60)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name under the base URL, size in bytes and sha256 (hexadecimal)."""

    name: str
    size: int
    sha256: str


# Source: the download links of the official README; sizes and hashes as published.
OFFICIAL: Mapping[str, RemoteFile] = MappingProxyType(
    {
        "vit_b": RemoteFile(
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        "vit_l": RemoteFile(
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        "vit_h": RemoteFile(
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    }
)


def remote_file(model: str) -> RemoteFile:
    """The published file of an official model.

    Raises:
        DownloadError: unknown name.
    """
    if model not in OFFICIAL:
        raise DownloadError(
            f"no official weights called {model!r}: use one of {', '.join(OFFICIAL)}, "
            "or pass the path of a checkpoint"
        )
    return OFFICIAL[model]


def remote_url(model: str) -> str:
    """Where `model` is fetched from: the mirror's address if there is one, else the official."""
    base = os.environ.get(MIRROR_VARIABLE) or BASE_URL
    return f"{base.rstrip('/')}/{remote_file(model).name}"


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder for weights: `cache_dir`, else $SAMJAX_CACHE, else the platform's cache folder."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("samjax"))


def fetch(
    model: str, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Path:
    """The local path of an official checkpoint, downloaded on the first call only.

    A download appears under its final name only once its sha256 has been checked, so readers and
    other processes never see half a file. A cached file is hashed once; after that its size and
    modification time stand for the hash. A cached file that does not match is fetched anew.

    Args:
        model: a key of `OFFICIAL`.
        cache_dir: folder for the file; see `cache_folder`.
        progress: show a bar on stderr, if that is a terminal or a notebook.

    Raises:
        DownloadError: unknown name, no network, HTTP error, wrong sha256, cache not writable.
    """
    remote = remote_file(model)
    folder = cache_folder(cache_dir)
    path = folder / remote.name
    try:
        if _is_verified(path, remote):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _cache_error(folder, error) from error
    if free < remote.size:
        raise DownloadError(
            f"{folder}: {free / 1e9:.1f} GB free, {remote.name} needs {remote.size / 1e9:.1f} GB: "
            f"make room, or set {CACHE_VARIABLE} to a folder on another disk"
        )
    with _download_errors(remote_url(model), path):
        _download(remote_url(model), path, remote, progress)
    with suppress(OSError):
        _mark_verified(path, remote)
        # Temporary files are private to their owner; a shared cache follows the umask instead.
        path.chmod(_marker(path).stat().st_mode)
    return path


def _download(url: str, path: Path, remote: RemoteFile, progress: bool) -> None:
    import pooch

    bar = _progress_bar(remote) if progress and _someone_watches() else None
    with ExitStack() as stack:
        stack.enter_context(_quiet(pooch.get_logger()))
        if bar is not None:
            stack.callback(bar.close)

        def close_at_the_end(response: Any, **_options: Any) -> None:
            stack.callback(response.close)  # pooch leaves it open when a download fails

        pooch.retrieve(
            url,
            known_hash=f"sha256:{remote.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(
                progressbar=False if bar is None else bar,
                chunk_size=_CHUNK_BYTES,
                timeout=_CONNECT_READ_SECONDS,
                hooks={"response": close_at_the_end},
            ),
        )


@contextmanager
def _download_errors(url: str, path: Path) -> Iterator[None]:
    """Turn what pooch, requests and the disk raise into one line that helps."""
    import requests

    by_hand = (
        f"set {MIRROR_VARIABLE} to the base URL of a mirror, or put the file at {path} yourself"
    )
    try:
        yield
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        when = "try again later, " if status >= 500 else ""
        raise DownloadError(f"{url}: the server answered {status}: {when}{by_hand}") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise DownloadError(
            f"{url}: not a usable URL ({error}): correct {MIRROR_VARIABLE} or the proxy"
        ) from error
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(
            f"{url}: neither http nor https: correct {MIRROR_VARIABLE}, or put the file at {path}"
        ) from error
    except requests.ConnectionError as error:
        raise DownloadError(
            f"{url}: no connection ({_root(error)}): go online, {by_hand}"
        ) from error
    except requests.RequestException as error:
        raise DownloadError(
            f"{url}: the download broke off ({_root(error)}), nothing was kept: "
            f"run it again, {by_hand}"
        ) from error
    except OSError as error:
        raise _cache_error(path.parent, error) from error
    except ValueError as error:
        if "hash" not in str(error):
            raise
        raise DownloadError(
            f"{url}: the sha256 is not the published one, the file was thrown away: a proxy's "
            f"page or a damaged copy; run it again, {by_hand}"
        ) from error


def _root(error: BaseException) -> str:
    """The reason at the bottom of requests' nested exceptions, without the object addresses."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason: Any = getattr(error, "reason", None) or error
    text = str(reason.args[-1]) if getattr(reason, "args", ()) else str(reason)
    return re.split(r"[)>]: ", text)[-1].strip() or type(error).__name__


def _cache_error(folder: Path, error: OSError) -> DownloadError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk or quota is full: make room"
    else:
        reason = f"cannot be used as the cache folder ({error.strerror or error}): correct it"
    return DownloadError(
        f"{folder}: {reason}, or set {CACHE_VARIABLE} to a folder you can write to"
    )


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".verified")


def _fingerprint(path: Path, remote: RemoteFile) -> str:
    return f"{remote.sha256} {path.stat().st_size} {path.stat().st_mtime_ns}\n"


def _mark_verified(path: Path, remote: RemoteFile) -> None:
    # A marker that is torn by a crash or a second writer only costs one more hash.
    _marker(path).write_text(_fingerprint(path, remote))


def _is_verified(path: Path, remote: RemoteFile) -> bool:
    """Whether `path` is the published file: by its marker if it has one, else by its sha256."""
    if not path.exists() or path.stat().st_size != remote.size:
        return False
    with suppress(OSError, UnicodeDecodeError):
        if _marker(path).read_text() == _fingerprint(path, remote):
            return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != remote.sha256:
            return False
    with suppress(OSError):  # a read-only cache is hashed each time
        _mark_verified(path, remote)
    return True


def _someone_watches() -> bool:
    """Whether stderr is a terminal, or this is a Jupyter kernel."""
    ipython: Callable[[], Any] = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal or hasattr(ipython(), "kernel")


def _progress_bar(remote: RemoteFile) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=remote.size, desc=remote.name, unit="B", unit_scale=True, dynamic_ncols=True)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """pooch tells each download and its hash on stderr; the bar and the errors say it better."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
