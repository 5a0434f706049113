"""Set up device, threads and full-size masks for the PyTorch competitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import interpolate

from benchmarks.speed.task import Inputs, Task, cores


def settle(task: Task) -> torch.device:
    """Give PyTorch all cores, turn gradients off, and return the device."""
    torch.set_num_threads(cores())
    torch.set_grad_enabled(False)
    return torch.device("cuda" if task.on_gpu else "cpu")


def precision(task: Task) -> str:
    """Describe the precision of matrix products in words."""
    if task.dtype != "float32":
        return f"{task.dtype} products"
    return f"torch precision {torch.get_float32_matmul_precision()}"


def finished(device: torch.device) -> None:
    """Wait for the accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_peak(device: torch.device) -> Callable[[], float | None]:
    """Return a function for the peak memory of PyTorch on the accelerator, in MB, or None."""
    if device.type != "cuda":
        return lambda: None
    return lambda: torch.cuda.max_memory_allocated(device) / 1e6


def full_size(low_res: torch.Tensor, side: int, inputs: Inputs) -> torch.Tensor:
    """Upscale p x c x m x m logits to p x c x H x W masks, as the official postprocess_masks."""
    h, w = inputs.input_size
    square = interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
    size = inputs.original_size
    return interpolate(square[..., :h, :w], size, mode="bilinear", align_corners=False) > 0


def cast(values: Any, dtype: torch.dtype) -> Any:
    """Cast the floating-point tensors of a nested value to ``dtype``."""
    if isinstance(values, torch.Tensor):
        return values.to(dtype) if values.is_floating_point() else values
    if isinstance(values, dict):
        return {key: cast(value, dtype) for key, value in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)(cast(value, dtype) for value in values)
    return values
