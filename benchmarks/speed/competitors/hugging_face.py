"""Hugging Face's SamModel with PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

import numpy as np
import torch
import transformers

from benchmarks.speed.competitors.torch_settings import (
    device_peak,
    finished,
    full_size,
    precision,
    settle,
)
from benchmarks.speed.task import Contender, Outputs, Task, official_outputs
from samjax.config import ImageEncoderConfig, SamConfig


def sizes(config: SamConfig) -> transformers.SamConfig:
    """The sizes of a model in Hugging Face's words."""
    e, p, d = config.image_encoder, config.prompt_encoder, config.mask_decoder
    assert isinstance(e, ImageEncoderConfig)
    return transformers.SamConfig(
        vision_config={
            "hidden_size": e.width,
            "output_channels": e.out_dim,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.num_heads,
            "image_size": e.image_size,
            "patch_size": e.patch_size,
            "window_size": e.window_size,
            "global_attn_indexes": list(e.global_blocks),
            "mlp_dim": e.mlp_dim,
            "num_pos_feats": p.embed_dim // 2,
        },
        prompt_encoder_config={
            "hidden_size": p.embed_dim,
            "image_size": e.image_size,
            "patch_size": e.patch_size,
            "mask_input_channels": p.mask_channels,
        },
        mask_decoder_config={
            "hidden_size": d.embed_dim,
            "mlp_dim": d.mlp_dim,
            "num_hidden_layers": d.depth,
            "num_attention_heads": d.num_heads,
            "num_multimask_outputs": d.num_masks,
            "iou_head_depth": d.iou_head_depth,
            "iou_head_hidden_dim": d.iou_head_dim,
            "layer_norm_eps": d.layer_norm_eps,
        },
    )


def prepare(task: Task) -> None:
    """Write the weights as a folder of Hugging Face's own."""
    from samjax.checkpoint.huggingface import official_key

    tensors = torch.load(task.weights, weights_only=True)
    model = transformers.SamModel(sizes(task.config)).eval()
    state = model.state_dict()
    model.load_state_dict({key: tensors[official_key(key)] for key in state}, strict=True)
    model.save_pretrained(task.folder / "hugging_face")


def load(task: Task) -> Contender:
    """from_pretrained with attn_implementation="sdpa"."""
    device, inputs = settle(task), task.inputs
    dtype = getattr(torch, task.dtype)
    model = transformers.SamModel.from_pretrained(
        task.folder / "hugging_face", attn_implementation="sdpa", dtype=dtype
    )
    model = model.eval().to(device)
    if task.compiled:
        model.vision_encoder.compile()
        model.mask_decoder.compile(dynamic=False)
    pixels = torch.from_numpy(inputs.pixels).to(device, dtype)
    points = torch.from_numpy(inputs.network_points)[None, :, None].to(device)
    embedding: list[torch.Tensor] = []

    def encoder() -> None:
        embedding[:] = [model.get_image_embeddings(pixels)]
        finished(device)

    def decode(chosen: torch.Tensor) -> tuple[np.ndarray, ...]:
        found = model(image_embeddings=embedding[0], input_points=chosen, multimask_output=True)
        low_res = found.pred_masks[0].float()
        masks = full_size(low_res, task.config.image_size, inputs)
        return masks.cpu().numpy(), found.iou_scores[0].float().cpu().numpy(), low_res.cpu().numpy()

    def outputs() -> Outputs:
        masks, scores, low_res = decode(points)
        return official_outputs(embedding[0].float().cpu().numpy(), low_res, scores, masks)

    return Contender(
        precision(task),
        {
            "encoder": encoder,
            "click": lambda: decode(points[:, :1]),
            "points": lambda: decode(points),
        },
        outputs,
        device_peak(device),
    )
