"""Say where a checkpoint came from, and which preset that origin calls for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from samjax.checkpoint.hub_files import card_of
from samjax.checkpoint.models import MODELS
from samjax.checkpoint.models_lock import LockEntry
from samjax.errors import CheckpointWarning

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint came from.

    Attributes:
        source: the name or address that was asked for.
        entry: the record of it.
        preset: the preset that is known for the name or repository, None if none is.
        purpose: what the model is for, "" if unknown.
        page: web page of the model.
    """

    source: str
    entry: LockEntry
    preset: str | None = None
    purpose: str = ""
    page: str = ""

    @property
    def sentence(self) -> str:
        """Return the origin in one line, for notes and for the metadata of converted files."""
        main = max(self.entry.files.items(), key=lambda item: item[1].size)
        return f"from {self.entry.address}, {main[0]} sha256 {main[1].sha256}"

    @property
    def card(self) -> str:
        """Return the text of the repository's README, "" without one."""
        return card_of(Path(self.entry.folder)) if self.entry.commit else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the origin as plain JSON values."""
        return {
            "source": self.source,
            "address": self.entry.address,
            "commit": self.entry.commit,
            "sha256": self.entry.content,
            "recorded": self.entry.date,
            "pinned_by": self.entry.pinned_by,
            "licence": self.entry.licence or None,
            "page": self.page or None,
        }


@dataclass(frozen=True)
class Located:
    """A checkpoint on this machine: its path, and its origin unless a path was given."""

    path: Path
    origin: Origin | None = None


def with_origin(found: _Found, origin: Origin | None, *, asked: str | None = None) -> _Found:
    """Return a Checkpoint or Description with its origin noted and the preset that is known for it.

    A repository whose image processor would choose another preset than the one that is known for
    it is told in a CheckpointWarning, unless the caller chose (``asked``) or loads by name.
    """
    if origin is None:
        return found
    read: Any = found
    notes = (*read.notes, origin.sentence)
    known = origin.preset
    if known is None or (known == "sam" and read.preprocess is not None):
        return replace(read, notes=notes)
    if read.preprocess not in (None, known):
        text = (
            f"{origin.source}: preset {known}, the one that this model was trained with; its "
            f"image processor would choose {read.preprocess}"
        )
        notes = (*notes, text)
        if asked is None and origin.source not in MODELS:
            warn(f"{text} (preprocess={read.preprocess!r} follows that)")
    return replace(read, notes=notes, preprocess=known, doubt="")


def warn(text: str) -> None:
    """Warn in the name of the caller's caller's caller: the call of ``samjax.load``, mostly."""
    warnings.warn(text, CheckpointWarning, stacklevel=5)
