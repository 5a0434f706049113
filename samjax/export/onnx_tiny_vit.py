"""Write TinyViT, MobileSAM's image encoder, as ONNX; batch normalisations join convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from samjax.export.graph import Graph, host
from samjax.export.onnx_pixels import conv_kernel, join_windows, split_windows
from samjax.model.layers import Conv3x3, Linear
from samjax.model.tiny_vit import (
    BATCH_NORM_EPS,
    EARLY_STAGE,
    AttentionBlock,
    ConvBlock,
    ConvNorm,
    Merging,
    TinyVit,
    WindowAttention,
    bias_table,
)


def tiny_vit(g: Graph, encoder: TinyVit, image: str) -> tuple[str, str]:
    """Return the last and the early stage's output, (batch, side, side, channels) each."""
    x = _conv_norm(g, encoder.patch_embed.conv1, g.to_nchw(image))
    x = early = _conv_norm(g, encoder.patch_embed.conv2, g.gelu(x))
    for i, stage in enumerate(encoder.layers):
        for block in stage.blocks:
            if isinstance(block, ConvBlock):
                x = g.gelu(g.op("Add", x, _three(g, block, x)))
            else:
                x = _attention_block(g, block, x, encoder.config.grids[i])
        if stage.downsample is not None:
            x = _three(g, stage.downsample, x)
        if i == EARLY_STAGE:
            early = x
    return g.to_nhwc(x), g.to_nhwc(early)


def _three(g: Graph, block: ConvBlock | Merging, x: str) -> str:
    x = g.gelu(_conv_norm(g, block.conv1, x))
    return _conv_norm(g, block.conv3, g.gelu(_conv_norm(g, block.conv2, x)))


def _conv_norm(g: Graph, layers: ConvNorm, x: str) -> str:
    """Convolve an NCHW array; the normalisation's factor is in the kernel."""
    conv, norm = layers.conv, layers.norm
    factor = host(norm.scale) / np.sqrt(host(norm.var) + np.float32(BATCH_NORM_EPS))
    bias = host(norm.bias) - host(norm.mean) * factor
    kernel = host(conv.kernel) * factor
    if isinstance(conv, Linear):
        return g.conv(x, conv_kernel(kernel, 1), bias)
    if isinstance(conv, Conv3x3):
        return g.conv(x, conv_kernel(kernel, 3), bias, stride=conv.stride, pad=1)
    depthwise = kernel.T.reshape(-1, 1, 3, 3)
    return g.conv(x, depthwise, bias, stride=conv.stride, pad=1, group=len(depthwise))


def _attention_block(g: Graph, block: AttentionBlock, x: str, grid: int) -> str:
    attended = g.to_nchw(_windowed(g, block.attn, g.to_nhwc(x), grid))
    x = g.to_nhwc(_conv_norm(g, block.local_conv, g.op("Add", x, attended)))
    hidden = g.gelu(g.linear(g.norm(x, block.mlp.norm), block.mlp.fc1))
    return g.to_nchw(g.op("Add", x, g.linear(hidden, block.mlp.fc2)))


def _windowed(g: Graph, attn: WindowAttention, x: str, grid: int) -> str:
    """Attend within windows; the padding is normalised too, as in the official code."""
    window, heads = attn.window, attn.num_heads
    width = len(host(attn.proj.kernel))
    x = g.norm(split_windows(g, x, grid, window, width), attn.norm)
    qkv = g.reshape(g.linear(x, attn.qkv), 0, window**2, heads, 3, width // heads)
    parts = g.ops("Split", 3, g.transpose(qkv, 3, 0, 2, 1, 4), axis=0)
    q, k, v = (g.op("Squeeze", part, g.constant([0], "int64")) for part in parts)
    scaled = g.scale(q, (width // heads) ** -0.5)
    scores = g.op("MatMul", scaled, g.transpose(k, 0, 1, 3, 2))
    numbers = jnp.arange(window**2, dtype=jnp.float32)[None]
    distance = jax.device_get(bias_table(numbers, window))[0]
    biases = g.constant(host(attn.attention_biases))
    bias = g.op("Gather", biases, g.constant(distance, "int64"), axis=1)
    weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    out = g.transpose(g.op("MatMul", weights, v), 0, 2, 1, 3)
    out = join_windows(g, g.reshape(out, -1, window**2, width), grid, window, width)
    return g.linear(out, attn.proj)
