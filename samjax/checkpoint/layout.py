"""Map the official checkpoint layout, key by key, one to one to samjax's parameters.

One walk over the model's parts yields every official key with its shape, the parameter that it
becomes and the transform between the two. Loading, strict checks and export all read this one
table, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from samjax.model.config import ImageEncoderConfig, MaskDecoderConfig, SamConfig, TinyVitConfig


@dataclass(frozen=True)
class Entry:
    """An entry describes a tensor: official key and shape, samjax path, rearrangement of values.

    ``kind``: "same"; "first" drops a leading axis of 1; "linear" transposes (out, in);
    "conv" turns (out, in, k, k) into (k * k * in, out); "transposed" turns a transposed
    convolution's (in, out, k, k) into (in, k * k * out).
    """

    key: str
    shape: tuple[int, ...]
    path: str
    kind: str

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the parameter that the tensor becomes."""
        match self.kind:
            case "first":
                return self.shape[1:]
            case "linear":
                return self.shape[::-1]
            case "conv":
                out, inputs, k, _ = self.shape
                return (k * k * inputs, out)
            case "transposed":
                inputs, out, k, _ = self.shape
                return (inputs, k * k * out)
        return self.shape

    def to_samjax(self, tensor: np.ndarray) -> np.ndarray:
        """Turn an official tensor into the parameter (a view where possible)."""
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
        """Turn a parameter into the official tensor: the exact inverse."""
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
    yield from _neck(d, c.out_dim)


def _neck(width: int, out: int) -> Iterator[Entry]:
    neck = "image_encoder.neck"
    yield from _conv(f"{neck}.0", f"{neck}.conv1", width, out, 1, bias=False)
    yield from _norm(f"{neck}.1", f"{neck}.norm1", out)
    yield from _conv(f"{neck}.2", f"{neck}.conv2", out, out, 3, bias=False)
    yield from _norm(f"{neck}.3", f"{neck}.norm2", out)


def _conv_norm(key: str, path: str, inputs: int, outputs: int, k: int) -> Iterator[Entry]:
    """Yield the entries of TinyViT's Conv2d_BN; a depthwise convolution has one input channel."""
    yield from _conv(f"{key}.c", f"{path}.conv", inputs, outputs, k, bias=False)
    yield from _norm(f"{key}.bn", f"{path}.norm", outputs)
    yield Entry(f"{key}.bn.running_mean", (outputs,), f"{path}.norm.mean", "same")
    yield Entry(f"{key}.bn.running_var", (outputs,), f"{path}.norm.var", "same")


def _three_convs(key: str, inputs: int, hidden: int, outputs: int) -> Iterator[Entry]:
    for name, i, o, k in (
        ("conv1", inputs, hidden, 1),
        ("conv2", 1, hidden, 3),
        ("conv3", hidden, outputs, 1),
    ):
        yield from _conv_norm(f"{key}.{name}", f"{key}.{name}", i, o, k)


def _tiny_vit(c: TinyVitConfig) -> Iterator[Entry]:
    here, first = "image_encoder", c.widths[0]
    stem = f"{here}.patch_embed"
    yield from _conv_norm(f"{stem}.seq.0", f"{stem}.conv1", 3, first // 2, 3)
    yield from _conv_norm(f"{stem}.seq.2", f"{stem}.conv2", first // 2, first, 3)
    for stage, width in enumerate(c.widths):
        layer = f"{here}.layers.{stage}"
        for i in range(c.depths[stage]):
            block = f"{layer}.blocks.{i}"
            if stage == 0:
                yield from _three_convs(block, width, c.conv_dim, width)
                continue
            biases, shape = f"{block}.attn.attention_biases", c.window_sizes[stage] ** 2
            yield Entry(biases, (c.num_heads[stage], shape), biases, "same")
            yield from _norm(f"{block}.attn.norm", f"{block}.attn.norm", width)
            yield from _linear(f"{block}.attn.qkv", f"{block}.attn.qkv", width, 3 * width)
            yield from _linear(f"{block}.attn.proj", f"{block}.attn.proj", width, width)
            yield from _norm(f"{block}.mlp.norm", f"{block}.mlp.norm", width)
            hidden = c.mlp_dims[stage]
            yield from _linear(f"{block}.mlp.fc1", f"{block}.mlp.fc1", width, hidden)
            yield from _linear(f"{block}.mlp.fc2", f"{block}.mlp.fc2", hidden, width)
            yield from _conv_norm(f"{block}.local_conv", f"{block}.local_conv", 1, width, 3)
        if stage + 1 < len(c.widths):
            wider = c.widths[stage + 1]
            yield from _three_convs(f"{layer}.downsample", width, wider, wider)
    yield from _norm(f"{here}.norm_head", f"{here}.norm_head", c.widths[-1])
    if c.num_classes:
        yield from _linear(f"{here}.head", f"{here}.head", c.widths[-1], c.num_classes)
    yield from _neck(c.widths[-1], c.out_dim)


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
    yield from _two_transposed(up, ours, d, d // 4, d // 8)
    hidden = (c.iou_head_dim,) * (c.iou_head_depth - 1)
    heads: dict[str, tuple[int, ...]] = {
        f"output_hypernetworks_mlps.{i}": (d, d, d, d // 8) for i in range(tokens)
    }
    heads["iou_prediction_head"] = (d, *hidden, tokens)
    for name, widths in heads.items():
        for j, (inputs, outputs) in enumerate(pairwise(widths)):
            layer = f"{name}.layers.{j}"
            yield from _linear(f"{key}.{layer}", f"{path}.{layer}", inputs, outputs)


def _two_transposed(key: str, path: str, inputs: int, hidden: int, out: int) -> Iterator[Entry]:
    yield from _conv_transpose(f"{key}.0", f"{path}.conv1", inputs, hidden)
    yield from _norm(f"{key}.1", f"{path}.norm1", hidden)
    yield from _conv_transpose(f"{key}.3", f"{path}.conv2", hidden, out)


def _hq(early: int, d: int) -> Iterator[Entry]:
    """Yield SAM-HQ's parts of the mask decoder; two of them run with the image encoder here."""
    key, path, image = "mask_decoder", "decoder.mask_decoder.hq", "image_encoder.hq"
    yield Entry(f"{key}.hf_token.weight", (1, d), f"{path}.hf_token", "same")
    for j, outputs in enumerate((d, d, d // 8)):
        layer = f"hf_mlp.layers.{j}"
        yield from _linear(f"{key}.{layer}", f"{path}.{layer}", d, outputs)
    for name, inputs, hidden in (
        ("compress_vit_feat", early, d),
        ("embedding_encoder", d, d // 4),
    ):
        yield from _two_transposed(f"{key}.{name}", f"{image}.{name}", inputs, hidden, d // 8)
    name = "embedding_maskfeature"
    yield from _conv(f"{key}.{name}.0", f"{path}.{name}.conv1", d // 8, d // 4, 3, bias=True)
    yield from _norm(f"{key}.{name}.1", f"{path}.{name}.norm1", d // 4)
    yield from _conv(f"{key}.{name}.3", f"{path}.{name}.conv2", d // 4, d // 8, 3, bias=True)


def official_layout(config: SamConfig) -> dict[str, Entry]:
    """Return every tensor of an official checkpoint of these sizes, by its key."""
    encoder = config.image_encoder
    if isinstance(encoder, TinyVitConfig):
        image, early = _tiny_vit(encoder), encoder.widths[2]
    else:
        image, early = _image_encoder(encoder), encoder.width
    entries = [
        *image,
        *_prompt_encoder(config.prompt_encoder.embed_dim, config.prompt_encoder.mask_channels),
        *_mask_decoder(config.mask_decoder),
        *(_hq(early, config.mask_decoder.embed_dim) if config.hq else ()),
    ]
    return {entry.key: entry for entry in entries}
