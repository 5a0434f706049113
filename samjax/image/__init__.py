"""Images are read here, with EXIF, presets of the families, resizing and coordinates."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.image.longest_side import (
        apply_boxes,
        apply_coords,
        resize_longest_side,
        scale_coords,
    )
    from samjax.image.preset import (
        PRESETS,
        Pixels,
        PreparedImage,
        Preset,
        get_preset,
        hash_pixels,
        prepare,
        read_for,
    )
    from samjax.image.read import read_image

__all__ = [
    "PRESETS",
    "Pixels",
    "PreparedImage",
    "Preset",
    "apply_boxes",
    "apply_coords",
    "get_preset",
    "hash_pixels",
    "prepare",
    "read_for",
    "read_image",
    "resize_longest_side",
    "scale_coords",
]

__getattr__ = lazy(
    __name__,
    {
        "PRESETS": "samjax.image.preset",
        "Pixels": "samjax.image.preset",
        "PreparedImage": "samjax.image.preset",
        "Preset": "samjax.image.preset",
        "apply_boxes": "samjax.image.longest_side",
        "apply_coords": "samjax.image.longest_side",
        "get_preset": "samjax.image.preset",
        "hash_pixels": "samjax.image.preset",
        "prepare": "samjax.image.preset",
        "read_for": "samjax.image.preset",
        "read_image": "samjax.image.read",
        "resize_longest_side": "samjax.image.longest_side",
        "scale_coords": "samjax.image.longest_side",
    },
)
