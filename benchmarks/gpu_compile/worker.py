"""One case in a process of its own.

    python -m benchmarks.gpu_compile.worker CARD CASE MODEL DTYPE ATTENTION [FILE.hlo]

The account goes to stdout as one line of JSON, the optimized HLO to a file where one is named.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.gpu_compile.account import account
from benchmarks.gpu_compile.cards import CARDS


def main(arguments: list[str]) -> None:
    """Print the account of one case."""
    name, case, model, dtype, attention, *rest = arguments
    found, text = account(name, CARDS[name], case, model, dtype, attention)
    for path in rest:
        Path(path).write_text(text, "utf-8")
    print(json.dumps(found.record()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
