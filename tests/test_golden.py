"""Compare with recorded results of the official PyTorch code; see tests/golden/make_golden.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.engine.load import embedded_path
from tests.support.models import GOLDEN

HERE = Path(__file__).parent / "golden"
AGAIN = "run python -m tests.golden.make_golden"


def read(name: str) -> dict[str, np.ndarray]:
    with np.load(HERE / f"{name}.npz") as file:
        return dict(file)


def arguments(golden: dict[str, np.ndarray]) -> list[dict]:
    """Repeat the prompts of make_golden.py, since that file needs torch."""
    height, width = golden["image"].shape[:2]
    xy = np.array([[0.45, 0.5], [0.1, 0.15], [0.6, 0.7]]) * (width, height)
    labels = np.array([1, 0, 1])
    box = np.array([0.15 * width, 0.1 * height, 0.85 * width, 0.95 * height])
    point = {"point_coords": xy[:1], "point_labels": labels[:1]}
    mask = golden["mask_input"].astype(np.float32)
    return [
        point,
        {"point_coords": xy, "point_labels": labels, "box": box},
        point | {"mask_input": mask},
    ]


def compare(predictor: samjax.SamPredictor, golden: dict[str, np.ndarray], step: int) -> None:
    """Compare within the limits of parity in float32."""
    predictor.set_image(golden["image"])
    embedding = predictor.get_image_embedding()
    expected = golden["embedding"]
    embedding = embedding[:, :: embedding.shape[1] // expected.shape[1]]
    assert np.abs(embedding - expected).max() <= 1e-4 * np.abs(expected).max()
    for i, given in enumerate(arguments(golden)):
        runs = [predictor.predict(**given, multimask_output=multi) for multi in (False, True)]
        masks, scores, low_res = (np.concatenate(pair) for pair in zip(*runs, strict=True))
        error = np.abs(low_res[:, ::step, ::step] - golden[f"low_res_{i}"]).max()
        assert error <= 1e-3 * golden[f"std_{i}"]
        assert np.abs(scores - golden[f"scores_{i}"]).max() <= 1e-4
        pixels = masks[0].size
        assert np.abs(masks.sum((1, 2)) - golden[f"area_{i}"]).max() <= max(1, 1e-3 * pixels)


def test_tiny(tmp_path):
    golden = read("tiny")
    shapes = json.loads(golden["keys"].tobytes())
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(golden["weights"], ends[:-1])
    weights = {k: p.reshape(shapes[k]) for k, p in zip(shapes, parts, strict=True)}
    write_torch_file(tmp_path / "tiny.pth", weights)
    sam = samjax.load(tmp_path / "tiny.pth")
    assert sam.config == GOLDEN
    compare(samjax.SamPredictor(sam), golden, 1)


def test_embedded(embedded):
    golden = read("embedded")
    digest = hashlib.sha256(embedded_path().read_bytes()).hexdigest()
    if digest != str(golden["sha256"]):
        pytest.fail(f"the embedded checkpoint is not the one of the golden file: {AGAIN}")
    compare(samjax.SamPredictor(embedded), golden, 3)


def test_golden_files_are_small():
    assert sum(path.stat().st_size for path in HERE.glob("*.npz")) < 400_000
