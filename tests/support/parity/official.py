"""Build official PyTorch models of any size with random weights, as the oracle."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from convert.official import OfficialPredictor, build_official
from samjax.model.config import SamConfig
from tests.support.models import drawn_image

__all__ = [
    "OfficialPredictor",
    "build_official",
    "calibrate",
    "random_official",
    "randomise",
    "state_arrays",
]

_LOGITS_STD = 10.0


@lru_cache(maxsize=8)
def random_official(config: SamConfig, seed: int = 0):
    """Build an official model whose weights are all random, biases and relative positions too.

    Scales are chosen so that no part saturates or vanishes: kernels keep variance, norms stay
    near the identity, relative positions move attention visibly, biases are not negligible.
    The heads are then calibrated on one drawn image: low-res logits with standard deviation 10
    around 0 (masks neither empty nor full), predicted IoUs of order 1.
    """
    sam = build_official(config)
    randomise(sam, torch.Generator().manual_seed(seed))
    calibrate(sam, drawn_image(48, 70, seed=1))
    return sam


@torch.no_grad()
def randomise(sam: torch.nn.Module, generator: torch.Generator) -> None:
    """Overwrite every parameter, the statistics of batch norms, and the matrix of positions."""

    def fill(tensor: torch.Tensor, scale: float, base: float = 0.0) -> None:
        tensor.copy_(base + scale * torch.randn(tensor.shape, generator=generator))

    for name, module in sam.named_modules():
        own = dict(module.named_parameters(recurse=False))
        kind = type(module).__name__
        for key, parameter in own.items():
            if kind.startswith(("LayerNorm", "BatchNorm")):
                fill(parameter, 0.2, float(key == "weight"))
            elif kind == "Embedding":
                fill(parameter, 1.0)
            elif key.startswith("rel_pos"):
                fill(parameter, 0.3)
            elif key == "attention_biases":
                fill(parameter, 0.7)
            elif key == "pos_embed":
                fill(parameter, 0.5)
            elif key == "bias":
                fill(parameter, 0.2)
            elif key == "weight":
                turned = kind == "ConvTranspose2d"
                fan_in = len(parameter) if turned else parameter[0].numel()
                fill(parameter, 1.2 / fan_in**0.5)
            else:
                raise AssertionError(f"{name}.{key}: no rule for its random values")
        if kind.startswith("BatchNorm"):
            fill(module.running_mean, 0.3)
            fill(module.running_var, 0.3, 1.0)
            module.running_var.abs_().add_(0.1)
    fill(sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, 1.0)
    sam.eval()  # TinyViT copies its attention biases here


@torch.no_grad()
def calibrate(sam: torch.nn.Module, image: np.ndarray) -> OfficialPredictor:
    """Centre and scale the mask heads, and scale the quality head; the image is set after."""
    predictor, decoder = OfficialPredictor(sam), sam.mask_decoder
    features = []
    hook = decoder.output_upscaling.register_forward_hook(lambda *given: features.append(given[2]))
    predictor.set_image(image)
    h, w = image.shape[:2]
    point, label = np.array([[0.4 * w, 0.4 * h]]), np.array([1])
    box = np.array([0.1 * w, 0.1 * h, 0.9 * w, 0.8 * h])

    def outputs() -> tuple[np.ndarray, np.ndarray]:
        runs = [
            predictor.predict(point, label, box=b, multimask_output=multi)
            for b in (None, box)
            for multi in (False, True)
        ]
        single, three = runs[::2], runs[1::2]
        low = [np.concatenate([a[2], b[2]]) for a, b in zip(single, three, strict=True)]
        iou = [np.concatenate([a[1], b[1]]) for a, b in zip(single, three, strict=True)]
        return np.stack(low), np.stack(iou)

    outputs()
    # A mask is a product of its head's output with these features: without their mean the
    # logits spread around zero.
    mean = torch.cat(features).mean((0, 2, 3))
    off_mean = torch.eye(len(mean)) - torch.outer(mean, mean) / mean.square().sum()
    lasts = [head.layers[-1] for head in decoder.output_hypernetworks_mlps]
    for last in lasts:
        last.weight.copy_(off_mean @ last.weight)
        last.bias.copy_(off_mean @ last.bias)
    low, iou = outputs()
    for i, last in enumerate(lasts):
        factor = float(_LOGITS_STD / low[:, i].std())
        last.weight.mul_(factor)
        last.bias.mul_(factor)
    last = decoder.iou_prediction_head.layers[-1]
    factor = float(0.7 / np.sqrt(np.square(iou).mean()))
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    hook.remove()
    return predictor


def state_arrays(sam: torch.nn.Module) -> dict[str, np.ndarray]:
    """Convert the official state_dict to NumPy arrays."""
    return {key: value.detach().numpy() for key, value in sam.state_dict().items()}
