"""From a uint8 image to the network's input: presets, padding and normalisation.

The image stays uint8 until it is on the device (`prepare`, NumPy), where it is normalised inside
the compiled encoder (`normalise`, jax.numpy): a quarter of the bytes to move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from samjax.errors import ImageError
from samjax.image import resize, resize_longest_side


@dataclass(frozen=True)
class Preprocess:
    """How a family of checkpoints wants its images. Hashable: a static argument under jit.

    Attributes:
        name: key in `PRESETS`.
        pixel_mean: per channel (R, G, B), on the 0..255 scale.
        pixel_std: per channel (R, G, B), on the 0..255 scale.
        fit: (original (H, W), image_size) -> (h, w) to resize to, at most image_size each.
    """

    name: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    fit: Callable[[tuple[int, int], int], tuple[int, int]] = resize_longest_side


class PreparedImage(NamedTuple):
    """An image resized into the top left corner of a square of zeros.

    Attributes:
        pixels: [S, S, 3] uint8 RGB.
        input_size: (h, w) of the resized image inside the square, in pixels.
        original_size: (H, W) of the image as it was read, in pixels.
    """

    pixels: UInt8[np.ndarray, "S S 3"]
    input_size: tuple[int, int]
    original_size: tuple[int, int]


SAM = Preprocess(
    name="sam",
    # Source: `build_sam.py` of the official code (ImageNet's statistics, on the 0..255 scale).
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(58.395, 57.12, 57.375),
)

PRESETS = MappingProxyType({preset.name: preset for preset in (SAM,)})


def get_preset(name: str) -> Preprocess:
    """The preset called `name`.

    Raises:
        ImageError: no such preset.
    """
    if name not in PRESETS:
        raise ImageError(f"unknown preset {name!r}: use one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def prepare(
    image: UInt8[np.ndarray, "H W 3"], image_size: int, preset: Preprocess = SAM
) -> PreparedImage:
    """Resize an RGB image as the preset wants and pad it bottom and right with zeros.

    Source: `ResizeLongestSide.apply_image` and the padding of `Sam.preprocess`.

    Args:
        image: RGB.
        image_size: side S of the network's square input, in pixels.
        preset: how to fit the image into the square.
    """
    height, width = image.shape[:2]
    original_size = (height, width)
    h, w = preset.fit(original_size, image_size)
    pixels = np.zeros((image_size, image_size, 3), np.uint8)
    pixels[:h, :w] = resize(image, (h, w))
    return PreparedImage(pixels, (h, w), original_size)


def normalise(
    pixels: UInt8[jax.Array | np.ndarray, "*b S S 3"],
    input_size: Int32[jax.Array | np.ndarray, "*b 2"],
    preset: Preprocess = SAM,
) -> Float32[jax.Array, "*b S S 3"]:
    """(pixels - mean) / std inside the image, exactly 0 in the padding.

    Source: `Sam.preprocess`, which normalises first and pads with zeros afterwards: a padding
    pixel is 0 in the network's units, not black.

    Args:
        pixels: padded RGB images, from `prepare`.
        input_size: (h, w) of each image inside its square. Traced: one compilation serves all.
        preset: mean and standard deviation. Static.
    """
    size = pixels.shape[-2]
    mean = jnp.asarray(preset.pixel_mean, jnp.float32)
    std = jnp.asarray(preset.pixel_std, jnp.float32)
    values = (jnp.asarray(pixels).astype(jnp.float32) - mean) / std  # [*b, S, S, 3]
    position = jnp.arange(size, dtype=jnp.int32)  # [S]
    limits = jnp.asarray(input_size)[..., None]  # [*b, 2, 1]
    rows, cols = position < limits[..., 0, :], position < limits[..., 1, :]  # [*b, S] each
    inside = rows[..., :, None] & cols[..., None, :]  # [*b, S, S]
    return jnp.where(inside[..., None], values, jnp.float32(0))
