"""Read and write objects by address through fsspec, with a limited number of retries."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from samjax.errors import SamjaxError, StorageError
from samjax.files import given_path, replacing

ATTEMPTS = 6  # of one request to a store
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds between two attempts; each wait doubles
_LOCAL = ("file", "local")
_TRANSIENT_STATUS = (408, 425, 429)  # of HTTP, besides 500 and above
# Errors of the system that another attempt does not cure.
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

_T = TypeVar("_T")


def need(name: str) -> Any:
    """Import an optional library of the extra ``scale``.

    Raises:
        SamjaxError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        raise SamjaxError(f"{library} is not installed: pip install 'samjax[scale]'") from None


def is_local(address: str) -> bool:
    """Tell whether an address is a path of this machine."""
    return "://" not in address or address.split("://", 1)[0] in _LOCAL


def local_path(address: str) -> Path:
    """Return the path of a local address."""
    return given_path(address.split("://", 1)[-1], StorageError)


def absolute(address: str) -> str:
    """Return the address without a trailing slash; a local path from the root."""
    if not is_local(address):
        scheme, rest = address.split("://", 1)
        return f"{scheme}://{rest.rstrip('/')}"
    return os.path.abspath(local_path(address))  # noqa: PTH100  # without following links


def join(folder: str, *names: str) -> str:
    """Return the address of an object below a folder."""
    return "/".join((folder.rstrip("/"), *names))


def open_store(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it.

    Raises:
        StorageError: an unknown scheme, a missing library or missing credentials.
    """
    fsspec = need("fsspec")
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise StorageError(f"{address}: needs another library ({error})") from None
    except ValueError as error:
        scheme = address.split("://", 1)[0]
        raise StorageError(
            f"{address}: no store is known for {scheme}:// ({error}); use a path, s3://, gs://, "
            "https:// or another scheme of fsspec"
        ) from None
    except Exception as error:
        raise StorageError(f"{address}: {_reason(error)}") from error


def retried(address: str, call: Callable[[], _T]) -> _T:
    """Call a store, and again after errors that may pass, with growing waits.

    Raises:
        StorageError: an error that stays, or the last of `ATTEMPTS` errors.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except (SamjaxError, MemoryError):
            raise
        except Exception as error:
            if attempt == ATTEMPTS or not _may_pass(error):
                times = f" after {attempt} attempts" if attempt > 1 else ""
                raise StorageError(f"{address}: {_reason(error)}{times}") from error
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
            time.sleep(wait * random.uniform(0.5, 1.0))
    raise AssertionError


def read_bytes(address: str, start: int | None = None, length: int | None = None) -> bytes:
    """Return the content of an object, or ``length`` bytes of it from ``start``.

    Raises:
        StorageError: it is missing, may not be read, or the store fails again and again.
    """
    store, path = open_store(address)
    if start is None or length is None:
        return retried(address, lambda: store.cat_file(path))
    return retried(address, lambda: store.cat_file(path, start=start, end=start + length))


def write_bytes(address: str, data: bytes) -> None:
    """Write an object at once: whoever reads it finds all of it, or what was there before.

    Raises:
        StorageError: the store does not take it.
    """
    if is_local(address):

        def write() -> None:
            with replacing(local_path(address)) as temporary:
                temporary.write_bytes(data)

    else:
        store, path = open_store(address)

        def write() -> None:
            if store.protocol in ("memory", ("memory",)):
                store.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            store.pipe_file(path, data)

    retried(address, write)


def list_objects(address: str) -> dict[str, dict[str, Any]]:
    """Return name, below the folder, and details of every object there; empty if none exists.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    store, path = open_store(address)

    def find() -> dict[str, dict[str, Any]]:
        store.invalidate_cache()
        try:
            return store.find(path, detail=True)
        except FileNotFoundError:
            return {}

    root = path.rstrip("/") + "/"
    return {
        name.removeprefix(root): details
        for name, details in retried(address, find).items()
        if name.startswith(root)
    }


def exists(address: str) -> bool:
    """Tell whether an object is there.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    store, path = open_store(address)

    def look() -> bool:
        store.invalidate_cache()
        try:
            store.info(path)
        except FileNotFoundError:
            return False
        return True

    return retried(address, look)


def _may_pass(error: Exception) -> bool:
    if isinstance(
        error,
        (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError),
    ):
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in _TRANSIENT_STATUS
    if isinstance(error, OSError) and error.errno in _LASTING:
        return False
    return "Credentials" not in type(error).__name__


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or object: check the address"
    if isinstance(error, PermissionError):
        return "no permission: check its owner and your credentials"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if "Credentials" in type(error).__name__:
        return f"no credentials ({error}): log in, or set the variables of the store's library"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{os.strerror(error.errno)}: free some space, and run it again"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split()).rstrip(": ")
