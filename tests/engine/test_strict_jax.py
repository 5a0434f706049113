"""samjax runs under the strict settings of research code in JAX, and gives the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters
from tests.support.models import GOLDEN

STRICT = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_TRANSFER_GUARD": "disallow"}

_CODE = """
import copy, pickle, sys
import jax
import numpy as np
import samjax
from tests.support.models import VARIANTS, drawn_image

folder, out = sys.argv[1:]
assert len(jax.devices()) == 2
image, other = drawn_image(48, 70), drawn_image(40, 30)
found = {}

def keep(name, *arrays):
    for i, array in enumerate(arrays):
        found[f"{name} {i}"] = np.asarray(array)

def use(name, sam):
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(image)
    n = sam.config.low_res_size
    boxes = [[1, 2, 30, 40], [3, 4, 60, 30], [3, 4, 9, 9]]
    keep(f"{name} click", *predictor.predict([[30, 20]], [1], return_logits=True))
    low_res = predictor.predict([[30, 20], [3, 3]], [1, 0], box=boxes[0]).low_res
    keep(f"{name} mask", *predictor.predict(mask_input=low_res[:1]))
    keep(f"{name} many", *predictor.predict_many(boxes=boxes, return_logits=True))
    keep(f"{name} embedding", predictor.get_image_embedding())
    predictor.load_embedding(predictor.save_embedding(f"{out}.{len(found)}.npz"))
    return predictor

sam = samjax.load(folder)  # samjax's own format
predictor = use("own", sam)
prompts = [{"boxes": [[1, 2, 9, 9]]}, {"point_coords": [[[3, 4]]], "point_labels": [[1]]}]
for prediction in predictor.predict_images([image, other], prompts):
    keep("images", *prediction)
options = dict(points_per_side=4, pred_iou_thresh=-9, stability_score_thresh=0, crop_n_layers=1)
records = samjax.SamAutomaticMaskGenerator(sam, min_mask_region_area=4, **options).generate(image)
keep("automatic", *[record["segmentation"] for record in records])
assert records
sam.warmup().refresh()
keep("copies", copy.deepcopy(predictor).predict([[30, 20]], [1]).masks)
keep("copies", pickle.loads(pickle.dumps(predictor)).predict([[30, 20]], [1]).masks)

spread = samjax.SamPredictor(samjax.load(folder, device="all"))
for embedding in spread.encode_images([image, other, image]):
    keep("batches", jax.device_get(embedding.features))
for name in ("Light HQ-SAM",):  # TinyViT, and SAM-HQ's head
    use(name, samjax.load(VARIANTS[name]))
for preset in ("medsam", "microsam"):
    made = samjax.SamPredictor(samjax.load(folder, preprocess=preset))
    made.set_image(image)
    keep(preset, *made.predict([[30, 20]], [1], return_logits=True))
use("bfloat16", samjax.load(folder, dtype="bfloat16"))
np.savez(out, **found)
"""


def run(folder: Path, out: Path, settings: dict[str, str]) -> dict[str, np.ndarray]:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(folder), str(out)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | settings,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as file:
        return dict(file)


def test_under_strict_settings_the_results_are_the_same(tmp_path):
    parameters = random_parameters(GOLDEN)
    save_orbax_folder(tmp_path / "own", Checkpoint(parameters, GOLDEN, "official", None))
    strict = run(tmp_path / "own", tmp_path / "strict.npz", STRICT)
    usual = run(tmp_path / "own", tmp_path / "usual.npz", {})
    assert strict.keys() == usual.keys()
    assert len(strict) > 40
    for name, value in usual.items():
        np.testing.assert_array_equal(strict[name], value, err_msg=name)


@pytest.mark.parametrize("setting", STRICT)
def test_the_settings_are_in_force(setting):
    code = "import jax, jax.numpy as jnp, numpy as np; jax.jit(lambda x: x + jnp.ones((2, 3)))"
    call = "(jnp.ones(3))" if setting.endswith("PROMOTION") else "(np.ones((2, 3)))"
    done = subprocess.run(
        [sys.executable, "-c", code + call],
        env=os.environ | {setting: STRICT[setting], "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Disallowed host-to-device" in done.stderr or "rank_promotion" in done.stderr
