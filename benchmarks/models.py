"""Resolve the model names that the suites take on the command line."""

from __future__ import annotations

import samjax

SIZES = ("vit_b", "vit_l", "vit_h")


def source(model: str) -> str | samjax.SamConfig | None:
    """Convert ``--model`` to an argument of samjax.load; "vit_b-random" asks for random weights.

    Raises:
        SamjaxError: random weights of an unknown size are asked for.
    """
    if model.endswith("-random"):
        name = model.removesuffix("-random")
        if name not in SIZES:
            raise samjax.SamjaxError(f"--model {model}: use vit_b-random, vit_l-random, ...")
        return getattr(samjax.SamConfig, name)()
    return None if model == "embedded" else model
