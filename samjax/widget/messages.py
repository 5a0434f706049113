"""What the page sends, checked: nothing of it is trusted before it has passed here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samjax.errors import PromptError

LONGEST_STROKE = 20_000  # points
LONGEST_LABEL = 100  # characters
# Far outside of any image: keeps float32 arithmetic finite.
LARGEST = 1e7

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Message:
    """A checked message: the name of a method of `Annotator` with its arguments.

    ``request`` is the page's own number, returned with the reply.
    """

    kind: str
    arguments: dict[str, Any]
    request: str | None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number")
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError("a finite number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
        raise ValueError("a whole number")
    return value


def _index(value: Any) -> int:
    if _whole(value) < 0:
        raise ValueError("0 or more")
    return value


def _sign(value: Any) -> int:
    if _whole(value) not in (0, 1):
        raise ValueError("1 (object) or 0 (not)")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _radius(value: Any) -> float:
    if not 0 < _number(value) <= 10_000:
        raise ValueError("above 0 and at most 10000 pixels")
    return float(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_LABEL:
        raise ValueError(f"a name of 1 to {LONGEST_LABEL} characters")
    if not value.isprintable():
        raise ValueError("a name without control characters")
    return value.strip()


def _path(value: Any) -> list[tuple[float, float]]:
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST_STROKE:
        raise ValueError(f"a list of 1 to {LONGEST_STROKE} points")
    if any(not isinstance(point, list) or len(point) != 2 for point in value):
        raise ValueError("a list of [x, y]")
    return [(_number(x), _number(y)) for x, y in value]


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


# The arguments of each message; all of them must be there, and no others.
KINDS: dict[str, dict[str, Check]] = {
    "hello": {},
    "click": {"x": _number, "y": _number, "label": _sign},
    "box": {"x0": _number, "y0": _number, "x1": _number, "y1": _number},
    "brush": {"points": _path, "radius": _radius, "add": _flag},
    "hover": {"x": _number, "y": _number},
    "undo": {},
    "redo": {},
    "choose": {"index": _index},
    "commit": {},
    "new_object": {},
    "select": {"object_id": _whole},
    "delete": {"object_id": _or_none(_whole)},
    "label": {"name": _name},
    "set_multimask": {"on": _flag},
    "set_threshold": {"threshold": _number},
    "next_image": {},
    "previous_image": {},
    "go": {"index": _index},
    "automatic": {},
    "pick": {"index": _index},
    "export": {},
}


def check_name(name: Any) -> str:
    """The name of a class, without space around it.

    Raises:
        PromptError: empty, too long, or no text.
    """
    try:
        return _name(name)
    except ValueError as error:
        raise PromptError(f"label {str(name)[:40]!r} must be {error}") from None


def check_names(names: Any) -> list[str]:
    """The names of the classes, at least one.

    Raises:
        PromptError: none, one text instead of a list, or the same twice.
    """
    if isinstance(names, str) or not names:
        raise PromptError(f"labels is {names!r}: pass a list of names, such as ['cat', 'dog']")
    checked = [check_name(name) for name in names]
    if len(set(checked)) < len(checked):
        raise PromptError(f"labels has a name twice: {', '.join(checked)}")
    return checked


def parse(content: Any) -> Message:
    """A message of the page, or one line that says what is wrong with it.

    Raises:
        PromptError: anything but one of `KINDS` with its arguments.
    """
    if not isinstance(content, dict):
        raise PromptError(f"message is {type(content).__name__}, not an object: reload the page")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise PromptError(f"unknown message {str(kind)[:40]!r}: reload the page")
    checks = KINDS[kind]
    given = {key: value for key, value in content.items() if key not in ("kind", "request")}
    if given.keys() != checks.keys():
        raise PromptError(f"message {kind!r} needs exactly {sorted(checks)}: reload the page")
    arguments = {}
    for key, check in checks.items():
        try:
            arguments[key] = check(given[key])
        except ValueError as error:
            raise PromptError(f"message {kind!r}: {key} must be {error}") from None
    request = content.get("request")
    if not isinstance(request, str) or len(request) > 100:
        request = None
    return Message(kind, arguments, request)
