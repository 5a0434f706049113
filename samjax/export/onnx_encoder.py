"""Write the image encoder as an ONNX graph: normalisation, padding, ViT or TinyViT, neck.

The official script has none. Pixels come resized, their longest side as long as the network's
input; attention of the global blocks runs one head at a time, which bounds its memory.
"""

from __future__ import annotations

import numpy as np

from samjax.export.graph import Graph, host
from samjax.export.layout import (
    ENCODER_INPUT,
    ENCODER_OUTPUT,
    ExportOptions,
    embedding_width,
    image_dtype,
)
from samjax.export.onnx_hq import hq_features
from samjax.export.onnx_pixels import conv_kernel, join_windows, split_windows
from samjax.export.onnx_tiny_vit import tiny_vit
from samjax.image.preset import Preset
from samjax.model.config import SamConfig
from samjax.model.image_encoder import Attention, Block, ImageEncoder, Neck
from samjax.model.tiny_vit import TinyVit


def encoder_graph(
    encoder: ImageEncoder | TinyVit, config: SamConfig, options: ExportOptions, preset: Preset
) -> Graph:
    """Return the graph of image (batch, height, width, 3) to image_embeddings (batch, c, g, g)."""
    g = Graph(options.weights)
    size = config.image_size
    batch = "batch" if options.batch is None else options.batch
    image = g.input(ENCODER_INPUT, (batch, "height", "width", 3), image_dtype(preset))
    x = _normalised(g, image, size, preset)
    if isinstance(encoder, TinyVit):
        x, early = tiny_vit(g, encoder, x)
    else:
        x, early = _vit(g, encoder, x)
    x = _neck(g, encoder.neck, x)
    if encoder.hq is not None:
        x = hq_features(g, encoder.hq, x, early, config.grid)
    shape = (batch, embedding_width(config), config.grid, config.grid)
    g.output(ENCODER_OUTPUT, g.to_nchw(x), shape)
    return g


def _normalised(g: Graph, image: str, size: int, preset: Preset) -> str:
    """Normalise and pad with zeros at the bottom and right, (batch, size, size, 3).

    A larger image is an error of the runtime: a negative number of zeros.
    """
    x = g.cast(image, "float32")
    if preset.rescaled:
        axes = [1, 2, 3]
        low, high = (g.op(kind, x, axes=axes) for kind in ("ReduceMin", "ReduceMax"))
        span = g.op("Max", g.op("Sub", high, low), g.constant(1e-8))
        x = g.op("Div", g.op("Sub", x, low), span)
    x = g.op("Sub", x, g.constant(preset.pixel_mean))
    x = g.op("Div", x, g.constant(preset.pixel_std))
    for axis in (1, 2):
        lacking = g.op("Sub", g.constant([size], "int64"), g.size(x, axis))
        shape = [g.size(x, i) if i != axis else lacking for i in range(4)]
        zeros = g.op("ConstantOfShape", g.op("Concat", *shape, axis=0))
        x = g.op("Concat", x, zeros, axis=axis)
    return x


def _vit(g: Graph, encoder: ImageEncoder, image: str) -> tuple[str, str]:
    """Return the last and the first global block's output, (batch, g, g, width)."""
    layer = encoder.patch_embed
    assert layer.proj.bias is not None
    kernel, bias = conv_kernel(host(layer.proj.kernel), layer.patch), host(layer.proj.bias)
    x = g.conv(g.to_nchw(image), kernel, bias, stride=layer.patch)
    x = g.op("Add", g.to_nhwc(x), g.weight(host(encoder.pos_embed)[None]))
    early = x
    for i, block in enumerate(encoder.blocks):
        x = _block(g, block, x)
        if i in encoder.config.global_blocks[:1]:
            early = x
    return x, early


def _block(g: Graph, block: Block, x: str) -> str:
    attn = block.attn
    attend = _global if attn.window == attn.grid else _windowed
    x = g.op("Add", x, g.linear(attend(g, attn, g.norm(x, block.norm1)), attn.proj))
    hidden = g.gelu(g.linear(g.norm(x, block.norm2), block.mlp.lin1))
    return g.op("Add", x, g.linear(hidden, block.mlp.lin2))


def _windowed(g: Graph, attn: Attention, x: str) -> str:
    """Attend within windows; the padding takes part, as in the official code."""
    grid, window = attn.grid, attn.window
    width = len(host(attn.qkv.kernel))
    x = split_windows(g, x, grid, window, width)
    q, k, v = _projected(g, attn, x, window)
    out = _softmax_product(g, *_folded(g, attn, q, k, window), v)
    out = g.reshape(g.transpose(out, 0, 2, 1, 3), -1, window * window, width)
    return join_windows(g, out, grid, window, width)


def _global(g: Graph, attn: Attention, x: str) -> str:
    """Attend to the whole image, head by head."""
    grid, heads = attn.grid, attn.num_heads
    width = len(host(attn.qkv.kernel))
    q, k, v = _projected(g, attn, g.reshape(x, 0, -1, width), grid)
    q, k = _folded(g, attn, q, k, grid)
    outs = [
        _softmax_product(g, *(g.slice(x, i, i + 1, 1) for x in (q, k, v))) for i in range(heads)
    ]
    out = outs[0] if heads == 1 else g.op("Concat", *outs, axis=1)
    return g.reshape(g.transpose(out, 0, 2, 1, 3), 0, grid, grid, width)


def _projected(g: Graph, attn: Attention, x: str, n: int) -> list[str]:
    """Project to queries, keys and values, (windows, heads, n * n, c) each."""
    qkv = g.reshape(g.linear(x, attn.qkv), 0, n * n, 3, attn.num_heads, -1)
    qkv = g.transpose(qkv, 2, 0, 3, 1, 4)
    parts = g.ops("Split", 3, qkv, axis=0)
    return [g.op("Squeeze", part, g.constant([0], "int64")) for part in parts]


def _folded(g: Graph, attn: Attention, q: str, k: str, n: int) -> tuple[str, str]:
    """Return queries, and transposed keys, whose product is the score with relative positions.

    As samjax.model.attention.fold: terms are appended to the queries, one-hot coordinates to keys.
    """
    heads = attn.num_heads
    c = len(host(attn.qkv.kernel)) // heads
    index = np.arange(n)[:, None] - np.arange(n)[None] + n - 1
    table_h, table_w = (host(p)[index] for p in (attn.rel_pos_h, attn.rel_pos_w))  # query key c
    grid = g.reshape(q, -1, n, n, c)
    terms_h = g.op("MatMul", grid, g.constant(table_h.transpose(0, 2, 1)))  # y x c, y c key
    turned = g.transpose(grid, 0, 2, 1, 3)
    terms_w = g.op("MatMul", turned, g.constant(table_w.transpose(0, 2, 1)))  # x y c, x c key
    terms_w = g.transpose(terms_w, 0, 2, 1, 3)
    scaled = g.scale(grid, c**-0.5)
    q = g.op("Concat", scaled, terms_h, terms_w, axis=-1)
    q = g.reshape(q, -1, heads, n * n, c + 2 * n)
    key = np.arange(n * n)
    one_hot = np.concatenate(
        [key // n == np.arange(n)[:, None], key % n == np.arange(n)[:, None]]
    ).astype(np.float32)
    k = g.transpose(k, 0, 1, 3, 2)  # windows, heads, c, keys
    sizes = g.op("Concat", g.size(k, 0), g.constant([heads, *one_hot.shape], "int64"), axis=0)
    spread = g.op("Expand", g.constant(one_hot[None, None]), sizes)
    return q, g.op("Concat", k, spread, axis=2)


def _softmax_product(g: Graph, q: str, k: str, v: str) -> str:
    return g.op("MatMul", g.op("Softmax", g.op("MatMul", q, k), axis=-1), v)


def _neck(g: Graph, neck: Neck, x: str) -> str:
    """Bring the width to the embedding's, (batch, g, g, channels)."""
    x = g.norm(g.linear(x, neck.conv1), neck.norm1)
    x = g.conv(g.to_nchw(x), conv_kernel(host(neck.conv2.kernel), 3), pad=1)
    return g.norm(g.to_nhwc(x), neck.norm2)
