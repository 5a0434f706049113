"""Implement fine-tuned families a second time in PyTorch, after their own code alone.

Nothing here depends on how samjax reads or runs them: each part follows the file of the family's
repository that its docstring names, on the official classes. The networks are small and random.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.ndimage
import skimage.transform
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from convert.official import OfficialPredictor, build_official
from samjax.model.config import ImageEncoderConfig, MaskDecoderConfig, SamConfig
from tests.support.parity.official import randomise

# Of a prompt encoder: points with labels, boxes
Prompt = tuple[tuple[Tensor, Tensor] | None, Tensor | None]


def sizes(
    image_size: int = 256,
    *,
    width: int = 48,
    heads: int = 3,
    mlp: int | None = None,
    masks: int = 3,
) -> SamConfig:
    """Define a network of three blocks, the last one global, with the published decoder."""
    encoder = ImageEncoderConfig(
        image_size=image_size,
        width=width,
        depth=3,
        num_heads=heads,
        mlp_dim=4 * width if mlp is None else mlp,
        global_blocks=(2,),
    )
    return SamConfig(encoder, mask_decoder=MaskDecoderConfig(num_masks=masks))


def drawn(config: SamConfig, seed: int) -> nn.Module:
    """Build a model with random weights."""
    sam = build_official(config)
    randomise(sam, torch.Generator().manual_seed(seed))
    return sam


@torch.no_grad()
def settle(sam: nn.Module, embedding: Tensor, prompts: Sequence[Prompt]) -> None:
    """Scale the heads so that half the logits of every token are positive, with deviation 8."""
    decoder, upscaled = sam.mask_decoder, []
    hook = decoder.output_upscaling.register_forward_hook(lambda *call: upscaled.append(call[2]))
    runs = [every_mask(sam, embedding, prompt) for prompt in prompts]
    hook.remove()
    mean = torch.cat(upscaled).mean((0, 2, 3))
    mean = mean / mean.norm()
    logits = torch.cat([masks for masks, _ in runs])
    for token, head in enumerate(decoder.output_hypernetworks_mlps):
        last = head.layers[-1]
        spread = logits[:, token] - logits[:, token].mean((-2, -1), keepdim=True)
        for own in (last.weight, last.bias):
            own -= torch.tensordot(mean, torch.tensordot(mean, own, 1), 0)
            own *= 8 / spread.std()
    quality = torch.cat([iou for _, iou in runs])
    last = decoder.iou_prediction_head.layers[-1]
    for own in (last.weight, last.bias):
        own *= 0.5 / quality.std()


def every_mask(sam: nn.Module, embedding: Tensor, prompt: Prompt) -> tuple[Tensor, Tensor]:
    """Decode logits and predicted IoUs of all mask tokens, 1 x T x m x m and 1 x T."""
    points, boxes = prompt
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
    return sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )


def settle_on(sam: nn.Module, image: np.ndarray) -> None:
    """Call ``settle`` for the official preprocessing of this image, a point and a box."""
    predictor = OfficialPredictor(sam)
    predictor.set_image(image)
    h, w = predictor.input_size
    point = (torch.tensor([[[0.45 * w, 0.5 * h]]]), torch.ones(1, 1, dtype=torch.int))
    box = torch.tensor([[0.2 * w, 0.2 * h, 0.8 * w, 0.9 * h]])
    settle(sam, predictor.features, [(point, None), (None, box)])


# Sam_LoRA and SAMed


class QueryValueLora(nn.Module):
    """Follows JamesQFreeman/Sam_LoRA, sam_lora.py, _LoRA_qkv; SAMed has the same."""

    def __init__(self, qkv: nn.Linear, a_q: nn.Linear, b_q: nn.Linear, a_v: nn.Linear, b_v) -> None:
        super().__init__()
        self.qkv = qkv
        self.linear_a_q, self.linear_b_q = a_q, b_q
        self.linear_a_v, self.linear_b_v = a_v, b_v
        self.dim = qkv.in_features

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        qkv[:, :, :, : self.dim] += self.linear_b_q(self.linear_a_q(x))
        qkv[:, :, :, -self.dim :] += self.linear_b_v(self.linear_a_v(x))
        return qkv


class SamLora(nn.Module):
    """Follows JamesQFreeman/Sam_LoRA, sam_lora.py, LoRA_Sam: pairs of q, then v, by block."""

    def __init__(self, sam: nn.Module, rank: int, lora_layer: Sequence[int] | None = None) -> None:
        super().__init__()
        blocks = sam.image_encoder.blocks
        self.lora_layer = lora_layer or list(range(len(blocks)))
        self.w_As: list[nn.Linear] = []
        self.w_Bs: list[nn.Linear] = []
        for number, block in enumerate(blocks):
            if number not in self.lora_layer:
                continue
            qkv = block.attn.qkv
            a_q = nn.Linear(qkv.in_features, rank, bias=False)
            b_q = nn.Linear(rank, qkv.in_features, bias=False)
            a_v = nn.Linear(qkv.in_features, rank, bias=False)
            b_v = nn.Linear(rank, qkv.in_features, bias=False)
            self.w_As += [a_q, a_v]
            self.w_Bs += [b_q, b_v]
            block.attn.qkv = QueryValueLora(qkv, a_q, b_q, a_v, b_v)
        self.sam = sam.eval()

    def pairs(self) -> dict[str, Tensor]:
        """Return the tensors of the pairs under their names in a file."""
        a = {f"w_a_{i:03d}": layer.weight.detach() for i, layer in enumerate(self.w_As)}
        return {**a, **{f"w_b_{i:03d}": layer.weight.detach() for i, layer in enumerate(self.w_Bs)}}

    def save_lora_parameters(self, path: Path) -> None:
        """Save as LoRA_Sam.save_lora_parameters, without the classifier ``fc_`` of LoRA_ViT.

        The published code reads ``self.lora_vit.head``, which LoRA_Sam does not have; users
        remove these lines.
        """
        assert path.suffix == ".safetensors"
        save_file(self.pairs(), path)


@torch.no_grad()
def train_lora(modules: Sequence[nn.Linear], seed: int) -> None:
    """Draw random pairs that change queries and values by about half of their size."""
    generator = torch.Generator().manual_seed(seed)
    for layer in modules:
        noise = torch.randn(layer.weight.shape, generator=generator)
        layer.weight.copy_(0.9 * noise / math.sqrt(layer.in_features))


class Samed(SamLora):
    """Follows hitachinsk/SAMed, sam_lora_image_encoder.py, LoRA_Sam."""

    def save_lora_parameters(self, path: Path) -> None:
        assert path.suffix in (".pt", ".pth")
        state = self.sam.state_dict()
        prompt = {key: value for key, value in state.items() if "prompt_encoder" in key}
        decoder = {key: value for key, value in state.items() if "mask_decoder" in key}
        torch.save({**self.pairs(), **prompt, **decoder}, path)

    def load_lora_parameters(self, path: Path) -> None:
        saved = torch.load(path)
        for i, (a, b) in enumerate(zip(self.w_As, self.w_Bs, strict=True)):
            a.weight = nn.Parameter(saved[f"w_a_{i:03d}"])
            b.weight = nn.Parameter(saved[f"w_b_{i:03d}"])
        state = self.sam.state_dict()
        for part in ("prompt_encoder", "mask_decoder"):
            state.update({key: saved[key] for key in state if part in key})
        self.sam.load_state_dict(state)

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Follow segment_anything/modeling/sam.py, Sam.forward_train, and its MaskDecoder.forward.

        There is no prompt, and masks of all tokens are returned: the selection of some is
        commented out there.
        """
        size = self.sam.image_encoder.img_size
        embedding = self.sam.image_encoder(self.sam.preprocess(inputs))
        low_res, iou = every_mask(self.sam, embedding, (None, None))
        masks = self.sam.postprocess_masks(low_res, (size, size), (size, size))
        return {"masks": masks, "iou_predictions": iou, "low_res_logits": low_res}


def build_samed(config: SamConfig, checkpoint: Path) -> nn.Module:
    """Follow hitachinsk/SAMed, segment_anything/build_sam.py, _build_sam and load_from.

    test.py gives it pixel_mean 0 and pixel_std 1 unless the data are on 0..255 (``rescale``).
    """
    sam = build_official(config)
    sam.pixel_mean.zero_()
    sam.pixel_std.fill_(1)
    given = torch.load(checkpoint)
    own = sam.state_dict()
    left_out = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")
    new = {k: v for k, v in given.items() if k in own and not any(part in k for part in left_out)}
    token_size = config.image_size // config.image_encoder.patch_size
    pos_embed = new["image_encoder.pos_embed"]
    if pos_embed.shape[1] != token_size:
        new["image_encoder.pos_embed"] = F.interpolate(
            pos_embed.permute(0, 3, 1, 2),
            (token_size, token_size),
            mode="bilinear",
            align_corners=False,
        ).permute(0, 2, 3, 1)
        # Of ViT-B: the digits are those of its global blocks
        for key in own:
            if "rel_pos" in key and any(digits in key for digits in ("2", "5", "8", "11")):
                new[key] = F.interpolate(
                    new[key][None, None],
                    (token_size * 2 - 1, new[key].shape[1]),
                    mode="bilinear",
                    align_corners=False,
                )[0, 0]
    own.update(new)
    sam.load_state_dict(own)
    return sam


def samed_input(image: np.ndarray, size: int) -> Tensor:
    """Zoom a slice H x W of 0..1 as hitachinsk/SAMed, utils.py, test_single_volume."""
    x, y = image.shape
    if x != size or y != size:
        image = scipy.ndimage.zoom(image, (size / x, size / y), order=3)
    return torch.from_numpy(image)[None, None].float().repeat(1, 3, 1, 1)


def samed_labels(net: Samed, image: np.ndarray) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Predict the label of each pixel, and the outputs, as test_single_volume for one image."""
    size = net.sam.image_encoder.img_size
    outputs = net.outputs(samed_input(image, size))
    labels = torch.argmax(torch.softmax(outputs["masks"], dim=1), dim=1).squeeze(0).numpy()
    x, y = image.shape
    if x != size or y != size:
        labels = scipy.ndimage.zoom(labels, (x / size, y / size), order=0)
    return labels, outputs


# MedSAM


def medsam_image(image: np.ndarray, size: int) -> Tensor:
    """Follow bowang-lab/MedSAM, MedSAM_Inference.py, "image preprocessing"."""
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=-1)
    resized = skimage.transform.resize(
        image, (size, size), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    span = np.clip(resized.max() - resized.min(), a_min=1e-8, a_max=None)
    scaled = (resized - resized.min()) / span
    return torch.tensor(scaled).float().permute(2, 0, 1).unsqueeze(0)


def medsam_box(box: Sequence[int], height: int, width: int, size: int) -> Tensor:
    """Scale the box to the network's input, 1 x 1 x 4."""
    scaled = np.array([box]) / np.array([width, height, width, height]) * size
    return torch.as_tensor(scaled, dtype=torch.float)[:, None, :]


@torch.no_grad()
def medsam_inference(
    sam: nn.Module, embedding: Tensor, box: Tensor, height: int, width: int
) -> tuple[np.ndarray, Tensor]:
    """Predict mask and low-res logits as MedSAM_Inference.py, medsam_inference."""
    sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
    low_res, _ = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    probability = F.interpolate(
        torch.sigmoid(low_res), size=(height, width), mode="bilinear", align_corners=False
    )
    return probability.squeeze().numpy() > 0.5, low_res


# SAM-Med2D


class Sammed2dPredictor:
    """Follows OpenGVLab/SAM-Med2D, segment_anything/predictor_sammed.py, SammedPredictor."""

    def __init__(self, sam: nn.Module) -> None:
        self.model = sam

    @torch.no_grad()
    def set_image(self, image: np.ndarray) -> None:
        mean = self.model.pixel_mean.squeeze().numpy()
        std = self.model.pixel_std.squeeze().numpy()
        size = self.model.image_encoder.img_size
        self.original_size, self.new_size = image.shape[:2], (size, size)
        # albumentations.Resize is cv2.resize
        resized = cv2.resize((image - mean) / std, (size, size), interpolation=cv2.INTER_NEAREST)
        inputs = torch.from_numpy(resized.transpose(2, 0, 1))[None]
        self.features = self.model.image_encoder(inputs)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        (old_h, old_w), (new_h, new_w) = self.original_size, self.new_size
        coords = np.array(coords).astype(float)
        coords[..., 0] = coords[..., 0] * (new_w / old_w)
        coords[..., 1] = coords[..., 1] * (new_h / old_h)
        return coords

    @torch.no_grad()
    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        multimask_output: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = boxes = None
        if point_coords is not None:
            coords = torch.as_tensor(self.apply_coords(point_coords), dtype=torch.float)
            points = coords[None], torch.as_tensor(point_labels, dtype=torch.int)[None]
        if box is not None:
            corners = self.apply_coords(np.reshape(box, (-1, 2, 2))).reshape(-1, 4)
            boxes = torch.as_tensor(corners, dtype=torch.float)[None]
        sparse, dense = self.model.prompt_encoder(points=points, boxes=boxes, masks=None)
        low_res, iou = self.model.mask_decoder(
            image_embeddings=self.features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )
        if multimask_output:
            values, indices = torch.max(iou, dim=1)
            iou, low_res = values.unsqueeze(1), low_res[:, indices]
        masks = F.interpolate(low_res, self.new_size, mode="bilinear", align_corners=False)
        masks = F.interpolate(masks, self.original_size, mode="bilinear", align_corners=False)
        masks = torch.sigmoid(masks) > 0.5
        return masks[0].numpy(), iou[0].numpy(), low_res[0].numpy()


def save_sammed2d(sam: nn.Module, path: Path) -> None:
    """Save as OpenGVLab/SAM-Med2D, train.py, main, with the optimizer as an object."""
    optimizer = torch.optim.Adam(sam.parameters(), lr=1e-4)
    torch.save({"model": sam.float().state_dict(), "optimizer": optimizer}, path)


# micro-sam


class AttentionLora(nn.Module):
    """Follows computational-cell-analytics/micro-sam, micro_sam/models/peft.py, AttentionLoRA.

    With q and v alone this is the older LoRASurgery of peft_sam.py, names included.
    """

    def __init__(self, rank: int, qkv: nn.Linear, update_matrices: Sequence[str]) -> None:
        super().__init__()
        self.qkv_proj = qkv
        self.update_matrices = update_matrices
        for name in update_matrices:
            setattr(self, f"w_a_linear_{name}", nn.Linear(qkv.in_features, rank, bias=False))
            b = nn.Linear(rank, qkv.out_features // 3, bias=False)
            setattr(self, f"w_b_linear_{name}", b)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv_proj(x).chunk(3, dim=-1)
        return torch.cat(
            [
                part + getattr(self, f"w_b_linear_{name}")(getattr(self, f"w_a_linear_{name}")(x))
                if name in self.update_matrices
                else part
                for name, part in zip("qkv", parts, strict=True)
            ],
            dim=-1,
        )


class MlpLora(nn.Module):
    """Follows micro_sam/models/peft.py, MLPLoRA."""

    def __init__(self, rank: int, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp_layer = mlp
        self.w_a_linear_1 = nn.Linear(mlp.lin1.in_features, rank, bias=False)
        self.w_b_linear_1 = nn.Linear(rank, mlp.lin1.out_features, bias=False)
        self.w_a_linear_2 = nn.Linear(mlp.lin2.in_features, rank, bias=False)
        self.w_b_linear_2 = nn.Linear(rank, mlp.lin2.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mlp = self.mlp_layer
        x = mlp.act(mlp.lin1(x) + self.w_b_linear_1(self.w_a_linear_1(x)))
        return mlp.lin2(x) + self.w_b_linear_2(self.w_a_linear_2(x))


def peft_sam(
    sam: nn.Module,
    rank: int,
    update_matrices: Sequence[str] = ("q", "v"),
    attention_layers_to_update: Sequence[int] | None = None,
) -> nn.Module:
    """Return the ``.sam`` of micro_sam/v1/models/peft_sam.py, PEFT_Sam with LoRASurgery."""
    blocks = sam.image_encoder.blocks
    attention = [name for name in update_matrices if name != "mlp"]
    for number in attention_layers_to_update or range(len(blocks)):
        block = blocks[number]
        block.attn.qkv = AttentionLora(rank, block.attn.qkv, attention)
        if "mlp" in update_matrices:
            block.mlp = MlpLora(rank, block.mlp)
    return sam.eval()


class TrainableSam(nn.Module):
    """Follows micro_sam/v1/training/trainable_sam.py, whose keys begin with ``sam.``."""

    def __init__(self, sam: nn.Module) -> None:
        super().__init__()
        self.sam = sam


class PatchDataset:
    """Stands for the data set of a torch_em loader, which is pickled with a checkpoint."""

    def __init__(self, raw_path: str, transform: Callable[..., Any]) -> None:
        self.raw_path, self.transform = raw_path, transform


def save_torch_em(sam: nn.Module, path: Path) -> None:
    """Save as torch_em/trainer/default_trainer.py, save_checkpoint, called by JointSamTrainer."""
    model = TrainableSam(sam)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    decoder = OrderedDict({"out_conv.weight": torch.zeros(3, 64, 1, 1)})
    save_dict = {
        "iteration": 250,
        "epoch": 2,
        "best_epoch": 1,
        "best_metric": np.float64(0.31),
        "current_metric": np.float64(0.33),
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "init": {
            "name": "livecell_sam",
            "train_dataset": PatchDataset("images/*.tif", np.clip),
            "train_kwargs": {"batch_size": 2, "shuffle": True},
            "model_class": f"{TrainableSam.__module__}.{TrainableSam.__name__}",
            "device": "cuda",
            "optimizer_class": "torch.optim.adamw.AdamW",
        },
        "train_time": 12.5,
        "timestamp": "02-03-2025 (10:11:12)",
        "decoder_state": decoder,
    }
    torch.save(save_dict, path)


def save_exported(sam: nn.Module, path: Path) -> None:
    """Save as micro_sam/v1/util.py, export_custom_sam_model."""
    state = TrainableSam(sam).state_dict()
    torch.save(OrderedDict((key.removeprefix("sam."), v) for key, v in state.items()), path)


def to_image(image: np.ndarray) -> np.ndarray:
    """Stretch each channel to 0..255, truncated to uint8, as micro_sam/util.py, _to_image."""
    if image.ndim == 2:
        image = np.concatenate([image[..., None]] * 3, axis=-1)
    image = image.astype("float32")
    image -= image.min(axis=(0, 1))[None, None]
    image /= image.max(axis=(0, 1))[None, None] + 1e-7
    return (image * 255).astype("uint8")


# SlimSAM


class PrunedMlp(nn.Module):
    """Follows czg1225/SlimSAM, segment_anything/modeling/common.py, MLPBlock."""

    def __init__(self, width: int, mlp_dim: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(width, mlp_dim), nn.Linear(mlp_dim, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


def build_slimsam(config: SamConfig, mlp_dim: int) -> nn.Module:
    """Follow czg1225/SlimSAM, segment_anything/build_sam.py, where ``mlp_dim`` is an argument."""
    sam = build_official(config)
    for block in sam.image_encoder.blocks:
        block.mlp = PrunedMlp(config.image_encoder.width, mlp_dim)
    return sam
