"""Checks of the messages that the page sends: nothing of them is trusted before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from samjax.arguments import shown
from samjax.errors import PromptError

LONGEST_STROKE = 20_000  # points
LONGEST_LIST = 5_000  # objects or rings
LONGEST_LABEL = 100  # characters
LONGEST_TEXT = 4_000
# Far outside of any image: keeps float32 arithmetic finite.
LARGEST = 1e7

_ENVELOPE = ("kind", "request", "revision")

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Message:
    """A checked message names a method of `Actions` and its arguments.

    ``request`` is the page's own number, returned with the reply; ``revision`` is that of the
    update that the page showed (see `Project.revision`), None if the sender has seen none.
    """

    kind: str
    arguments: dict[str, Any]
    request: str | None
    revision: str | None = None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number")
    if not abs(value) <= LARGEST:  # NaN, infinite and huge whole numbers, too
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
        raise ValueError("1 (object) or 0 (background)")
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


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise ValueError(f"a text of 1 to {LONGEST_TEXT} characters")
    if not value.isprintable():  # nor half a surrogate pair, which no file can hold
        raise ValueError("a text without control characters")
    return value


def _path(value: Any) -> list[tuple[float, float]]:
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST_STROKE:
        raise ValueError(f"a list of 1 to {LONGEST_STROKE} points")
    if any(not isinstance(point, list) or len(point) != 2 for point in value):
        raise ValueError("a list of [x, y]")
    return [(_number(x), _number(y)) for x, y in value]


def _rings(value: Any) -> list[list[tuple[float, float]]]:
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST_LIST:
        raise ValueError(f"a list of 1 to {LONGEST_LIST} rings")
    rings = [_path(ring) for ring in value]
    if any(len(ring) < 3 for ring in rings):
        raise ValueError("rings of at least 3 points")
    return rings


def _indices(value: Any) -> list[int]:
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST_LIST:
        raise ValueError(f"a list of 1 to {LONGEST_LIST} numbers")
    return [_index(each) for each in value]


def _pixels(value: Any) -> int:
    if not -100 <= _whole(value) <= 100:
        raise ValueError("from -100 to 100 pixels")
    return value


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


# The arguments of each message; all of them must be there, and no others.
KINDS: dict[str, dict[str, Check]] = {
    "hello": {},
    "click": {"x": _number, "y": _number, "label": _sign},
    "box": {"x0": _number, "y0": _number, "x1": _number, "y1": _number, "new": _flag},
    "brush": {"points": _path, "radius": _radius, "add": _flag},
    "hover": {"x": _number, "y": _number},
    "page_decoder": {"gpu": _flag},
    "embedding": {"index": _index},
    "undo": {},
    "redo": {},
    "choose": {"index": _index},
    "commit": {},
    "new_object": {},
    "select": {"object_id": _whole},
    "delete": {"object_id": _or_none(_whole)},
    "duplicate": {},
    "grow": {"pixels": _pixels},
    "reshape": {"before": _rings, "after": _rings},
    "split": {},
    "merge": {"object_ids": _indices},
    "subtract": {"object_ids": _indices},
    "label": {"name": _name},
    "set_multimask": {"on": _flag},
    "set_threshold": {"threshold": _number},
    "rename_class": {"old": _name, "new": _name},
    "list_images": {},
    "thumbnails": {"indices": _indices},
    "next_image": {},
    "previous_image": {},
    "go": {"index": _index},
    "automatic": {},
    "find": {"text": _text},
    "pick": {"index": _index},
    "pick_many": {"indices": _indices},
    "accept": {"object_id": _or_none(_whole)},
    "reject": {"object_id": _or_none(_whole)},
    "next_review": {},
    "export": {"format": _text, "path": _text, "unfinished": _flag, "reviewed": _flag},
    "download": {"format": _text, "unfinished": _flag, "reviewed": _flag},
}


# Messages that name something of the image by its number.
BY_NUMBER = frozenset(
    ("select", "delete", "merge", "subtract", "pick", "pick_many", "accept", "reject")
)
# Messages that mean a place in the image, or the object that is active in it.
IN_IMAGE = frozenset(
    (
        *("click", "box", "brush", "reshape", "choose", "commit", "duplicate", "grow", "split"),
        *("undo", "redo", "set_threshold"),
    )
)


def request_of(content: Any) -> str | None:
    """Return the page's number of a message; None if it has none that may be sent back."""
    return _short(content.get("request")) if isinstance(content, dict) else None


def _short(text: Any) -> str | None:
    usable = isinstance(text, str) and len(text) <= 100 and text.isprintable()
    return text if usable else None


def check_name(name: Any) -> str:
    """Return the name of a class, without space around it.

    Raises:
        PromptError: empty, too long, or no text.
    """
    try:
        return _name(name)
    except ValueError as error:
        raise PromptError(f"label {shown(name)} must be {error}") from None


def check_names(names: Any) -> list[str]:
    """Return the names of the classes, at least one.

    Raises:
        PromptError: none, one text instead of a list, or the same twice.
    """
    alone = isinstance(names, str) or getattr(names, "ndim", 1) == 0
    given = [] if alone or not isinstance(names, Iterable) else list(names)
    if not given:
        raise PromptError(f"labels is {shown(names)}: pass a list of names, such as ['cat', 'dog']")
    checked = [check_name(name) for name in given]
    if len(set(checked)) < len(checked):
        raise PromptError(f"labels has a name twice: {', '.join(checked)}")
    return checked


def parse(content: Any) -> Message:
    """Check a message of the page.

    Raises:
        PromptError: anything but one of `KINDS` with its arguments.
    """
    if not isinstance(content, dict):
        raise PromptError(f"message is {type(content).__name__}, not an object: reload the page")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        name = repr(kind[:40]) if isinstance(kind, str) else type(kind).__name__
        raise PromptError(f"unknown message {name}: reload the page")
    checks = KINDS[kind]
    given = {key: value for key, value in content.items() if key not in _ENVELOPE}
    if given.keys() != checks.keys():
        raise PromptError(f"message {kind!r} needs exactly {sorted(checks)}: reload the page")
    arguments = {}
    for key, check in checks.items():
        try:
            arguments[key] = check(given[key])
        except ValueError as error:
            raise PromptError(f"message {kind!r}: {key} must be {error}") from None
    return Message(kind, arguments, request_of(content), _short(content.get("revision")))
