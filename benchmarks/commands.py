"""How the suites' commands end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from samjax.errors import SamjaxError

# What to say of a command that keeps a journal
RESUMES = "interrupted: the same command goes on where it stopped"


def exit_code(job: Callable[[], Any], interrupted: str = "interrupted") -> None:
    """Run a command: wrong input gives one line and exit code 2, an interrupt 130."""
    try:
        job()
    except SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
