"""Compare bfloat16 and float16 with float32 on photographs, with the embedded checkpoint.

Both as a CPU rounds and as an accelerator does, which rounds some more products.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage import data

import samjax
from samjax.engine import segmenter
from samjax.masks.upscale import mask_iou
from samjax.model.attention import CPU_CHUNKS

pytestmark = pytest.mark.parity
LEAST = 0.99


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


KINDS = (("single", False), ("best of three", True))


@pytest.fixture(scope="module")
def exact(embedded, photos) -> dict[tuple[str, str, str], samjax.Prediction]:
    """Predict everything in float32, once."""
    predictor, found = samjax.SamPredictor(embedded), {}
    for name, image in photos.items():
        predictor.set_image(image)
        for label, given in prompts(*image.shape[:2]).items():
            for kind, multimask in KINDS:
                found[name, label, kind] = predictor.predict(**given, multimask_output=multimask)
    return found


@pytest.mark.parametrize("narrow", [False, True], ids=["CPU", "accelerator"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_masks_are_nearly_those_of_float32(
    exact, photos, dtype, narrow, record_property, capsys, monkeypatch
):
    chunks = replace(CPU_CHUNKS, narrow=narrow)
    monkeypatch.setattr(segmenter, "chunks_for", lambda *_: chunks)
    half = samjax.SamPredictor(samjax.load(dtype=dtype))
    found: dict[str, list] = {"single": [], "best of three": []}
    chosen_alike = []
    for name, image in photos.items():
        half.set_image(image)
        for label, given in prompts(*image.shape[:2]).items():
            for kind, multimask in KINDS:
                a = exact[name, label, kind]
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
                f"{dtype}, narrow {narrow}, {kind}: mean IoU {ious.mean():.4f}, "
                f"median {np.median(ious):.4f}, worst {ious.min():.3f}, {len(ious)} masks"
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
