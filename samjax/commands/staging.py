"""Keep unfinished files in hidden folders, and remove those of killed processes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_STAGING = re.compile(r"\.samjax-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")
_ABANDONED = 24 * 3600.0  # seconds after which another machine's hidden folder is given up


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Make a hidden folder in ``out`` for unfinished files; those of dead processes are removed.

    Its name tells machine and process. Of another machine it is known only that it has been
    still for a day.
    """
    out.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^\w.-]", "_", socket.gethostname()) or "unknown"
    for entry in out.iterdir():
        match = _STAGING.fullmatch(entry.name)
        if match and entry.is_dir() and _is_left_over(entry, match, host):
            shutil.rmtree(entry, ignore_errors=True)
    folder = out / f".samjax-{host}-{os.getpid()}-{uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_left_over(entry: Path, match: re.Match[str], host: str) -> bool:
    with suppress(OSError):
        if time.time() - entry.stat().st_mtime > _ABANDONED:
            return True
    # On Windows os.kill would end the process instead of asking for it.
    if match["host"] != host or os.name != "posix":
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # someone else's process
        return False
    return int(match["pid"]) == os.getpid()  # an earlier container's, or this one's before
