"""The line of an annotator for its user."""

from __future__ import annotations

from typing import Literal, NamedTuple

BEGIN = "Click or drag to start an object."

Level = Literal["info", "warning", "error"]


class Status(NamedTuple):
    """A line for the user, and how bad it is."""

    text: str
    level: Level
