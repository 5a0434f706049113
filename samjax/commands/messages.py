"""Tell what the command line has to say: rows, warnings and errors, each in one line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from samjax.errors import SamjaxError, SamjaxWarning, printable

# Typer carries its own copy of click in newer versions: the class is found through what it exports.
_UsageError = typer.BadParameter.__mro__[1]


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {printable(value)}")


def without_half_made_bars(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a ``sys.unraisablehook`` that leaves out progress bars interrupted as they were made.

    tqdm closes them as they are freed, and prints a traceback where there is nothing to close.

    Args:
        hook: hears of everything else.
    """

    def filtered(problem: Any, /) -> None:
        if getattr(problem.object, "__qualname__", "") != "tqdm.__del__":
            hook(problem)

    return filtered


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print samjax's own warnings as its errors are; others as Python does."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SamjaxWarning)
        otherwise, shown = warnings.showwarning, set()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SamjaxWarning):
                if str(message) not in shown:
                    print(f"samjax: {message}", file=sys.stderr)
                shown.add(str(message))
            else:
                otherwise(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def explain(error: Exception) -> str | None:
    """Explain an error of the user or the machine in one line; None for a fault of the program."""
    if isinstance(error, SamjaxError):
        return str(error)
    if isinstance(error, _UsageError):
        command = error.ctx.command_path if error.ctx else "samjax"  # type: ignore[attr-defined]
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        return f"{message}; see {command} --help"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: try --dtype bfloat16, a smaller image or model, or another --device"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "a path begins with ~ and the name of nobody here: write it out"
    if isinstance(error, RuntimeError) and "backend" in str(error):
        return f"JAX does not start: {error}; see samjax info, JAX_PLATFORMS and your drivers"
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}; check path, permissions and free space"
    return None


def fail(message: str, code: int = 2) -> int:
    """Print a message in one line on stderr, and return the exit code."""
    print(f"samjax: {printable(' '.join(message.splitlines()))}", file=sys.stderr)
    return code


def quiet_pipe() -> int:
    """Say nothing when the reader went away, also not when Python flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return 1
