"""Build the PyTorch classes of SAM-HQ and MobileSAM at any size, without their dependencies.

This needs ``pip install torch segment-anything`` and, each with ``--no-deps``, segment-anything-hq
and mobilesam-mirror. timm and torchvision are not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

from convert.official import (
    PIXEL_MEAN,
    PIXEL_STD,
    absent,
    build_prompt_encoder,
    build_vit,
    decoder_arguments,
    fill,
    stand_in,
    stand_in_torchvision,
)
from samjax.model.config import SamConfig, TinyVitConfig


def _no_drop_path(*_: Any, **__: Any) -> torch.nn.Module:
    raise NotImplementedError("stochastic depth is for training: pass drop_path_rate=0")


def _stand_in_timm() -> None:
    """Stand in for the functions of timm that tiny_vit_sam.py imports."""
    layers = stand_in(
        "timm.models.layers",
        DropPath=type("DropPath", (torch.nn.Module,), {"__init__": _no_drop_path}),
        to_2tuple=lambda side: (side, side),
        trunc_normal_=torch.nn.init.trunc_normal_,
    )
    registry = stand_in("timm.models.registry", register_model=lambda function: function)
    stand_in("timm", models=stand_in("timm.models", layers=layers, registry=registry))


with absent("torchvision", stand_in_torchvision), absent("timm", _stand_in_timm):
    from mobile_sam import SamPredictor as MobilePredictor
    from mobile_sam import modeling as mobile
    from segment_anything_hq import SamAutomaticMaskGenerator as HqGenerator
    from segment_anything_hq import SamPredictor as HqPredictor
    from segment_anything_hq import modeling as hq

__all__ = ["HqGenerator", "HqPredictor", "MobilePredictor", "build_variant", "load_variant"]


def build_variant(config: SamConfig) -> torch.nn.Module:
    """Build SAM-HQ, MobileSAM, or both combined (Light HQ-SAM), with initial weights.

    TinyViT's own code fixes the embedding at 64 x 64 positions: it runs at 1024 px only.
    """
    modeling = hq if config.hq else mobile
    if isinstance(config.image_encoder, TinyVitConfig):
        encoder = _tiny_vit(modeling, config.image_encoder)
        early = config.image_encoder.widths[2]
    else:
        encoder = build_vit(modeling, config.image_encoder)
        early = config.image_encoder.width
    arguments = decoder_arguments(modeling, config.mask_decoder)
    if config.hq:
        decoder = modeling.MaskDecoderHQ(**arguments, vit_dim=early)
    else:
        decoder = modeling.MaskDecoder(**arguments)
    prompt_encoder = build_prompt_encoder(modeling, config)
    return modeling.Sam(encoder, prompt_encoder, decoder, PIXEL_MEAN, PIXEL_STD).eval()


def _tiny_vit(modeling: ModuleType, c: TinyVitConfig) -> torch.nn.Module:
    ratios = {hidden / width for hidden, width in zip(c.mlp_dims[1:], c.widths[1:], strict=True)}
    assert len(ratios) == 1, f"one ratio for all perceptrons, not {ratios}"
    return modeling.TinyViT(
        img_size=c.image_size,
        num_classes=c.num_classes,
        embed_dims=list(c.widths),
        depths=list(c.depths),
        num_heads=list(c.num_heads),
        window_sizes=list(c.window_sizes),
        mlp_ratio=ratios.pop(),
        drop_path_rate=0.0,
        mbconv_expand_ratio=c.conv_dim / c.widths[0],
        layer_lr_decay=0.8,
    )


def load_variant(config: SamConfig, tensors: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Build the classes of ``build_variant`` and load these tensors strictly.

    ``fill`` must call ``eval`` after loading: TinyViT's attention keeps a copy of its biases that
    only ``eval`` updates.
    """
    return fill(build_variant(config), tensors)
