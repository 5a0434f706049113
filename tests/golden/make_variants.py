"""Write ``variants.npz``: results of the PyTorch code of SAM-HQ and of Light HQ-SAM.

    python -m tests.golden.make_variants

The command needs torch, segment-anything, segment-anything-hq and mobilesam-mirror. Weights are
not stored: ``tests.support.models.seeded_tensors`` makes the same weights anywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from convert.variants import HqPredictor, load_variant
from tests.support.models import GOLDEN, MOBILE, drawn_image, seeded_tensors

HERE = Path(__file__).parent
SIZE = 48, 70
# Every so many-th value of the embedding's channels and pixels, and of the masks' pixels
CASES = {"sam-hq": (GOLDEN.with_hq(), 1, 1, 1), "light hq-sam": (MOBILE.with_hq(), 16, 4, 8)}


@torch.no_grad()
def results(name: str) -> dict[str, np.ndarray]:
    """Record embedding, logits, scores of a point and a box: single and best, sum and HQ alone."""
    config, channels, pixels, step = CASES[name]
    predictor = HqPredictor(load_variant(config, seeded_tensors(config)))
    predictor.set_image(drawn_image(*SIZE))
    embedding = predictor.get_image_embedding().numpy()[0]
    low_res, scores = [], []
    for prompt in (
        {"point_coords": np.array([[30.0, 20.0]]), "point_labels": np.array([1])},
        {"box": np.array([10.0, 5.0, 60.0, 40.0])},
    ):
        for multimask in (False, True):
            for only in (False, True):
                _, iou, logits = predictor.predict(
                    **prompt, multimask_output=multimask, hq_token_only=only
                )
                low_res.append(logits[0])
                scores.append(iou[0])
    share = [float((logits > 0).mean()) for logits in low_res]
    print(f"{name}: foreground {np.round(share, 2)}, scores {np.round(scores, 3)}")
    return {
        f"{name}: embedding": embedding[::channels, ::pixels, ::pixels],
        f"{name}: largest": np.abs(embedding).max(),
        f"{name}: low_res": np.stack(low_res)[:, ::step, ::step],
        f"{name}: std": np.stack(low_res).std((1, 2)),
        f"{name}: scores": np.array(scores),
    }


def main() -> None:
    path = HERE / "variants.npz"
    np.savez_compressed(path, **results("sam-hq"), **results("light hq-sam"))
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
