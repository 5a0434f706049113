"""Feed exported models, and samjax for comparison, with prompts in the official layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import samjax
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.engine.segmenter import Segmenter
from samjax.model.config import ImageEncoderConfig, SamConfig
from samjax.model.prompt_encoder import ABSENT, NOT_A_POINT, Prompts
from tests.support.models import seeded_tensors

# samjax is asked with so many tokens, of which the unused are masked out: one compilation
_TOKENS = 20
# ViT-B's decoder and sizes behind an encoder that takes no time
VIT_B_DECODER = replace(
    SamConfig.vit_b(),
    image_encoder=ImageEncoderConfig(width=16, depth=1, num_heads=1, mlp_dim=16, global_blocks=()),
)


def load_seeded(config: SamConfig, folder: Path, **options: Any) -> Segmenter:
    """Load a model of random weights whose masks are neither empty nor full."""
    path = folder / "seeded.pth"
    write_torch_file(path, seeded_tensors(config))
    return samjax.load(path, dtype="float32", device="cpu", **options)


@dataclass(frozen=True)
class Prompt:
    """Holds one prompt in the official layout, but for the batch axis."""

    coords: np.ndarray  # points, 2; of the network's input
    labels: np.ndarray  # points
    mask: np.ndarray | None = None  # m, m

    def arrays(self, sam: Segmenter, points: int | None = None) -> dict[str, np.ndarray]:
        """Return the decoder's inputs, filled up to ``points`` by label -2."""
        more = 0 if points is None else points - len(self.labels)
        m = sam.config.low_res_size
        mask = np.zeros((m, m), np.float32) if self.mask is None else self.mask
        return {
            "point_coords": np.pad(self.coords, ((0, more), (0, 0)))[None],
            "point_labels": np.pad(self.labels, (0, more), constant_values=-2)[None],
            "mask_input": mask[None, None],
            "has_mask_input": np.array([self.mask is not None], np.float32),
        }

    def decode(self, sam: Segmenter, features: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return samjax's low-res logits and predicted IoUs, of all masks."""
        more = _TOKENS - len(self.labels)
        kinds = np.where(self.labels == -1, NOT_A_POINT, self.labels).astype(np.int32)
        m = sam.config.low_res_size
        prompts = Prompts(
            np.pad(self.coords, ((0, more), (0, 0)))[None],
            np.pad(kinds, (0, more), constant_values=ABSENT)[None],
            np.zeros((1, m, m), np.float32) if self.mask is None else self.mask[None],
            np.array([self.mask is not None]),
        )
        low, iou = sam.decode(features, prompts, multimask=None)
        return np.asarray(low), np.asarray(iou)


def make_prompt(size: int, points: int, *, box: bool, mask: np.ndarray | None = None) -> Prompt:
    """Draw points of both labels, with a box or with the official padding point."""
    rng = np.random.default_rng(points)
    coords = rng.uniform(0, size, (points, 2))
    labels = (rng.random(points) < 0.7).astype(np.float32)
    if box:
        coords = np.concatenate([coords, [[0.1 * size, 0.2 * size], [0.7 * size, 0.6 * size]]])
        labels = np.concatenate([labels, [2, 3]])
    else:
        coords = np.concatenate([coords, [[0, 0]]])
        labels = np.concatenate([labels, [-1]])
    return Prompt(coords.astype(np.float32), labels.astype(np.float32), mask)


def session(path: Path) -> Any:
    """Open an ONNX file on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def as_input(features: Any) -> np.ndarray:
    """Return an image embedding (g, g, c) as the decoder's input (1, c, g, g)."""
    return np.ascontiguousarray(np.asarray(features).transpose(2, 0, 1)[None])


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference in standard deviations of what is expected."""
    return float(np.abs(found - expected).max() / expected.std())
