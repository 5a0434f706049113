"""The official PyTorch code as oracle: importable without torchvision, with random weights."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from functools import lru_cache, partial

import numpy as np
import torch

from samjax.config import SamConfig

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def _stand_in_torchvision() -> None:
    """The three functions of torchvision that segment-anything uses, for where it is absent."""
    from PIL import Image

    def resize(image, size):  # PIL image, (h, w); torchvision's default for PIL: bilinear
        return image.resize((size[1], size[0]), Image.BILINEAR)

    def to_pil_image(array):
        return Image.fromarray(array)

    def box_area(boxes):
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def batched_nms(boxes, scores, classes, threshold):
        offset = classes.to(boxes) * (boxes.max() + 1)
        boxes, keep = boxes + offset[:, None], []
        order = scores.argsort(descending=True, stable=True).tolist()
        while order:
            i, *order = order
            keep.append(i)
            rest = torch.tensor(order, dtype=torch.long)
            lt = torch.maximum(boxes[i, :2], boxes[rest, :2])
            rb = torch.minimum(boxes[i, 2:], boxes[rest, 2:])
            inter = (rb - lt).clamp(min=0).prod(1)
            union = box_area(boxes[i : i + 1]) + box_area(boxes[rest]) - inter
            order = rest[inter / union <= threshold].tolist()
        return torch.tensor(keep, dtype=torch.long)

    def module(name, **content):
        found = types.ModuleType(name)
        found.__spec__ = importlib.machinery.ModuleSpec(name, None)
        found.__path__ = []
        found.__dict__.update(content)
        sys.modules[name] = found
        return found

    functional = module(
        "torchvision.transforms.functional", resize=resize, to_pil_image=to_pil_image
    )
    boxes = module("torchvision.ops.boxes", batched_nms=batched_nms, box_area=box_area)
    module("torchvision", transforms=module("torchvision.transforms", functional=functional))
    module("torchvision.ops", boxes=boxes)


if "torchvision" not in sys.modules:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        _stand_in_torchvision()

from segment_anything import SamPredictor as OfficialPredictor  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

__all__ = ["OfficialPredictor", "build_official", "random_official", "state_arrays"]


def build_official(config: SamConfig) -> Sam:
    """The official classes at any size (build_sam.py has the three published ones hard-coded)."""
    e, p, d = config.image_encoder, config.prompt_encoder, config.mask_decoder
    grid = (e.grid, e.grid)
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
            image_embedding_size=grid,
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
        MEAN,
        STD,
    )
    return sam.eval()


@lru_cache(maxsize=4)
def random_official(config: SamConfig, seed: int = 0) -> Sam:
    """An official model whose every weight is random, biases and relative positions too.

    Scales are chosen so that no part saturates or vanishes: kernels keep variance, norms stay
    near identity, relative positions move attention visibly, biases are not negligible. Masks
    come out neither empty nor full (asserted where they are compared).
    """
    generator = torch.Generator().manual_seed(seed)
    sam = build_official(config)

    def normal(shape, scale):
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for name, weight in sam.named_parameters():
            if "rel_pos" in name:
                value = normal(weight.shape, 0.3)
            elif "pos_embed" in name:
                value = normal(weight.shape, 0.5)
            elif "norm" in name or name.split(".")[-2] in ("1", "4") or "neck.3" in name:
                base = 1.0 if name.endswith("weight") else 0.0
                value = base + normal(weight.shape, 0.2)
            elif weight.ndim == 1:
                value = normal(weight.shape, 0.2)
            elif "embed" in name or "token.weight" in name or "tokens" in name:
                value = normal(weight.shape, 1.0)
            else:
                fan_in = weight[0].numel() if "output_upscaling" not in name else weight.shape[0]
                value = normal(weight.shape, 1.2 / fan_in**0.5)
            weight.copy_(value)
        matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        matrix.copy_(normal(matrix.shape, 1.0))
    return sam


def state_arrays(sam: Sam) -> dict[str, np.ndarray]:
    """The official state_dict as NumPy arrays."""
    return {key: value.detach().numpy() for key, value in sam.state_dict().items()}
