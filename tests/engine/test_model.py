"""Segmenter.model is the Flax NNX module: inspect it, differentiate through it, change it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import samjax
from samjax.image.preset import normalise, prepare
from samjax.model.prompt_encoder import NOT_A_POINT, POSITIVE, Prompts
from tests.support.models import PLAIN, drawn_image


@pytest.fixture(scope="module")
def sam() -> samjax.Segmenter:
    return samjax.load(PLAIN)


@pytest.fixture(scope="module")
def pixels(sam: samjax.Segmenter) -> jax.Array:
    prepared = prepare(drawn_image(48, 70), sam.config.image_size, sam.preset)
    return normalise(prepared.pixels, np.array(prepared.input_size, np.int32), sam.preset)


def click(xy: jax.Array) -> Prompts:
    coords = jnp.zeros((1, 2, 2)).at[0, 0].set(xy)
    return Prompts(coords, jnp.array([[POSITIVE, NOT_A_POINT]], jnp.int32))


XY = jnp.array([30.0, 20.0])


def test_split_gives_every_parameter(sam):
    _, state = nnx.split(sam.model)
    leaves = jax.tree.leaves(state)
    assert len(leaves) == len(sam.parameters())
    assert sum(leaf.size for leaf in leaves) == sum(p.size for p in sam.parameters().values())


def test_the_module_gives_what_the_engine_gives(sam, pixels):
    embedding = sam.encode(prepare(drawn_image(48, 70), sam.config.image_size, sam.preset))
    ours = sam.model.encode(pixels)
    np.testing.assert_allclose(ours, embedding.features, atol=2e-5 * np.abs(ours).max())
    low_res, _ = sam.model.decode(ours, click(XY), multimask=True)
    prompts = Prompts(*(np.asarray(x) for x in click(XY)[:2]))
    clicked, _ = sam.click(embedding.features, prompts, multimask=True)
    np.testing.assert_allclose(low_res, clicked, atol=1e-3 * np.std(clicked))


def test_intermediate_activations(sam, pixels):
    captured = nnx.capture(
        sam.model.image_encoder, nnx.Intermediate, method_outputs=nnx.Intermediate
    )
    embedding, found = captured(pixels)
    grid, width = sam.config.grid, sam.config.image_encoder.width
    for i in range(sam.config.image_encoder.depth):
        (block,) = jax.tree.leaves(found["blocks"][i]["__call__"])
        assert block.shape == (grid * grid, width)
        assert float(jnp.abs(block).max()) > 0
    np.testing.assert_allclose(embedding, sam.model.encode(pixels), atol=1e-5)


def score(model, pixels: jax.Array, xy: jax.Array) -> jax.Array:
    """Mean logit of the first mask of a click."""
    low_res, _ = model.decode(model.encode(pixels), click(xy), multimask=True)
    return low_res[0, 0].mean()


def slope(f, x: jax.Array, direction: jax.Array, step: float) -> float:
    """A central difference."""
    return float((f(x + step * direction) - f(x - step * direction)) / (2 * step))


def test_gradient_of_pixels(sam, pixels):
    f = jax.jit(lambda x: score(sam.model, x, XY))
    found = jax.jit(jax.grad(f))(pixels)
    direction = found / jnp.linalg.norm(found)
    along = float((found * direction).sum())
    assert along > 0
    assert along == pytest.approx(slope(f, pixels, direction, 2e-3), rel=0.05)


def test_gradient_of_a_prompt(sam, pixels):
    embedding = sam.model.encode(pixels)

    @jax.jit
    def f(xy: jax.Array) -> jax.Array:
        return sam.model.decode(embedding, click(xy), multimask=True)[0][0, 0].mean()

    found = jax.grad(f)(XY)
    for axis in (jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])):
        along = float(found @ axis)
        assert along == pytest.approx(slope(f, XY, axis, 0.05), rel=0.05, abs=1e-3)


def test_gradient_of_weights(sam, pixels):
    found = nnx.jit(nnx.grad(lambda model: score(model, pixels, XY)))(sam.model)
    norms = [float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(found)]
    assert len(norms) == len(jax.tree.leaves(nnx.split(sam.model)[1]))
    assert np.isfinite(norms).all()
    assert np.mean(np.array(norms) > 0) > 0.7  # tokens and heads of other masks get none


def test_changed_weights_are_taken_over_without_compiling(compilations):
    sam = samjax.load(PLAIN)
    image = drawn_image(48, 70)
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(image)
    before = predictor.predict([[30, 20]], [1])
    old = sam.fingerprint
    bias = sam.model.decoder.mask_decoder.iou_token
    bias[...] = bias[...] + 1.0
    compilations.reset()
    predictor.set_image(image)
    same = predictor.predict([[30, 20]], [1])
    np.testing.assert_array_equal(same.low_res, before.low_res)
    assert sam.refresh() is sam
    changed = predictor.predict([[30, 20]], [1])
    assert compilations.count == 0
    assert np.abs(changed.scores - before.scores).max() > 0
    assert sam.fingerprint != old
