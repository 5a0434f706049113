"""Infer every size of a network from the shapes of its official tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

import numpy as np

from samjax.checkpoint.families.detect import is_tiny_vit, part_numbers
from samjax.errors import CheckpointError
from samjax.model.config import (
    ImageEncoderConfig,
    MaskDecoderConfig,
    PromptEncoderConfig,
    SamConfig,
    TinyVitConfig,
)


def _count(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    """Return one more than the largest index that ``pattern`` captures among the keys."""
    return max(part_numbers(tensors, pattern).values(), default=-1) + 1


class _Shapes:
    """Shapes are looked up by key, with an error for missing tensors and other ranks."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where = tensors, where

    def __call__(self, key: str, rank: int) -> tuple[int, ...]:
        tensor = self.tensors.get(key)
        if tensor is None:
            hint = ", ".join(list(self.tensors)[:3]) or "nothing"
            raise CheckpointError(
                f"{self.where}: not a complete SAM checkpoint: '{key}' is missing (the file has "
                f"{len(self.tensors)} tensors: {hint} ...); give a whole model's state_dict"
            )
        if tensor.ndim != rank:
            raise CheckpointError(
                f"{self.where}: '{key}' has shape {tensor.shape}, expected {rank} axes: "
                "not SAM's layout"
            )
        return tensor.shape


def infer_config(
    tensors: Mapping[str, np.ndarray], *, layer_norm_eps: float = 1e-5, where: str = "checkpoint"
) -> SamConfig:
    """Infer every size of a model from the shapes of its official tensors.

    The decoder's number of heads leaves no trace in the shapes; it is 8 in every known family.
    """
    shape = _Shapes(tensors, where)
    hq = "mask_decoder.hf_token.weight" in tensors
    encoder = _tiny_vit(shape) if is_tiny_vit(tensors) else _vit(shape)
    if hq and isinstance(encoder, ImageEncoderConfig) and not encoder.global_blocks:
        raise CheckpointError(
            f"{where}: SAM-HQ's head without a block of global attention in the image encoder, "
            "whose output it needs: resized or damaged weights"
        )
    prompt = PromptEncoderConfig(
        embed_dim=shape("prompt_encoder.no_mask_embed.weight", 2)[1],
        mask_channels=shape("prompt_encoder.mask_downscaling.3.weight", 4)[0],
    )
    layer = "mask_decoder.transformer.layers"
    inner = shape(f"{layer}.0.cross_attn_token_to_image.q_proj.weight", 2)[0]
    tokens = shape("mask_decoder.mask_tokens.weight", 2)[0]
    if tokens > len(tensors):
        raise CheckpointError(
            f"{where}: {tokens} mask tokens, each with an MLP of its own, in a file of "
            f"{len(tensors)} tensors: damaged or malicious, get it from its author again"
        )
    decoder = MaskDecoderConfig(
        embed_dim=shape("mask_decoder.iou_token.weight", 2)[1],
        depth=_count(tensors, rf"{re.escape(layer)}\.(\d+)\."),
        mlp_dim=shape(f"{layer}.0.mlp.lin1.weight", 2)[0],
        attention_dim=inner,
        num_masks=tokens - 1,
        iou_head_depth=_count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        iou_head_dim=shape("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
        layer_norm_eps=layer_norm_eps,
        hq=hq,
    )
    return SamConfig(encoder, prompt, decoder)


def _vit(shape: _Shapes) -> ImageEncoderConfig:
    tensors, where = shape.tensors, shape.where
    _, grid, _, width = shape("image_encoder.pos_embed", 4)
    patch = shape("image_encoder.patch_embed.proj.weight", 4)[-1]
    depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.")
    reaches = [shape(f"image_encoder.blocks.{i}.attn.rel_pos_h", 2)[0] for i in range(depth)]
    head_dim = shape("image_encoder.blocks.0.attn.rel_pos_h", 2)[1]
    global_reach = 2 * grid - 1
    windowed = {reach for reach in reaches if reach != global_reach}
    if len(windowed) > 1 or head_dim == 0 or width % head_dim:
        raise CheckpointError(
            f"{where}: relative positions of lengths {sorted(set(reaches))} and width {head_dim} "
            f"do not fit a {grid}x{grid} position embedding of width {width}: resized or "
            "damaged weights"
        )
    return ImageEncoderConfig(
        image_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=depth,
        num_heads=width // head_dim,
        mlp_dim=shape("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
        out_dim=shape("image_encoder.neck.0.weight", 4)[0],
        window_size=(windowed.pop() + 1) // 2 if windowed else min(14, grid),
        global_blocks=tuple(i for i, reach in enumerate(reaches) if reach == global_reach),
    )


def _tiny_vit(shape: _Shapes) -> TinyVitConfig:
    """Infer the sizes of MobileSAM's encoder, at the published input size: no shape tells it."""
    here, stages = (
        "image_encoder.layers",
        range(_count(shape.tensors, r"image_encoder\.layers\.(\d+)")),
    )
    if len(stages) != len(TinyVitConfig().widths):
        raise CheckpointError(
            f"{shape.where}: a TinyViT of {len(stages)} stages, expected "
            f"{len(TinyVitConfig().widths)}: not MobileSAM's layout"
        )
    stem = shape("image_encoder.patch_embed.seq.2.c.weight", 4)[0]
    wider = [shape(f"{here}.{i}.downsample.conv3.c.weight", 4)[0] for i in stages[:-1]]
    biases = [shape(f"{here}.{i}.blocks.0.attn.attention_biases", 2) for i in stages[1:]]
    for _, offsets in biases:
        if isqrt(offsets) ** 2 != offsets:
            raise CheckpointError(
                f"{shape.where}: {offsets} attention biases a head are not a square number, "
                "as square windows have: damaged weights"
            )
    head = "image_encoder.head.weight"
    return TinyVitConfig(
        widths=(stem, *wider),
        depths=tuple(
            _count(shape.tensors, rf"{re.escape(here)}\.{i}\.blocks\.(\d+)") for i in stages
        ),
        num_heads=(0, *(heads for heads, _ in biases)),
        window_sizes=(0, *(isqrt(offsets) for _, offsets in biases)),
        conv_dim=shape(f"{here}.0.blocks.0.conv1.c.weight", 4)[0],
        mlp_dims=(0, *(shape(f"{here}.{i}.blocks.0.mlp.fc1.weight", 2)[0] for i in stages[1:])),
        out_dim=shape("image_encoder.neck.0.weight", 4)[0],
        num_classes=shape(head, 2)[0] if head in shape.tensors else 0,
    )
