"""Choose among masks in ONNX, and add SAM-HQ's head (see samjax.model.hq)."""

from __future__ import annotations

import numpy as np

from samjax.export.graph import Graph, host
from samjax.export.onnx_pixels import conv3x3, sort_pixels, upscale
from samjax.model.hq import HqFeatures, HqHead


def largest(g: Graph, scores: str, count: int) -> str:
    """Return 1 at the largest of each row of (batch, count), else 0: (batch, 1, count)."""
    best = g.op("ArgMax", scores, axis=1, keepdims=1)
    numbers = g.constant(np.arange(count)[None], "int64")
    chosen = g.cast(g.op("Equal", best, numbers), "float32")
    return g.op("Unsqueeze", chosen, g.constant([1], "int64"))


def pick(g: Graph, chosen: str, quality: str) -> str:
    """Return the chosen number of each row of (batch, count), (batch, 1)."""
    column = g.op("Unsqueeze", quality, g.constant([2], "int64"))
    return g.op("Squeeze", g.op("MatMul", chosen, column), g.constant([2], "int64"))


def first_and_best(g: Graph, weights: str, quality: str, count: int) -> tuple[str, str]:
    """Select token 0 and the best of the others, of weights and of quality."""
    others = g.slice(quality, 1, count, 1)
    chosen = largest(g, others, count - 1)
    best = g.op("MatMul", chosen, g.slice(weights, 1, count, 1))
    weights = g.op("Concat", g.slice(weights, 0, 1, 1), best, axis=1)
    return weights, g.op("Concat", g.slice(quality, 0, 1, 1), pick(g, chosen, others), axis=1)


def hq_mask(g: Graph, head: HqHead, token: str, upscaled: str, features: str, size: int) -> str:
    """Return the mask of the HQ token, (batch, 1, m, m).

    Args:
        g: the graph.
        head: SAM-HQ's head.
        token: the HQ token after the transformer, (batch, channels).
        upscaled: upscaled embedding, (batch, pixels * 16, c).
        features: features behind the image embedding, (1, pixels, 16 * c).
        size: side of the image embedding.
    """
    layers = head.embedding_maskfeature
    channels = len(host(layers.conv2.bias))
    pixels = sort_pixels(g, g.transpose(upscaled, 0, 2, 1), channels, size)
    hidden = g.norm(g.to_nhwc(conv3x3(g, layers.conv1, pixels)), layers.norm1)
    refined = conv3x3(g, layers.conv2, g.to_nchw(g.gelu(hidden)))
    kept = g.transpose(g.reshape(features, 0, 16 * size * size, channels), 0, 2, 1)
    refined = g.op("Add", refined, sort_pixels(g, kept, channels, size))
    weights = g.op("Unsqueeze", g.head(token, head.hf_mlp), g.constant([1], "int64"))
    mask = g.op("MatMul", weights, g.reshape(refined, 0, channels, -1))
    return g.reshape(mask, 0, 1, 4 * size, 4 * size)


def hq_features(g: Graph, layers: HqFeatures, embedding: str, early: str, size: int) -> str:
    """Append SAM-HQ's features to the embedding, both (batch, size, size, channels)."""

    def pixels(x: str, channels: int) -> str:
        return g.reshape(x, 0, size * size, channels)

    width = len(host(layers.embedding_encoder.conv1.kernel))
    early_width = len(host(layers.compress_vit_feat.conv1.kernel))
    features = g.op(
        "Add",
        upscale(g, layers.embedding_encoder, pixels(embedding, width)),
        upscale(g, layers.compress_vit_feat, pixels(early, early_width)),
    )
    return g.op("Concat", embedding, g.reshape(features, 0, size, size, 2 * width), axis=-1)
