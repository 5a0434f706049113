"""Find the hub's cache folder, record revisions in it, and check its disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from samjax.checkpoint.hub_address import HubAddress
from samjax.errors import DownloadError
from samjax.files import replacing


def hub_cache() -> Path:
    """Return the hub's cache folder, as huggingface_hub finds it, without importing that."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    old = os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    chosen = os.environ.get("HF_HUB_CACHE") or old
    return Path(os.path.expandvars(chosen)).expanduser().resolve()


def folder_of(address: HubAddress) -> Path:
    """Return the folder of the address's repository in the hub's cache."""
    return hub_cache() / f"models--{address.repository.replace('/', '--')}"


def record_revision(address: HubAddress, commit: str) -> None:
    """Record in the hub's cache that the address's revision stands for a commit.

    That is how a cache without samjax's own record, such as a copy of it on another machine,
    answers offline, and other programs too. A cache that cannot be written stays as it is.
    """
    reference = folder_of(address) / "refs" / (address.revision or "main")
    with suppress(OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
        with replacing(reference) as temporary:
            temporary.write_text(commit, encoding="utf-8")


def refuse_small_disk(address: HubAddress, listed: Sequence[Any]) -> None:
    """Refuse a download whose files do not fit; those in the cache already need no room.

    Args:
        address: the address, for the error.
        listed: the hub's entries of the files: their sizes in bytes and hashes.

    Raises:
        DownloadError: too little room.
    """
    blobs = folder_of(address) / "blobs"
    sizes = {entry.lfs.sha256 if entry.lfs else entry.blob_id: entry.size for entry in listed}
    needed = sum(size for name, size in sizes.items() if not (blobs / name).exists())
    cache = hub_cache()
    here = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(here).free
    if free < needed:
        raise DownloadError(
            f"{address}: {free / 1e9:.3g} GB free in {cache}, its files need {needed / 1e9:.3g} "
            "GB: make room, or set HF_HOME to a folder on another disk"
        )
