"""Find the entries of a .pth zip in the file, with a strict, bounded reader of its directory.

torch.save writes plain entries (STORED), so an entry is a slice of the memory map. Nothing is
ever decompressed: a deflated entry may be a bomb. Layout: APPNOTE.TXT, sections 4.3.7-4.3.16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from samjax.errors import CheckpointError

MAX_ENTRIES = 200_000
TRUNCATED = "truncated or damaged: download or copy it again"

_END = struct.Struct("<4s4H2LH")  # end of central directory
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")  # one entry of the central directory
_LOCAL = struct.Struct("<4s5H3L2H")  # the header before an entry's data

_ENCRYPTED = 0x1 | 0x40
_ZIP64_EXTRA = 1
_MAX32 = 0xFFFFFFFF


@dataclass(frozen=True)
class ZipEntry:
    """A record is one zip entry: its data are ``file[start : start + size]``."""

    start: int
    size: int
    compressed: bool = False


def zip_records(data: memoryview) -> dict[str, ZipEntry]:
    """Return the entries of a zip file, by name, in the order of its directory.

    Compressed entries are listed, for the caller to refuse: their data cannot be used as they are.

    Raises:
        CheckpointError: truncated files, two entries of one name, overlaps or encryption.
    """
    try:
        return _read_directory(data)
    except (struct.error, UnicodeDecodeError):
        raise CheckpointError(f"broken zip directory, {TRUNCATED}") from None


def _read_directory(data: memoryview) -> dict[str, ZipEntry]:
    count, size, start = _find_directory(data)
    if count > MAX_ENTRIES:
        raise CheckpointError(f"a zip of {count:,} entries is no checkpoint: name another file")
    if start + size > len(data):
        raise CheckpointError(f"the zip directory lies outside the file, {TRUNCATED}")
    directory = data[start : start + size]
    records: dict[str, ZipEntry] = {}
    position = 0
    for _ in range(count):
        name, record, position = _read_entry(data[:start], directory, position)
        if name in records:
            raise CheckpointError(
                f"two zip entries are called {name!r:.200}, ambiguous or malicious: "
                "get the file from its author again"
            )
        records[name] = record
    _refuse_overlaps(records)
    return records


def _refuse_overlaps(records: dict[str, ZipEntry]) -> None:
    """Refuse entries that share bytes: a small file could claim to be a huge one."""
    end = 0
    for record in sorted(records.values(), key=lambda record: (record.start, record.size)):
        if record.start < end:
            raise CheckpointError(f"zip entries overlap, malicious or {TRUNCATED}")
        end = record.start + record.size


def _find_directory(data: memoryview) -> tuple[int, int, int]:
    """Return (number of entries, size in bytes, offset) of the central directory."""
    tail_start = max(0, len(data) - _END.size - 0xFFFF)
    found = bytes(data[tail_start:]).rfind(b"PK\x05\x06")
    if found < 0:
        raise CheckpointError(f"a zip without its directory at the end, {TRUNCATED}")
    end = tail_start + found
    _, _, _, _, count, size, start, _ = _END.unpack_from(data, end)
    locator = end - _END64_LOCATOR.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\x06\x07":
        _, _, end64, _ = _END64_LOCATOR.unpack_from(data, locator)
        if end64 + _END64.size > len(data) or bytes(data[end64 : end64 + 4]) != b"PK\x06\x06":
            raise CheckpointError(f"broken zip64 directory, {TRUNCATED}")
        *_, count, size, start = _END64.unpack_from(data, end64)
    return count, size, start


def _read_entry(data: memoryview, directory: memoryview, at: int) -> tuple[str, ZipEntry, int]:
    """Read one directory entry: its name, its data's place, the next entry's position."""
    fields = _ENTRY.unpack_from(directory, at)
    signature, _, _, flags, method, _, _, _, packed, size = fields[:10]
    name_length, extra_length, comment_length, _, _, _, offset = fields[10:]
    name_at = at + _ENTRY.size
    raw_name = bytes(directory[name_at : name_at + name_length])
    name = raw_name.decode("utf-8")
    if signature != b"PK\x01\x02" or len(raw_name) != name_length:
        raise CheckpointError(f"broken zip directory, {TRUNCATED}")
    if flags & _ENCRYPTED:
        raise CheckpointError(f"zip entry {name!r:.200} is encrypted: decrypt the file first")
    extra_at = name_at + name_length
    extra = directory[extra_at : extra_at + extra_length]
    size, packed, offset = _widen(extra, [size, packed, offset])
    if not method and size != packed:
        raise CheckpointError(f"zip entry {name!r:.200} has two sizes, {TRUNCATED}")
    start = _data_start(data, offset, name)
    if start + packed > len(data):
        raise CheckpointError(f"zip entry {name!r:.200} reaches past the file, {TRUNCATED}")
    record = ZipEntry(start, packed, compressed=bool(method))
    return name, record, extra_at + extra_length + comment_length


def _widen(extra: memoryview, values: list[int]) -> list[int]:
    """Replace the sizes and offsets that did not fit 32 bits by those of the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _ZIP64_EXTRA:
            wide = at
            for index, value in enumerate(values):
                if value == _MAX32:
                    (values[index],) = struct.unpack_from("<Q", extra, wide)
                    wide += 8
        at += length
    return values


def _data_start(data: memoryview, offset: int, name: str) -> int:
    """Return where the data begin, behind the local header; both headers must agree on the name."""
    if offset + _LOCAL.size > len(data):
        raise CheckpointError(f"zip entry {name!r:.200} lies outside the file, {TRUNCATED}")
    fields = _LOCAL.unpack_from(data, offset)
    signature, name_length, extra_length = fields[0], fields[-2], fields[-1]
    name_at = offset + _LOCAL.size
    if signature != b"PK\x03\x04" or data[name_at : name_at + name_length] != name.encode():
        raise CheckpointError(f"zip entry {name!r:.200} has no header of its own, {TRUNCATED}")
    return name_at + name_length + extra_length
