"""Annotations can be evaluated everywhere: editors, checkers and typing.get_type_hints see them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest

import samjax

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(samjax.__path__, "samjax.")
    if not module.name.endswith("__main__")
)


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """Yield every function and method that the module defines, private ones too."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield value
        elif inspect.isclass(value):
            for member in vars(value).values():
                member = member.fget if isinstance(member, property) else member
                member = getattr(member, "__func__", member)
                member = getattr(member, "func", member)  # cached_property
                if inspect.isfunction(member) and member.__module__ == module.__name__:
                    yield member


@pytest.mark.parametrize("name", MODULES)
def test_every_annotation_can_be_evaluated(name: str):
    module = importlib.import_module(name)
    for function in functions(module):
        typing.get_type_hints(inspect.unwrap(function))
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == name:
            typing.get_type_hints(value)


def test_the_walk_sees_functions():
    assert len(MODULES) > 90
    found = list(functions(importlib.import_module("samjax.predictor")))
    assert {"predict", "__init__", "device", "_prepare"} <= {f.__name__ for f in found}
