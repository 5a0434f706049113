"""The mask decoder predicts masks and their quality by a two-way transformer.

Sources: official mask_decoder.py and transformer.py.

Shapes: ``p`` prompts, ``t`` tokens (quality, masks, prompt), ``n`` pixels of the image embedding.
Image-side arrays have a leading axis ``q`` that is 1 as long as all prompts share the image: the
first layer's image projections are then computed once for any number of prompts.

``projected`` holds those projections where the cross attentions work on projected pixels, None
where they are absorbed by the tokens (see token_attention).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from samjax.model.attention import UNCHUNKED, Chunks
from samjax.model.config import MaskDecoderConfig
from samjax.model.hq import HqHead, best_mask, fuse, split_embedding
from samjax.model.layers import MLP, Head, LayerNorm, Upscaling, map_blocks, random
from samjax.model.token_attention import Attention


def select_masks(multimask: bool) -> slice:
    """Return the slice of all mask tokens whose masks ``multimask_output`` returns."""
    return slice(1, None) if multimask else slice(0, 1)


class TwoWayBlock(nnx.Module):
    """Tokens attend to themselves and to the image; the image attends to the tokens."""

    def __init__(self, config: MaskDecoderConfig, *, first: bool, rngs: nnx.Rngs | None):
        width, inner, heads = config.embed_dim, config.attention_dim, config.num_heads
        eps = config.layer_norm_eps
        self.first = first
        self.self_attn = Attention(width, width, heads, rngs=rngs)
        self.norm1 = LayerNorm(width, eps=eps)
        self.cross_attn_token_to_image = Attention(width, inner, heads, rngs=rngs)
        self.norm2 = LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.mlp_dim, jax.nn.relu, rngs=rngs)
        self.norm3 = LayerNorm(width, eps=eps)
        self.norm4 = LayerNorm(width, eps=eps)
        self.cross_attn_image_to_token = Attention(width, inner, heads, rngs=rngs)

    def project_image(
        self, image: Float[Array, "q n c"], image_pe: Float[Array, "n c"]
    ) -> tuple[Array, Array, Array]:
        """Project the image for both cross attentions: keys and values, then queries."""
        positioned = image + image_pe[None]
        return (
            self.cross_attn_token_to_image.k_proj(positioned),
            self.cross_attn_token_to_image.v_proj(image),
            self.cross_attn_image_to_token.q_proj(positioned),
        )

    def __call__(
        self,
        tokens: Float[Array, "p t c"],
        token_pe: Float[Array, "p t c"],
        image: Float[Array, "q n c"],
        image_pe: Float[Array, "n c"],
        projected: tuple[Array, Array, Array] | None,
        valid: Bool[Array, "p t"],
        *,
        flat: bool,
    ) -> tuple[Float[Array, "p t c"], Float[Array, "p n c"]]:
        attn = self.self_attn
        if self.first:  # the tokens are their own positions here: nothing to add, no residual
            tokens = attn(attn.q_proj(tokens), attn.k_proj(tokens), attn.v_proj(tokens), valid)
        else:
            x = tokens + token_pe
            tokens = tokens + attn(attn.q_proj(x), attn.k_proj(x), attn.v_proj(tokens), valid)
        tokens = self.norm1(tokens)

        attn, back = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        if projected is None:
            positioned = image + image_pe[None]
            seen = attn.tokens_to_pixels(tokens + token_pe, positioned, image)
        else:
            keys, values, queries = projected
            seen = attn(attn.q_proj(tokens + token_pe), keys, values)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))

        x = tokens + token_pe
        if projected is None:
            marked = back.pixels_to_tokens(positioned, x, tokens, valid)
        else:
            marked = back(queries, back.k_proj(x), back.v_proj(tokens), valid)
        image = image + marked
        if not flat:
            return tokens, self.norm4(image)
        # For GPUs of two axes: over three XLA chooses a tile (64 prompts of one pixel) on which
        # NVIDIA's assembler works for seconds. A CPU is slower so.
        return tokens, self.norm4(image.reshape(-1, image.shape[-1])).reshape(image.shape)


class TwoWayTransformer(nnx.Module):
    """Prompt tokens and image attend to each other in turn."""

    def __init__(self, config: MaskDecoderConfig, *, rngs: nnx.Rngs | None):
        width, inner = config.embed_dim, config.attention_dim
        self.layers = nnx.List(
            TwoWayBlock(config, first=i == 0, rngs=rngs) for i in range(config.depth)
        )
        self.final_attn_token_to_image = Attention(width, inner, config.num_heads, rngs=rngs)
        # Hugging Face, too, leaves this one at the official value.
        self.norm_final_attn = LayerNorm(width, eps=1e-5)

    def __call__(
        self,
        tokens: Float[Array, "p t c"],
        image: Float[Array, "q n c"],
        image_pe: Float[Array, "n c"],
        first_projected: tuple[Array, Array, Array] | None,
        valid: Bool[Array, "p t"],
        *,
        flat: bool = False,
    ) -> tuple[Float[Array, "p t c"], Float[Array, "p n c"]]:
        token_pe, projected = tokens, first_projected
        for i, layer in enumerate(self.layers):
            if i and projected is not None:
                projected = layer.project_image(image, image_pe)
            tokens, image = layer(tokens, token_pe, image, image_pe, projected, valid, flat=flat)
        attn = self.final_attn_token_to_image
        if projected is None:
            seen = attn.tokens_to_pixels(tokens + token_pe, image + image_pe[None], image)
        else:
            keys, values = attn.k_proj(image + image_pe[None]), attn.v_proj(image)
            seen = attn(attn.q_proj(tokens + token_pe), keys, values)
        return self.norm_final_attn(tokens + seen), image


class MaskDecoder(nnx.Module):
    """The decoder turns image and prompt embeddings into masks and their predicted quality."""

    def __init__(self, config: MaskDecoderConfig, *, rngs: nnx.Rngs | None):
        width = config.embed_dim
        tokens = config.num_masks + 1
        self.transformer = TwoWayTransformer(config, rngs=rngs)
        self.iou_token = nnx.Param(random(rngs, (1, width), 1.0))
        self.mask_tokens = nnx.Param(random(rngs, (tokens, width), 1.0))
        self.output_upscaling = Upscaling(width, width // 4, width // 8, activated=True, rngs=rngs)
        self.output_hypernetworks_mlps = nnx.List(
            Head((width, width, width, width // 8), rngs=rngs) for _ in range(tokens)
        )
        hidden = (config.iou_head_dim,) * (config.iou_head_depth - 1)
        self.iou_prediction_head = Head((width, *hidden, tokens), rngs=rngs)
        self.hq = HqHead(width, rngs=rngs) if config.hq else None

    def __call__(
        self,
        image: Float[Array, "g g e"],
        image_pe: Float[Array, "n c"],
        sparse: Float[Array, "p k c"],
        present: Bool[Array, "p k"],
        dense: Float[Array, "q n c"],
        *,
        multimask: bool | None,
        hq_only: Bool[Array, " p"] | None = None,
        chunks: Chunks = UNCHUNKED,
    ) -> tuple[Float[Array, "p m 4*g 4*g"], Float[Array, "p m"]]:
        """Return low-res mask logits and predicted IoUs.

        ``multimask`` True chooses the tokens 1 and up, False token 0 alone (official
        mask_slice); None gives all, the single mask first.
        ``present`` marks the tokens of ``sparse`` that are no padding.

        SAM-HQ's embedding has its features behind the ``c`` channels, and of several masks only
        the best is returned; ``hq_only`` marks the prompts that want the HQ token's mask itself.
        """
        g, c = image.shape[0], image_pe.shape[-1]
        output_tokens = jnp.concatenate([self.iou_token[...], self.mask_tokens[...]])
        features = None
        if self.hq is not None:
            image, features = split_embedding(image, c)
            output_tokens = jnp.concatenate([output_tokens, self.hq.hf_token[...]])
        image = image.reshape(1, g * g, c) + dense
        first = self.transformer.layers[0]
        select = slice(None) if multimask is None else select_masks(multimask)
        per_prompt = image.shape[0] != 1  # also a symbolic number, while exporting
        tokens_each = len(output_tokens) + sparse.shape[1]
        absorbs = chunks.absorb
        if absorbs is None:
            absorbs = first.cross_attn_token_to_image.absorbs(tokens_each)
        shared = None if per_prompt or absorbs else first.project_image(image, image_pe)

        def decode(args: tuple[Any, ...]) -> tuple[Array, Array]:
            sparse, present, hq_only, *own = args
            p = sparse.shape[0]
            tokens = jnp.concatenate(
                [jnp.broadcast_to(output_tokens, (p, *output_tokens.shape)), sparse], 1
            )
            valid = jnp.concatenate([jnp.ones((p, len(output_tokens)), bool), present], 1)
            pixels = own[0] if own else image
            projected = first.project_image(pixels, image_pe) if own and not absorbs else shared
            tokens, pixels = self.transformer(
                tokens, pixels, image_pe, projected, valid, flat=chunks.narrow
            )
            if chunks.narrow and p > 1:  # or the last norm is compiled into each head
                tokens = jax.lax.optimization_barrier(tokens)
            upscaled = self.output_upscaling(pixels, narrow=chunks.narrow)  # p n 4 4 c/8
            weights, quality = self._weights(tokens), self._quality(tokens)
            if self.hq is None or features is None:
                return self._masks(weights[:, select], upscaled, g), quality[:, select]
            weights, quality = best_mask(weights, quality, multimask)
            hq = self.hq(tokens[:, len(output_tokens) - 1], upscaled, features)
            return fuse(self._masks(weights, upscaled, g), hq, hq_only), quality

        together = None if chunks.pixels is None else max(1, chunks.pixels // (g * g))
        if per_prompt:
            return map_blocks(decode, (sparse, present, hq_only, image), together)
        return map_blocks(decode, (sparse, present, hq_only), together)

    def _weights(self, tokens: Array) -> Array:
        """Return each mask token's weights of the upscaled channels, p t c/8."""
        heads = list(self.output_hypernetworks_mlps)
        return jnp.stack([head(tokens[:, 1 + i]) for i, head in enumerate(heads)], 1)

    def _masks(self, weights: Array, upscaled: Array, g: int) -> Array:
        """Return the dot products of each mask's weights with the upscaled pixels."""
        p, n, _, _, c = upscaled.shape
        masks = jnp.einsum(
            "pmc,pnc->pmn",
            weights.astype(upscaled.dtype),
            upscaled.reshape(p, n * 16, c),
            preferred_element_type=jnp.float32,
        )
        # n (dy1 dx1) (dy2 dx2) -> rows and columns of the low-res mask
        masks = masks.reshape(p, -1, g, g, 2, 2, 2, 2).transpose(0, 1, 2, 4, 6, 3, 5, 7)
        return masks.reshape(p, -1, 4 * g, 4 * g)

    def _quality(self, tokens: Array) -> Array:
        return self.iou_prediction_head(tokens[:, 0])
