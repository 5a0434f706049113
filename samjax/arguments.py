"""Check what a caller passed, and say in one line what is usable."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from samjax.errors import PromptError, SamjaxError


def whole_number(
    value: Any,
    name: str,
    least: int | None = None,
    most: int | None = None,
    error: type[SamjaxError] = PromptError,
) -> int:
    """Return a whole number of Python or NumPy as an int; no text, no float, no bool.

    Args:
        value: as it was passed.
        name: of the argument, for the error.
        least, most: limits that belong to the allowed range.
        error: to raise.

    Raises:
        error: another type, or a number out of range.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        wanted = _wanted("a whole number", least, most)
        raise error(f"{name} is {shown(value)}: pass {wanted}") from None
    _check_range(number, name, "a whole number", least, most, error)
    return number


def whole_numbers(values: Any, name: str, error: type[SamjaxError] = PromptError) -> list[int]:
    """Return several whole numbers as a list of ints.

    Raises:
        error: no list, or one that holds anything else.
    """
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise error(f"{name} is {shown(values)}: pass a list of whole numbers")
    return [whole_number(value, name, error=error) for value in values]


def real_number(
    value: Any,
    name: str,
    least: int | float | None = None,
    most: int | float | None = None,
    error: type[SamjaxError] = PromptError,
) -> float:
    """Return a finite number of Python or NumPy as a float; no text, no bool.

    The arguments are those of `whole_number`.

    Raises:
        error: another type, NaN, infinity, more than a float can hold, or a number out of range.
    """
    try:
        if isinstance(value, (bool, str, bytes, bytearray)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise error(f"{name} is {shown(value)}: pass {_wanted('a finite number', least, most)}")
    _check_range(number, name, "a number", least, most, error)
    return number


def flag(value: Any, name: str, error: type[SamjaxError] = PromptError) -> bool:
    """Return True or False, of Python or NumPy.

    Raises:
        error: anything else.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not isinstance(value, bool) and (kind != "b" or getattr(value, "shape", None) != ()):
        raise error(f"{name} is {shown(value)}: pass True or False")
    return bool(value)


def texts(values: Any, name: str, error: type[SamjaxError] = PromptError) -> tuple[str, ...]:
    """Return several texts as a tuple; one text alone is none of several.

    Raises:
        error: no list, or one that holds anything else.
    """
    found = (None,) if isinstance(values, (str, bytes)) else _listed(values)
    if not all(isinstance(text, str) for text in found):
        raise error(f"{name} is {shown(values)}: pass a list of texts")
    return found


def _listed(values: Any) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:  # an array without dimensions says that it can be iterated
        return (None,)


def several(values: Any, name: str, of: str, error: type[SamjaxError] = PromptError) -> Any:
    """Return a list or another iterable as it is; a text or a mapping is none.

    Args:
        values: as they were passed.
        name: of the argument, for the error.
        of: what it is a list of.
        error: to raise.

    Raises:
        error: anything else.
    """
    alone = isinstance(values, (str, bytes, Mapping))
    if alone or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) == 0:
        raise error(f"{name} is {shown(values)}: pass a list of {of}")
    return values


_T = TypeVar("_T")


def function(value: _T, name: str, error: type[SamjaxError] = PromptError) -> _T:
    """Return a function, or None, as it is.

    Raises:
        error: anything else.
    """
    if value is not None and not callable(value):
        raise error(f"{name} is {shown(value)}: pass a function, or None")
    return value


def instance(
    value: Any, kind: Any, name: str, error: type[SamjaxError] = PromptError, of: str = ""
) -> Any:
    """Return an object of a class as it is.

    Raises:
        error: anything else; ``of`` says where one comes from.
    """
    if not isinstance(value, kind):
        raise error(f"{name} is {shown(value)}: pass {of or f'a {kind.__name__}'}")
    return value


class RealNumber:
    """An attribute that takes finite numbers only, and is refused otherwise as it is set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> float:
        try:
            return float(vars(instance)[self._name])
        except (TypeError, KeyError):  # asked of the class, or not set yet
            raise AttributeError(self._name) from None

    def __set__(self, instance: object, value: Any) -> None:
        vars(instance)[self._name] = real_number(value, self._name)


def shown(value: Any) -> str:
    """Return the beginning of a value's ``repr``, or its type where that has none."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of thousands of digits; a class of somebody else
        return f"of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_range(
    number: Any,
    name: str,
    kind: str,
    least: int | float | None,
    most: int | float | None,
    error: type[SamjaxError],
) -> None:
    if (least is not None and number < least) or (most is not None and number > most):
        raise error(f"{name} is {shown(number)}: pass {_wanted(kind, least, most)}")


def _wanted(kind: str, least: int | float | None, most: int | float | None) -> str:
    if least is None and most is None:
        return kind
    if most is None:
        return f"{kind} of at least {least:g}"
    if least is None:
        return f"{kind} of at most {most:g}"
    return f"{kind} from {least:g} to {most:g}"
