"""Find images: files, folders and patterns become one sorted list of paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from samjax.errors import ImageError
from samjax.files import given_path

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".bmp", ".dib"),
        *(".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"),
        *(".heic", ".heif"),
    )
)


class Found(NamedTuple):
    """Hold an image's path and its name in the output: below the common folder, with ``/``."""

    name: str
    path: Path


def find_images(
    paths: Sequence[str], skip: Callable[[Path], bool] = lambda _: False
) -> tuple[Path, list[Found]]:
    """Return the folder that all ``paths`` have in common, and their images, sorted by name.

    Folders are searched to any depth for names with the suffix of an image; hidden files and
    folders are left out, and links to folders are not followed. A file that is named itself is
    taken whatever its suffix. What does not exist as it is written may be a pattern with ``*``,
    ``**``, ``?`` or ``[...]``.

    Args:
        paths: as typed.
        skip: files and folders to leave out, by absolute path.

    Returns:
        The folder: of one folder itself, of a file the one it lies in, of a pattern the part
        before the first wildcard; it does not depend on what is found.

    Raises:
        ImageError: a path that does not exist or cannot be listed, or no images at all.
    """
    roots, found = [], {}
    for path in paths:
        root, matches = _expand(path, skip)
        roots.append(root)
        found.update(dict.fromkeys(matches))
    if not found:
        what = ", ".join(paths[:3]) + ", ..." * (len(paths) > 3)
        raise ImageError(f"{what}: no images found; check the path, and quote patterns: '*.jpg'")
    try:
        common = os.path.commonpath(roots)
    except ValueError:  # drives of Windows
        raise ImageError(
            "images on several drives: run them one by one with different --out"
        ) from None
    images = [Found(Path(os.path.relpath(p, common)).as_posix(), Path(p)) for p in found]
    return Path(common), sorted(images)


def _expand(text: str, skip: Callable[[Path], bool]) -> tuple[str, Iterator[str]]:
    absolute = absolute_path(Path(text))
    if absolute.is_dir():
        return str(absolute), _walk(absolute, skip)
    if absolute.exists():
        return str(absolute.parent), iter([str(absolute)])
    if not glob.has_magic(text):
        raise ImageError(f"{text}: no such file or folder (looked from {Path.cwd()}); check it")
    fixed = absolute
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return str(fixed), _matches(str(absolute), skip)


def absolute_path(path: Path) -> Path:
    """Return the path from the root, without "..", and without following links."""
    return Path(os.path.abspath(given_path(path)))  # noqa: PTH100


def _matches(pattern: str, skip: Callable[[Path], bool]) -> Iterator[str]:
    # Not Path's glob, which finds hidden files too.
    for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207
        path = Path(match)
        if any(skip(p) for p in (path, *path.parents)):
            continue
        if path.is_dir():
            yield from _walk(path, skip)
        elif _is_image(path.name):
            yield str(path)


def _walk(folder: Path, skip: Callable[[Path], bool]) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise ImageError(
            f"{error.filename}: cannot be listed ({error.strerror}); check permissions"
        ) from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        folders[:] = [f for f in folders if not f.startswith(".") and not skip(here / f)]
        yield from (str(here / file) for file in files if _is_image(file))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
