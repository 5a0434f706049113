"""Encode points, boxes and masks as tokens and dense embeddings (official prompt_encoder.py)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from samjax.model.config import SamConfig
from samjax.model.layers import Conv2x2, LayerNorm, Linear, along, gelu, random

# Kinds of prompt tokens. The first four index the official point_embeddings.
NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3
# The official padding token, label -1: it takes part in attention.
NOT_A_POINT = 4
# Fills a row up to its bucket; it is masked out and changes nothing.
ABSENT = 5


class Prompts(NamedTuple):
    """Prompts hold ``p`` prompts of at most ``k`` tokens each, for one image.

    Arrays are the host's or the device's.

    ``coords`` are (x, y) in pixels of the network's input, float32; ``kinds`` the constants
    above. ``masks`` are low-res mask logits, used where ``has_mask``; None means that no prompt
    has one. For SAM-HQ, ``hq_only`` asks for the HQ token's mask alone instead of the sum; None
    means the sum for all.
    """

    coords: Float[Array | np.ndarray, "p k 2"]
    kinds: Int[Array | np.ndarray, "p k"]
    masks: Float[Array | np.ndarray, "p m m"] | None = None
    has_mask: Bool[Array | np.ndarray, " p"] | None = None
    hq_only: Bool[Array | np.ndarray, " p"] | None = None


class PositionalEncoding(nnx.Module):
    """Coordinates become random Fourier features (official PositionEmbeddingRandom)."""

    def __init__(self, features: int, *, rngs: nnx.Rngs | None):
        self.gaussian_matrix = nnx.Param(random(rngs, (2, features), 1.0))

    def __call__(self, xy: Float[Array, "*b 2"]) -> Float[Array, "*b c"]:
        """Encode coordinates in [0, 1]."""
        xy = 2 * xy - 1
        matrix = self.gaussian_matrix[...]
        # Written out: a matrix product may run in TF32 or bfloat16, which moves points by pixels.
        first, second = along(matrix[0], xy), along(matrix[1], xy)
        angle = xy[..., :1] * first + xy[..., 1:] * second
        angle = 2 * jnp.pi * angle
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)

    def grid(self, g: int) -> Float[Array, "g g c"]:
        """Encode the pixel centres of a g x g grid."""
        centre = (jnp.arange(g, dtype=jnp.float32) + 0.5) / g
        x, y = jnp.meshgrid(centre, centre, indexing="xy")
        return self(jnp.stack([x, y], -1))


class MaskDownscaling(nnx.Module):
    """MaskDownscaling brings low-res mask logits to the size and width of the image embedding."""

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs | None):
        self.conv1 = Conv2x2(1, channels // 4, rngs=rngs)
        self.norm1 = LayerNorm(channels // 4, eps=1e-6)
        self.conv2 = Conv2x2(channels // 4, channels, rngs=rngs)
        self.norm2 = LayerNorm(channels, eps=1e-6)
        self.conv3 = Linear(channels, width, rngs=rngs)

    def __call__(self, masks: Float[Array, "p m m"]) -> Float[Array, "p m/4 m/4 c"]:
        x = gelu(self.norm1(self.conv1(masks[..., None])))
        x = gelu(self.norm2(self.conv2(x)))
        return self.conv3(x)


class PromptEncoder(nnx.Module):
    """PromptEncoder turns prompts into sparse tokens and a dense embedding."""

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs | None):
        width = config.prompt_encoder.embed_dim
        self.image_size, self.embedding_size = config.image_size, config.grid
        self.pe_layer = PositionalEncoding(width // 2, rngs=rngs)
        self.point_embeddings = nnx.List(nnx.Param(random(rngs, (1, width), 1.0)) for _ in range(4))
        self.not_a_point_embed = nnx.Param(random(rngs, (1, width), 1.0))
        self.no_mask_embed = nnx.Param(random(rngs, (1, width), 1.0))
        self.mask_downscaling = MaskDownscaling(
            config.prompt_encoder.mask_channels, width, rngs=rngs
        )

    def sparse(
        self,
        coords: Float[Array | np.ndarray, "p k 2"],
        kinds: Int[Array | np.ndarray, "p k"],
    ) -> Float[Array, "p k c"]:
        """Return tokens of points and box corners; coordinates are moved to pixel centres."""
        position = self.pe_layer((jnp.asarray(coords) + 0.5) / self.image_size)
        kinds = jnp.asarray(kinds)
        position = jnp.where((kinds < NOT_A_POINT)[..., None], position, 0.0)
        table = jnp.concatenate(
            [e[...] for e in self.point_embeddings]
            + [self.not_a_point_embed[...], jnp.zeros_like(self.not_a_point_embed[...])]
        )
        return position + table[kinds]

    def dense(
        self,
        masks: Float[Array | np.ndarray, "p m m"] | None,
        has_mask: Bool[Array | np.ndarray, " p"] | None,
    ) -> Float[Array, "q n c"]:
        """Embed the mask prompts: q = p, or 1 (shared by all) where there is none."""
        absent = self.no_mask_embed[...][None]  # 1 1 c
        n = self.embedding_size**2
        if masks is None:
            return jnp.broadcast_to(absent, (1, n, absent.shape[-1]))
        embedded = self.mask_downscaling(jnp.asarray(masks)).reshape(masks.shape[0], n, -1)
        if has_mask is None:
            return embedded
        return jnp.where(has_mask[:, None, None], embedded, absent)

    def image_positions(self) -> Float[Array, "n c"]:
        """Return the encoded positions of the image embedding's pixels (official get_dense_pe)."""
        g = self.embedding_size
        return self.pe_layer.grid(g).reshape(g * g, -1)
