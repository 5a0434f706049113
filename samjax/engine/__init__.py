"""The engine compiles a network with its weights, dtype, device and preset."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.engine.segmenter import Segmenter

__all__ = [
    "Segmenter",
]

__getattr__ = lazy(
    __name__,
    {
        "Segmenter": "samjax.engine.segmenter",
    },
)
