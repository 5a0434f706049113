"""Write files atomically, and make the folders that they go to."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from uuid import uuid4

from samjax.errors import SamjaxError

# The files that must not be replaced now, by device and number, and the error that says so.
_protected: ContextVar[tuple[frozenset[tuple[int, int]], type[SamjaxError]]] = ContextVar(
    "protected", default=(frozenset(), SamjaxError)
)


@contextmanager
def protecting(
    inputs: Iterable[str | os.PathLike[str]], error: type[SamjaxError] = SamjaxError
) -> Iterator[None]:
    """Let no writer inside replace one of ``inputs``, however the paths are spelled.

    `replacing` and `check_outputs` ask, in this thread and in those that run in a copy of its
    context. Files are told apart by device and number: links, case and ``..`` hide nothing.
    """
    kept = frozenset(filter(None, map(_identity, inputs)))
    token = _protected.set((_protected.get()[0] | kept, error))
    try:
        yield
    finally:
        _protected.reset(token)


def check_outputs(outputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse outputs of which one is an input; meant to be called before the first is written.

    Raises:
        SamjaxError: one of them is `protecting`'s.
    """
    for path in outputs:
        if is_input(path):
            error = _protected.get()[1]
            raise error(f"{path} is an input and would be replaced; choose another folder or name")


def check_foreign(
    outputs: Iterable[str | os.PathLike[str]],
    is_ours: Callable[[Path], bool],
    error: type[SamjaxError] = SamjaxError,
) -> None:
    """Refuse outputs in whose place something lies that samjax did not write.

    Args:
        outputs: files to be written.
        is_ours: tells of a file whether samjax wrote it; errors mean that it did not.
        error: to raise.

    Raises:
        error: which file; `protecting`'s error for an input.
    """
    for path in map(Path, outputs):
        check_outputs([path])  # says more
        if os.path.lexists(path) and not _answers(is_ours, path):
            raise error(
                f"{path} was not written by samjax, or was changed since: move it away, or choose "
                "another folder or name"
            )


def _answers(is_ours: Callable[[Path], bool], path: Path) -> bool:
    try:
        return path.is_file() and is_ours(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def content_of(folders: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield paths, and of folders all that lies in them, to be protected."""
    for path in map(Path, folders):
        yield path
        if path.is_dir():
            yield from path.rglob("*")


def is_input(path: str | os.PathLike[str]) -> bool:
    """Tell whether `protecting` keeps this file."""
    kept, _ = _protected.get()
    return bool(kept) and _identity(path) in kept


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None  # where nothing is, nothing is replaced
    return found.st_dev, found.st_ino


_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf):/+", re.IGNORECASE)


def refuse_address(path: str | os.PathLike[str], error: type[SamjaxError] = SamjaxError) -> None:
    """Refuse an address of the web, which a Path turns from ``https://`` into ``https:/``.

    Raises:
        error: with the address as it was typed.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    if isinstance(text, str) and (found := _ADDRESS.match(text)):
        address = f"{found[1]}://{text[found.end() :]}"
        raise error(f"{address}: an address, and files are read here: download it, name the file")


def given_path(path: object, error: type[SamjaxError] = SamjaxError) -> Path:
    """Return a path as the user gave it, with ``~`` as the home folder.

    An existing file or folder whose name begins with ``~`` is taken as it is.

    Raises:
        error: no path at all, one that no file system can hold, or ``~name`` of an unknown user.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise error(f"{path!r:.80} is {type(path).__name__}, not a path: give text or a Path")
    given = Path(path)
    try:
        unusable = "a NUL character" if b"\0" in os.fsencode(given) else None
    except UnicodeError:
        unusable = "characters that this system cannot encode"
    if unusable:
        raise error(f"path {str(given)!r:.80} holds {unusable}: no file can have that name")
    try:
        return given.expanduser()
    except RuntimeError:  # "~name" of an unknown user
        if os.path.lexists(given):
            return given.absolute()
        raise error(
            f"{path}: there is no such file, and no user of that name: write the path from the "
            "root folder"
        ) from None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if nothing was raised.

    Missing parent folders are made. After an error no temporary file is left behind.

    Raises:
        SamjaxError: the path is one of `protecting`'s inputs.
    """
    path = Path(path)
    check_outputs([path])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        check_outputs([path])  # it may have become one meanwhile
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_regular(path: str | os.PathLike[str], error: type[SamjaxError] = SamjaxError) -> None:
    """Refuse pipes, sockets and devices, which would hang or never end; nothing is opened.

    Raises:
        error: the path is one of these.
        OSError: the path cannot be looked at.
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise error(f"{path}: is {kind}, no regular file: copy its content to a file first")


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def writing(
    target: object, error: type[SamjaxError] = SamjaxError, advice: str = "check folder and disk"
) -> Iterator[None]:
    """Turn the disk's errors into one line: ``target``: cannot be written (why); ``advice``.

    Raises:
        error: the line, for any OSError but a broken pipe.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        why = problem.strerror or problem or type(problem).__name__
        raise error(f"{target}: cannot be written ({why}); {advice}") from problem


def made_folder(path: str | os.PathLike[str], error: type[SamjaxError] = SamjaxError) -> Path:
    """Make a folder if it is missing and return it; meant to be called before long work begins.

    Raises:
        error: the folder cannot be made or written to.
    """
    refuse_address(path, error)
    folder = given_path(path, error)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        why = problem.strerror or problem
        raise error(f"{folder}: cannot be made ({why}): choose another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"{folder}: no permission to write: choose another folder")
    return folder
