"""Interpret a pickle without running code: globals stay names, a table answers calls.

``pickle.loads`` imports and calls whatever a file names. Here nothing is ever imported: a global
becomes a ``Stub`` that carries its name, and a call of a name outside the caller's table gives
another stub. Opcodes outside the table below (INST, OBJ, EXT1-4, PERSID, NEXT_BUFFER, the text
opcodes of protocol 0...) are refused. Time and memory are bounded by ``MAX_PICKLE_BYTES`` and
``MAX_STEPS``. Opcodes are documented in the standard library's ``pickletools``.

The result may contain itself or share parts: never walk it recursively.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from samjax.checkpoint.formats.pickle_machine import (
    MALFORMED,
    MAX_INTEGER_BYTES,
    MAX_NAME_BYTES,
    MAX_PICKLE_BYTES,
    MAX_STEPS,
    RESAVE,
    Global,
    Machine,
    Stub,
)
from samjax.errors import CheckpointError


def load_pickle(
    data: memoryview,
    functions: Mapping[str, Callable[..., object]],
    persistent: Callable[[object], object],
) -> tuple[object, int]:
    """Interpret the pickle at the start of ``data``; return its object and its length in bytes.

    ``functions`` maps "module.qualname" to the stand-in for a call of that global; ``persistent``
    turns a persistent id (a tensor's storage) into an object.

    Raises:
        CheckpointError: refused opcodes, broken pickles, or too many bytes or steps.
    """
    machine = Machine(functions, persistent)
    view = data[:MAX_PICKLE_BYTES]
    position = 0
    try:
        while not machine.stopped:
            start, code = position, view[position]
            if code not in _OPCODES:
                raise CheckpointError(
                    f"opcode {_opcode_name(code)} at byte {start} of the pickle is refused, "
                    f"torch.save never writes it, no code was run: {RESAVE}"
                )
            read, act = _OPCODES[code]
            argument, position = read(view, position + 1)
            machine.spend(1)
            act(machine, argument)
    except CheckpointError:
        raise
    except (
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        OverflowError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"broken pickle near byte {position} ({type(error).__name__}), {MALFORMED}"
        ) from None
    return machine.result, position


# Readers: (view, position after the opcode) -> (argument, position of the next opcode)

_Reader = Callable[[memoryview, int], tuple[Any, int]]


def _nothing(_view: memoryview, position: int) -> tuple[Any, int]:
    return None, position


def _number(form: str) -> _Reader:
    layout = struct.Struct(form)

    def read(view: memoryview, position: int) -> tuple[Any, int]:
        return layout.unpack_from(view, position)[0], position + layout.size

    return read


def _counted(form: str, decode: Callable[[bytes], object]) -> _Reader:
    read_length = _number(form)

    def read(view: memoryview, position: int) -> tuple[Any, int]:
        length, start = read_length(view, position)
        if not 0 <= length <= len(view) - start:
            raise IndexError("past the end")
        return decode(bytes(view[start : start + length])), start + length

    return read


def _two_lines(view: memoryview, position: int) -> tuple[Any, int]:
    """Read the module and the name of a GLOBAL."""
    module, name, _ = bytes(view[position : position + MAX_NAME_BYTES]).split(b"\n", 2)
    return f"{module.decode()}.{name.decode()}", position + len(module) + len(name) + 2


def _utf8(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _python2_text(text: bytes) -> str:
    """Decode a Python 2 str, which may hold text or bytes: as UTF-8, else as Latin-1."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _long(little_endian: bytes) -> int:
    if len(little_endian) > MAX_INTEGER_BYTES:
        raise CheckpointError(f"an integer of {len(little_endian):,} bytes: {RESAVE}")
    return int.from_bytes(little_endian, "little", signed=True)


# Actions: (machine, argument) -> None

_Action = Callable[[Machine, Any], None]


def _push(machine: Machine, value: Any) -> None:
    machine.stack.append(value)


def _push_new(make: Callable[[], object]) -> _Action:
    return lambda machine, _: machine.stack.append(make())


def _skip(_machine: Machine, _value: Any) -> None:
    pass


def _protocol(_machine: Machine, version: int) -> None:
    if version > 5:
        raise CheckpointError(f"pickle protocol {version} is unknown, {MALFORMED}")


def _mark(machine: Machine, _: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, _: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_to_mark()


def _pop_mark(machine: Machine, _: Any) -> None:
    machine.pop_to_mark()


def _duplicate(machine: Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _stop(machine: Machine, _: Any) -> None:
    machine.result = machine.stack.pop()
    machine.stopped = True


def _tuple_of(count: int) -> _Action:
    def act(machine: Machine, _: Any) -> None:
        if len(machine.stack) < count:
            raise IndexError("too few items")
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return act


def _collect(make: Callable[[list[Any]], object]) -> _Action:
    def act(machine: Machine, _: Any) -> None:
        items = machine.pop_to_mark()
        machine.stack.append(make(items))

    return act


def _dict(machine: Machine, _: Any) -> None:
    result: dict[Any, Any] = {}
    machine.set_items(result, machine.pop_to_mark())
    machine.stack.append(result)


def _frozen(machine: Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.stack.append(frozenset(machine.key(item) for item in items))


def _fill(count: int | None, method: Callable[[Machine, Any, list[Any]], None]) -> _Action:
    """Pop ``count`` items (None: down to the mark) into the container below them."""

    def act(machine: Machine, _: Any) -> None:
        if count is None:
            items = machine.pop_to_mark()
        else:
            items = [machine.stack.pop() for _ in range(count)][::-1]
        method(machine, machine.stack[-1], items)

    return act


def _global(machine: Machine, name: str) -> None:
    machine.stack.append(Global(name))


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("a global without a name")
    if len(module) + len(name) > MAX_NAME_BYTES:
        raise ValueError("a long name")
    machine.stack.append(Global(f"{module}.{name}"))


def _reduce(machine: Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.call(function, arguments))


def _new_object(parts: int) -> _Action:
    """NEWOBJ (class, arguments) and NEWOBJ_EX (with keywords) always give a stub."""

    def act(machine: Machine, _: Any) -> None:
        kind = [machine.stack.pop() for _ in range(parts)][-1]
        if not isinstance(kind, Stub):
            raise TypeError("an object without a class")
        machine.stack.append(Stub(kind.name))

    return act


def _build(machine: Machine, _: Any) -> None:
    """BUILD sets attributes (a state dict's _metadata, an object's __dict__): they are dropped."""
    machine.stack.pop()
    if not machine.stack:
        raise IndexError("nothing to build")


def _persistent_id(machine: Machine, _: Any) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _put(machine: Machine, index: int) -> None:
    if index > MAX_STEPS:
        raise IndexError("memo index")
    machine.memo[index] = machine.stack[-1]


def _memoize(machine: Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: Machine, index: int) -> None:
    machine.stack.append(machine.memo[index])


_OPCODES: dict[int, tuple[_Reader, _Action]] = {
    code[0]: (read, act)
    for code, read, act in (
        # The frame of the stream
        (b"\x80", _number("<B"), _protocol),
        (b"\x95", _number("<Q"), _skip),  # FRAME
        (b".", _nothing, _stop),
        # Constants
        (b"N", _nothing, _push),
        (b"\x88", _nothing, _push_new(lambda: True)),
        (b"\x89", _nothing, _push_new(lambda: False)),
        (b"J", _number("<i"), _push),  # BININT
        (b"K", _number("<B"), _push),
        (b"M", _number("<H"), _push),
        (b"\x8a", _counted("<B", _long), _push),  # LONG1
        (b"\x8b", _counted("<i", _long), _push),  # LONG4
        (b"G", _number(">d"), _push),  # BINFLOAT
        (b"X", _counted("<I", _utf8), _push),  # BINUNICODE
        (b"\x8c", _counted("<B", _utf8), _push),
        (b"\x8d", _counted("<Q", _utf8), _push),
        (b"T", _counted("<i", _python2_text), _push),  # BINSTRING
        (b"U", _counted("<B", _python2_text), _push),
        (b"B", _counted("<I", bytes), _push),  # BINBYTES
        (b"C", _counted("<B", bytes), _push),
        (b"\x8e", _counted("<Q", bytes), _push),
        (b"\x96", _counted("<Q", bytes), _push),  # BYTEARRAY8
        # The stack and the memo
        (b"(", _nothing, _mark),
        (b"0", _nothing, _pop),
        (b"1", _nothing, _pop_mark),
        (b"2", _nothing, _duplicate),
        (b"q", _number("<B"), _put),  # BINPUT
        (b"r", _number("<I"), _put),
        (b"\x94", _nothing, _memoize),
        (b"h", _number("<B"), _get),  # BINGET
        (b"j", _number("<I"), _get),
        # Containers
        (b")", _nothing, _push_new(tuple)),
        (b"\x85", _nothing, _tuple_of(1)),
        (b"\x86", _nothing, _tuple_of(2)),
        (b"\x87", _nothing, _tuple_of(3)),
        (b"t", _nothing, _collect(tuple)),
        (b"]", _nothing, _push_new(list)),
        (b"l", _nothing, _collect(list)),
        (b"a", _nothing, _fill(1, Machine.extend)),  # APPEND
        (b"e", _nothing, _fill(None, Machine.extend)),  # APPENDS
        (b"}", _nothing, _push_new(dict)),
        (b"d", _nothing, _dict),
        (b"s", _nothing, _fill(2, Machine.set_items)),  # SETITEM
        (b"u", _nothing, _fill(None, Machine.set_items)),  # SETITEMS
        (b"\x8f", _nothing, _push_new(set)),
        (b"\x90", _nothing, _fill(None, Machine.add)),  # ADDITEMS
        (b"\x91", _nothing, _frozen),
        # Globals, calls, objects
        (b"c", _two_lines, _global),
        (b"\x93", _nothing, _stack_global),
        (b"R", _nothing, _reduce),
        (b"\x81", _nothing, _new_object(2)),
        (b"\x92", _nothing, _new_object(3)),
        (b"b", _nothing, _build),
        (b"Q", _nothing, _persistent_id),  # BINPERSID
    )
}

_REFUSED_NAMES = {
    b"P": "PERSID", b"i": "INST", b"o": "OBJ", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4",
    b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
}  # fmt: skip


def _opcode_name(code: int) -> str:
    return _REFUSED_NAMES.get(bytes([code]), f"0x{code:02x}")
