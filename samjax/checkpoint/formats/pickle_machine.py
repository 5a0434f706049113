"""The pickle machine holds the state of a pickle being read: stack, memo and permitted calls.

``restricted_pickle`` feeds it opcodes. Everything here is bounded by ``MAX_STEPS``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from samjax.errors import CheckpointError

# A ViT-H state dict pickles to 0.1 MB and 20,000 opcodes, with its optimizer to four times that.
MAX_PICKLE_BYTES = 32 * 2**20
MAX_STEPS = 1_000_000
MAX_INTEGER_BYTES = 1024
MAX_NAME_BYTES = 512
# hash() of a long tuple costs its length each time it is a key, and of a nested one even more.
MAX_KEY_PARTS = 16
# Chosen numbers collide in a dict (text does not: its hash is salted), and n of them cost n * n
# comparisons. An optimizer numbers its state from 0: such keys lie apart, whoever chose them.
MAX_UNSALTED_KEYS = 500
MAX_NUMBERED_KEYS = 20_000
_NUMBERED = 2**20
_WIDEST = 2**127  # of an integer in a key

RESAVE = "re-save its weights with torch.save(model.state_dict(), ...)"
MALFORMED = f"truncated or not a checkpoint: download it again, or {RESAVE}"


_SCALARS = frozenset({str, bytes, int, float, bool, type(None)})


def _is_cheap(value: object) -> bool:
    """Return whether a part of a key is hashed and compared in no time."""
    kind = type(value)
    return kind in _SCALARS and not (kind is int and not -_WIDEST <= value < _WIDEST)  # type: ignore[operator]


class Stub:
    """A stub stands for an object that was not built, and holds only its "module.qualname" name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not name.isprintable():  # names go into one-line messages
            raise ValueError("a name with control characters")
        self.name = name

    def __repr__(self) -> str:
        return f"<not loaded: {self.name}>"


class Global(Stub):
    """A global stands for a class, a function or a dtype that a pickle names."""

    __slots__ = ()


def type_name(value: object) -> str:
    """Return the name of a value in error messages: a stub's global, or the Python type."""
    return value.name if isinstance(value, Stub) else type(value).__name__


class Machine:
    """A machine holds the stack, those below it (one per open MARK) and the memo of one pickle."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]],
        persistent: Callable[[object], object],
    ) -> None:
        self.functions = {**functions, **self._builtin_functions()}
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.unsalted_keys = self.numbered_keys = 0
        self.stopped = False
        self.result: object = None

    def spend(self, steps: int) -> None:
        """Count steps, one for each opcode or copied item; more than MAX_STEPS raise an error."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise CheckpointError(f"its pickle takes more than {MAX_STEPS:,} steps: {RESAVE}")

    def pop_to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    # Keys, dicts, lists and sets

    def key(self, value: Any) -> Any:
        """Return the value as a dict key that is cheap to hash; other values become stubs."""
        kind = type(value)
        if kind in (str, bytes, bool, type(None)) or isinstance(value, Stub):
            return value
        if kind is int and 0 <= value < _NUMBERED:
            self.numbered_keys += 1
            if self.numbered_keys > MAX_NUMBERED_KEYS:
                raise CheckpointError(
                    f"its pickle has more than {MAX_NUMBERED_KEYS:,} numbered keys: {RESAVE}"
                )
            return value
        cheap = _is_cheap(value) or (
            kind is tuple and len(value) <= MAX_KEY_PARTS and all(map(_is_cheap, value))
        )
        if not cheap:
            return Stub("a key that is not text or a number")
        self.unsalted_keys += 1
        if self.unsalted_keys > MAX_UNSALTED_KEYS:
            raise CheckpointError(
                f"its pickle has more than {MAX_UNSALTED_KEYS:,} keys that are not text: {RESAVE}"
            )
        return value

    def set_items(self, target: Any, flat: list[Any]) -> None:
        if isinstance(target, Stub):
            return
        if not isinstance(target, dict) or len(flat) % 2:
            raise TypeError("items of a non-dict")
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            name = self.key(name)
            if name in target:
                raise CheckpointError(f"the key {name!r:.80} occurs twice in one dict: {RESAVE}")
            target[name] = value

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Stub):
            return
        if not isinstance(target, list):
            raise TypeError("items of a non-list")
        target.extend(items)

    def add(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Stub):
            return
        if not isinstance(target, set):
            raise TypeError("items of a non-set")
        target.update(self.key(item) for item in items)

    # Calls

    def call(self, function: Any, arguments: Any) -> object:
        """Return the object that ``function(*arguments)`` gives: from the table, or a stub."""
        if not isinstance(function, Stub) or not isinstance(arguments, tuple):
            raise TypeError("a call of a non-global")
        known = self.functions.get(function.name) if isinstance(function, Global) else None
        return Stub(function.name) if known is None else known(*arguments)

    def _builtin_functions(self) -> dict[str, Callable[..., object]]:
        table: dict[str, Callable[..., object]] = {
            "collections.OrderedDict": self._ordered_dict,
            "torch.Size": self._size,
            "_codecs.encode": self._encode,
            "copyreg._reconstructor": self._reconstructor,
            "copy_reg._reconstructor": self._reconstructor,
        }
        for module in ("builtins", "__builtin__"):
            table[f"{module}.set"] = self._set
            table[f"{module}.frozenset"] = self._frozenset
            table[f"{module}.bytes"] = lambda: b""
        return table

    def _ordered_dict(self, pairs: object = ()) -> object:
        result: OrderedDict[Any, Any] = OrderedDict()
        items = self._copied(pairs)
        self.set_items(result, [part for key, value in items for part in (key, value)])
        return result

    def _set(self, items: object = ()) -> object:
        return {self.key(item) for item in self._copied(items)}

    def _frozenset(self, items: object = ()) -> object:
        return frozenset(self.key(item) for item in self._copied(items))

    def _copied(self, items: object) -> list[Any] | tuple[Any, ...]:
        if not isinstance(items, (list, tuple)):
            raise TypeError("not a list")
        self.spend(len(items))
        return items

    def _size(self, sizes: tuple[int, ...]) -> object:
        return sizes

    def _encode(self, text: object, encoding: object) -> object:
        """Encode text as Latin-1: protocol 2 writes bytes so."""
        if not isinstance(text, str) or not (isinstance(encoding, str) and encoding == "latin1"):
            raise ValueError("unknown encoding")
        self.spend(len(text) // 64)
        return text.encode("latin-1")

    def _reconstructor(self, kind: Stub, *_rest: object) -> object:
        """Return a stub for an object as protocols below 2 write it."""
        return Stub(kind.name)
