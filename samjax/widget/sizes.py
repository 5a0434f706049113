"""Sizes of pictures and masks on the page."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from PIL import Image

Size = tuple[int, int]  # (height, width) in pixels


def fitted(size: Size, longest: int) -> Size:
    """Return the size (h, w) whose longest side is ``longest`` at most, without enlarging."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resized(mask: Bool[np.ndarray, "H W"], size: Size) -> Bool[np.ndarray, "h w"]:
    """Resize a mask by its nearest pixels."""
    if mask.shape == size:
        return mask
    picture = Image.fromarray(mask.view(np.uint8))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST)).astype(bool)
