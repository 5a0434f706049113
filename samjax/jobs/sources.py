"""List the images of a folder, an object store, WebDataset tars, or a list of paths."""

from __future__ import annotations

import csv
import glob
import io
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from samjax.annotations.records import check_file_name
from samjax.errors import AnnotationError, ImageError, SamjaxError, StorageError
from samjax.image.folder import SUFFIXES, find_images
from samjax.jobs.storage import (
    absolute,
    is_local,
    join,
    list_objects,
    local_path,
    need,
    open_store,
    read_bytes,
    retried,
)

# Of what stores tell of an object, the first that is there changes with its content.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_LISTS = (".txt", ".csv", ".parquet")
_COLUMNS = ("path", "url", "location", "file_name", "image")  # of lists, first that is there
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class SourceImage(NamedTuple):
    """Hold what is known of an image before it is read.

    ``start`` is its first byte in a tar. ``size`` in bytes, and ``etag``, which changes with the
    content: the store's etag, else the times of the file (of an image in a tar, the tar's); None
    where the store does not tell.
    """

    name: str
    location: str
    start: int | None = None
    size: int | None = None
    etag: str | None = None


class Stamp(NamedTuple):
    """Hold what a store tells of an object without reading it; see SourceImage."""

    size: int | None
    etag: str | None


def list_source(source: str | Path | Sequence[str | Path]) -> list[SourceImage]:
    """Return the images of a source, sorted by name.

    Args:
        source: a folder, a pattern, a file or a tar, by path or address (``s3://bucket/photos``);
            a list in a .txt, .csv or .parquet file; or a sequence of paths and addresses.

    Raises:
        SamjaxError: nothing is there, or two images have one name.
    """
    images = list_images(source)
    if not images:
        raise ImageError(f"{source}: no images found; check the address")
    images.sort()
    _check_names(images)
    return images


def list_images(source: str | Path | Sequence[str | Path]) -> list[SourceImage]:
    """Return the images of a source, in no order; their names are not checked."""
    if not isinstance(source, (str, Path)):
        return _listed([str(each) for each in source], "")
    text = str(source)
    if PurePosixPath(text).suffix.lower() in _LISTS:
        return _listed(_read_list(text), _folder_of(text))
    return list(_found(text))


def stamp_of(location: str) -> Stamp | None:
    """Return the size and etag of one object, now; None if it is not there.

    Raises:
        StorageError: the store fails.
    """
    if is_local(location):
        try:
            return _file_stamp(local_path(location))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{location}: {error.strerror}; check the path") from error
    store, path = open_store(location)

    def look() -> Stamp | None:
        store.invalidate_cache()
        try:
            return _stamp(store.info(path))
        except FileNotFoundError:
            return None

    return retried(location, look)


def _file_stamp(path: Path) -> Stamp:
    """Return size and times of a file: a program that sets the first time changes the second."""
    found = path.stat()
    return Stamp(found.st_size, f"{found.st_mtime_ns:x}-{found.st_ctime_ns:x}")


def _stamp(details: Mapping[str, object]) -> Stamp:
    size = details.get("size")
    tag = next((details[key] for key in (*_TAGS, *_TIMES) if details.get(key)), None)
    return Stamp(
        size if isinstance(size, int) else None, None if tag is None else str(tag).strip('"')
    )


def _check_names(images: Sequence[SourceImage]) -> None:
    """Refuse names that results could not be told apart by; ``images`` are sorted."""
    owner: dict[str, SourceImage] = {}
    for image in images:
        try:
            check_file_name(image.name)
        except AnnotationError as error:
            raise SamjaxError(f"{image.location}: {error}") from None
        other = owner.setdefault(image.name.casefold(), image)
        if other is not image:
            what = f"{other.location} and {image.location}"
            if other.location == image.location:
                raise SamjaxError(f"{image.location}: is listed twice: leave one out")
            raise SamjaxError(f"{what} would both be {image.name!r} in the results: rename one")


def _found(text: str) -> Iterator[SourceImage]:
    """Yield the images of one folder, pattern, file or tar."""
    if text.lower().endswith(_PACKED):
        raise SamjaxError(
            f"{text}: members of a packed tar cannot be read alone: unpack it to .tar"
        )
    if is_local(text):
        yield from _found_locally(str(local_path(text)))
        return
    if glob.has_magic(text) and not text.startswith(("http://", "https://")):
        store, path = open_store(text)
        store.invalidate_cache()
        matches = retried(text, lambda: store.glob(path, detail=True))
        scheme = text.split("://", 1)[0]
        root = _fixed_folder(path)
        for match, details in sorted(matches.items()):
            place = f"{scheme}://{match.lstrip('/')}"
            yield from _one(place, posixpath.relpath(match, root), details)
        return
    if PurePosixPath(text).suffix.lower() in (*SUFFIXES, ".tar"):
        yield from _one(text, PurePosixPath(text).name, {})
        return
    for name, details in list_objects(text).items():
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            yield from _one(join(text, name), name, details)


def _found_locally(text: str) -> Iterator[SourceImage]:
    if text.lower().endswith(".tar"):
        tars = sorted(glob.glob(text)) if glob.has_magic(text) else [text]  # noqa: PTH207
        if not tars:
            raise ImageError(f"{text}: no tar found; check the pattern")
        for tar in tars:
            yield from _members(absolute(tar))
        return
    _, images = find_images([text])
    for name, path in images:
        yield _local(name, path)


def _local(name: str, path: Path) -> SourceImage:
    try:
        return SourceImage(name, str(path), None, *_file_stamp(path))
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; check the path") from error


def _one(location: str, name: str, details: dict[str, object]) -> Iterator[SourceImage]:
    if location.lower().endswith(".tar"):
        yield from _members(location)
        return
    yield SourceImage(name, location, None, *_stamp(details))


def _members(location: str) -> Iterator[SourceImage]:
    """Yield the images in a tar, with their places; the pictures themselves are not read."""
    store, path = open_store(location)
    stem = PurePosixPath(location).stem
    stamp = stamp_of(location)

    def read() -> list[SourceImage]:
        with store.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return [
                SourceImage(
                    f"{stem}/{member.name.removeprefix('./')}",
                    location,
                    member.offset_data,
                    member.size,
                    stamp.etag if stamp is not None else None,
                )
                for member in tar
                if member.isfile()
                and PurePosixPath(member.name).suffix.lower() in SUFFIXES
                and not PurePosixPath(member.name).name.startswith(".")
            ]

    try:
        yield from retried(location, read)
    except StorageError as error:
        if isinstance(error.__cause__, tarfile.TarError):
            reason = error.__cause__
            raise SamjaxError(f"{location}: is no tar, or is damaged ({reason})") from error
        raise


def _read_list(text: str) -> list[str]:
    """Return the paths and addresses in a list."""
    data = read_bytes(text)
    suffix = PurePosixPath(text).suffix.lower()
    try:
        if suffix == ".txt":
            lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
        if suffix == ".csv":
            rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
            header = rows[0] if rows else []
            column = next((header.index(name) for name in _COLUMNS if name in header), None)
            if column is None:
                raise _no_column(text, header)
            return [row[column] for row in rows[1:] if row]
        parquet = need("pyarrow.parquet")
        names = parquet.read_schema(io.BytesIO(data)).names
        chosen = next((name for name in _COLUMNS if name in names), None)
        if chosen is None:
            raise _no_column(text, names)
        values = parquet.read_table(io.BytesIO(data), columns=[chosen])[chosen].to_pylist()
        return [value for value in values if isinstance(value, str)]
    except SamjaxError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise SamjaxError(f"{text}: is no list of images ({reason}): one path a line") from error


def _no_column(text: str, names: Sequence[str]) -> SamjaxError:
    return SamjaxError(
        f"{text}: has no column {', '.join(_COLUMNS[:2])} but {', '.join(names[:8]) or 'none'}: "
        "name the column of the images 'path'"
    )


def _listed(entries: Sequence[str], folder: str) -> list[SourceImage]:
    """Return the images of a list; relative paths start at the list's folder."""
    places = [
        e if "://" in e or e.startswith("/") or not folder else join(folder, e) for e in entries
    ]
    places = [absolute(place) for place in places]
    tars = [place for place in places if place.lower().endswith(".tar")]
    places = [place for place in places if not place.lower().endswith(".tar")]
    names = list(_short_names(places))
    images = []
    for place, name in zip(places, names, strict=True):
        if is_local(place):
            images.append(_local(name, local_path(place)))
        else:
            images.append(SourceImage(name, place))
    return images + [member for tar in tars for member in _members(tar)]


def _short_names(places: Sequence[str]) -> Iterable[str]:
    """Name each image by its path below the folder that all have in common."""
    paths = [re.sub(r"^\w+://", "", re.sub(r"[?#].*", "", p) if "://" in p else p) for p in places]
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return ["/".join(path.split("/")[shared:]) for path in paths]


def _folder_of(text: str) -> str:
    return absolute(text).rsplit("/", 1)[0]


def _fixed_folder(path: str) -> str:
    while glob.has_magic(path):
        path = posixpath.dirname(path)
    return path
