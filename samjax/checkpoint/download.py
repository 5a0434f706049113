"""Download the official weights once into a cache, checked by their sha256.

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
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samjax.checkpoint.cache_files import is_marked, staging, write_marker
from samjax.errors import DownloadError
from samjax.files import given_path

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
CACHE_VARIABLE = "SAMJAX_CACHE"
MIRROR_VARIABLE = "SAMJAX_MIRROR"

_CONNECT_READ_SECONDS = (15, 60)
_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 1 << 33  # of a file whose size is not published; a ViT-H has 2.6 GB


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: name in the cache, and under the base URL of the official weights or of a mirror.
        size: bytes, 0 where not known.
        sha256: hexadecimal, "" where not known.
        url: its address, "" for the official base URL.
        xxh128: hexadecimal, instead of an unknown sha256; checked where xxhash is installed.
        origin: words for the hash in errors.
    """

    name: str
    size: int
    sha256: str
    url: str = ""
    xxh128: str = ""
    origin: str = "the published one"

    @property
    def address(self) -> str:
        """Return the mirror's address if there is a mirror, else the publisher's."""
        base = os.environ.get(MIRROR_VARIABLE)
        if self.url and not base:
            return self.url
        return f"{(base or BASE_URL).rstrip('/')}/{self.name}"

    @property
    def limit(self) -> int:
        """Return the bytes after which a download is stopped."""
        return self.size or _MOST_BYTES

    @property
    def allowed(self) -> str:
        """Return the same in words, for errors."""
        return f"the published {self.size:,}" if self.size else f"at most {_MOST_BYTES:,}"

    @property
    def known_hash(self) -> str | None:
        """Return the best hash that can be checked here, as "algorithm:hexadecimal"."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"xxh128:{self.xxh128}" if self.xxh128 and find_spec("xxhash") else None


# Names: the download links of the official README, which states no hashes. Sizes: of the files
# there. sha256: micro_sam/util.py of micro-sam, which downloads from the same addresses.
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
    """Return the published file of an official model.

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
    """Return the address of `model`: the mirror's if there is one, else the official."""
    return remote_file(model).address


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for weights: `cache_dir`, $SAMJAX_CACHE or the platform's cache folder."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return given_path(chosen, DownloadError).absolute()
    import pooch

    return Path(pooch.os_cache("samjax"))


def fetch(
    model: str, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Path:
    """Return the local path of an official checkpoint, downloaded on the first call only.

    Args:
        model: a key of `OFFICIAL`.
        cache_dir: folder for the file; see `cache_folder`.
        progress: show a bar on stderr, if that is a terminal or a notebook.

    Raises:
        DownloadError: unknown name, no network, HTTP error, wrong sha256, cache not writable.
    """
    return fetch_file(remote_file(model), cache_dir=cache_dir, progress=progress)


def fetch_file(
    remote: RemoteFile, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Path:
    """Return the local path of a published file, downloaded on the first call only.

    A download appears under its final name only once its hash has been checked, so readers and
    other processes never see half a file; leavings of killed downloads are removed. A cached file
    is hashed once; after that its size and modification time stand for the hash, unless it
    belongs to somebody else: then it is hashed each time. A cached file that does not match is
    fetched anew.

    Args:
        remote: the file; without a hash that can be checked, the file in the cache is taken.
        cache_dir: folder for the file; see `cache_folder`.
        progress: show a bar on stderr, if that is a terminal or a notebook.

    Raises:
        DownloadError: no network, HTTP error, wrong hash, cache not writable.
    """
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
    with _download_errors(remote, path):
        _download(remote.address, path, remote, progress)
    with suppress(OSError):
        _mark_verified(path, remote)
    return path


def _download(url: str, path: Path, remote: RemoteFile, progress: bool) -> None:
    import pooch

    bar = _progress_bar(remote) if progress and _someone_watches() else None
    with ExitStack() as stack:
        stack.enter_context(_quiet(pooch.get_logger()))
        if bar is not None:
            stack.callback(bar.close)

        def on_response(response: Any, **_options: Any) -> None:
            stack.callback(response.close)  # pooch leaves it open when a download fails
            _bound(response, url, remote)

        place = stack.enter_context(staging(path.parent, path.name))
        pooch.retrieve(
            url,
            known_hash=remote.known_hash,
            fname=path.name,
            path=place,
            downloader=pooch.HTTPDownloader(
                progressbar=False if bar is None else bar,
                chunk_size=min(_CHUNK_BYTES, remote.limit + 1),
                timeout=_CONNECT_READ_SECONDS,
                headers={"Accept-Encoding": "identity"},
                hooks={"response": on_response},
            ),
        )
        # Temporary files are private to their owner; a shared cache follows the umask instead.
        (place / path.name).chmod(place.stat().st_mode & 0o666)
        (place / path.name).replace(path)


def _bound(response: Any, url: str, remote: RemoteFile) -> None:
    """Let a response give no more bytes than the published file has."""
    what = "a proxy's page, or another file; correct the mirror, or run it again"
    if response.status_code == 200:
        promised = response.headers.get("Content-Length", "")
        if promised.isdecimal() and int(promised) > remote.limit:
            raise DownloadError(
                f"{url}: the server has {int(promised):,} bytes, not {remote.allowed}: {what}"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"{url}: the server compresses the file, unasked: {what}")
    read = response.iter_content

    def bounded(*arguments: Any, **options: Any) -> Iterator[bytes]:
        count = 0
        for chunk in read(*arguments, **options):
            count += len(chunk)
            if count > remote.limit:
                raise DownloadError(
                    f"{url}: goes on past {remote.allowed} bytes, nothing was kept: {what}"
                )
            yield chunk

    response.iter_content = bounded


@contextmanager
def _download_errors(remote: RemoteFile, path: Path) -> Iterator[None]:
    """Turn errors of pooch, requests and the disk into one line that helps."""
    import requests

    url = remote.address
    by_hand = (
        f"set {MIRROR_VARIABLE} to the base URL of a mirror, or put the file at {path} yourself"
    )
    try:
        yield
    except DownloadError:
        raise
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
            f"{url}: the {(remote.known_hash or '').partition(':')[0]} is not {remote.origin}, the "
            f"file was thrown away: a proxy's page or a damaged copy; run it again, {by_hand}"
        ) from error


def _root(error: BaseException) -> str:
    """Return the reason at the bottom of requests' nested exceptions, without addresses."""
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


def _fingerprint(path: Path, remote: RemoteFile) -> str:
    return f"{remote.sha256 or remote.xxh128} {path.stat().st_size} {path.stat().st_mtime_ns}\n"


def _mark_verified(path: Path, remote: RemoteFile) -> None:
    write_marker(path, _fingerprint(path, remote))


def _is_verified(path: Path, remote: RemoteFile) -> bool:
    """Return whether `path` is the published file, by its marker or else by its sha256."""
    if not path.exists() or path.stat().st_size != (remote.size or path.stat().st_size):
        return False
    if is_marked(path, _fingerprint(path, remote)):
        return True
    if not _matches(path, remote):
        return False
    with suppress(OSError):  # a read-only cache is hashed each time
        _mark_verified(path, remote)
    return True


def _matches(path: Path, remote: RemoteFile) -> bool:
    """Return whether a file has the hash, by the best one that can be computed here."""
    algorithm, _, expected = (remote.known_hash or "").partition(":")
    if not expected:
        return True
    digest: Any = "sha256"
    if algorithm == "xxh128":
        import xxhash

        digest = xxhash.xxh128
    with path.open("rb") as file:
        return hashlib.file_digest(file, digest).hexdigest() == expected


def _someone_watches() -> bool:
    """Return whether stderr is a terminal, or this is a Jupyter kernel."""
    ipython: Callable[[], Any] = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal or hasattr(ipython(), "kernel")


def _progress_bar(remote: RemoteFile) -> Any:
    from tqdm.auto import tqdm

    total = remote.size or None
    return tqdm(total=total, desc=remote.name, unit="B", unit_scale=True, dynamic_ncols=True)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence pooch's log of downloads and hashes: the bar and the errors say it better."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
