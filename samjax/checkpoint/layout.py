"""The official checkpoint layout, key by key, as a bijection with samjax's parameters.

One walk over the model's parts yields every official key with its shape, the parameter that it
becomes and the transform between the two. Loading, strict checks and export all read this one
table, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from samjax.config import ImageEncoderConfig, MaskDecoderConfig, SamConfig


@dataclass(frozen=True)
class Entry:
    """One tensor: official key and shape, samjax path, and how the values are rearranged.

    ``kind``: "same"; "first" drops a leading axis of 1; "linear" transposes (out, in);
    "conv" turns (out, in, k, k) into (k * k * in, out); "transposed" turns a transposed
    convolution's (in, out, k, k) into (in, k * k * out).
    """

    key: str
    shape: tuple[int, ...]
    path: str
    kind: str

    def to_samjax(self, tensor: np.ndarray) -> np.ndarray:
        """Official tensor to parameter (a view where possible)."""
        match self.kind:
            case "first":
                return tensor[0]
            case "linear":
                return tensor.T
            case "conv":
                return tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
            case "transposed":
                return tensor.transpose(0, 2, 3, 1).reshape(tensor.shape[0], -1)
        return tensor

    def to_official(self, parameter: np.ndarray) -> np.ndarray:
        """Parameter to official tensor: the exact inverse."""
        match self.kind:
            case "first":
                return parameter[None]
            case "linear":
                return parameter.T
            case "conv":
                out, inputs, k, _ = self.shape
                return parameter.reshape(k, k, inputs, out).transpose(3, 2, 0, 1)
            case "transposed":
                inputs, out, k, _ = self.shape
                return parameter.reshape(inputs, k, k, out).transpose(0, 3, 1, 2)
        return parameter


def _linear(key: str, path: str, inputs: int, outputs: int) -> Iterator[Entry]:
    yield Entry(f"{key}.weight", (outputs, inputs), f"{path}.kernel", "linear")
    yield Entry(f"{key}.bias", (outputs,), f"{path}.bias", "same")


def _norm(key: str, path: str, width: int) -> Iterator[Entry]:
    yield Entry(f"{key}.weight", (width,), f"{path}.scale", "same")
    yield Entry(f"{key}.bias", (width,), f"{path}.bias", "same")


def _conv(key: str, path: str, inputs: int, outputs: int, k: int, bias: bool) -> Iterator[Entry]:
    yield Entry(f"{key}.weight", (outputs, inputs, k, k), f"{path}.kernel", "conv")
    if bias:
        yield Entry(f"{key}.bias", (outputs,), f"{path}.bias", "same")


def _conv_transpose(key: str, path: str, inputs: int, outputs: int) -> Iterator[Entry]:
    yield Entry(f"{key}.weight", (inputs, outputs, 2, 2), f"{path}.kernel", "transposed")
    yield Entry(f"{key}.bias", (outputs,), f"{path}.bias", "same")


def _image_encoder(c: ImageEncoderConfig) -> Iterator[Entry]:
    here, d = "image_encoder", c.width
    yield Entry(f"{here}.pos_embed", (1, c.grid, c.grid, d), f"{here}.pos_embed", "first")
    patch = f"{here}.patch_embed.proj"
    yield from _conv(patch, patch, 3, d, c.patch_size, bias=True)
    for i in range(c.depth):
        block = f"{here}.blocks.{i}"
        yield from _norm(f"{block}.norm1", f"{block}.norm1", d)
        yield from _linear(f"{block}.attn.qkv", f"{block}.attn.qkv", d, 3 * d)
        yield from _linear(f"{block}.attn.proj", f"{block}.attn.proj", d, d)
        reach = 2 * (c.grid if i in c.global_blocks else c.window_size) - 1
        for axis in "hw":
            name = f"{block}.attn.rel_pos_{axis}"
            yield Entry(name, (reach, d // c.num_heads), name, "same")
        yield from _norm(f"{block}.norm2", f"{block}.norm2", d)
        yield from _linear(f"{block}.mlp.lin1", f"{block}.mlp.lin1", d, c.mlp_dim)
        yield from _linear(f"{block}.mlp.lin2", f"{block}.mlp.lin2", c.mlp_dim, d)
    neck = f"{here}.neck"
    yield from _conv(f"{neck}.0", f"{neck}.conv1", d, c.out_dim, 1, bias=False)
    yield from _norm(f"{neck}.1", f"{neck}.norm1", c.out_dim)
    yield from _conv(f"{neck}.2", f"{neck}.conv2", c.out_dim, c.out_dim, 3, bias=False)
    yield from _norm(f"{neck}.3", f"{neck}.norm2", c.out_dim)


def _prompt_encoder(width: int, channels: int) -> Iterator[Entry]:
    key, path = "prompt_encoder", "decoder.prompt_encoder"
    yield Entry(
        f"{key}.pe_layer.positional_encoding_gaussian_matrix",
        (2, width // 2),
        f"{path}.pe_layer.gaussian_matrix",
        "same",
    )
    for name in [f"point_embeddings.{i}" for i in range(4)] + [
        "not_a_point_embed",
        "no_mask_embed",
    ]:
        yield Entry(f"{key}.{name}.weight", (1, width), f"{path}.{name}", "same")
    key, path = f"{key}.mask_downscaling", f"{path}.mask_downscaling"
    yield from _conv(f"{key}.0", f"{path}.conv1", 1, channels // 4, 2, bias=True)
    yield from _norm(f"{key}.1", f"{path}.norm1", channels // 4)
    yield from _conv(f"{key}.3", f"{path}.conv2", channels // 4, channels, 2, bias=True)
    yield from _norm(f"{key}.4", f"{path}.norm2", channels)
    yield from _conv(f"{key}.6", f"{path}.conv3", channels, width, 1, bias=True)


def _attention(key: str, path: str, width: int, inner: int) -> Iterator[Entry]:
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from _linear(f"{key}.{name}", f"{path}.{name}", width, inner)
    yield from _linear(f"{key}.out_proj", f"{path}.out_proj", inner, width)


def _mask_decoder(c: MaskDecoderConfig) -> Iterator[Entry]:
    key, path, d = "mask_decoder", "decoder.mask_decoder", c.embed_dim
    for i in range(c.depth):
        layer, ours = f"{key}.transformer.layers.{i}", f"{path}.transformer.layers.{i}"
        yield from _attention(f"{layer}.self_attn", f"{ours}.self_attn", d, d)
        for name in ("cross_attn_token_to_image", "cross_attn_image_to_token"):
            yield from _attention(f"{layer}.{name}", f"{ours}.{name}", d, c.attention_dim)
        for n in range(1, 5):
            yield from _norm(f"{layer}.norm{n}", f"{ours}.norm{n}", d)
        yield from _linear(f"{layer}.mlp.lin1", f"{ours}.mlp.lin1", d, c.mlp_dim)
        yield from _linear(f"{layer}.mlp.lin2", f"{ours}.mlp.lin2", c.mlp_dim, d)
    final = "transformer.final_attn_token_to_image"
    yield from _attention(f"{key}.{final}", f"{path}.{final}", d, c.attention_dim)
    norm = "transformer.norm_final_attn"
    yield from _norm(f"{key}.{norm}", f"{path}.{norm}", d)
    tokens = c.num_masks + 1
    yield Entry(f"{key}.iou_token.weight", (1, d), f"{path}.iou_token", "same")
    yield Entry(f"{key}.mask_tokens.weight", (tokens, d), f"{path}.mask_tokens", "same")
    up, ours = f"{key}.output_upscaling", f"{path}.output_upscaling"
    yield from _conv_transpose(f"{up}.0", f"{ours}.conv1", d, d // 4)
    yield from _norm(f"{up}.1", f"{ours}.norm1", d // 4)
    yield from _conv_transpose(f"{up}.3", f"{ours}.conv2", d // 4, d // 8)
    hidden = (c.iou_head_dim,) * (c.iou_head_depth - 1)
    heads: dict[str, tuple[int, ...]] = {
        f"output_hypernetworks_mlps.{i}": (d, d, d, d // 8) for i in range(tokens)
    }
    heads["iou_prediction_head"] = (d, *hidden, tokens)
    for name, widths in heads.items():
        for j, (inputs, outputs) in enumerate(pairwise(widths)):
            layer = f"{name}.layers.{j}"
            yield from _linear(f"{key}.{layer}", f"{path}.{layer}", inputs, outputs)


def official_layout(config: SamConfig) -> dict[str, Entry]:
    """Every tensor of an official checkpoint of these sizes, by its key."""
    entries = [
        *_image_encoder(config.image_encoder),
        *_prompt_encoder(config.prompt_encoder.embed_dim, config.prompt_encoder.mask_channels),
        *_mask_decoder(config.mask_decoder),
    ]
    return {entry.key: entry for entry in entries}
