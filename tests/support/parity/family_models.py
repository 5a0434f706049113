"""Insert the layers of fine-tuning codes into the official network, never merged.

The attributes have the families' names, so that ``state_dict()`` has their layouts. The layers
and the image pipelines of the presets are written from the papers and from the published code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage
from skimage import transform
from torch import nn

from convert.official import PIXEL_MEAN, PIXEL_STD, OfficialPredictor


def low_rank(inputs: int, outputs: int, rank: int) -> tuple[nn.Linear, nn.Linear]:
    """Draw random A and B, neither of them zero as B is at the start of a training."""
    a, b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
    nn.init.normal_(a.weight, std=inputs**-0.5)
    nn.init.normal_(b.weight, std=0.5 * rank**-0.5)
    return a, b


class SamedQkv(nn.Module):
    """Adds low-rank terms to queries and values, as in SAMed and finetune-SAM."""

    def __init__(self, qkv: nn.Linear, rank: int):
        super().__init__()
        self.qkv, self.dim = qkv, qkv.in_features
        self.linear_a_q, self.linear_b_q = low_rank(self.dim, self.dim, rank)
        self.linear_a_v, self.linear_b_v = low_rank(self.dim, self.dim, rank)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).split(self.dim, -1)
        q = q + self.linear_b_q(self.linear_a_q(x))
        v = v + self.linear_b_v(self.linear_a_v(x))
        return torch.cat([q, k, v], -1)


class SamedProjection(nn.Module):
    """Adds a low-rank term to one projection, as in the decoders of SAMed and finetune-SAM."""

    def __init__(self, proj: nn.Linear, rank: int):
        super().__init__()
        self.proj = proj
        self.w_a, self.w_b = low_rank(proj.in_features, proj.out_features, rank)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x) + self.w_b(self.w_a(x))


class MicroSamQkv(nn.Module):
    """Adds low-rank terms to queries, keys and values, as micro-sam's LoRASurgery."""

    def __init__(self, qkv: nn.Linear, rank: int):
        super().__init__()
        self.qkv_proj, self.dim = qkv, qkv.in_features
        for part in "qkv":
            a, b = low_rank(self.dim, self.dim, rank)
            setattr(self, f"w_a_linear_{part}", a)
            setattr(self, f"w_b_linear_{part}", b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = [
            getattr(self, f"w_b_linear_{part}")(getattr(self, f"w_a_linear_{part}")(x))
            for part in "qkv"
        ]
        return self.qkv_proj(x) + torch.cat(added, -1)


class MicroSamMlp(nn.Module):
    """Adds low-rank terms to both layers of an MLP, as in micro-sam."""

    def __init__(self, mlp: nn.Module, rank: int):
        super().__init__()
        self.mlp_layer = mlp
        width, hidden = mlp.lin1.in_features, mlp.lin1.out_features
        self.w_a_linear_1, self.w_b_linear_1 = low_rank(width, hidden, rank)
        self.w_a_linear_2, self.w_b_linear_2 = low_rank(hidden, width, rank)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.mlp_layer
        x = inner.act(inner.lin1(x) + self.w_b_linear_1(self.w_a_linear_1(x)))
        return inner.lin2(x) + self.w_b_linear_2(self.w_a_linear_2(x))


def with_samed(sam: nn.Module, rank: int, layers: list[int] | None = None, decoder: bool = False):
    """Copy the model with SAMed's layers in its encoder, and in its decoder if asked."""
    sam = copy.deepcopy(sam)
    torch.manual_seed(rank)
    for i, block in enumerate(sam.image_encoder.blocks):
        if layers is None or i in layers:
            block.attn.qkv = SamedQkv(block.attn.qkv, rank)
    if decoder:
        for layer in sam.mask_decoder.transformer.layers:
            for attention in (
                layer.self_attn,
                layer.cross_attn_token_to_image,
                layer.cross_attn_image_to_token,
            ):
                for name in ("q_proj", "v_proj"):
                    inner = getattr(attention, name)
                    setattr(attention, name, SamedProjection(inner, rank))
    return sam.eval()


def samed_file(sam: nn.Module, decoder: bool) -> dict[str, torch.Tensor]:
    """Make the file of SAMed's save_lora_parameters; without the decoder, Sam_LoRA's."""
    layers: list[SamedQkv] = [m for m in sam.modules() if isinstance(m, SamedQkv)]
    a = [w for m in layers for w in (m.linear_a_q.weight, m.linear_a_v.weight)]
    b = [w for m in layers for w in (m.linear_b_q.weight, m.linear_b_v.weight)]
    saved = {f"w_a_{i:03d}": w for i, w in enumerate(a)}
    saved |= {f"w_b_{i:03d}": w for i, w in enumerate(b)}
    if decoder:
        state = sam.state_dict()
        for part in ("prompt_encoder", "mask_decoder"):
            saved |= {key: value for key, value in state.items() if part in key}
    return saved


def with_microsam(sam: nn.Module, rank: int) -> nn.Module:
    """Copy the model with micro-sam's layers in its encoder."""
    sam = copy.deepcopy(sam)
    torch.manual_seed(rank)
    for block in sam.image_encoder.blocks:
        block.attn.qkv = MicroSamQkv(block.attn.qkv, rank)
        block.mlp = MicroSamMlp(block.mlp, rank)
    return sam.eval()


# The families' own image pipelines


@torch.no_grad()
def decode(sam: nn.Module, embedding, points=None, labels=None, box=None, *, multimask: bool):
    """Decode low-res logits and scores of one prompt in pixels of the network's input."""
    given = None
    if points is not None:
        given = (torch.as_tensor(points)[None].float(), torch.as_tensor(labels)[None])
    boxes = None if box is None else torch.as_tensor(box, dtype=torch.float32)[None]
    sparse, dense = sam.prompt_encoder(points=given, boxes=boxes, masks=None)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).float().permute(2, 0, 1)[None]


@torch.no_grad()
def medsam(sam: nn.Module, image: np.ndarray, box: np.ndarray):
    """Run MedSAM_Inference.py: (input, embedding, low-res logits, upscaled probability, mask)."""
    side = sam.image_encoder.img_size
    height, width = image.shape[:2]
    small = transform.resize(
        image, (side, side), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    scaled = (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)
    embedding = sam.image_encoder(_batch(scaled))
    corners = box / np.array([width, height, width, height]) * side
    low_res, scores = decode(sam, embedding, box=corners, multimask=False)
    probability = F.interpolate(
        torch.sigmoid(low_res), (height, width), mode="bilinear", align_corners=False
    )[0].numpy()
    return scaled, embedding, low_res[0].numpy(), scores[0].numpy(), probability


@torch.no_grad()
def sammed2d(sam: nn.Module, image: np.ndarray, box=None, points=None, labels=None, *, multimask):
    """Run predictor_sammed.py: normalise, resize by nearest pixel, select the best mask."""
    side = sam.image_encoder.img_size
    height, width = image.shape[:2]
    factors = np.array([side / width, side / height])
    values = (image - np.array(PIXEL_MEAN)) / np.array(PIXEL_STD)
    values = cv2.resize(values, (side, side), interpolation=cv2.INTER_NEAREST)
    embedding = sam.image_encoder(_batch(values))
    low_res, scores = decode(
        sam,
        embedding,
        None if points is None else points * factors,
        labels,
        None if box is None else (box.reshape(2, 2) * factors).reshape(4),
        multimask=multimask,
    )
    if multimask:
        best = scores.argmax(1)
        low_res, scores = low_res[:, best], scores[:, best]
    masks = F.interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
    masks = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)
    return values, embedding, low_res[0].numpy(), scores[0].numpy(), torch.sigmoid(masks)[0] > 0.5


@torch.no_grad()
def samed(sam: nn.Module, grey: np.ndarray):
    """Run SAMed's test_single_volume on one slice with values of 0 to 1, for the label image.

    SAMed's decoder returns the masks of all tokens: here the single one and the others are joined.
    """
    side = sam.image_encoder.img_size
    height, width = grey.shape
    small = ndimage.zoom(grey, (side / height, side / width), order=3)
    values = np.repeat(small[..., None], 3, -1)
    embedding = sam.image_encoder(_batch(values))
    logits = [decode(sam, embedding, multimask=multi)[0] for multi in (False, True)]
    low_res = torch.cat(logits, 1)
    large = F.interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
    labels = torch.softmax(large, 1).argmax(1)[0].numpy()
    labels = ndimage.zoom(labels, (height / side, width / side), order=0)
    return values, embedding, low_res[0].numpy(), labels


def microsam(sam: nn.Module, image: np.ndarray) -> OfficialPredictor:
    """Stretch channels to 0..255 as micro-sam does, then run the official predictor."""
    values = image.astype(np.float32)
    if values.ndim == 2:
        values = np.stack([values] * 3, -1)
    for c in range(3):
        values[..., c] -= values[..., c].min()
        values[..., c] /= values[..., c].max() + 1e-7
    predictor = OfficialPredictor(sam)
    predictor.set_image((values * 255).astype(np.uint8))
    return predictor


@torch.no_grad()
def at_size(sam: nn.Module, build: Callable, side: int) -> nn.Module:
    """Convert the model to another input size, its positions resized by torch (``load_from``)."""
    encoder = sam.image_encoder
    patch = encoder.patch_embed.proj.stride[0]
    grid = side // patch
    state = {k: v.clone() for k, v in sam.state_dict().items()}
    key = "image_encoder.pos_embed"
    moved = state[key].permute(0, 3, 1, 2)
    moved = F.interpolate(moved, (grid, grid), mode="bilinear", align_corners=False)
    state[key] = moved.permute(0, 2, 3, 1)
    for i, block in enumerate(encoder.blocks):
        if block.window_size:
            continue
        for axis in "hw":
            key = f"image_encoder.blocks.{i}.attn.rel_pos_{axis}"
            width = state[key].shape[1]
            state[key] = F.interpolate(
                state[key][None, None], (2 * grid - 1, width), mode="bilinear", align_corners=False
            )[0, 0]
    other = build(side)
    other.load_state_dict(state)
    return other.eval()
