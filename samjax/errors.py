"""Define the errors that samjax raises on purpose.

Each message says in one line what failed, why, and what to do about it.
"""

from __future__ import annotations

import os
from pathlib import Path
from traceback import format_exception
from types import TracebackType

_PACKAGE = f"{Path(__file__).parent}{os.sep}"  # where samjax's own frames come from


def printable(text: str) -> str:
    """Return the text in one line that a terminal shows as it is.

    Names from files may hold control sequences, which move the cursor, colour, or hide text, and
    characters that reverse the direction of writing: all are escaped, as ``repr`` does.
    """
    line = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class SamjaxError(Exception):
    """Is the base of all errors raised for wrong use or input; the command line exits with 2.

    The message is one line without control characters, whatever the names in it.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in arguments))

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the caller's frames and the message.

        samjax's own frames tell nothing about wrong input; ``%xmode Verbose`` shows them, too.
        """
        from IPython.core.getipython import get_ipython

        every, shell = self.__traceback__, get_ipython()
        if shell is None:
            return format_exception(self)
        formatter = shell.InteractiveTB
        shown = every if formatter.mode == "Verbose" else callers_frames(every)
        return formatter.structured_traceback(type(self), self, shown or every)


def callers_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback up to the first frame of samjax; None where that is the first."""
    frames, shown = [], None
    while traceback and not traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        frames.append(traceback)
        traceback = traceback.tb_next
    for frame in reversed(frames):
        shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown


class CheckpointError(SamjaxError, ValueError):
    """Reports a checkpoint that cannot be read, is unsafe, unsupported or does not fit."""


class DownloadError(SamjaxError, OSError):
    """Reports weights that could not be fetched or verified, or that a lock file refuses."""


class ImageError(SamjaxError, ValueError):
    """Reports an image that cannot be read or has an unusable shape or dtype."""


class PromptError(SamjaxError, ValueError):
    """Reports points, labels, boxes or masks that fit neither each other nor the image."""


class DeviceError(SamjaxError, ValueError):
    """Reports a device, dtype or precision that this machine or JAX does not offer."""


class AnnotationError(SamjaxError, ValueError):
    """Reports masks, records or annotation files that cannot be read, written or combined."""


class DetectorError(SamjaxError, ValueError):
    """Reports a detector for text prompts that is missing, unusable or returns unusable boxes."""


class StorageError(SamjaxError, OSError):
    """Reports an object that cannot be read from a store, or written to one."""


class ExportError(SamjaxError, ValueError):
    """Reports a model that cannot be written as ONNX or StableHLO, or options that do not fit."""


class RasterError(SamjaxError, ValueError):
    """Reports a georeferenced raster, its bands or its polygons that cannot be used or written."""


class MigrationError(SamjaxError, AttributeError):
    """Reports a name of segment-anything or transformers, and names the code to write instead."""


class MigrationImportError(SamjaxError, ImportError):
    """Reports the import of a name of segment-anything or transformers, as MigrationError does."""


class SamjaxWarning(UserWarning):
    """Is the base of all warnings; one line without control characters, as the errors."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in arguments))


class NoMasksWarning(SamjaxWarning):
    """Warns that an image has no automatic mask, and names thresholds that would have kept some."""


class AnnotationWarning(SamjaxWarning):
    """Warns that a file of annotations was read, but that a part of it was left out."""


class CheckpointWarning(SamjaxWarning):
    """Warns that a checkpoint loads, but that something about its use had to be guessed."""
