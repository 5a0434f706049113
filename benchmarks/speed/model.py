"""Write the model, the image and the prompts that all competitors load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

import samjax
from benchmarks.models import source
from benchmarks.speed.task import Inputs, Task
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import to_official
from samjax.errors import SamjaxError
from samjax.image.longest_side import scale_coords
from samjax.image.preset import get_preset, prepare
from samjax.model.config import ImageEncoderConfig, SamConfig


@dataclass(frozen=True)
class Model:
    """Holds the command-line name of a model, its sizes and the fingerprint of its weights."""

    name: str
    config: SamConfig
    fingerprint: str


def random_points(size: tuple[int, int], count: int) -> Float32[np.ndarray, "p 2"]:
    """Draw ``count`` points (x, y) in pixels inside an image of ``size`` (H, W), seeded."""
    rng = np.random.default_rng(0)
    return (rng.uniform(0.05, 0.95, (count, 2)) * size[::-1]).astype(np.float32)


def make_inputs(image: UInt8[np.ndarray, "H W 3"], side: int, count: int) -> Inputs:
    """Resize, pad and normalise the image with SAM's preset, and draw its points."""
    preset = get_preset("sam")
    prepared = prepare(image, side, preset)
    h, w = prepared.input_size
    mean, std = (np.array(x, np.float32) for x in (preset.pixel_mean, preset.pixel_std))
    pixels = np.zeros((side, side, 3), np.float32)
    pixels[:h, :w] = (prepared.pixels[:h, :w] - mean) / std
    points = random_points(prepared.original_size, count)
    return Inputs(
        image=image,
        padded=prepared.pixels,
        pixels=np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]),
        input_size=prepared.input_size,
        points=points,
        network_points=scale_coords(points, prepared.original_size, prepared.input_size),
    )


def write_model(
    name: str,
    image: UInt8[np.ndarray, "H W 3"],
    folder: Path,
    device: str,
    points: int,
    points_per_side: int,
) -> tuple[Model, Task]:
    """Write weights.pth (official keys, float32), inputs.npz and the photographs as files.

    The inputs have ``points`` points.

    Raises:
        SamjaxError: there is no such model, or the official classes cannot represent it.
    """
    sam = samjax.load(source(name), device="cpu", preprocess="sam")
    if sam.config.hq or not isinstance(sam.config.image_encoder, ImageEncoderConfig):
        raise SamjaxError(
            f"--model {name}: the competitors have SAM's own network only, not SAM-HQ's or "
            "MobileSAM's; choose a checkpoint of ViT-B, ViT-L, ViT-H or other sizes of it"
        )
    weights = folder / "weights.pth"
    write_torch_file(weights, to_official(sam.parameters(), sam.config))
    make_inputs(image, sam.config.image_size, points).save(folder / "inputs.npz")
    task = Task(sam.config, weights, folder, "float32", False, device, points_per_side)
    for path in task.photographs:
        Image.fromarray(image).save(path, quality=90)
    return Model(name, sam.config, sam.fingerprint), task
