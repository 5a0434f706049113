"""Names of models, as the suites take them on the command line."""

from __future__ import annotations

import samjax

SIZES = ("vit_b", "vit_l", "vit_h")


def source(model: str) -> str | samjax.SamConfig | None:
    """What samjax.load takes for ``--model``: "vit_b-random" are sizes with random weights.

    Raises:
        SamjaxError: random weights of unknown sizes.
    """
    if model.endswith("-random"):
        name = model.removesuffix("-random")
        if name not in SIZES:
            raise samjax.SamjaxError(f"--model {model}: use vit_b-random, vit_l-random, ...")
        return getattr(samjax.SamConfig, name)()
    return None if model == "embedded" else model
