"""Parse the option --shard: part I of N of the images."""

from __future__ import annotations

import re

from samjax.errors import SamjaxError


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse "I/N", part I of N counted from 1; None is everything, (1, 1).

    Raises:
        SamjaxError: not such a text.
    """
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise SamjaxError(f"--shard {text!r}: give I/N, part I of N, such as 1/4 to 4/4")
    return int(match[1]), int(match[2])
