"""samjax: Segment Anything in JAX and Flax NNX.

Names are loaded on first use, so that ``import samjax`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samjax.automatic import SamAutomaticMaskGenerator
    from samjax.config import SamConfig
    from samjax.detectors import load_detector
    from samjax.embeddings import ImageEmbedding
    from samjax.engine import Segmenter, load
    from samjax.errors import SamjaxError
    from samjax.image import read_image
    from samjax.masks import mask_to_logits
    from samjax.predictor import Prediction, SamPredictor
    from samjax.text import segment_text
    from samjax.viewer import show
    from samjax.viz import overlay
    from samjax.widget import Annotator

__version__ = "0.1.0"

_HOMES = {
    "Annotator": "samjax.widget",
    "ImageEmbedding": "samjax.embeddings",
    "Prediction": "samjax.predictor",
    "SamAutomaticMaskGenerator": "samjax.automatic",
    "SamConfig": "samjax.config",
    "SamPredictor": "samjax.predictor",
    "SamjaxError": "samjax.errors",
    "Segmenter": "samjax.engine",
    "load": "samjax.engine",
    "load_detector": "samjax.detectors",
    "mask_to_logits": "samjax.masks",
    "overlay": "samjax.viz",
    "read_image": "samjax.image",
    "segment_text": "samjax.text",
    "show": "samjax.viewer",
}

__all__ = [
    "Annotator",
    "ImageEmbedding",
    "Prediction",
    "SamAutomaticMaskGenerator",
    "SamConfig",
    "SamPredictor",
    "SamjaxError",
    "Segmenter",
    "load",
    "load_detector",
    "mask_to_logits",
    "overlay",
    "read_image",
    "segment_text",
    "show",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'samjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
