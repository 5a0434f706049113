"""Run the suites' commands with one-line errors and the usual exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from samjax.errors import SamjaxError

# Printed on an interrupt by commands that keep a journal
RESUMES = "interrupted: the same command resumes where it stopped"


def exit_code(job: Callable[[], Any], interrupted: str = "interrupted") -> None:
    """Run a command; wrong input ends it with one line and exit code 2, an interrupt with 130."""
    try:
        job()
    except SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
