"""Write, read and check the record of one image in the output folder of ``samjax automask``.

``records/NAME.json`` says that an image is done. Its first line describes the image (its file's
hash, the result files with theirs, a checksum of the record), each further line is one mask as a
COCO annotation without numbers. ``records/NAME.json.pending`` is its copy while the result files
are moved to their places: files of a killed run are known by it.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from samjax.annotations import coco_dataset
from samjax.jobs.contents import file_state

CATEGORIES = ("object",)
RECORDS = "records"
_DIGITS = 6
# Format to folder and suffix of the files of one image.
PER_IMAGE = {
    "yolo": ("labels", ".txt"),
    "png": ("label_maps", ".png"),
    "npz": ("npz", ".npz"),
    "overlay": ("overlays", ".png"),
}
FOLDERS = (RECORDS, *(folder for folder, _ in PER_IMAGE.values()))


def image_file(key: str, name: str) -> str:
    """Return the file of a format, or "overlay", of the image ``name``, relative to the output."""
    folder, suffix = PER_IMAGE[key]
    return str(PurePosixPath(folder) / PurePosixPath(name).with_suffix(suffix))


def record_path(out: Path, name: str) -> Path:
    """Return the path of the record of the image ``name``."""
    return out / RECORDS / f"{name}.json"


def pending_path(out: Path, name: str) -> Path:
    """Return the path of the copy that lies there while result files are moved."""
    return out / RECORDS / f"{name}.json.pending"


def record_text(
    header: dict[str, Any], size: tuple[int, int], records: Sequence[dict[str, Any]]
) -> str:
    """Return the content of a record: the header with a checksum, and a mask a line."""
    rounded = [{key: _rounded(value) for key, value in record.items()} for record in records]
    dataset = coco_dataset([(header["image"], size, rounded)], CATEGORIES)
    lines = []
    for annotation in dataset["annotations"]:
        entry = {k: v for k, v in annotation.items() if k not in ("id", "image_id")}
        lines.append(json.dumps(entry, separators=(",", ":"), allow_nan=False))
    body = ",\n".join(lines) + "\n" * bool(lines) + "]}\n"
    first = json.dumps({**header, "checksum": _checksum(header, body)})[:-1]
    return f'{first}, "masks": [\n{body}'


def _checksum(header: Mapping[str, Any], body: str) -> str:
    """Return the hash of all that a record holds but the hash itself."""
    text = json.dumps(header, sort_keys=True) + body
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


def read_header(record: Path) -> dict[str, Any] | None:
    """Return the first line of a record; None if it is missing or not samjax's."""
    try:
        with record.open(encoding="ascii") as file:
            header = json.loads(file.readline() + "]}")
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and "run" in header else None


def whole_header(record: Path) -> dict[str, Any] | None:
    """Return the first line of a record that holds what was written; else None."""
    header = read_header(record)
    try:
        body = record.read_text(encoding="ascii").partition("\n")[2]
    except (OSError, ValueError):
        return None
    if header is None:
        return None
    said = header.pop("checksum", None)
    header.pop("masks", None)
    return header if said == _checksum(header, body) else None


def foreign_files(
    out: Path, name: str, files: Iterable[str], made: Path | None = None
) -> list[str]:
    """Return those of ``files`` that exist and are not what samjax wrote for the image ``name``.

    A file is samjax's if it has the hash that the record, or its pending copy, tells, or if a
    record by an early version, without hashes, lists it. Where a record is damaged, that is
    only known with the folder ``made``: equal files in it are no loss.
    """
    paths = [p for p in (record_path(out, name), pending_path(out, name)) if p.exists()]
    headers = [read_header(path) for path in paths]
    told = [_hashes(header) for header in headers if header is not None]

    def is_foreign(file: str) -> bool:
        target = out / file
        if made is not None and (made / file).is_file():
            if target.is_file() and filecmp.cmp(made / file, target, shallow=False):
                return False
        elif None in headers:
            return False
        known = {hashes[file] for hashes in told if file in hashes}
        return None not in known and not (target.is_file() and file_state(target).hash in known)

    return [file for file in files if (out / file).exists() and is_foreign(file)]


def _hashes(header: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the result files that a header lists, with their hashes or, of early ones, None."""
    files, hashes = header.get("files"), header.get("hashes")
    if not isinstance(files, list):
        return {}
    if not isinstance(hashes, list) or len(hashes) != len(files):
        hashes = [None] * len(files)
    return {str(file): hashed for file, hashed in zip(files, hashes, strict=True)}


def listed_files(header: Mapping[str, Any], folders: Iterable[str]) -> list[str]:
    """Return the result files that a header lists and that lie in one of ``folders``."""
    listed = header.get("files")
    names = [file for file in listed if isinstance(file, str)] if isinstance(listed, list) else []
    parts = {name: PurePosixPath(name).parts for name in names}
    return [n for n in names if parts[n] and parts[n][0] in folders and ".." not in parts[n]]
