"""Is a checkpoint the same in samjax and in the official PyTorch code? A report by stage.

    python -m convert.parity sam_vit_b_01ec64.pth
    python -m convert.parity checkpoint.safetensors --image photo.jpg

samjax loads the file and hands its weights to the official classes (strictly); points,
boxes, mask prompts and their combinations run through both predictors in float32. Exit code 1
if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import jax
import matplotlib.cbook
import numpy as np
import torch

import samjax
from convert.official import OfficialPredictor, load_official
from samjax.checkpoint.loading import to_official

# Of float32 at precision "highest": relative to the largest value, the standard deviation, 1.
EMBEDDING_LIMIT, LOGITS_LIMIT, SCORES_LIMIT, PIXELS_LIMIT = 1e-4, 1e-3, 1e-4, 0.999


@dataclass(frozen=True)
class Comparison:
    """One prompt through both: errors, and how much of the image the official mask covers."""

    name: str
    logits: float
    scores: float
    pixels: float
    foreground: tuple[float, float]

    @property
    def passed(self) -> bool:
        return (
            self.logits <= LOGITS_LIMIT
            and self.scores <= SCORES_LIMIT
            and self.pixels >= PIXELS_LIMIT
        )

    def __str__(self) -> str:
        low, high = self.foreground
        return (
            f"{self.name:28s} logits {self.logits:.1e} std, scores {self.scores:.1e}, "
            f"equal pixels {self.pixels:.5%}, foreground {low:.0%} to {high:.0%}"
        )


def prompts(size: tuple[int, int], low_res: np.ndarray) -> dict[str, dict]:
    """Arguments of ``predict`` for an image of ``size`` (H, W), by name."""
    h, w = size
    click = {"point_coords": np.array([[0.52 * w, 0.4 * h]]), "point_labels": np.array([1])}
    clicks = {
        "point_coords": np.array([[0.52 * w, 0.4 * h], [0.1 * w, 0.1 * h], [0.5 * w, 0.9 * h]]),
        "point_labels": np.array([1, 0, 1]),
    }
    box = {"box": np.array([0.2 * w, 0.05 * h, 0.85 * w, 0.95 * h])}
    mask = {"mask_input": low_res}
    cases = {
        "click": click,
        "clicks": clicks,
        "box": box,
        "click, box": click | box,
        "mask": mask,
        "clicks, mask": clicks | mask,
        "clicks, box, mask": clicks | box | mask,
    }
    return {
        f"{name}, {'three' if multi else 'one'}": arguments | {"multimask_output": multi}
        for name, arguments in cases.items()
        for multi in (True, False)
    }


def compare(
    ours: samjax.SamPredictor, theirs: OfficialPredictor, image: np.ndarray
) -> tuple[float, list[Comparison]]:
    """Relative error of the image embedding, and a comparison for each kind of prompt."""
    ours.set_image(image)
    theirs.set_image(image)
    a, b = ours.get_image_embedding(), theirs.get_image_embedding().cpu().numpy()
    embedding = float(np.abs(a - b).max() / np.abs(b).max())
    size = image.shape[:2]
    centre = np.array([[size[1] / 2, size[0] / 2]])
    low_res = theirs.predict(centre, np.array([1]), multimask_output=False)[2]
    results = []
    for name, arguments in prompts(size, low_res).items():
        masks, scores, logits = ours.predict(**arguments)
        expected_masks, expected_scores, expected = theirs.predict(**arguments)
        share = expected_masks.mean((1, 2))
        results.append(
            Comparison(
                name,
                float(np.abs(logits - expected).max() / expected.std()),
                float(np.abs(scores - expected_scores).max()),
                float((masks == expected_masks).mean()),
                (float(share.min()), float(share.max())),
            )
        )
    return embedding, results


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 0 if everything is within the limits."""
    parser = argparse.ArgumentParser(
        prog="python -m convert.parity", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("checkpoint", help="file, folder, or vit_b, vit_l, vit_h")
    parser.add_argument("--image", help="a photograph (default: matplotlib's grace_hopper.jpg)")
    parser.add_argument("--device", help="of samjax: cpu, gpu, tpu")
    given = parser.parse_args(arguments)
    path = given.image or matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    sam = samjax.load(given.checkpoint, device=given.device)
    official = load_official(sam.config, to_official(sam.parameters(), sam.config))
    print(sam)
    print(f"jax {jax.__version__}, torch {torch.__version__}")
    embedding, results = compare(
        samjax.SamPredictor(sam), OfficialPredictor(official), samjax.read_image(path)
    )
    print(f"{'image embedding':28s} {embedding:.1e} of the largest value")
    print(*results, sep="\n")
    passed = embedding <= EMBEDDING_LIMIT and all(r.passed for r in results)
    print("verdict: equal within the limits" if passed else "verdict: DIFFERENT")
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except samjax.SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
