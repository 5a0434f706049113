"""The ViT image encoder turns an image into its embedding.

Sources: SAM paper, appendix A; ViTDet; official image_encoder.py.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from samjax.model.attention import (
    UNCHUNKED,
    Chunks,
    attend_added,
    attend_folded,
    attend_fused,
    fused_size,
    partition,
    relative_table,
    unpartition,
)
from samjax.model.config import ImageEncoderConfig
from samjax.model.hq import HqFeatures
from samjax.model.layers import MLP, LayerNorm, Linear, dot, gelu, update_blocks, update_each
from samjax.model.pallas_attention import attend_pallas, suits

_EPS = 1e-6


class Attention(nnx.Module):
    """Attention runs within windows of ``window`` patches, globally if that is the grid's side."""

    def __init__(self, config: ImageEncoderConfig, window: int, *, rngs: nnx.Rngs | None):
        width = config.width
        head_dim = width // config.num_heads
        self.num_heads, self.window, self.grid = config.num_heads, window, config.grid
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.rel_pos_h = nnx.Param(jnp.zeros((2 * window - 1, head_dim)))
        self.rel_pos_w = nnx.Param(jnp.zeros((2 * window - 1, head_dim)))

    def project(self, x: Float[Array, "t d"], chunks: Chunks) -> tuple[Array, Array, Array]:
        """Project normalised tokens to queries, keys and values (heads, windows, pixels, c)."""
        dtype = self.qkv.kernel[...].dtype
        qkv = self.qkv(x, narrow=chunks.narrow).astype(dtype).reshape(self.grid, self.grid, -1)
        assert self.qkv.bias is not None
        return partition(qkv, self.qkv.bias[...].astype(dtype), self.window, self.num_heads)

    def attend(
        self,
        q: Float[Array, "h w p c"],
        k: Float[Array, "h w p c"],
        v: Float[Array, "h w p c"],
        chunks: Chunks,
    ) -> Float[Array, "t h*c"]:
        """Attend, and return the heads' outputs side by side, before the output projection."""
        g, n = self.grid, self.window
        table_h = relative_table(self.rel_pos_h[...], n).astype(q.dtype)
        table_w = relative_table(self.rel_pos_w[...], n).astype(q.dtype)

        def head(q: Array, k: Array, v: Array) -> Array:
            if len(q) == 1:
                return attend_added(q, k, v, table_h, table_w, chunks.queries)
            return attend_folded(q, k, v, table_h, table_w)

        if chunks.kernel != "none" and n == g and suits(q.shape[-1], n):
            interpret = chunks.kernel == "interpreted"
            only = (q[:, 0], k[:, 0], v[:, 0], table_h, table_w)  # the one window
            return unpartition(attend_pallas(*only, interpret=interpret)[:, None], g, n)
        if fused_size(q.shape[-1], n) <= chunks.fused_width:
            out = attend_fused(q, k, v, table_h, table_w, chunks.fused_by)
            return unpartition(out, g, n)
        every = jax.vmap(head) if chunks.heads is None else partial(update_each, head)
        return unpartition(every(q, k, v), g, n)


class Block(nnx.Module):
    """A transformer block attends within windows, or globally if its window is the grid."""

    def __init__(self, config: ImageEncoderConfig, window: int, *, rngs: nnx.Rngs | None):
        self.norm1 = LayerNorm(config.width, eps=_EPS)
        self.attn = Attention(config, window, rngs=rngs)
        self.norm2 = LayerNorm(config.width, eps=_EPS)
        self.mlp = MLP(config.width, config.mlp_dim, gelu, rngs=rngs)

    def __call__(self, x: Float[Array, "t d"], chunks: Chunks) -> Float[Array, "t d"]:
        qkv = self.attn.project(self.norm1(x), chunks)
        with jax.named_scope("attention"):  # for profiles, and for benchmarks.gpu_compile
            y = self.attn.attend(*qkv, chunks)
        return self.rest(x, y, chunks)

    def rest(
        self, x: Float[Array, "t d"], y: Float[Array, "t d"], chunks: Chunks
    ) -> Float[Array, "t d"]:
        """Apply the output projection and the MLP, with residuals."""

        def rest(x: Array, y: Array) -> Array:
            x = x + self.attn.proj(y)
            return x + self.mlp(self.norm2(x), narrow=chunks.narrow)

        return update_blocks(rest, x, y, limit=chunks.tokens)


class PatchEmbed(nnx.Module):
    """PatchEmbed turns patches into tokens by a convolution whose stride is its kernel's size."""

    def __init__(self, config: ImageEncoderConfig, *, rngs: nnx.Rngs | None):
        # (row, column, colour) flattened, times width
        self.patch = config.patch_size
        self.proj = Linear(3 * config.patch_size**2, config.width, rngs=rngs)

    def __call__(self, image: Float[Array, "s s 3"]) -> Float[Array, "t d"]:
        g, p = image.shape[0] // self.patch, self.patch
        x = image.reshape(g, p, g, p, 3).transpose(0, 2, 1, 3, 4)  # y x dy dx colour
        return self.proj(x.reshape(g * g, p * p * 3))


class Neck(nnx.Module):
    """The neck brings the encoder's width to the embedding's by a 1x1 and a 3x3 convolution."""

    def __init__(self, width: int, out: int, *, rngs: nnx.Rngs | None):
        self.conv1 = Linear(width, out, use_bias=False, rngs=rngs)
        self.norm1 = LayerNorm(out, eps=_EPS)
        # (row, column, in) flattened, times out
        self.conv2 = Linear(9 * out, out, use_bias=False, rngs=rngs)
        self.norm2 = LayerNorm(out, eps=_EPS)

    def __call__(self, x: Float[Array, "t d"], g: int) -> Float[Array, "g g c"]:
        x = self.norm1(self.conv1(x)).reshape(g, g, -1)
        kernel = self.conv2.kernel[...]
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0))).astype(kernel.dtype)
        shifted = [x[dy : dy + g, dx : dx + g] for dy in range(3) for dx in range(3)]
        return self.norm2(dot(jnp.concatenate(shifted, -1), kernel))


class ImageEncoder(nnx.Module):
    """ImageEncoder turns an image into its embedding.

    With ``hq`` that is SAM-HQ's embedding, made from the first global block as well.
    """

    def __init__(self, config: ImageEncoderConfig, *, hq: bool = False, rngs: nnx.Rngs | None):
        g = config.grid
        self.config = config
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.pos_embed = nnx.Param(jnp.zeros((g, g, config.width)))
        self.blocks = nnx.List(
            Block(config, g if i in config.global_blocks else config.window_size, rngs=rngs)
            for i in range(config.depth)
        )
        self.neck = Neck(config.width, config.out_dim, rngs=rngs)
        self.hq = HqFeatures(config.width, config.out_dim, rngs=rngs) if hq else None

    def __call__(
        self, image: Float[Array, "s s 3"], chunks: Chunks = UNCHUNKED
    ) -> Float[Array, "g g e"]:
        """Encode one normalised, padded image (float32, s = config.image_size)."""
        g = self.config.grid
        x = self.patch_embed(image) + self.pos_embed[...].reshape(g * g, -1)
        early = x
        for i, block in enumerate(self.blocks):
            x = block(x, chunks)
            if i in self.config.global_blocks[:1]:
                early = x
        embedding = self.neck(x, g)
        return embedding if self.hq is None else self.hq(embedding, early)
