"""Write the golden files: results of the official PyTorch code, for tests without torch.

    python -m tests.golden.make_golden

The command needs torch and segment-anything; run it again when the embedded checkpoint changes.
``tiny.npz`` includes the weights of a small random model (float16, exact in float32);
``embedded.npz`` belongs to the embedded checkpoint, whose sha256 it records.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import matplotlib.cbook
import numpy as np
import torch
from PIL import Image

from convert.official import OfficialPredictor, build_official, load_official
from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.parameters import to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.engine.load import embedded_path
from tests.support.models import GOLDEN, drawn_image
from tests.support.parity.official import calibrate, randomise

HERE = Path(__file__).parent


def prompts(height: int, width: int, low_res: np.ndarray) -> dict[str, dict]:
    """Make arguments of ``predict`` by name, without multimask_output."""
    xy = np.array([[0.45, 0.5], [0.1, 0.15], [0.6, 0.7]]) * (width, height)
    labels = np.array([1, 0, 1])
    box = np.array([0.15 * width, 0.1 * height, 0.85 * width, 0.95 * height])
    return {
        "point": {"point_coords": xy[:1], "point_labels": labels[:1]},
        "points and box": {"point_coords": xy, "point_labels": labels, "box": box},
        "point and mask": {
            "point_coords": xy[:1],
            "point_labels": labels[:1],
            "mask_input": low_res,
        },
    }


def results(predictor: OfficialPredictor, image: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """Record the embedding, and four masks per prompt: every ``step``-th low-res pixel, scores."""
    predictor.set_image(image)
    embedding = predictor.get_image_embedding().numpy()
    h, w = image.shape[:2]
    centre = np.array([[w / 2, h / 2]])
    low_res = predictor.predict(centre, np.array([1]), multimask_output=False)[2]
    low_res = np.round(low_res * 4) / 4  # the mask prompt, short enough to be stored
    out = {"image": image, "embedding": embedding, "mask_input": low_res.astype(np.float16)}
    for i, given in enumerate(prompts(h, w, low_res).values()):
        one = predictor.predict(**given, multimask_output=False)
        three = predictor.predict(**given, multimask_output=True)
        both = [np.concatenate(pair) for pair in zip(one, three, strict=True)]
        share = (both[2] > 0).mean((1, 2))
        print(f"  prompt {i}: foreground {share.round(2)}, scores {both[1].round(3)}")
        out[f"area_{i}"] = both[0].sum((1, 2))
        out[f"scores_{i}"] = both[1]
        out[f"low_res_{i}"] = both[2][:, ::step, ::step]
        out[f"std_{i}"] = both[2].std()
    return out


def tiny() -> dict[str, np.ndarray]:
    """Record a small random model, its weights rounded to float16."""
    model = build_official(GOLDEN)
    image = drawn_image(48, 70)
    randomise(model, torch.Generator().manual_seed(0))
    calibrate(model, image)
    weights = {k: v.numpy().astype(np.float16) for k, v in model.state_dict().items()}
    rounded = load_official(GOLDEN, weights)
    shapes = json.dumps({key: value.shape for key, value in weights.items()})
    return {
        "keys": np.frombuffer(shapes.encode(), np.uint8),
        "weights": np.concatenate([value.ravel() for value in weights.values()]),
        **results(OfficialPredictor(rounded), image, 1),
    }


def embedded() -> dict[str, np.ndarray]:
    """Record the embedded checkpoint on a photograph of about 108 x 128 pixels."""
    path = embedded_path()
    found = read_checkpoint(path)
    tensors = to_official(found.parameters, found.config)
    official = load_official(infer_config(tensors), tensors)
    photo = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    photo.thumbnail((128, 128))
    out = results(OfficialPredictor(official), np.asarray(photo.convert("RGB")), 3)
    embedding = out.pop("embedding")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"sha256": np.array(digest), "embedding": embedding[:, ::16], **out}


def main() -> None:
    for name, make in (("tiny", tiny), ("embedded", embedded)):
        print(name)
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **make())
        print(f"  {path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    with torch.no_grad():
        main()
