"""Run Hugging Face's SamModel with PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

import numpy as np
import torch
import transformers

from benchmarks.speed.competitors.sizes import hugging_face_sizes
from benchmarks.speed.competitors.torch_settings import (
    device_peak,
    finished,
    full_size,
    precision,
    settle,
)
from benchmarks.speed.task import Contender, Outputs, Task, official_outputs


def prepare(task: Task) -> None:
    """Write the weights as a folder in Hugging Face's format."""
    from samjax.checkpoint.families.huggingface import official_key

    tensors = torch.load(task.weights, weights_only=True)
    sizes = hugging_face_sizes(task.config)
    sizes["mask_decoder_config"]["layer_norm_eps"] = task.config.mask_decoder.layer_norm_eps
    model = transformers.SamModel(transformers.SamConfig(**sizes)).eval()
    state = model.state_dict()
    model.load_state_dict({key: tensors[official_key(key)] for key in state}, strict=True)
    model.save_pretrained(task.folder / "hugging_face")


def load(task: Task) -> Contender:
    """Load the folder by from_pretrained with attn_implementation="sdpa"."""
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
