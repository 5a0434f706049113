"""Turn an image into the network's input: presets of each family, padding and normalisation.

The image stays uint8 until it is on the device (`prepare`, NumPy), where it is normalised inside
the compiled encoder (`normalise`, jax.numpy): a quarter of the bytes to move. A preset says how an
image is read, fitted into the square, scaled, and which masks come out (`samjax.masks.rules`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, Num, UInt8

from samjax.errors import ImageError
from samjax.image.longest_side import resize, resize_longest_side
from samjax.image.read import read_image
from samjax.image.resampling import (
    resize_medsam,
    resize_nearest,
    resize_spline,
    stretch_channels,
    whole_square,
)
from samjax.masks.rules import BestMask, ClassMasks, MaskRule, ProbabilityMask
from samjax.model.layers import along

# uint8, or float32 where a family was trained on values that 8 bits do not hold
Pixels = UInt8[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Preset:
    """A preset says how a family of checkpoints treats images and masks.

    It is hashable, as a static argument under jit must be.

    Attributes:
        name: key in `PRESETS`.
        pixel_mean: mean of each channel (R, G, B), on the scale of the values.
        pixel_std: standard deviation of each channel (R, G, B), on the scale of the values.
        fit: function of the original (H, W) and image_size that gives the resized (h, w), at most
            image_size each.
        resample: function of an image and (h, w) that gives the resized image.
        values: scale of an image before it is resized. "given": 0 to 255, deeper data windowed as
            `read_image` does; "channels": each channel stretched to 0..255; "unit": 0 to 1,
            float arrays as they are.
        rescaled: whether the resized image's own minimum and maximum become 0 and 1.
        masks: the rule by which decoded tokens become masks, see `samjax.masks.rules`.
        without_prompt: whether the network was trained to work without any prompt.
    """

    name: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    fit: Callable[[tuple[int, int], int], tuple[int, int]] = resize_longest_side
    resample: Callable[[np.ndarray, tuple[int, int]], np.ndarray] = resize
    values: Literal["given", "channels", "unit"] = "given"
    rescaled: bool = False
    masks: MaskRule = field(default_factory=MaskRule)
    without_prompt: bool = False

    @property
    def stretches(self) -> bool:
        """Return whether an image fills the whole square, whatever its aspect."""
        return self.fit is whole_square


class PreparedImage(NamedTuple):
    """A prepared image lies resized in the top left corner of a square of zeros.

    Attributes:
        pixels: [S, S, 3] RGB, uint8, or float32 for presets with values "unit".
        input_size: (h, w) of the resized image inside the square, in pixels.
        original_size: (H, W) of the image as it was read, in pixels.
        image_hash: `hash_pixels` of the image as it was read; None where nobody asked for it.
    """

    pixels: UInt8[np.ndarray, "S S 3"] | Float32[np.ndarray, "S S 3"]
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    image_hash: str | None = None


SAM = Preset(
    name="sam",
    # Source: `build_sam.py` of the official code (ImageNet's statistics, on the 0..255 scale).
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(58.395, 57.12, 57.375),
)
# Source: `MedSAM_Inference.py`.
MEDSAM = Preset(
    name="medsam",
    pixel_mean=(0.0, 0.0, 0.0),
    pixel_std=(1.0, 1.0, 1.0),
    fit=whole_square,
    resample=resize_medsam,
    rescaled=True,
    masks=ProbabilityMask(),
)
# Source: `_to_image` in micro_sam/util.py; then SAM's own.
MICROSAM = Preset(
    name="microsam",
    pixel_mean=SAM.pixel_mean,
    pixel_std=SAM.pixel_std,
    values="channels",
)
# Source: `test.py` and `test_single_volume` in utils.py of SAMed.
SAMED = Preset(
    name="samed",
    pixel_mean=(0.0, 0.0, 0.0),
    pixel_std=(1.0, 1.0, 1.0),
    fit=whole_square,
    resample=resize_spline,
    values="unit",
    masks=ClassMasks(),
    without_prompt=True,
)
# Source: `predictor_sammed.py`. It normalises before it resizes: with nearest pixels the same.
SAMMED2D = Preset(
    name="sammed2d",
    pixel_mean=SAM.pixel_mean,
    pixel_std=SAM.pixel_std,
    fit=whole_square,
    resample=resize_nearest,
    masks=BestMask(),
)

PRESETS = MappingProxyType(
    {preset.name: preset for preset in (SAM, MEDSAM, MICROSAM, SAMED, SAMMED2D)}
)


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        ImageError: no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ImageError(f"unknown preset {name!r:.80}: use one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def read_for(
    preset: Preset,
    source: Any,
    image_format: str = "RGB",
    *,
    bands: int | Sequence[int] | None = None,
    page: int | None = None,
) -> Pixels:
    """Read an image with the values that the preset needs; see `samjax.image.read.read_image`.

    Raises:
        ImageError: unreadable, or not an image.
    """
    chosen = partial(read_image, bands=bands, page=page)
    if preset.values == "channels":
        return _read_stretched(source, image_format, chosen)
    if (
        preset.values == "unit"
        and getattr(source, "dtype", np.dtype(bool)).kind == "f"
        and bands is None
    ):
        return _read_unit(np.asarray(source), image_format)
    return chosen(source, image_format)


def _read_stretched(
    source: Any, image_format: str, read: Callable[..., UInt8[np.ndarray, "H W 3"]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Stretch each channel once: twice would move values, since the largest may become 254."""
    done = False

    def stretch(values: np.ndarray) -> np.ndarray:
        nonlocal done
        done = True
        return stretch_channels(values)

    pixels = read(source, image_format, deep=stretch)
    return pixels if done else stretch_channels(pixels)


def _read_unit(array: np.ndarray, image_format: str) -> Float32[np.ndarray, "H W 3"]:
    """Return a float array of 0 to 1 as it is, grey or RGB; `read_image` refuses other arrays.

    Slices that were zoomed by a spline, as SAMed's volumes are, overshoot a little.
    """
    read_image(array, image_format)  # refuses what is no image
    if not (array.min() >= -1 and array.max() <= 2):
        raise ImageError(
            f"float array has values from {array.min():.4g} to {array.max():.4g}, expected "
            "0 to 1: cut it to a window and scale it, or for 0 to 255 pass image.astype(np.uint8)"
        )
    if array.ndim == 3 and array.shape[2] == 4:
        raise ImageError(
            f"float array of shape {array.shape} has an alpha channel: pass the colours alone"
        )
    colour = array.reshape(*array.shape[:2], -1).astype(np.float32)
    colour = colour[..., ::-1] if image_format == "BGR" else colour
    return np.ascontiguousarray(np.broadcast_to(colour, (*array.shape[:2], 3)))


def prepare(image: Pixels, image_size: int, preset: Preset = SAM) -> PreparedImage:
    """Resize an RGB image as the preset says and pad it bottom and right with zeros.

    Source: `ResizeLongestSide.apply_image` and the padding of `Sam.preprocess`; the other presets
    name their own.

    Args:
        image: RGB, from `read_for`.
        image_size: side S of the network's square input, in pixels.
        preset: rule by which the image is fitted into the square.
    """
    height, width = image.shape[:2]
    original_size = (height, width)
    h, w = preset.fit(original_size, image_size)
    if preset.values == "unit" and image.dtype == np.uint8:
        image = image.astype(np.float32) / np.float32(255)
    resized = preset.resample(image, (h, w))
    pixels = np.zeros((image_size, image_size, 3), resized.dtype)
    pixels[:h, :w] = resized
    return PreparedImage(pixels, (h, w), original_size)


def normalise(
    pixels: Num[jax.Array | np.ndarray, "*b S S 3"],
    input_size: Int32[jax.Array | np.ndarray, "*b 2"],
    preset: Preset = SAM,
) -> Float32[jax.Array, "*b S S 3"]:
    """Normalise, (pixels - mean) / std, inside the image; the padding becomes exactly 0.

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
    position = jnp.arange(size, dtype=jnp.int32)  # [S]
    limits = jnp.asarray(input_size)[..., None]  # [*b, 2, 1]
    position = along(position, limits[..., 0, :])
    rows, cols = position < limits[..., 0, :], position < limits[..., 1, :]  # [*b, S] each
    inside = (rows[..., :, None] & cols[..., None, :])[..., None]  # [*b, S, S, 1]
    values = jnp.asarray(pixels).astype(jnp.float32)  # [*b, S, S, 3]
    if preset.rescaled:
        axes = (-3, -2, -1)
        low = jnp.where(inside, values, jnp.inf).min(axes, keepdims=True)
        high = jnp.where(inside, values, -jnp.inf).max(axes, keepdims=True)
        values = (values - low) / jnp.maximum(high - low, jnp.float32(1e-8))
    mean, std = along(mean, values), along(std, values)
    return jnp.where(inside, (values - mean) / std, jnp.float32(0))


def hash_pixels(pixels: Pixels) -> str:
    """Return the hash of an RGB image, as ``ImageEmbedding.image_hash`` keeps it."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16)
    digest.update(repr(pixels.shape).encode())
    return digest.hexdigest()
