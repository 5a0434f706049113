"""What a worker is told, and what it must offer: the same for every competitor.

Nothing here imports JAX or torch: a worker's memory is its own library's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from samjax.config import SamConfig

POINTS = 64
ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
# Low thresholds give automatic masks work to do, whatever the checkpoint.
AUTOMATIC: dict[str, Any] = {
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.4,
    "output_mode": "uncompressed_rle",
}
JOBS = {
    "encoder": "the image encoder alone, on a preprocessed image that is at hand",
    "set_image": "preprocessing and encoder, from an array in memory (where a library has both)",
    "click": "one point on an encoded image to three full-size binary masks",
    "points": f"{POINTS} points on an encoded image, in one call, three full-size masks each",
    "automatic": "automatic masks of the whole image, end to end (where a library has them)",
}


@dataclass(frozen=True)
class Inputs:
    """One image and its prompts, as every competitor gets them.

    ``pixels`` are normalised and padded, in the official layout; ``padded`` the same before
    normalisation. ``points`` are (x, y) in pixels of the image, ``network_points`` in pixels of
    the network's square input. Sizes are (H, W).
    """

    image: UInt8[np.ndarray, "H W 3"]
    padded: UInt8[np.ndarray, "S S 3"]
    pixels: Float32[np.ndarray, "1 3 S S"]
    input_size: tuple[int, int]
    points: Float32[np.ndarray, "p 2"]
    network_points: Float32[np.ndarray, "p 2"]

    @property
    def original_size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @classmethod
    def read(cls, path: Path) -> Inputs:
        with np.load(path, allow_pickle=False) as file:
            content = dict(file)
        height, width = content.pop("input_size").tolist()
        return cls(input_size=(height, width), **content)


@dataclass(frozen=True)
class Task:
    """A competitor's work: the weights, how to run them, and where its files may lie."""

    config: SamConfig
    weights: Path  # .pth, official keys, float32
    folder: Path  # of inputs.npz, and of what was exported for this run
    dtype: str
    compiled: bool
    device: str  # cpu, gpu or tpu
    points_per_side: int

    @property
    def inputs(self) -> Inputs:
        return Inputs.read(self.folder / "inputs.npz")

    @property
    def on_gpu(self) -> bool:
        return self.device == "gpu"


@dataclass(frozen=True)
class Outputs:
    """What is compared with the reference, in the official layout and in float32."""

    embedding: Float32[np.ndarray, "c g g"]
    low_res: Float32[np.ndarray, "p 3 m m"]
    scores: Float32[np.ndarray, "p 3"]
    masks: Bool[np.ndarray, "3 H W"]  # of the first point


def no_peak() -> float | None:
    """For what runs on the CPU: the process's own peak says all."""
    return None


@dataclass(frozen=True)
class Contender:
    """A loaded model: what a competitor's ``load(task)`` returns.

    Attributes:
        precision: of matrix products, in words.
        jobs: by name; each waits for its result. "encoder" comes first and leaves the encoded
            image to "click" and "points".
        outputs: of the last call of "encoder", and of all points on it.
        device_peak: peak memory on an accelerator in MB, or None.
    """

    precision: str
    jobs: Mapping[str, Callable[[], Any]]
    outputs: Callable[[], Outputs] | None
    device_peak: Callable[[], float | None] = no_peak


def cores() -> int:
    """Cores that this process may use: what every competitor is given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def official_outputs(
    embedding: Any,
    low_res: Float[np.ndarray, "p c m m"],
    scores: Float[np.ndarray, "p c"],
    masks: Bool[np.ndarray, "p c H W"],
) -> Outputs:
    """Outputs of many points in the official layout; the first point's masks are kept."""
    return Outputs(
        np.asarray(embedding, np.float32).reshape(embedding.shape[-3:]),
        np.asarray(low_res, np.float32),
        np.asarray(scores, np.float32),
        np.asarray(masks[0]),
    )
