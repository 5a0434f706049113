"""Mutations of saved states and of the page's messages: nothing differs silently.

``python -m tests.support.state_mutations --count 5000`` is the long run of both.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samjax.errors import AnnotationError, PromptError
from samjax.masks.rle import to_coco_rle
from samjax.widget import messages, steps
from samjax.widget.state import State
from samjax.widget.state_file import FinishedMask, Saved, read_state, write_state

STRANGE: list[Any] = [
    *(None, True, False, "", "x" * 10_000, "\0", "\x1b[31m", 0, -1, 10**400, -(10**400)),
    *(float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, [], {}, [[]], {"kind": "click"}),
    *([1] * 30_000, [[0, 0]] * 30_000, [[float("nan"), 0]], ["a"], {"x": 1}, b"bytes", 1j),
]


def example() -> Saved:
    """Return a state with prompts, paint and a mask."""
    state = steps.click(State(label="cat"), 3, 4.5)
    state = steps.choose(steps.box(state, 1, 2, 9, 8), 1)
    state = steps.commit(steps.brush(state, [(1, 1), (5, 6.25)], 2.5, False))
    mask = np.random.default_rng(0).random((11, 13)) > 0.5
    return Saved(state, {1: FinishedMask(to_coco_rle(mask), 0.75, 1)}, (11, 13), "hash", "weights")


def mutate_state(saved: Saved, folder: Path, count: int, seed: int = 0) -> tuple[int, int]:
    """Read ``count`` damaged files of a state: return how many loaded, and loaded differently.

    Raises:
        Exception: anything but an AnnotationError of one line.
    """
    path = folder / "mutated.json"
    write_state(path, "a.png", saved)
    good, random = path.read_bytes(), np.random.default_rng(seed)
    loaded = differs = 0
    for _ in range(count):
        path.write_bytes(_mutated(good, random))
        try:
            found = read_state(path)
        except AnnotationError as error:
            _check_text(str(error))
            continue
        loaded += 1
        differs += found != saved
    return loaded, differs


def _check_text(text: str) -> None:
    assert len(text.splitlines()) == 1, repr(text)
    assert len(text) < 500, text


def _mutated(good: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(good)
    kind = random.integers(6)
    at = int(random.integers(len(data)))
    if kind == 0:  # one bit
        data[at] ^= 1 << int(random.integers(8))
    elif kind == 1:  # another digit, where there is one
        digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
        data[digits[int(random.integers(len(digits)))]] = ord("0") + int(random.integers(10))
    elif kind == 2:
        del data[at : at + int(random.integers(1, 30))]
    elif kind == 3:
        data[at:at] = data[at : at + int(random.integers(1, 30))]
    elif kind == 4:  # a whole value
        content = json.loads(good)
        keys = sorted(content)
        content[keys[int(random.integers(len(keys)))]] = random.choice([0, 1, -1, 2**40]).item()
        data = bytearray(json.dumps(content).encode())
    else:
        lines = good.split(b"\n")
        i, j = (int(x) for x in random.integers(len(lines), size=2))
        lines[i], lines[j] = lines[j], lines[i]
        data = bytearray(b"\n".join(lines))
    return bytes(data)


VALID: dict[str, Any] = {
    **{"x": 3.5, "y": 4, "x0": 1, "y0": 2, "x1": 9, "y1": 8, "label": 1, "new": True, "add": True},
    **{"points": [[1, 2], [3, 4]], "radius": 3.0, "index": 0, "object_id": 1, "pixels": 1},
    **{"before": [[[0, 0], [5, 0], [5, 5]]], "after": [[[0, 0], [6, 0], [5, 5]]]},
    **{"object_ids": [1, 2], "indices": [0], "name": "cat", "on": True, "threshold": 0.5},
    **{"old": "cat", "new_name": "dog", "format": "coco", "path": "a.json", "unfinished": True},
    "reviewed": True,
}


def valid_message(kind: str) -> dict[str, Any]:
    """Return a message of a kind that every check accepts."""
    content: dict[str, Any] = {"kind": kind, "request": "r1"}
    for key, check in messages.KINDS[kind].items():
        for value in (VALID.get(key), "cat", 1, [1], True, "a"):
            try:
                check(value)
            except (ValueError, TypeError):
                continue
            content[key] = value
            break
    return content


def mutate_messages(count: int, seed: int = 0, parse: Callable[[Any], Any] = messages.parse) -> int:
    """Parse ``count`` strange messages: return how many were accepted.

    What is accepted can travel as JSON, and its request is short text.

    Raises:
        Exception: anything but a PromptError of one line.
    """
    random, kinds, accepted = np.random.default_rng(seed), sorted(messages.KINDS), 0
    for _ in range(count):
        content = copy.deepcopy(valid_message(kinds[int(random.integers(len(kinds)))]))
        for _ in range(int(random.integers(1, 3))):
            keys = [*content, "extra", "request", "kind"]
            key = keys[int(random.integers(len(keys)))]
            strange = STRANGE[int(random.integers(len(STRANGE)))]
            if random.random() < 0.2:
                content.pop(key, None)
            else:
                content[key] = strange
        whole: Any = (
            content if random.random() < 0.97 else STRANGE[int(random.integers(len(STRANGE)))]
        )
        request = messages.request_of(whole)
        assert request is None or (isinstance(request, str) and len(request) <= 100)
        try:
            message = parse(whole)
        except PromptError as error:
            _check_text(str(error))
            continue
        accepted += 1
        json.dumps(message.arguments, allow_nan=False)
    return accepted


def main() -> None:
    """Run both suites and print their counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loaded, differs = mutate_state(example(), Path(folder), given.count, given.seed)
    accepted = mutate_messages(given.count, given.seed)
    print(f"{given.count} states: {loaded} loaded, {differs} of them differently")
    print(f"{given.count} messages: {accepted} accepted")


if __name__ == "__main__":
    main()
