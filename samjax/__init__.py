"""samjax: Segment Anything in JAX and Flax NNX.

Names are loaded on first use, so that ``import samjax`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samjax.automatic import SamAutomaticMaskGenerator
    from samjax.config import SamConfig
    from samjax.engine import Segmenter, load
    from samjax.errors import SamjaxError
    from samjax.image import read_image
    from samjax.masks import mask_to_logits
    from samjax.predictor import ImageEmbedding, Prediction, SamPredictor
    from samjax.viz import overlay

__version__ = "0.1.0"

_HOMES = {
    "ImageEmbedding": "samjax.predictor",
    "Prediction": "samjax.predictor",
    "SamAutomaticMaskGenerator": "samjax.automatic",
    "SamConfig": "samjax.config",
    "SamPredictor": "samjax.predictor",
    "SamjaxError": "samjax.errors",
    "Segmenter": "samjax.engine",
    "load": "samjax.engine",
    "mask_to_logits": "samjax.masks",
    "overlay": "samjax.viz",
    "read_image": "samjax.image",
}

__all__ = [
    "ImageEmbedding",
    "Prediction",
    "SamAutomaticMaskGenerator",
    "SamConfig",
    "SamPredictor",
    "SamjaxError",
    "Segmenter",
    "load",
    "mask_to_logits",
    "overlay",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'samjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
