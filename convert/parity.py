"""Convert a checkpoint, verify it against PyTorch, and report the errors of each stage.

    python -m convert.parity sam_vit_b_01ec64.pth
    python -m convert.parity lora.safetensors --base vit_b --save merged.pth --image photo.jpg

PyTorch reads the file independently (``torch.load``) into the family's own classes, with LoRA as
layers that are not merged; samjax reads it with its own reader. Points, boxes, mask prompts and
their combinations run through both predictors in float32, on SAM's own preprocessing whatever the
preset. With --save the file is converted first, and the converted file is verified. The exit code
is 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib.cbook
import numpy as np
import torch

import samjax
from convert.official import OfficialPredictor
from convert.reading import build_second, read_again
from samjax.checkpoint.convert import convert_checkpoint
from samjax.engine.load import locate, read_options
from samjax.errors import SamjaxError
from samjax.masks.upscale import mask_iou
from samjax.model.config import ImageEncoderConfig

# Limits in float32 at precision "highest": the embedding's error is relative to its largest value,
# the logits' to their standard deviation, the scores' is absolute; pixels is the share of equals.
EMBEDDING_LIMIT, LOGITS_LIMIT, SCORES_LIMIT, PIXELS_LIMIT = 1e-4, 1e-3, 1e-4, 0.999


@dataclass(frozen=True)
class Difference:
    """Holds the largest and the mean difference of a stage, in the unit of its limit."""

    largest: float
    mean: float

    @classmethod
    def of(cls, ours: np.ndarray, theirs: np.ndarray, unit: float) -> Difference:
        apart = np.abs(ours.astype(np.float64) - theirs)
        return cls(float(apart.max() / unit), float(apart.mean() / unit))

    def __str__(self) -> str:
        return f"{self.largest:.1e} (mean {self.mean:.1e})"


@dataclass(frozen=True)
class Comparison:
    """Holds the errors of one prompt, and the share of the image that official masks cover."""

    name: str
    logits: Difference
    scores: Difference
    pixels: float
    iou: float
    foreground: tuple[float, float]

    @property
    def passed(self) -> bool:
        return (
            self.logits.largest <= LOGITS_LIMIT
            and self.scores.largest <= SCORES_LIMIT
            and self.pixels >= PIXELS_LIMIT
        )

    def __str__(self) -> str:
        low, high = self.foreground
        return (
            f"{self.name:28s} logits {self.logits} std, scores {self.scores}, equal pixels "
            f"{self.pixels:.5%}, least mask IoU {self.iou:.5f}, foreground {low:.0%} to {high:.0%}"
        )


def prompts(size: tuple[int, int], low_res: np.ndarray) -> dict[str, dict]:
    """Make arguments of ``predict`` for an image of ``size`` (H, W), by name."""
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
    ours: samjax.SamPredictor, theirs: Any, image: np.ndarray
) -> tuple[Difference, list[Comparison]]:
    """Compare two predictors: the image embedding's relative error, and each kind of prompt."""
    ours.set_image(image)
    theirs.set_image(image)
    a, b = ours.get_image_embedding(), theirs.get_image_embedding().cpu().numpy()
    embedding = Difference.of(a, b, np.abs(b).max())
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
                Difference.of(logits, expected, expected.std()),
                Difference.of(scores, expected_scores, 1),
                float((masks == expected_masks).mean()),
                float(mask_iou(masks, expected_masks).min()),
                (float(share.min()), float(share.max())),
            )
        )
    return embedding, results


def predictor_for(sam: samjax.Segmenter, official: torch.nn.Module) -> Any:
    """Make the predictor of the family's own package."""
    if sam.config.hq:
        from convert.variants import HqPredictor

        return HqPredictor(official)
    if not isinstance(sam.config.image_encoder, ImageEncoderConfig):
        from convert.variants import MobilePredictor

        return MobilePredictor(official)
    return OfficialPredictor(official)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m convert.parity", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("checkpoint", help="file, folder, or vit_b, vit_l, vit_h")
    parser.add_argument("--base", help="the SAM that a LoRA or another partial file belongs to")
    parser.add_argument("--lora-layers", help="blocks of its numbered pairs, such as 0,1,4")
    parser.add_argument("--image-size", type=int, help="side of the network's input, in pixels")
    parser.add_argument("--save", type=Path, help="convert to this .pth, .safetensors or folder")
    parser.add_argument("--preprocess", help="preset to record in what is saved")
    parser.add_argument("--overwrite", action="store_true", help="replace what --save names")
    parser.add_argument("--image", help="a photograph (default: matplotlib's grace_hopper.jpg)")
    parser.add_argument("--device", help="of samjax: cpu, gpu, tpu")
    given = parser.parse_args(arguments)
    if given.save is None and (given.preprocess or given.overwrite):
        raise SamjaxError("--preprocess and --overwrite belong to --save: name a file or folder")
    return given


def numbers(text: str) -> tuple[int, ...]:
    """Parse indices of blocks, separated by commas."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise SamjaxError(f"--lora-layers {text}: give numbers, such as 0,1,4") from None


def main(arguments: list[str] | None = None) -> int:
    """Convert, compare and print; return 0 if all errors are within the limits, else 1."""
    given = parse(arguments)
    image = given.image or matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    layers = given.lora_layers and numbers(given.lora_layers)
    options = read_options(given.base, layers or None, given.image_size)
    source = locate(given.checkpoint)
    if given.save is None:
        sam = samjax.load(
            source,
            base=given.base,
            lora_layers=layers or None,
            image_size=given.image_size,
            device=given.device,
            preprocess="sam",
        )
    else:
        convert_checkpoint(
            source,
            given.save,
            preprocess=given.preprocess,
            overwrite=given.overwrite,
            options=options,
        )
        sam = samjax.load(given.save, device=given.device, preprocess="sam")
        print(f"{source} converted to {given.save}")
    second = read_again(source, options)
    official = build_second(second, sam.config)
    print(sam)
    print(*(f"note: {note}" for note in sam.notes), sep="\n")
    pairs = f", {len(second.updates)} LoRA pairs as layers" if second.updates else ""
    print(f"read again by {second.how}: {len(second.tensors)} tensors{pairs}")
    print(f"jax {jax.__version__}, torch {torch.__version__}")
    embedding, results = compare(
        samjax.SamPredictor(sam), predictor_for(sam, official), samjax.read_image(image)
    )
    print(f"{'image embedding':28s} {embedding} of the largest value")
    print(*results, sep="\n")
    passed = embedding.largest <= EMBEDDING_LIMIT and all(r.passed for r in results)
    print("verdict: equal within the limits" if passed else "verdict: DIFFERENT")
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
