"""Automatic masks come from a grid of points over an image, its crops or its tiles."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.automatic.generator import SamAutomaticMaskGenerator

__all__ = [
    "SamAutomaticMaskGenerator",
]

__getattr__ = lazy(
    __name__,
    {
        "SamAutomaticMaskGenerator": "samjax.automatic.generator",
    },
)
