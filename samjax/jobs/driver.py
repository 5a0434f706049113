"""Let one driver at a time run the same part of a job."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from samjax.errors import SamjaxError, StorageError
from samjax.jobs.storage import (
    join,
    list_objects,
    open_store,
    read_bytes,
    write_bytes,
)

_FOLDER = "drivers"
_BEAT = 30.0  # seconds between signs of life
_DEAD = 120.0  # seconds without one, after which another machine's driver is given up


@contextmanager
def driving(destination: str, part: int, parts: int) -> Iterator[None]:
    """Announce this driver below the destination while the block runs.

    Parts of the same division do not disturb each other. A driver that died leaves its file: on
    this machine it is known to be dead, of another machine after two minutes.

    Raises:
        SamjaxError: another driver is at work on the same part, or on another division.
    """
    name = f"{_FOLDER}/part-{part}-of-{parts}.json"
    me = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid4().hex}
    for other_name in list_objects(join(destination, _FOLDER)):
        other = _read(join(destination, _FOLDER, other_name))
        same_division = other_name.endswith(f"-of-{parts}.json")
        mine = other_name == name.partition("/")[2]
        if other and (mine or not same_division) and _is_alive(other):
            raise SamjaxError(
                f"{destination}: process {other['pid']} on {other['host']} works on "
                f"{other_name.removesuffix('.json')}: wait for it, stop it, or if it is dead, "
                f"try again in {_DEAD / 60:.0f} minutes"
            )
    address, stopped = join(destination, name), threading.Event()

    def beat() -> None:
        while not stopped.wait(_BEAT):
            try:
                _write(address, me)
            except StorageError:  # the results will tell
                continue

    _write(address, me)
    thread = threading.Thread(target=beat, name=f"samjax-{me['id']}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        found = _read(address)
        if found and found.get("id") == me["id"]:
            store, path = open_store(address)
            store.rm_file(path)


def _write(address: str, me: dict[str, Any]) -> None:
    write_bytes(address, json.dumps(me | {"time": time.time()}).encode())


def _read(address: str) -> dict[str, Any] | None:
    try:
        found = json.loads(read_bytes(address))
        return found if {"host", "pid", "id", "time"} <= found.keys() else None
    except (StorageError, ValueError, AttributeError):
        return None


def _is_alive(other: dict[str, Any]) -> bool:
    if time.time() - other["time"] > _DEAD:
        return False
    if other["host"] != socket.gethostname() or os.name != "posix":
        return True
    if other["pid"] == os.getpid():
        return any(t.name == f"samjax-{other['id']}" for t in threading.enumerate())
    try:
        os.kill(int(other["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # someone else's process
        return True
    return True
