"""The official PyTorch classes at any size, importable without torchvision.

Needs ``pip install torch segment-anything`` (the latter with ``--no-deps`` if you like).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from samjax.config import SamConfig

_STAND_IN = "__samjax_stand_in__"
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Greedy suppression within each class; classes are moved apart so that none overlap."""
    if not len(boxes):
        return torch.zeros(0, dtype=torch.long)
    boxes = boxes + (classes.to(boxes) * (boxes.max() + 1))[:, None]
    keep, order = [], scores.argsort(descending=True, stable=True)
    while len(order):
        first, rest = order[0], order[1:]
        keep.append(int(first))
        top_left = torch.maximum(boxes[first, :2], boxes[rest, :2])
        bottom_right = torch.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = (bottom_right - top_left).clamp(min=0).prod(1)
        union = _box_area(boxes[first][None]) + _box_area(boxes[rest]) - shared
        order = rest[~(shared / union > iou_threshold)]  # 0 / 0 suppresses nothing
    return torch.tensor(keep, dtype=torch.long)


def _stand_in_torchvision() -> None:
    """The functions of torchvision that segment-anything imports, for where it is absent."""

    def module(name: str, **content: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        made.__path__ = []
        made.__dict__.update(content, **{_STAND_IN: True})
        sys.modules[name] = made
        return made

    functional = module(
        "torchvision.transforms.functional", resize=_resize, to_pil_image=Image.fromarray
    )
    boxes = module("torchvision.ops.boxes", batched_nms=_batched_nms, box_area=_box_area)
    module("torchvision", transforms=module("torchvision.transforms", functional=functional))
    module("torchvision.ops", boxes=boxes)


if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
    _stand_in_torchvision()

from segment_anything import SamAutomaticMaskGenerator as OfficialGenerator  # noqa: E402
from segment_anything import SamPredictor as OfficialPredictor  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

# segment-anything has what it needs; transformers would take the stand-in for the package.
for _name, _module in list(sys.modules.items()):
    if _name.partition(".")[0] == "torchvision" and getattr(_module, _STAND_IN, False):
        del sys.modules[_name]

__all__ = ["OfficialGenerator", "OfficialPredictor", "build_official", "load_official"]


def build_official(config: SamConfig) -> Sam:
    """The official classes at any size (build_sam.py has the three published ones hard-coded)."""
    e, p, d = config.image_encoder, config.prompt_encoder, config.mask_decoder
    sam = Sam(
        ImageEncoderViT(
            depth=e.depth,
            embed_dim=e.width,
            img_size=e.image_size,
            mlp_ratio=e.mlp_dim / e.width,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=e.num_heads,
            patch_size=e.patch_size,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=list(e.global_blocks),
            window_size=e.window_size,
            out_chans=e.out_dim,
        ),
        PromptEncoder(
            embed_dim=p.embed_dim,
            image_embedding_size=(e.grid, e.grid),
            input_image_size=(e.image_size, e.image_size),
            mask_in_chans=p.mask_channels,
        ),
        MaskDecoder(
            num_multimask_outputs=d.num_masks,
            transformer=TwoWayTransformer(
                depth=d.depth,
                embedding_dim=d.embed_dim,
                mlp_dim=d.mlp_dim,
                num_heads=d.num_heads,
            ),
            transformer_dim=d.embed_dim,
            iou_head_depth=d.iou_head_depth,
            iou_head_hidden_dim=d.iou_head_dim,
        ),
        PIXEL_MEAN,
        PIXEL_STD,
    )
    return sam.eval()


def load_official(config: SamConfig, tensors: Mapping[str, np.ndarray]) -> Sam:
    """The official classes with these tensors (official keys), strictly."""
    sam = build_official(config)
    state = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in tensors.items()}
    sam.load_state_dict(state, strict=True)
    return sam
