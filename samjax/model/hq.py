"""SAM-HQ refines masks by early features of the encoder (Ke et al. 2023; mask_decoder_hq.py).

SAM-HQ adds to SAM's mask the mask of one more token, the HQ token. That mask's pixel features are
SAM's upscaled embedding, convolved once more, plus features of the image that no prompt changes.
The latter are computed with the image embedding and stored as channels behind it, so that a click
does not compute them again.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from samjax.model.layers import Conv3x3, Head, LayerNorm, Upscaling, gelu, random


class HqFeatures(nnx.Module):
    """HqFeatures appends features to the image embedding for SAM-HQ's decoder.

    ``early_width`` is the width of the early features: the output of the first global block of a
    ViT, or of TinyViT's second stage.
    """

    def __init__(self, early_width: int, width: int, *, rngs: nnx.Rngs | None):
        self.compress_vit_feat = Upscaling(early_width, width, width // 8, rngs=rngs)
        self.embedding_encoder = Upscaling(width, width // 4, width // 8, rngs=rngs)

    def __call__(
        self, embedding: Float[Array, "g g c"], early: Float[Array, "n d"]
    ) -> Float[Array, "g g 3*c"]:
        """Return the image embedding, then 16 times c/8 features for each of its pixels."""
        g, _, c = embedding.shape
        features = self.embedding_encoder(embedding.reshape(1, g * g, c))
        features = features + self.compress_vit_feat(early[None])
        return jnp.concatenate([embedding, features.reshape(g, g, 2 * c)], -1)


def split_embedding(embedding: Float[Array, "g g e"], width: int) -> tuple[Array, Array]:
    """Split into SAM's image embedding (g, g, width) and the features (g * g, 16, width / 8)."""
    image, features = embedding[..., :width], embedding[..., width:]
    return image, features.reshape(-1, 16, width // 8)


class MaskFeatures(nnx.Module):
    """Two 3x3 convolutions refine the upscaled embedding (official embedding_maskfeature)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs | None):
        self.conv1 = Conv3x3(width, 2 * width, rngs=rngs)
        self.norm1 = LayerNorm(2 * width, eps=1e-6)
        self.conv2 = Conv3x3(2 * width, width, rngs=rngs)

    def __call__(
        self, pixels: Float[Array, "p h w c"], weights: Float[Array, "p c"]
    ) -> Float[Array, "p h w"]:
        """Return the dot products of the features with ``weights``.

        Only these are needed, so the weights are multiplied into the second convolution's
        kernel, which then computes one channel instead of c.
        """
        h, w = pixels.shape[1:3]
        hidden = gelu(self.norm1(self.conv1(pixels)))
        kernel, bias = self.conv2.kernel[...], self.conv2.bias
        assert bias is not None
        dtype = kernel.dtype
        single = jnp.einsum("io,po->pi", kernel, weights.astype(dtype)).astype(dtype)
        single = single.reshape(len(weights), 9, -1)
        planes = jnp.einsum(
            "phwi,pki->pkhw", hidden.astype(dtype), single, preferred_element_type=jnp.float32
        )
        planes = jnp.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
        shifted = [planes[:, 3 * y + x, y : y + h, x : x + w] for y in range(3) for x in range(3)]
        return sum(shifted, (weights @ bias[...])[:, None, None])


class HqHead(nnx.Module):
    """HqHead computes the mask of the HQ token."""

    def __init__(self, width: int, *, rngs: nnx.Rngs | None):
        self.hf_token = nnx.Param(random(rngs, (1, width), 1.0))
        self.hf_mlp = Head((width, width, width, width // 8), rngs=rngs)
        self.embedding_maskfeature = MaskFeatures(width // 8, rngs=rngs)

    def __call__(
        self,
        token: Float[Array, "p d"],
        upscaled: Float[Array, "p n 4 4 c"],
        features: Float[Array, "n 16 c"],
    ) -> Float[Array, "p h h"]:
        weights = self.hf_mlp(token)
        p, n, _, _, c = upscaled.shape
        g = round(n**0.5)
        # n (dy1 dx1) (dy2 dx2) c -> rows and columns
        rows = upscaled.reshape(p, g, g, 2, 2, 2, 2, c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
        masks = self.embedding_maskfeature(rows.reshape(p, 4 * g, 4 * g, c), weights)
        fixed = jnp.einsum("pc,nkc->pnk", weights, features)
        fixed = fixed.reshape(p, g, g, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4, 6)
        return masks + fixed.reshape(masks.shape)


def best_mask(
    weights: Float[Array, "p t c"], quality: Float[Array, "p t"], multimask: bool | None
) -> tuple[Float[Array, "p m c"], Float[Array, "p m"]]:
    """Select the tokens whose masks SAM-HQ returns: of several only the one of highest quality.

    ``multimask`` True selects the best of tokens 1 and up, False token 0, None token 0, then the
    best.
    """
    single = weights[:, :1], quality[:, :1]
    if multimask is False:
        return single
    best = 1 + jnp.argmax(quality[:, 1:], -1)[:, None]
    chosen = (
        jnp.take_along_axis(weights, best[..., None], 1),
        jnp.take_along_axis(quality, best, 1),
    )
    if multimask:
        return chosen
    return jnp.concatenate([single[0], chosen[0]], 1), jnp.concatenate([single[1], chosen[1]], 1)


def fuse(
    sam: Float[Array, "p m h h"], hq: Float[Array, "p h h"], hq_only: Bool[Array, " p"] | None
) -> Float[Array, "p m h h"]:
    """Add the HQ token's mask to SAM's masks; where ``hq_only``, return it alone."""
    if hq_only is not None:
        sam = jnp.where(hq_only[:, None, None, None], 0.0, sam)
    return sam + hq[:, None]
