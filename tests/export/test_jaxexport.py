"""Exported StableHLO runs by jax alone: in processes that have no samjax."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.export.write import export_model
from samjax.image.preset import prepare
from tests.support.exported import (
    VIT_B_DECODER,
    as_input,
    deviation,
    load_seeded,
    make_prompt,
)
from tests.support.models import drawn_image

TOLERANCE = 1e-4  # of the logits' standard deviation
NAMES = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
# Runs a file on the arrays of each prompt; argv: file, arrays, results
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
import importlib.util
import jax, numpy as np
assert importlib.util.find_spec("samjax") is None
assert importlib.util.find_spec("flax") is None
with open(sys.argv[2], "rb") as file:
    exported = jax.export.deserialize(bytearray(file.read()))
assert exported.platforms == ("cpu", "cuda", "tpu")
call = jax.jit(exported.call)
given = np.load(sys.argv[3])
found = {}
for row in sorted({name.split(":")[0] for name in given.files}):
    arrays = [given[f"{row}:{i}"] for i in range(len(given.files)) if f"{row}:{i}" in given.files]
    for i, out in enumerate(jax.tree.leaves(call(*arrays))):
        found[f"{row}:{i}"] = np.asarray(out)
np.savez(sys.argv[4], **found)
"""


@pytest.fixture(scope="module")
def without_samjax(tmp_path_factory) -> Path:
    """A folder with links to all installed packages but samjax and Flax."""
    folder = tmp_path_factory.mktemp("packages")
    for home in {Path(module.__file__).parents[1] for module in (jax, np)}:
        for package in home.iterdir():
            if package.suffix != ".pth" and not package.name.startswith(("samjax", "flax", "_")):
                (folder / package.name).symlink_to(package)
    return folder


def run_alone(packages: Path, file: Path, rows: dict[str, list[np.ndarray]]) -> dict[str, list]:
    """Call the file on each row of arrays in a process that sees only ``packages``."""
    given, found = file.with_suffix(".in.npz"), file.with_suffix(".out.npz")
    np.savez(given, **{f"{name}:{i}": x for name, row in rows.items() for i, x in enumerate(row)})
    arguments = [packages, file, given, found]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, *map(str, arguments)],
        env={"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(found) as results:
        return {
            name: [
                results[f"{name}:{i}"]
                for i in range(sum(f.startswith(f"{name}:") for f in results))
            ]
            for name in rows
        }


def prompts(sam, features, points: int, cases) -> tuple[dict, dict]:
    """Return the rows of the decoder's arrays, and what samjax computes on them."""
    rows, expected, mask = {}, {}, None
    for number, (count, box, with_mask) in enumerate(cases):
        prompt = make_prompt(
            sam.config.image_size, count, box=box, mask=mask if with_mask else None
        )
        arrays = {"image_embeddings": as_input(features)} | prompt.arrays(sam, points)
        name = f"{number:02d}"
        rows[name] = [arrays[each] for each in NAMES]
        low, iou = expected[name] = prompt.decode(sam, features)
        assert iou.shape == (1, 4)
        mask = low[0, 1]
    return rows, expected


def test_decoder_of_the_embedded_checkpoint(embedded, photo, without_samjax, tmp_path):
    features = embedded.encode(prepare(photo, embedded.config.image_size, embedded.preset)).features
    (written,) = export_model(embedded, tmp_path / "sam.jaxexport", points=18)
    assert written.size < 13e6
    cases = [(n, box, n > 1 and n % 2 == 0) for n in range(1, 17) for box in (False, True)]
    rows, expected = prompts(embedded, features, 18, cases)
    for name, (iou, low) in run_alone(without_samjax, written.path, rows).items():
        for part in (slice(0, 1), slice(1, None)):  # one mask, and three
            assert deviation(low[:, part], expected[name][0][:, part]) < TOLERANCE
        np.testing.assert_allclose(iou, expected[name][1], atol=1e-5)


def test_decoder_of_vit_b_sizes(without_samjax, tmp_path):
    sam = load_seeded(VIT_B_DECODER, tmp_path)
    features = jnp.asarray(np.random.default_rng(0).normal(0, 0.2, (64, 64, 256)), jnp.float32)
    (written,) = export_model(sam, tmp_path / "sam.jaxexport", points=18)
    cases = [(1, False, False), (2, True, True), (16, True, False)]
    rows, expected = prompts(sam, features, 18, cases)
    for name, (iou, low) in run_alone(without_samjax, written.path, rows).items():
        assert deviation(low, expected[name][0]) < TOLERANCE
        np.testing.assert_allclose(iou, expected[name][1], atol=1e-4)


def test_any_number_of_points_and_prompts(small, tmp_path):
    """One file serves every shape; JAX compiles each of them once."""
    path = tmp_path / "any.jaxexport"
    export_model(small, path, batch=None, masks="all")
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    features = small.encode(prepare(drawn_image(48, 70), small.config.image_size)).features
    for batch, points in ((1, 2), (3, 7)):
        prompt = make_prompt(small.config.image_size, points, box=True)
        arrays = prompt.arrays(small)
        rows = [np.repeat(arrays[name], batch, 0) for name in NAMES[1:]]
        iou, low = exported.call(as_input(features), *rows)
        expected, expected_iou = prompt.decode(small, features)
        assert iou.shape == (batch, 4)
        for each in np.asarray(low):
            assert deviation(each[None], expected) < TOLERANCE
        np.testing.assert_allclose(iou[:1], expected_iou, atol=1e-5)


def test_the_best_mask(small, tmp_path):
    features = small.encode(prepare(drawn_image(48, 70), small.config.image_size)).features
    path = tmp_path / "best.jaxexport"
    export_model(small, path, masks="best")
    best = jax.export.deserialize(bytearray(path.read_bytes()))
    for points, single in ((1, False), (2, True)):
        prompt = make_prompt(small.config.image_size, points, box=False)
        low, iou = prompt.decode(small, features)
        chosen = 0 if single else 1 + int(iou[0, 1:].argmax())
        arrays = prompt.arrays(small)
        found_iou, found = best.call(as_input(features), *(arrays[name] for name in NAMES[1:]))
        assert found.shape[:2] == found_iou.shape == (1, 1)
        assert deviation(np.asarray(found), low[:, chosen : chosen + 1]) < TOLERANCE


def test_encoder(small, without_samjax, tmp_path):
    (written,) = export_model(small, tmp_path / "encoder.jaxexport", part="encoder")
    rows, expected = {}, {}
    for name, shape in (("wide", (48, 70)), ("tall", (90, 61))):
        image = prepare(drawn_image(*shape), small.config.image_size)
        h, w = image.input_size
        rows[name] = [image.pixels[None, :h, :w]]
        expected[name] = as_input(small.encode(image).features)
    for name, (found,) in run_alone(without_samjax, written.path, rows).items():
        assert deviation(found, expected[name]) < TOLERANCE
