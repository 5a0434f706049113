"""Run the official PyTorch code, whose float32 outputs are the reference of all others.

In bfloat16 and float16 the image encoder and the mask decoder run in that dtype; the prompt
encoder computes sines of coordinates and stays in float32, as the official code demands. Hooks
cast the inputs and outputs of both, so that the official predictor needs no change.
``torch.compile`` compiles both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.speed.competitors.torch_settings import (
    cast,
    device_peak,
    finished,
    precision,
    settle,
)
from benchmarks.speed.task import AUTOMATIC, Contender, Outputs, Task, official_outputs
from convert.official import OfficialGenerator, OfficialPredictor, build_official


def in_dtype(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Run a module in ``dtype``; hooks cast its inputs to it and its outputs to float32."""
    module.to(dtype)
    module.register_forward_pre_hook(
        lambda _, args, named: (cast(args, dtype), cast(named, dtype)), with_kwargs=True
    )
    module.register_forward_hook(lambda *given: cast(given[-1], torch.float32))


def load(task: Task) -> Contender:
    """Load the official model with its predictor and generator."""
    device = settle(task)
    model: Any = build_official(task.config)
    model.load_state_dict(torch.load(task.weights, weights_only=True), strict=True)
    model.to(device)
    if task.dtype != "float32":
        in_dtype(model.image_encoder, getattr(torch, task.dtype))
        in_dtype(model.mask_decoder, getattr(torch, task.dtype))
    if task.compiled:
        model.image_encoder.compile()
        model.mask_decoder.compile(dynamic=False)
    predictor, inputs = OfficialPredictor(model), task.inputs
    generator = OfficialGenerator(model, points_per_side=task.points_per_side, **AUTOMATIC)
    pixels = torch.from_numpy(inputs.pixels).to(device)
    coords = torch.from_numpy(inputs.network_points)[:, None].to(device)
    labels = torch.ones(coords.shape[:2], dtype=torch.int, device=device)
    point, label = inputs.points[:1], np.ones(1, np.int32)

    def set_image() -> None:
        predictor.set_image(inputs.image)
        finished(device)

    def files() -> None:
        """Read and resize files as the official notebooks and SamPredictor.set_image do."""
        for path in task.photographs:
            image = predictor.transform.apply_image(np.array(Image.open(path).convert("RGB")))
            batch = torch.as_tensor(image, device=device).permute(2, 0, 1).contiguous()[None]
            model.preprocess(batch)
        finished(device)

    def encoder() -> None:
        predictor.features = model.image_encoder(pixels)
        predictor.is_image_set = True
        predictor.original_size, predictor.input_size = inputs.original_size, inputs.input_size
        finished(device)

    def many() -> tuple[np.ndarray, ...]:
        masks, scores, low_res = predictor.predict_torch(coords, labels)
        return masks.cpu().numpy(), scores.cpu().numpy(), low_res.cpu().numpy()

    def outputs() -> Outputs:
        masks, scores, low_res = many()
        return official_outputs(predictor.features.cpu().numpy(), low_res, scores, masks)

    return Contender(
        precision(task),
        {
            "encoder": encoder,
            "set_image": set_image,
            "files": files,
            "click": lambda: predictor.predict(point, label),
            "points": many,
            "automatic": lambda: generator.generate(inputs.image),
        },
        outputs,
        device_peak(device),
    )
