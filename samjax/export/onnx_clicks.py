"""Write a decoder of single prompts as an ONNX graph: for previews while the mouse moves.

As `onnx_decoder`, without mask prompts and upscaling. Pixels are multiplied by tokens only, which
for a click takes half of the operations (see `samjax.model.token_attention`, "absorbed").
"""

from __future__ import annotations

from samjax.export.graph import Graph, host
from samjax.export.layout import DECODER_INPUTS, DECODER_OUTPUTS
from samjax.export.onnx_decoder import (
    CrossAttention,
    embedded_points,
    image_positions,
    kinds_of,
    predicted_masks,
)
from samjax.model.config import SamConfig
from samjax.model.layers import Linear
from samjax.model.sam import PromptDecoder
from samjax.model.token_attention import Attention


def click_graph(decoder: PromptDecoder, config: SamConfig, weights: str) -> Graph:
    """Return the graph of one prompt of points and box to low-res masks and predicted IoUs.

    Args:
        decoder: the network's part, of a family without SAM-HQ's head.
        config: sizes of the network.
        weights: dtype of the weights in the file, see `ExportOptions`.
    """
    g = Graph(weights)
    size, low, count = config.grid, config.low_res_size, config.mask_decoder.masks_given + 1
    embedding = g.input(DECODER_INPUTS[0], (1, config.mask_decoder.embed_dim, size, size))
    coords = g.input(DECODER_INPUTS[1], (1, "num_points", 2))
    labels = g.input(DECODER_INPUTS[2], (1, "num_points"))
    encoder = decoder.prompt_encoder
    masks, quality = predicted_masks(
        g,
        decoder.mask_decoder,
        size,
        embedding,
        image_positions(g, encoder.pe_layer, size),
        embedded_points(g, encoder, coords, kinds_of(g, labels)),
        None,
        g.constant(host(encoder.no_mask_embed)[None]),
        CrossAttention(_to_pixels, _to_tokens),
    )
    g.output(DECODER_OUTPUTS[1], quality, (1, count))
    g.output(DECODER_OUTPUTS[2], masks, (1, count, low, low))
    return g


def _to_pixels(g: Graph, layer: Attention, tokens: str, keys: str, values: str) -> str:
    """Tokens attend to pixels: (1, tokens, channels).

    The bias of the keys adds the same to all scores of a token, which the softmax cancels.
    """
    q = g.scale(g.linear(tokens, layer.q_proj), (layer.inner // layer.num_heads) ** -0.5)
    q = g.op("MatMul", _heads(g, layer, q), _columns(g, layer, layer.k_proj))
    scores = g.op("MatMul", g.reshape(q, 1, -1, layer.width), g.transpose(keys, 0, 2, 1))
    mean = g.op("MatMul", g.op("Softmax", scores, axis=-1), values)
    mean = g.reshape(mean, layer.num_heads, -1, layer.width)
    out = g.op("MatMul", mean, g.transpose(_columns(g, layer, layer.v_proj), 0, 2, 1))
    out = g.reshape(g.transpose(out, 1, 0, 2), 1, -1, layer.inner)
    assert layer.v_proj.bias is not None
    return g.linear(g.op("Add", out, g.constant(host(layer.v_proj.bias))), layer.out_proj)


def _to_tokens(
    g: Graph, layer: Attention, pixels: str, keys: str, values: str, bias: str | None
) -> str:
    """Pixels attend to tokens: (1, pixels, channels)."""
    assert bias is None
    assert layer.q_proj.bias is not None
    assert layer.out_proj.bias is not None
    heads, width = layer.num_heads, layer.width
    k = _heads(g, layer, g.scale(g.linear(keys, layer.k_proj), (layer.inner // heads) ** -0.5))
    folded = g.reshape(g.op("MatMul", k, _columns(g, layer, layer.q_proj)), 1, -1, width)
    own = g.constant(host(layer.q_proj.bias).reshape(heads, -1, 1))
    offset = g.reshape(g.op("MatMul", k, own), 1, 1, -1)
    scores = g.op("Add", g.op("MatMul", pixels, g.transpose(folded, 0, 2, 1)), offset)
    by_head = g.reshape(scores, 0, 0, heads, -1)
    count = g.op("Mul", g.size(keys, 1), g.constant([heads], "int64"))
    flat = g.op("Concat", g.slice(g.op("Shape", pixels), 0, 2, 0), count, axis=0)
    weights = g.op("Reshape", g.op("Softmax", by_head, axis=-1), flat)
    v = _heads(g, layer, g.linear(values, layer.v_proj))
    out = g.weight(host(layer.out_proj.kernel).reshape(heads, -1, width))
    v = g.reshape(g.op("MatMul", v, out), 1, -1, width)
    return g.op("Add", g.op("MatMul", weights, v), g.constant(host(layer.out_proj.bias)))


def _heads(g: Graph, layer: Attention, x: str) -> str:
    """Part the channels of (1, tokens, inner) by heads: (heads, tokens, inner / heads)."""
    return g.transpose(g.reshape(x, -1, layer.num_heads, layer.inner // layer.num_heads), 1, 0, 2)


def _columns(g: Graph, layer: Attention, linear: Linear) -> str:
    """Return the weights of a projection, (heads, inner / heads, channels)."""
    kernel = host(linear.kernel).reshape(layer.width, layer.num_heads, -1)
    return g.weight(kernel.transpose(1, 2, 0))
