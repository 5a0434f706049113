"""Define the task of a worker and the interface of a competitor.

This module imports neither JAX nor torch, so that a worker's memory is that of its own library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from samjax.model.config import SamConfig

POINTS = 64
FILES = 16
ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
# Thresholds are low so that automatic masks are found with any checkpoint, even random weights.
AUTOMATIC: dict[str, Any] = {
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.4,
    "output_mode": "uncompressed_rle",
}
JOBS = {
    "encoder": "the image encoder alone, on a preprocessed image in memory",
    "set_image": "preprocessing and encoder, from an array in memory (where a library has both)",
    "files": f"{FILES} JPEG files to the network's input, for an encoder that returns at once",
    "click": "one point on an encoded image to three full-size binary masks",
    "points": f"{POINTS} points on an encoded image, in one call, three full-size masks each",
    "automatic": "automatic masks of the whole image, end to end (where a library has them)",
}


@dataclass(frozen=True)
class Inputs:
    """Holds the image and the prompts that every competitor gets.

    Attributes:
        image: RGB.
        padded: resized and padded image, before normalisation.
        pixels: normalised and padded image, in the official layout.
        input_size: (h, w) of the resized image, before padding.
        points: (x, y) in pixels of the image.
        network_points: (x, y) in pixels of the network's square input.
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
    """Specifies a competitor's work: weights, settings and a folder for files."""

    config: SamConfig
    weights: Path  # .pth, official keys, float32
    folder: Path  # holds inputs.npz and the files exported for this run
    dtype: str
    compiled: bool
    device: str  # cpu, gpu or tpu
    points_per_side: int

    @property
    def inputs(self) -> Inputs:
        return Inputs.read(self.folder / "inputs.npz")

    @property
    def photographs(self) -> list[Path]:
        """Return the paths of the image's copies as JPEG files."""
        return [self.folder / f"photograph-{i}.jpg" for i in range(FILES)]

    @property
    def on_gpu(self) -> bool:
        return self.device == "gpu"


@dataclass(frozen=True)
class Outputs:
    """Holds the outputs that are compared with the reference, in official layout and float32."""

    embedding: Float32[np.ndarray, "c g g"]
    low_res: Float32[np.ndarray, "p 3 m m"]
    scores: Float32[np.ndarray, "p 3"]
    masks: Bool[np.ndarray, "3 H W"]  # of the first point


def no_peak() -> float | None:
    """Return None, for competitors on the CPU, where the process's peak memory is enough."""
    return None


@dataclass(frozen=True)
class Contender:
    """Holds a loaded model; a competitor's ``load(task)`` returns it.

    Attributes:
        precision: precision of matrix products, in words.
        jobs: functions by name; each waits for its result. "encoder" runs first and keeps the
            encoded image for "click" and "points".
        outputs: returns the outputs of the last call of "encoder", and of all points on it.
        device_peak: returns the peak memory on an accelerator in MB, or None.
    """

    precision: str
    jobs: Mapping[str, Callable[[], Any]]
    outputs: Callable[[], Outputs] | None
    device_peak: Callable[[], float | None] = no_peak


def cores() -> int:
    """Count the cores that this process may use; every competitor gets them all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def official_outputs(
    embedding: Any,
    low_res: Float[np.ndarray, "p c m m"],
    scores: Float[np.ndarray, "p c"],
    masks: Bool[np.ndarray, "p c H W"],
) -> Outputs:
    """Make Outputs from arrays in the official layout, keeping the first point's masks only."""
    return Outputs(
        np.asarray(embedding, np.float32).reshape(embedding.shape[-3:]),
        np.asarray(low_res, np.float32),
        np.asarray(scores, np.float32),
        np.asarray(masks[0]),
    )
