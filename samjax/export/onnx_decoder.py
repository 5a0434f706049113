"""Write the prompt decoder as an ONNX graph, with the names and layout of the official script.

Sources: official ``utils/onnx.py`` (SamOnnxModel) and ``scripts/export_onnx_model.py``. Of any
number of points; the official one fixes the batch at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from samjax.export.graph import Dimensions, Graph, host
from samjax.export.layout import (
    DECODER_INPUTS,
    DECODER_OUTPUTS,
    LABEL_OFFSET,
    SIZE_INPUT,
    ExportOptions,
    embedding_width,
)
from samjax.export.onnx_hq import first_and_best, hq_mask, largest, pick
from samjax.export.onnx_pixels import conv_kernel, sort_pixels, upscale
from samjax.model.config import SamConfig
from samjax.model.mask_decoder import MaskDecoder, TwoWayTransformer
from samjax.model.prompt_encoder import ABSENT, MaskDownscaling, PositionalEncoding, PromptEncoder
from samjax.model.sam import PromptDecoder
from samjax.model.token_attention import Attention

# Added to the scores of tokens that are masked out
_MASKED = -1e9


class CrossAttention(NamedTuple):
    """Two functions as `attend`: tokens to pixels, and pixels to tokens."""

    to_pixels: Callable[..., str]
    to_tokens: Callable[..., str]


def decoder_graph(
    decoder: PromptDecoder, config: SamConfig, options: ExportOptions, *, stretches: bool
) -> Graph:
    """Return the graph of image_embeddings, point_coords, ... to masks, iou_predictions, ...

    Args:
        decoder: the network's part.
        config: sizes of the network.
        options: batch, points, masks and weights.
        stretches: whether an image fills the whole square, whatever its aspect.
    """
    g = Graph(options.weights)
    size, low = config.grid, config.low_res_size
    batch = "batch" if options.batch is None else options.batch
    points = "num_points" if options.points is None else options.points
    shapes = (
        (1, embedding_width(config), size, size),
        (batch, points, 2),
        (batch, points),
        (batch, 1, low, low),
        (batch,),
    )
    embedding, coords, labels, mask, has_mask = (
        g.input(name, shape) for name, shape in zip(DECODER_INPUTS, shapes, strict=True)
    )
    original = g.input(SIZE_INPUT, (2,))

    kinds = kinds_of(g, labels)
    sparse = embedded_points(g, decoder.prompt_encoder, coords, kinds)
    dense = _dense(g, decoder.prompt_encoder, mask, has_mask)
    positions = image_positions(g, decoder.prompt_encoder.pe_layer, size)
    bias = _token_bias(g, kinds, first_tokens(decoder.mask_decoder).shape[1])
    masks, quality = predicted_masks(
        g, decoder.mask_decoder, size, embedding, positions, sparse, bias, dense, PROJECTED
    )
    count = config.mask_decoder.masks_given + 1
    if options.masks == "best":
        masks, quality = _best(g, masks, quality, coords, count, low)
        count = 1
    full = _original_size(g, masks, original, config.image_size, stretches)
    shaped: tuple[Dimensions, ...] = (
        (batch, count, "height", "width"),
        (batch, count),
        (batch, count, low, low),
    )
    for name, value, shape in zip(DECODER_OUTPUTS, (full, quality, masks), shaped, strict=True):
        g.output(name, value, shape)
    return g


# ------------------------------------------------------------------------------------ prompts


def kinds_of(g: Graph, labels: str) -> str:
    """Turn labels into kinds of tokens, (batch, points): -1 and -2 are behind the others."""
    whole = g.cast(labels, "int64")
    behind = g.op("Sub", g.constant(LABEL_OFFSET, "int64"), whole)
    return g.op("Where", g.op("Less", whole, g.constant(0, "int64")), behind, whole)


def embedded_points(g: Graph, encoder: PromptEncoder, coords: str, kinds: str) -> str:
    """Embed points and box corners, (batch, points, channels)."""
    centred = g.op("Add", coords, g.constant(0.5))
    position = _encode(g, encoder.pe_layer, g.scale(centred, 1 / encoder.image_size))
    is_point = g.op("Less", kinds, g.constant(LABEL_OFFSET + 1, "int64"))
    is_point = g.op("Unsqueeze", g.cast(is_point, "float32"), g.constant([2], "int64"))
    position = g.op("Mul", position, is_point)
    rows = [host(e) for e in encoder.point_embeddings] + [host(encoder.not_a_point_embed)]
    table = np.concatenate([*rows, np.zeros_like(rows[0])])
    return g.op("Add", position, g.op("Gather", g.constant(table), kinds))


def _encode(g: Graph, layer: PositionalEncoding, xy: str) -> str:
    """Encode coordinates in [0, 1] on the last axis; products written out keep float32."""
    xy = g.op("Sub", g.scale(xy, 2.0), g.constant(1.0))
    axis = g.constant([-1], "int64")
    x, y = (
        g.op("Slice", xy, g.constant([i], "int64"), g.constant([i + 1], "int64"), axis)
        for i in range(2)
    )
    first, second = (g.constant(row) for row in host(layer.gaussian_matrix))
    angle = g.op("Add", g.op("Mul", x, first), g.op("Mul", y, second))
    angle = g.scale(angle, 2 * np.pi)
    return g.op("Concat", g.op("Sin", angle), g.op("Cos", angle), axis=-1)


def image_positions(g: Graph, layer: PositionalEncoding, size: int) -> str:
    """Encode the pixels of the image embedding, (1, pixels, channels).

    From coordinates, which a runtime folds into a constant: smaller files.
    """
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = np.meshgrid(centre, centre, indexing="xy")
    return _encode(g, layer, g.constant(np.stack([x, y], -1).reshape(1, -1, 2)))


def _dense(g: Graph, encoder: PromptEncoder, mask: str, has_mask: str) -> str:
    """Embed the mask prompt, (batch, pixels, channels)."""
    embedded = _downscale(g, encoder.mask_downscaling, mask)
    embedded = g.reshape(embedded, 0, encoder.embedding_size**2, -1)
    given = g.op("Greater", has_mask, g.constant(0.0))
    given = g.op("Unsqueeze", given, g.constant([1, 2], "int64"))
    return g.op("Where", given, embedded, g.constant(host(encoder.no_mask_embed)[None]))


def _downscale(g: Graph, layers: MaskDownscaling, mask: str) -> str:
    x = mask
    for conv, norm in ((layers.conv1, layers.norm1), (layers.conv2, layers.norm2)):
        x = g.conv(x, conv_kernel(host(conv.kernel), 2), host(conv.bias), stride=2)
        x = g.to_nhwc(x)
        x = g.gelu(g.norm(x, norm))
        x = g.linear(x, layers.conv3) if conv is layers.conv2 else g.to_nchw(x)
    return x


# ------------------------------------------------------------------------------------ decoder


def first_tokens(decoder: MaskDecoder) -> np.ndarray:
    """Return the tokens before the prompt's: quality, masks and SAM-HQ's, (1, tokens, channels)."""
    own = [host(decoder.iou_token), host(decoder.mask_tokens)]
    if decoder.hq is not None:
        own.append(host(decoder.hq.hf_token))
    return np.concatenate(own)[None]


def predicted_masks(
    g: Graph,
    decoder: MaskDecoder,
    size: int,
    embedding: str,
    positions: str,
    sparse: str,
    bias: str | None,
    dense: str,
    cross: CrossAttention,
) -> tuple[str, str]:
    """Return low-res masks (batch, masks, m, m) and their predicted IoUs (batch, masks).

    ``bias`` is added to the scores of the tokens as keys; None: all of them count alike.
    """
    output = first_tokens(decoder)
    width, count = output.shape[2], len(decoder.output_hypernetworks_mlps)
    image = g.transpose(g.reshape(embedding, 0, 0, -1), 0, 2, 1)  # 1, pixels, channels
    features = image
    if decoder.hq is not None:
        image, features = g.slice(image, 0, width, 2), g.slice(image, width, 3 * width, 2)
    image = g.op("Add", image, dense)
    sizes = g.op("Concat", g.size(sparse, 0), g.constant(output.shape[1:], "int64"), axis=0)
    tokens = g.op("Concat", g.op("Expand", g.constant(output), sizes), sparse, axis=1)
    tokens, image = _transform(g, decoder.transformer, tokens, image, positions, bias, cross)

    upscaled = upscale(g, decoder.output_upscaling, image)
    axis = g.constant([1], "int64")
    chosen = [
        g.op("Unsqueeze", g.head(_token(g, tokens, 1 + i), head), axis)
        for i, head in enumerate(decoder.output_hypernetworks_mlps)
    ]
    weights = g.op("Concat", *chosen, axis=1)
    quality = g.head(_token(g, tokens, 0), decoder.iou_prediction_head)
    if decoder.hq is not None:
        weights, quality = first_and_best(g, weights, quality, count)
        count = 2
    masks = g.op("MatMul", weights, g.transpose(upscaled, 0, 2, 1))
    masks = sort_pixels(g, masks, count, size)
    if decoder.hq is not None:
        token = _token(g, tokens, output.shape[1] - 1)
        masks = g.op("Add", masks, hq_mask(g, decoder.hq, token, upscaled, features, size))
    return masks, quality


def _token_bias(g: Graph, kinds: str, before: int) -> str:
    """Return what is added to the scores of each token as a key, (batch, 1, 1, tokens)."""
    absent = g.cast(g.op("Equal", kinds, g.constant(ABSENT, "int64")), "float32")
    bias = g.op("Pad", g.scale(absent, _MASKED), g.constant([0, before, 0, 0], "int64"))
    return g.op("Unsqueeze", bias, g.constant([1, 2], "int64"))


def _token(g: Graph, tokens: str, index: int) -> str:
    """Return one token of each prompt, (batch, channels)."""
    return g.op("Gather", tokens, g.constant(index, "int64"), axis=1)


def _transform(
    g: Graph,
    layers: TwoWayTransformer,
    tokens: str,
    image: str,
    positions: str,
    bias: str | None,
    cross: CrossAttention,
) -> tuple[str, str]:
    """Let tokens and image attend to each other in turn (TwoWayTransformer)."""
    start = tokens
    for layer in layers.layers:
        if layer.first:
            tokens = attend(g, layer.self_attn, tokens, tokens, tokens, bias)
        else:
            x = g.op("Add", tokens, start)
            seen = attend(g, layer.self_attn, x, x, tokens, bias)
            tokens = g.op("Add", tokens, seen)
        tokens = g.norm(tokens, layer.norm1)
        positioned = g.op("Add", image, positions)
        x = g.op("Add", tokens, start)
        seen = cross.to_pixels(g, layer.cross_attn_token_to_image, x, positioned, image)
        tokens = g.norm(g.op("Add", tokens, seen), layer.norm2)
        hidden = g.op("Relu", g.linear(tokens, layer.mlp.lin1))
        tokens = g.norm(g.op("Add", tokens, g.linear(hidden, layer.mlp.lin2)), layer.norm3)
        x = g.op("Add", tokens, start)
        marked = cross.to_tokens(g, layer.cross_attn_image_to_token, positioned, x, tokens, bias)
        image = g.norm(g.op("Add", image, marked), layer.norm4)
    x, positioned = g.op("Add", tokens, start), g.op("Add", image, positions)
    seen = cross.to_pixels(g, layers.final_attn_token_to_image, x, positioned, image)
    return g.norm(g.op("Add", tokens, seen), layers.norm_final_attn), image


def attend(
    g: Graph, layer: Attention, queries: str, keys: str, values: str, bias: str | None = None
) -> str:
    """Attend with several heads; ``bias`` is added to the scores."""
    width = layer.inner // layer.num_heads

    def split(x: str, *order: int) -> str:
        return g.transpose(g.reshape(x, 0, -1, layer.num_heads, width), *order)

    q = split(g.linear(queries, layer.q_proj), 0, 2, 1, 3)
    k = split(g.linear(keys, layer.k_proj), 0, 2, 3, 1)
    v = split(g.linear(values, layer.v_proj), 0, 2, 1, 3)
    if bias is None:  # the shorter of the two is scaled
        q = g.scale(q, width**-0.5)
    else:
        k = g.scale(k, width**-0.5)
    scores = g.op("MatMul", q, k)
    scores = scores if bias is None else g.op("Add", scores, bias)
    out = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    out = g.reshape(g.transpose(out, 0, 2, 1, 3), 0, -1, layer.inner)
    return g.linear(out, layer.out_proj)


PROJECTED = CrossAttention(attend, attend)


# ------------------------------------------------------------------------------------- result


def _best(g: Graph, masks: str, quality: str, coords: str, count: int, low: int) -> tuple[str, str]:
    """Choose one mask of each prompt (official select_masks)."""
    points = g.cast(g.size(coords, 1), "float32")
    first = np.eye(1, count, dtype=np.float32) * 1000
    bonus = g.op("Mul", g.op("Sub", points, g.constant(2.5)), g.constant(first))
    chosen = largest(g, g.op("Add", quality, bonus), count)
    planes = g.op("MatMul", chosen, g.reshape(masks, 0, count, -1))
    return g.reshape(planes, 0, 1, low, low), pick(g, chosen, quality)


def _original_size(g: Graph, masks: str, original: str, image_size: int, stretches: bool) -> str:
    """Upscale to the network's input, crop to the image, resize to the original size.

    Source: official mask_postprocessing. Sizes are whole numbers, so that no rounding differs.
    """
    whole = g.cast(original, "int64")
    before = g.slice(g.op("Shape", masks), 0, 2, 0)
    square = g.constant([image_size, image_size], "int64")
    masks = _resize(g, masks, g.op("Concat", before, square, axis=0))
    if not stretches:
        # floor(size * image_size / longest + 0.5)
        longest = g.op("ReduceMax", whole, keepdims=1)
        doubled = g.op("Mul", whole, g.constant(2 * image_size, "int64"))
        twice = g.op("Mul", longest, g.constant(2, "int64"))
        inside = g.op("Div", g.op("Add", doubled, longest), twice)
        start, axes = g.constant([0, 0], "int64"), g.constant([2, 3], "int64")
        masks = g.op("Slice", masks, start, inside, axes)
    return _resize(g, masks, g.op("Concat", before, whole, axis=0))


def _resize(g: Graph, x: str, sizes: str) -> str:
    return g.op(
        "Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )
