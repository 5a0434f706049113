"""Resize images to a longest side, and the coordinates of prompts with them.

Source: the official utils/transforms.py, `ResizeLongestSide`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image

from samjax.errors import ImageError


def resize_longest_side(shape_hw: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the size (h, w) with longest side `target` pixels and the aspect of `shape_hw`.

    `shape_hw` is (H, W) in pixels.

    Source: `ResizeLongestSide.get_preprocess_shape`, which lets the short side of a very narrow
    image fall to 0 (and then fails); here it is at least 1 pixel.

    Raises:
        ImageError: a side or target below 1.
    """
    height, width = shape_hw
    if min(height, width, target) < 1:
        raise ImageError(
            f"cannot resize {height} x {width} pixels to {target}: sizes must be 1 or more"
        )
    scale = target * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(
    image: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to `size_hw` (h, w) pixels with Pillow's bilinear filter, antialiased.

    Source: `ResizeLongestSide.apply_image`, i.e. torchvision's `resize(to_pil_image(image), size)`.
    """
    height, width = size_hw
    pil = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(pil)


def scale_coords(
    coords: Num[np.ndarray, "*n 2"], old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> Float32[np.ndarray, "*n 2"]:
    """Move (x, y) pixel coordinates from an image of size `old_hw` to one of `new_hw`.

    The arithmetic is float64, rounded once to float32 at the end, as in the official code.
    """
    (old_h, old_w), (new_h, new_w) = old_hw, new_hw
    # The quotient first, then the product: the official order of rounding.
    factors = np.array([new_w / old_w, new_h / old_h], dtype=np.float64)
    return (coords.astype(np.float64) * factors).astype(np.float32)


def apply_coords(
    coords: Num[np.ndarray, "*n 2"], original_hw: tuple[int, int], target: int
) -> Float32[np.ndarray, "*n 2"]:
    """Move (x, y) pixels of the original image into the one resized to `target`.

    Source: `ResizeLongestSide.apply_coords`, followed by the cast to float32 in `SamPredictor`.
    """
    return scale_coords(coords, original_hw, resize_longest_side(original_hw, target))


def apply_boxes(
    boxes: Num[np.ndarray, "*n 4"], original_hw: tuple[int, int], target: int
) -> Float32[np.ndarray, "*n 4"]:
    """Move (x0, y0, x1, y1) boxes in pixels into the image resized to `target`.

    Source: `ResizeLongestSide.apply_boxes`; here the leading axes are kept.
    """
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return apply_coords(corners, original_hw, target).reshape(boxes.shape)
