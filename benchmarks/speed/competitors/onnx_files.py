"""Export the official model to ONNX: an encoder, and a decoder that returns full-size masks."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.speed.competitors.torch_settings import full_size, settle
from benchmarks.speed.task import DECODER_FILE, ENCODER_FILE, Inputs, Task
from convert.official import build_official


class Decoder(torch.nn.Module):
    """Computes full-size masks of one image from any number of points."""

    def __init__(self, model: Any, inputs: Inputs):
        super().__init__()
        self.prompt_encoder: Any = model.prompt_encoder
        self.mask_decoder: Any = model.mask_decoder
        self.side, self.inputs = model.image_encoder.img_size, inputs

    def forward(
        self, embedding: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sparse, dense = self.prompt_encoder((coords, labels), None, None)
        low_res, scores = self.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return full_size(low_res, self.side, self.inputs), scores, low_res


def prepare(task: Task) -> None:
    """Export encoder and decoder by torch.onnx.export; the decoder takes any number of prompts."""
    settle(task)
    model: Any = build_official(task.config)
    model.load_state_dict(torch.load(task.weights, weights_only=True), strict=True)
    inputs = task.inputs
    torch.onnx.export(
        model.image_encoder,
        (torch.from_numpy(inputs.pixels),),
        task.folder / ENCODER_FILE,
        input_names=["pixels"],
        output_names=["embedding"],
        dynamo=True,
        external_data=True,
    )
    grid, channels = task.config.grid, task.config.image_encoder.out_dim
    coords = torch.from_numpy(inputs.network_points)[:, None]
    labels = torch.ones(coords.shape[:2], dtype=torch.int32)
    count = torch.export.Dim("prompts", min=1, max=1024)
    torch.onnx.export(
        Decoder(model, inputs).eval(),
        (torch.zeros(1, channels, grid, grid), coords, labels),
        task.folder / DECODER_FILE,
        input_names=["embedding", "coords", "labels"],
        output_names=["masks", "scores", "low_res"],
        dynamo=True,
        dynamic_shapes=({}, {0: count}, {0: count}),
        external_data=True,
    )
