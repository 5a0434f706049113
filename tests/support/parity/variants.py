"""Build SAM-HQ and MobileSAM in PyTorch with random weights of any size, as oracles."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from convert.variants import HqPredictor, build_variant
from samjax.model.config import SamConfig
from tests.support.models import drawn_image
from tests.support.parity.official import calibrate, randomise

# Standard deviations of SAM's and of the HQ token's logits: neither drowns in their sum
_SAM_STD, _HQ_STD = 8.0, 6.0


@lru_cache(maxsize=8)
def random_variant(config: SamConfig, seed: int = 0) -> torch.nn.Module:
    """Build a model of these sizes with random weights and calibrated heads."""
    model = build_variant(config)
    randomise(model, torch.Generator().manual_seed(seed))
    if config.hq:
        calibrate_hq(model, drawn_image(48, 70, seed=1))
    else:
        calibrate(model, drawn_image(48, 70, seed=1))
    return model


@torch.no_grad()
def calibrate_hq(model: torch.nn.Module, image: np.ndarray) -> HqPredictor:
    """Calibrate as ``official.calibrate``, with a scale for each of the two added masks."""
    predictor, decoder = HqPredictor(model), model.mask_decoder
    predictor.set_image(image)
    h, w = image.shape[:2]
    point = torch.tensor([[[0.4 * w, 0.4 * h]]]) * predictor.input_size[0] / h
    sparse, dense = model.prompt_encoder(
        points=(point, torch.ones(1, 1, dtype=torch.int)), boxes=None, masks=None
    )
    early = predictor.interm_features[0].permute(0, 3, 1, 2)
    fixed = decoder.embedding_encoder(predictor.features) + decoder.compress_vit_feat(early)
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(decoder, name).register_forward_hook(
            lambda _module, _given, made, name=name: seen.update({name: made})
        )
        for name in ("output_upscaling", "embedding_maskfeature")
    ]

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        masks, iou = decoder.predict_masks(
            predictor.features, model.prompt_encoder.get_dense_pe(), sparse, dense, fixed
        )
        return masks[0], iou[0]

    outputs()
    lasts = [head.layers[-1] for head in (*decoder.output_hypernetworks_mlps, decoder.hf_mlp)]
    for last in lasts:
        pixels = seen["output_upscaling"]
        if last is lasts[-1]:
            pixels = seen["embedding_maskfeature"] + fixed
        mean = pixels.mean((0, 2, 3))
        off_mean = torch.eye(len(mean)) - torch.outer(mean, mean) / mean.square().sum()
        last.weight.copy_(off_mean @ last.weight)
        last.bias.copy_(off_mean @ last.bias)
    masks, iou = outputs()
    for mask, last in zip(masks, lasts, strict=True):
        factor = float((_HQ_STD if last is lasts[-1] else _SAM_STD) / mask.std())
        last.weight.mul_(factor)
        last.bias.mul_(factor)
    last = decoder.iou_prediction_head.layers[-1]
    factor = float(0.7 / iou.square().mean().sqrt())
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    for hook in hooks:
        hook.remove()
    return predictor
