"""Prove that the parity tests can fail: each known mistake violates their limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import pytest
import torch
from PIL import Image

import samjax
from samjax import prediction
from samjax.checkpoint import layout
from samjax.engine import functions as traced
from samjax.masks import rules
from samjax.masks import upscale as masks
from samjax.model import image_encoder, layers, mask_decoder, prompt_encoder
from samjax.model.prompt_encoder import ABSENT, NOT_A_POINT
from samjax.model.sam import Sam
from tests.parity.test_predictor import compare, prompt_sets
from tests.support.models import PLAIN, drawn_image
from tests.support.parity.measure import Ledger, ViolationError
from tests.support.parity.official import OfficialPredictor, random_official

pytestmark = pytest.mark.parity
SIZE = 48, 70


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    model = random_official(PLAIN)
    path = tmp_path_factory.mktemp("plain") / "sam.pth"
    torch.save(model.state_dict(), path)
    return path, model


@pytest.fixture(scope="module")
def faint(tmp_path_factory):
    """Make weights with small activations before one norm of each epsilon.

    An epsilon only shows where variances are small: on ordinary random weights 1e-5 instead of
    1e-6 moves a norm by 5e-6, below every limit. Trained checkpoints do have such places.
    """
    model = random_official(PLAIN, seed=1)
    with torch.no_grad():
        encoder = model.image_encoder
        for part in (encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias):
            part.mul_(0.02)
        encoder.pos_embed.mul_(0.02)
        attention = model.mask_decoder.transformer.layers[0].self_attn.out_proj
        attention.weight.mul_(0.02)
        attention.bias.mul_(0.02)
    path = tmp_path_factory.mktemp("faint") / "sam.pth"
    torch.save(model.state_dict(), path)
    return path, model


def run(weights, ledger: Ledger | None = None) -> Ledger:
    """Run the comparisons of test_predictor for one image, and two stages of test_modules."""
    path, model = weights
    ledger = ledger or Ledger()
    ours, theirs = samjax.SamPredictor(samjax.load(path)), OfficialPredictor(model)
    image = drawn_image(*SIZE)
    ours.set_image(image)
    theirs.set_image(image)
    ledger.embedding(
        "image embedding", ours.get_image_embedding(), theirs.get_image_embedding().numpy()
    )
    stages(ours.model.model, model, ledger)
    centre = np.array([[SIZE[1] / 2, SIZE[0] / 2]])
    low_res = theirs.predict(centre, np.array([1]), multimask_output=False)[2]
    for arguments in prompt_sets(*SIZE, low_res).values():
        compare(ours, theirs, arguments | {"return_logits": True}, ledger)
        compare(ours, theirs, arguments, ledger)
    return ledger


@torch.no_grad()
def stages(ours: Sam, theirs: torch.nn.Module, ledger: Ledger) -> None:
    """Compare the two small parts whose wrong GELU later stages would hide."""
    m, g = PLAIN.low_res_size, PLAIN.grid
    masks = (8 * np.random.default_rng(0).standard_normal((2, m, m))).astype(np.float32)
    dense = theirs.prompt_encoder.mask_downscaling(torch.from_numpy(masks)[:, None])
    got = ours.decoder.prompt_encoder.dense(masks, None)
    ledger.embedding("mask prompts", got, dense.flatten(2).transpose(1, 2).numpy())
    upscaling = theirs.mask_decoder.output_upscaling
    image = dense[:1]
    pixels = image.flatten(2).transpose(1, 2).numpy()
    got = np.asarray(ours.decoder.mask_decoder.output_upscaling(jax.numpy.asarray(pixels)))
    # n (dy1 dx1) (dy2 dx2) c -> c, rows, columns
    got = got.reshape(g, g, 2, 2, 2, 2, -1).transpose(6, 0, 2, 4, 1, 3, 5)
    ledger.embedding("mask upscaling", got.reshape(-1, m, m), upscaling(image)[0].numpy())


def test_unbroken_is_equal(plain):
    run(plain)


def test_unbroken_is_equal_on_faint_activations(faint):
    run(faint)


def _tanh_gelu(patch: pytest.MonkeyPatch, *modules) -> None:
    for module in modules:
        patch.setattr(module, "gelu", lambda x: jax.nn.gelu(x, approximate=True))


def encoder_gelu(patch: pytest.MonkeyPatch) -> None:
    _tanh_gelu(patch, image_encoder)


def decoder_gelu(patch: pytest.MonkeyPatch) -> None:
    _tanh_gelu(patch, layers)  # of the upscaling; the encoders have names of their own


def mask_prompt_gelu(patch: pytest.MonkeyPatch) -> None:
    _tanh_gelu(patch, prompt_encoder)


def flipped_transposed_convolution(patch: pytest.MonkeyPatch) -> None:
    right = layers.ConvTranspose2x2.__call__

    def flipped(self, x, **options):
        return right(self, x, **options)[..., ::-1, :]

    patch.setattr(layers.ConvTranspose2x2, "__call__", flipped)


def rows_for_columns_in_transposed_convolution(patch: pytest.MonkeyPatch) -> None:
    right = layout.Entry.to_samjax

    def swapped(self, tensor):
        return right(self, tensor.swapaxes(-1, -2) if self.kind == "transposed" else tensor)

    patch.setattr(layout.Entry, "to_samjax", swapped)


def no_padding_point(patch: pytest.MonkeyPatch) -> None:
    right = prediction.pack

    def pack(points, boxes, masks, original_size, input_size):
        prompts = right(points, boxes, masks, original_size, input_size)
        kinds = prompts.kinds.copy()
        for row in kinds:
            last = np.flatnonzero(row != ABSENT)
            if len(last) and row[last[-1]] == NOT_A_POINT:
                row[last[-1]] = ABSENT
        return prompts._replace(kinds=kinds)

    patch.setattr(prediction, "pack", pack)


def windows_padded_after_projection(patch: pytest.MonkeyPatch) -> None:
    right = image_encoder.partition
    patch.setattr(image_encoder, "partition", lambda qkv, fill, *rest: right(qkv, 0 * fill, *rest))


def no_relative_positions(patch: pytest.MonkeyPatch) -> None:
    right = image_encoder.relative_table
    patch.setattr(image_encoder, "relative_table", lambda *given: 0 * right(*given))


def relative_positions_reversed(patch: pytest.MonkeyPatch) -> None:
    right = image_encoder.relative_table
    patch.setattr(image_encoder, "relative_table", lambda *given: right(*given).swapaxes(0, 1))


def corners_of_pixels(patch: pytest.MonkeyPatch) -> None:
    """Break the prompts: they are not moved to pixel centres."""
    right = prompt_encoder.PromptEncoder.sparse
    patch.setattr(
        prompt_encoder.PromptEncoder, "sparse", lambda s, xy, kinds: right(s, xy - 0.5, kinds)
    )


def no_positions_in_the_second_layer(patch: pytest.MonkeyPatch) -> None:
    right = mask_decoder.TwoWayBlock.__call__

    def call(self, tokens, token_pe, *rest, **options):
        return right(self, tokens, token_pe if self.first else 0 * token_pe, *rest, **options)

    patch.setattr(mask_decoder.TwoWayBlock, "__call__", call)


def black_padding(patch: pytest.MonkeyPatch) -> None:
    """Pad before the normalisation instead of after it."""
    right = traced.normalise
    patch.setattr(
        traced, "normalise", lambda x, size, preset: right(x, 0 * size + x.shape[-2], preset)
    )


def _resized_by_pillow(filter: Image.Resampling, low_res, image_size, inside, original, threshold):
    (h, w), (height, width) = inside, original
    scale = low_res.shape[-1] / image_size
    out = []
    for mask in low_res.reshape(-1, *low_res.shape[-2:]):
        picture = Image.fromarray(mask)
        box = (0, 0, w * scale, h * scale)
        out.append(np.asarray(picture.resize((width, height), filter, box=box)))
    logits = np.stack(out).reshape(*low_res.shape[:-2], height, width)
    return logits if threshold is None else logits > threshold


def antialiased_masks(patch: pytest.MonkeyPatch) -> None:
    """Upscale in one antialiased step from low-res to the original size."""
    patch.setattr(rules, "upscale", lambda *given: _resized_by_pillow(Image.BILINEAR, *given))


def bicubic_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "upscale", lambda *given: _resized_by_pillow(Image.BICUBIC, *given))


def aligned_corners(patch: pytest.MonkeyPatch) -> None:
    right = masks.bilinear_rows

    def rows(inputs: int, outputs: int, start: int, stop: int) -> masks.Band:
        whole = np.interp(
            np.linspace(0, inputs - 1, max(outputs, 2))[:outputs],
            np.arange(inputs),
            np.arange(inputs),
        )
        weights = np.maximum(0, 1 - np.abs(whole[start:stop, None] - np.arange(inputs)))
        assert right
        return masks.Band(start, stop, 0, inputs, weights.astype(np.float32))

    masks.upscale_bands.cache_clear()
    patch.setattr(masks, "bilinear_rows", rows)


BROKEN = (
    encoder_gelu,
    decoder_gelu,
    mask_prompt_gelu,
    flipped_transposed_convolution,
    rows_for_columns_in_transposed_convolution,
    no_padding_point,
    windows_padded_after_projection,
    no_relative_positions,
    relative_positions_reversed,
    corners_of_pixels,
    no_positions_in_the_second_layer,
    black_padding,
    antialiased_masks,
    bicubic_masks,
    aligned_corners,
)


@pytest.fixture
def patch():
    with pytest.MonkeyPatch.context() as made:
        yield made
    masks.upscale_bands.cache_clear()


def violated(weights, record_property: Callable) -> None:
    """Assert that the strict comparison fails, and record every stage above its limit."""
    ledger = run(weights, Ledger(strict=False))
    record_property("violations", ledger.violations())
    print({stage: f"{error:.1e}" for stage, error in ledger.violations().items()})
    assert ledger.violations()
    stage = next(iter(ledger.violations()))
    worst, limit, _ = ledger.worst[stage]
    with pytest.raises(ViolationError):
        Ledger().note(stage, worst, limit)


@pytest.mark.parametrize("mistake", BROKEN, ids=lambda f: f.__name__)
def test_mistake_is_noticed(plain, patch, mistake: Callable, record_property):
    mistake(patch)
    violated(plain, record_property)


def test_encoder_epsilon_is_noticed(faint, patch, record_property):
    patch.setattr(image_encoder, "_EPS", 1e-5)
    violated(faint, record_property)


def test_decoder_epsilon_is_noticed(faint, patch, record_property):
    right = mask_decoder.TwoWayBlock.__init__

    def init(self, config, **rest):
        right(self, dataclasses.replace(config, layer_norm_eps=1e-6), **rest)

    patch.setattr(mask_decoder.TwoWayBlock, "__init__", init)
    violated(faint, record_property)
