"""Make the command-line options of automatic masks from the declaration in AutomaticOptions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from samjax.automatic.options import AutomaticOptions

_METAVARS = {int: "N", float: "T"}


def with_automatic_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``options`` by one option for each of AutomaticOptions.

    The command line uses the names of the API: ``box_nms_thresh`` is ``--box-nms-thresh``.
    """
    hints = get_type_hints(AutomaticOptions)
    made = {
        f.name: inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=f.default,
            annotation=Annotated[hints[f.name], _option(f.name, hints[f.name], f.metadata)],
        )
        for f in fields(AutomaticOptions)
        if f.metadata
    }

    @functools.wraps(command)
    def run(**values: Any) -> None:
        options = AutomaticOptions(**{name: values.pop(name) for name in made})
        command(options=options, **values)

    own_hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for name, own in inspect.signature(command).parameters.items():
        if name == "options":
            parameters += made.values()
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(own.replace(kind=kind, annotation=own_hints[name]))
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _option(name: str, hint: Any, metadata: Any) -> Any:
    number = next(kind for kind in _METAVARS if kind in (hint, *getattr(hint, "__args__", ())))
    pixels = "pixels" if "area" in name or "tile" in name else _METAVARS[number]
    return typer.Option(
        min=metadata.get("min"),
        max=metadata.get("max"),
        metavar=pixels.upper(),
        help=metadata["help"],
        show_default=metadata.get("none", True),
    )
