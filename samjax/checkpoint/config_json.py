"""A network's configuration as JSON values, and back without believing them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from samjax.errors import CheckpointError
from samjax.model.config import (
    ImageEncoderConfig,
    MaskDecoderConfig,
    PromptEncoderConfig,
    SamConfig,
    TinyVitConfig,
)

_MOST_PARTS = 1000  # blocks, layers, masks: far more than any SAM has
_LARGEST = 2**20  # of any other size
_PARTS = ("depth", "depths", "num_masks", "iou_head_depth")
_ZERO_ALLOWED = ("num_classes", "global_blocks", "num_heads", "window_sizes", "mlp_dims")


def describe_config(config: SamConfig) -> dict[str, Any]:
    """Return the configuration as plain JSON values."""
    return dataclasses.asdict(config)


def config_from_dict(values: object) -> SamConfig:
    """Return the configuration of which ``describe_config`` made these values.

    Raises:
        CheckpointError: missing or unknown fields, values of another type, out of range, or that
            do not fit together.
    """
    parts = _fields("config", values, SamConfig)
    encoder = parts["image_encoder"]
    tiny = isinstance(encoder, dict) and "widths" in encoder
    config = SamConfig(
        _part("image_encoder", encoder, TinyVitConfig if tiny else ImageEncoderConfig),
        _part("prompt_encoder", parts["prompt_encoder"], PromptEncoderConfig),
        _part("mask_decoder", parts["mask_decoder"], MaskDecoderConfig),
    )
    if why := _contradiction(config):
        raise CheckpointError(f"its configuration contradicts itself ({why}): convert it again")
    return config


def _fields(name: str, values: object, kind: type) -> dict[str, Any]:
    wanted = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(values, dict) or set(values) != wanted:
        odd = sorted(set(values) ^ wanted) if isinstance(values, dict) else values
        raise CheckpointError(
            f"the part {name} of its configuration lacks or has too much: {odd!r:.200}; "
            "convert it again"
        )
    return values


def _part(name: str, values: object, kind: type) -> Any:
    """Build one frozen dataclass, every value of its default's type and in range."""
    checked = {}
    for field, value in _fields(name, values, kind).items():
        default = getattr(kind, field)
        fits = _fits(field, value, default)
        if not fits:
            raise CheckpointError(
                f"{name}.{field} of its configuration is {value!r:.80}: damaged, convert it again"
            )
        checked[field] = tuple(value) if isinstance(default, tuple) else value
    return kind(**checked)


def _fits(field: str, value: object, default: object) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, float) and math.isfinite(value) and 0 < value < 1e-2
    if isinstance(default, tuple):
        return (
            isinstance(value, list | tuple)
            and (field == "global_blocks" or len(value) == len(default))
            and len(value) <= _MOST_PARTS
            and all(_fits(field, item, 0) for item in value)
        )
    least = 0 if field in _ZERO_ALLOWED else 1
    return type(value) is int and least <= value <= (_MOST_PARTS if field in _PARTS else _LARGEST)


def _contradiction(config: SamConfig) -> str:
    """Say which sizes do not fit together, "" if all do; the arrays' shapes tell the rest."""
    encoder, decoder = config.image_encoder, config.mask_decoder
    if not encoder.out_dim == config.prompt_encoder.embed_dim == decoder.embed_dim:
        return "image encoder, prompt encoder and mask decoder differ in width"
    if any(width % decoder.num_heads for width in (decoder.embed_dim, decoder.attention_dim)):
        return f"{decoder.num_heads} heads do not divide the mask decoder's width"
    if isinstance(encoder, TinyVitConfig):
        heads = zip(encoder.widths[1:], encoder.num_heads[1:], strict=True)
        if any(not n or width % n for width, n in heads) or 0 in encoder.window_sizes[1:]:
            return "heads or windows of TinyViT"
        return "" if encoder.grid else f"an image of {encoder.image_size} px"
    if encoder.image_size % encoder.patch_size:
        return f"{encoder.image_size} px are no multiple of the patch"
    if not encoder.num_heads or encoder.width % encoder.num_heads:
        return f"{encoder.num_heads} heads do not divide a width of {encoder.width}"
    blocks = encoder.global_blocks
    if list(blocks) != sorted({*blocks}) or any(block >= encoder.depth for block in blocks):
        return f"global blocks {list(blocks)} of {encoder.depth}"
    return "SAM-HQ without a global block" if config.hq and not blocks else ""
