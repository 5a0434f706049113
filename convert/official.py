"""Build the official PyTorch classes at any size, without torchvision.

This needs ``pip install torch segment-anything`` (the latter possibly with ``--no-deps``).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from samjax.model.config import ImageEncoderConfig, MaskDecoderConfig, SamConfig

_STAND_IN = "__samjax_stand_in__"
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Apply greedy NMS within each class, by offsetting the boxes of different classes."""
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


def stand_in(name: str, **content: Any) -> types.ModuleType:
    """Make a stand-in module of that name, importable until ``absent`` ends."""
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    made.__path__ = []
    made.__dict__.update(content, **{_STAND_IN: True})
    sys.modules[name] = made
    return made


@contextmanager
def absent(package: str, make: Callable[[], None]) -> Iterator[None]:
    """Call ``make`` to stand in for a package that is not installed, and remove it afterwards.

    Stand-ins serve one import; others, such as transformers, would take them for the package.
    """
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        make()
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == package and getattr(module, _STAND_IN, False):
                del sys.modules[name]


def stand_in_torchvision() -> None:
    """Stand in for the functions of torchvision that segment-anything and its forks import."""
    functional = stand_in(
        "torchvision.transforms.functional", resize=_resize, to_pil_image=Image.fromarray
    )
    boxes = stand_in("torchvision.ops.boxes", batched_nms=_batched_nms, box_area=_box_area)
    transforms = stand_in("torchvision.transforms", functional=functional)
    stand_in("torchvision", transforms=transforms)
    stand_in("torchvision.ops", boxes=boxes)


with absent("torchvision", stand_in_torchvision):
    from segment_anything import SamAutomaticMaskGenerator as OfficialGenerator
    from segment_anything import SamPredictor as OfficialPredictor
    from segment_anything import modeling

__all__ = ["OfficialGenerator", "OfficialPredictor", "build_official", "load_official"]


def build_vit(modeling: types.ModuleType, e: ImageEncoderConfig) -> torch.nn.Module:
    """Build the ViT image encoder of a package that has segment-anything's classes."""
    return modeling.ImageEncoderViT(
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
    )


def build_prompt_encoder(modeling: types.ModuleType, config: SamConfig) -> torch.nn.Module:
    """Build the prompt encoder of a package that has segment-anything's classes."""
    return modeling.PromptEncoder(
        embed_dim=config.prompt_encoder.embed_dim,
        image_embedding_size=(config.grid, config.grid),
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.prompt_encoder.mask_channels,
    )


def decoder_arguments(modeling: types.ModuleType, d: MaskDecoderConfig) -> dict[str, Any]:
    """Make the mask decoder's arguments for a package that has segment-anything's classes."""
    return {
        "num_multimask_outputs": d.num_masks,
        "transformer": modeling.TwoWayTransformer(
            depth=d.depth,
            embedding_dim=d.embed_dim,
            mlp_dim=d.mlp_dim,
            num_heads=d.num_heads,
        ),
        "transformer_dim": d.embed_dim,
        "iou_head_depth": d.iou_head_depth,
        "iou_head_hidden_dim": d.iou_head_dim,
    }


def build_official(config: SamConfig) -> torch.nn.Module:
    """Build the official classes at any size; build_sam.py hard-codes the three published ones."""
    assert isinstance(config.image_encoder, ImageEncoderConfig)
    sam = modeling.Sam(
        build_vit(modeling, config.image_encoder),
        build_prompt_encoder(modeling, config),
        modeling.MaskDecoder(**decoder_arguments(modeling, config.mask_decoder)),
        PIXEL_MEAN,
        PIXEL_STD,
    )
    return sam.eval()


def load_official(config: SamConfig, tensors: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Build the official classes and load these tensors (official keys) strictly."""
    return fill(build_official(config), tensors)


def fill(model: torch.nn.Module, tensors: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Load these tensors into a model strictly, and set it to inference."""
    state = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in tensors.items()}
    model.load_state_dict(state, strict=True)
    return model.eval()
