"""Compare bfloat16 and float16 with float32 on photographs, with the embedded checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

import samjax
from samjax.masks.upscale import mask_iou

pytestmark = pytest.mark.parity
LEAST = 0.98


@pytest.fixture(scope="module")
def photos(photo) -> dict[str, np.ndarray]:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    return {"grace_hopper": photo} | {name: getattr(data, name)() for name in names}


def prompts(height: int, width: int) -> dict[str, dict]:
    """Make a grid of clicks, and boxes of two sizes."""
    found = {}
    for y in (0.15, 0.38, 0.62, 0.85):
        for x in (0.15, 0.38, 0.62, 0.85):
            point = [[x * width, y * height]]
            found[f"click {x}, {y}"] = {"point_coords": point, "point_labels": [1]}
    for size in (0.3, 0.6):
        for y in (0.1, 0.35):
            for x in (0.1, 0.35):
                box = np.array([x, y, x + size, y + size]) * (width, height, width, height)
                found[f"box {x}, {y}, {size}"] = {"box": box}
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_masks_are_nearly_those_of_float32(embedded, photos, dtype, record_property, capsys):
    exact = samjax.SamPredictor(embedded)
    half = samjax.SamPredictor(samjax.load(dtype=dtype))
    found: dict[str, list] = {"single": [], "best of three": []}
    chosen_alike = []
    for name, image in photos.items():
        exact.set_image(image)
        half.set_image(image)
        for label, given in prompts(*image.shape[:2]).items():
            for kind, multimask in (("single", False), ("best of three", True)):
                a = exact.predict(**given, multimask_output=multimask)
                b = half.predict(**given, multimask_output=multimask)
                best = a.scores.argmax()
                if multimask:
                    chosen_alike.append(best == b.scores.argmax())
                iou = float(mask_iou(a.masks[best], b.masks[best]))
                logits = a.low_res[best]
                # Pixels whose logit rounding can turn: bfloat16's error is about 1 percent
                near = float((np.abs(logits) < 0.05 * logits.std()).mean())
                area = float(a.masks[best].mean())
                found[kind].append((iou, name, label, a.scores[best], area, near))
    with capsys.disabled():
        print()
        for kind, rows in found.items():
            ious = np.array([row[0] for row in rows])
            print(
                f"{dtype}, {kind}: mean IoU {ious.mean():.4f}, median {np.median(ious):.4f}, "
                f"worst {ious.min():.3f}, {len(ious)} masks"
            )
            for iou, name, label, score, area, near in sorted(rows)[:3]:
                print(
                    f"  {iou:.3f} {name}, {label}: score {score:.2f}, area {area:.1%}, "
                    f"{near:.1%} of the logits near 0"
                )
        print(f"  the same mask of three is best: {np.mean(chosen_alike):.1%}")
    for kind, rows in found.items():
        mean = float(np.mean([row[0] for row in rows]))
        record_property(f"mean IoU, {kind}", mean)
        assert mean >= LEAST, kind
