"""TinyViT is MobileSAM's image encoder (Wu et al. 2022; official tiny_vit_sam.py).

A stem and a stage of convolutions, then stages of attention within windows. Batch normalisation
uses the running statistics of the training, kept apart from the convolutions so that weights can
be written back as they came.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from samjax.model.attention import UNCHUNKED, Chunks, partition, unpartition
from samjax.model.config import TinyVitConfig
from samjax.model.hq import HqFeatures
from samjax.model.image_encoder import Neck
from samjax.model.layers import (
    Conv3x3,
    LayerNorm,
    Linear,
    along,
    gelu,
    random,
    update_blocks,
    update_each,
)

BATCH_NORM_EPS, _LAYER_NORM_EPS = 1e-5, 1e-5  # torch's defaults
EARLY_STAGE = 1  # SAM-HQ takes its output


class BatchNorm(nnx.Module):
    """BatchNorm normalises by the running statistics of the training."""

    def __init__(self, width: int):
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        self.mean, self.var = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.ones(width))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        factor = self.scale[...] * lax.rsqrt(self.var[...] + BATCH_NORM_EPS)
        mean, factor, bias = (along(a, x) for a in (self.mean[...], factor, self.bias[...]))
        return (x - mean) * factor + bias


class Depthwise3x3(nnx.Module):
    """A 3x3 depthwise convolution sums shifted images, each channel by itself.

    XLA's grouped convolution takes fifty times as long on a CPU.
    """

    def __init__(self, width: int, *, stride: int = 1, rngs: nnx.Rngs | None):
        self.kernel = nnx.Param(random(rngs, (9, width), 0.3))  # (row, column) flattened
        self.stride = stride

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
        (h, w, _), s = x.shape, self.stride
        kernel = self.kernel[...].astype(jnp.float32)
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        shifted = [x[i : i + h : s, j : j + w : s] for i in range(3) for j in range(3)]
        return sum(
            (part * along(kernel[i], part) for i, part in enumerate(shifted)), jnp.float32(0)
        )


class ConvNorm(nnx.Module):
    """Batch normalisation follows a convolution without bias (official Conv2d_BN)."""

    def __init__(self, conv: Linear | Conv3x3 | Depthwise3x3, width: int):
        self.conv, self.norm = conv, BatchNorm(width)

    def __call__(self, x: Float[Array, "h w i"]) -> Float[Array, "h2 w2 o"]:
        if isinstance(self.conv, Conv3x3):
            return self.norm(self.conv(x[None])[0])
        return self.norm(self.conv(x))


def _dense(inputs: int, outputs: int, *, rngs: nnx.Rngs | None) -> ConvNorm:
    return ConvNorm(Linear(inputs, outputs, use_bias=False, rngs=rngs), outputs)


class Stem(nnx.Module):
    """The stem brings the image to a quarter of its size (official PatchEmbed)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs | None):
        def halve(inputs: int, outputs: int) -> ConvNorm:
            conv = Conv3x3(inputs, outputs, stride=2, use_bias=False, rngs=rngs)
            return ConvNorm(conv, outputs)

        self.conv1, self.conv2 = halve(3, width // 2), halve(width // 2, width)

    def __call__(self, image: Float[Array, "s s 3"]) -> Float[Array, "h h c"]:
        return self.conv2(gelu(self.conv1(image)))


class ConvBlock(nnx.Module):
    """A convolution block is an inverted bottleneck with a residual (official MBConv)."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs | None):
        self.conv1 = _dense(width, hidden, rngs=rngs)
        self.conv2 = ConvNorm(Depthwise3x3(hidden, rngs=rngs), hidden)
        self.conv3 = _dense(hidden, width, rngs=rngs)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        return gelu(x + self.conv3(gelu(self.conv2(gelu(self.conv1(x))))))


class Merging(nnx.Module):
    """Merging brings tokens to the next stage's width, and to its grid by ``stride``.

    Source: official PatchMerging.
    """

    def __init__(self, width: int, outputs: int, stride: int, *, rngs: nnx.Rngs | None):
        self.conv1 = _dense(width, outputs, rngs=rngs)
        self.conv2 = ConvNorm(Depthwise3x3(outputs, stride=stride, rngs=rngs), outputs)
        self.conv3 = _dense(outputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 o"]:
        return self.conv3(gelu(self.conv2(gelu(self.conv1(x)))))


def bias_table(biases: Float[Array, "h {n*n}"], n: int) -> Float[Array, "h t t"]:
    """Index attention biases by (query, key) pixel of an n x n window: by distance in y and x."""
    y, x = jnp.divmod(jnp.arange(n * n), n)
    distance = abs(y[:, None] - y[None]) * n + abs(x[:, None] - x[None])
    return biases[:, distance]


class WindowAttention(nnx.Module):
    """Multi-head attention within windows adds a learned bias for each distance.

    The official code pads before the norm, which turns zeros into the norm's bias: a padded
    token's query, key and value are the projection of that bias, and padded keys take part.
    """

    def __init__(self, width: int, num_heads: int, window: int, *, rngs: nnx.Rngs | None):
        self.num_heads, self.window = num_heads, window
        self.norm = LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.attention_biases = nnx.Param(random(rngs, (num_heads, window**2), 0.1))

    def __call__(self, x: Float[Array, "g g c"], chunks: Chunks) -> Float[Array, "g g c"]:
        g, _, width = x.shape
        dtype = self.qkv.kernel[...].dtype

        def by_part(qkv: Array) -> Array:  # (head, qkv, c) -> (qkv, head, c)
            split = qkv.astype(dtype).reshape(*qkv.shape[:-1], self.num_heads, 3, -1)
            return split.swapaxes(-2, -3).reshape(qkv.shape)

        fill = by_part(self.qkv(self.norm.bias[...]))
        q, k, v = partition(by_part(self.qkv(self.norm(x))), fill, self.window, self.num_heads)
        biases = bias_table(self.attention_biases[...], self.window)
        scale = (width // self.num_heads) ** -0.5

        def head(q: Array, k: Array, v: Array, bias: Array) -> Array:
            scores = jnp.einsum("wqc,wkc->wqk", q, k, preferred_element_type=jnp.float32)
            weights = jax.nn.softmax(scale * scores + bias[None], -1).astype(dtype)
            out = jnp.einsum("wqk,wkc->wqc", weights, v, preferred_element_type=jnp.float32)
            return out.astype(dtype)

        every = jax.vmap(head) if chunks.heads is None else partial(update_each, head)
        out = unpartition(every(q, k, v, biases), g, self.window)
        return self.proj(out).reshape(g, g, width)


class PerceptronBlock(nnx.Module):
    """A perceptron block applies a norm and two dense layers (official Mlp)."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs | None):
        self.norm = LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.fc1 = Linear(width, hidden, rngs=rngs)
        self.fc2 = Linear(hidden, width, rngs=rngs)

    def __call__(self, x: Float[Array, "t c"]) -> Float[Array, "t c"]:
        return self.fc2(gelu(self.fc1(self.norm(x))))


class AttentionBlock(nnx.Module):
    """The block applies attention, a depthwise convolution and an MLP (official TinyViTBlock)."""

    def __init__(self, config: TinyVitConfig, stage: int, *, rngs: nnx.Rngs | None):
        width = config.widths[stage]
        heads, window = config.num_heads[stage], config.window_sizes[stage]
        self.attn = WindowAttention(width, heads, window, rngs=rngs)
        self.local_conv = ConvNorm(Depthwise3x3(width, rngs=rngs), width)
        self.mlp = PerceptronBlock(width, config.mlp_dims[stage], rngs=rngs)

    def __call__(self, x: Float[Array, "g g c"], chunks: Chunks) -> Float[Array, "g g c"]:
        x = self.local_conv(x + self.attn(x, chunks))
        tokens = x.reshape(-1, x.shape[-1])
        out = update_blocks(lambda t: t + self.mlp(t), tokens, limit=chunks.tokens)
        return out.reshape(x.shape)


class Stage(nnx.Module):
    """A stage applies blocks on one grid, then merges for the next stage, if there is one."""

    def __init__(self, config: TinyVitConfig, stage: int, *, rngs: nnx.Rngs | None):
        width, grids = config.widths[stage], config.grids
        self.blocks = nnx.List(
            AttentionBlock(config, stage, rngs=rngs)
            if stage
            else ConvBlock(width, config.conv_dim, rngs=rngs)
            for _ in range(config.depths[stage])
        )
        if stage + 1 < len(grids):
            stride = grids[stage] // grids[stage + 1]
            merging = Merging(width, config.widths[stage + 1], stride, rngs=rngs)
        else:
            merging = None
        self.downsample = merging

    def __call__(self, x: Float[Array, "g g c"], chunks: Chunks) -> Float[Array, "h h o"]:
        for block in self.blocks:
            x = block(x) if isinstance(block, ConvBlock) else block(x, chunks)
        return x if self.downsample is None else self.downsample(x)


class TinyVit(nnx.Module):
    """TinyViT turns an image into its embedding.

    With ``hq`` that is SAM-HQ's embedding, made from the second stage as well.

    ``norm_head`` and ``head`` are the classifier of the pretraining: part of every checkpoint,
    and of no result.
    """

    def __init__(self, config: TinyVitConfig, *, hq: bool = False, rngs: nnx.Rngs | None):
        last, early = config.widths[-1], config.widths[EARLY_STAGE + 1]
        self.config = config
        self.patch_embed = Stem(config.widths[0], rngs=rngs)
        self.layers = nnx.List(
            Stage(config, stage, rngs=rngs) for stage in range(len(config.widths))
        )
        self.norm_head = LayerNorm(last, eps=_LAYER_NORM_EPS)
        self.head = Linear(last, config.num_classes, rngs=rngs) if config.num_classes else None
        self.neck = Neck(last, config.out_dim, rngs=rngs)
        self.hq = HqFeatures(early, config.out_dim, rngs=rngs) if hq else None

    def __call__(
        self, image: Float[Array, "s s 3"], chunks: Chunks = UNCHUNKED
    ) -> Float[Array, "g g e"]:
        """Encode one normalised, padded image (float32, s = config.image_size)."""
        x = early = self.patch_embed(image)
        for i, stage in enumerate(self.layers):
            x = stage(x, chunks)
            if i == EARLY_STAGE:
                early = x
        embedding = self.neck(x.reshape(-1, x.shape[-1]), x.shape[0])
        if self.hq is None:
            return embedding
        return self.hq(embedding, early.reshape(-1, early.shape[-1]))
