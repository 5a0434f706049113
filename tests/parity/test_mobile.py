"""Compare MobileSAM and Light HQ-SAM with their official PyTorch code."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import samjax
from convert.variants import HqPredictor, MobilePredictor, load_variant, mobile
from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.families.official import read_official_weights
from samjax.checkpoint.layout import official_layout
from samjax.model import tiny_vit
from samjax.model.attention import CPU_CHUNKS, UNCHUNKED
from samjax.model.config import SamConfig, TinyVitConfig
from tests.parity.test_modules import nchw, nhwc, noise
from tests.parity.test_predictor import compare, prompt_sets
from tests.support.models import drawn_image
from tests.support.parity.measure import Ledger
from tests.support.parity.official import randomise, state_arrays
from tests.support.parity.variants import random_variant

pytestmark = pytest.mark.parity
CONFIGS = {
    "mobilesam": (SamConfig.mobile(), MobilePredictor),
    "light hq-sam": (SamConfig.mobile().with_hq(), HqPredictor),
}


@pytest.fixture(autouse=True)
def _highest():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


# ---------------------------------------------------------------- modules


class Part(torch.nn.Module):
    """Wraps one module for ``randomise``, which expects a whole model."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module
        self.prompt_encoder = torch.nn.Module()
        self.prompt_encoder.pe_layer = torch.nn.Module()
        matrix = torch.zeros(2, 1)
        self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix = matrix


def random_part(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    part = Part(module).eval()
    randomise(part, torch.Generator().manual_seed(seed))
    return part.module


def same_weights(ours: nnx.Module, theirs: torch.nn.Module, prefix: str, config: SamConfig) -> None:
    """Copy by the layout of a whole model, of which both are the part called ``prefix``."""
    tensors = {f"{prefix}.{key}": value for key, value in state_arrays(theirs).items()}
    entries = [e for key, e in official_layout(config).items() if key.startswith(f"{prefix}.")]
    counters = [key for key in tensors if key.endswith("num_batches_tracked")]
    assert {e.key for e in entries} == set(tensors) - set(counters)
    for entry in entries:
        target = ours
        *path, last = entry.path.removeprefix(f"{prefix}.").split(".")
        for name in path:
            target = target[int(name)] if name.isdigit() else getattr(target, name)
        parameter = getattr(target, last)
        value = entry.to_samjax(tensors[entry.key])
        assert parameter.shape == value.shape, entry.path
        parameter[...] = value


def small(window: int, side: int) -> SamConfig:
    """Make sizes whose second stage has a grid of ``side`` and windows of ``window``."""
    return SamConfig(
        TinyVitConfig(
            image_size=8 * side,
            widths=(8, 12, 16, 24),
            depths=(1, 1, 1, 1),
            num_heads=(0, 3, 2, 2),
            window_sizes=(0, window, 4, 4),
            conv_dim=32,
            mlp_dims=(0, 48, 64, 96),
            out_dim=16,
            num_classes=3,
        )
    )


# (window, side): padding, none, the whole grid, a window larger than the grid
@pytest.mark.parametrize(("window", "side"), [(4, 10), (5, 10), (6, 6), (7, 4)])
@pytest.mark.parametrize("chunks", [UNCHUNKED, CPU_CHUNKS], ids=["unchunked", "cpu"])
def test_attention_block(window: int, side: int, chunks, ledger):
    config = small(window, side)
    theirs = random_part(mobile.tiny_vit_sam.TinyViTBlock(12, (side, side), 3, window))
    ours = tiny_vit.AttentionBlock(config.image_encoder, 1, rngs=None)
    same_weights(ours, theirs, "image_encoder.layers.1.blocks.0", config)
    x = noise(side, side, 12)
    expected = theirs(torch.from_numpy(x).reshape(1, side * side, 12))
    got = np.asarray(ours(jnp.asarray(x), chunks)).reshape(1, side * side, 12)
    ledger.embedding("TinyViT, attention block", got, expected.numpy())


@pytest.mark.parametrize("side", [8, 9])
def test_convolution_block(side: int, ledger):
    theirs = random_part(mobile.tiny_vit_sam.MBConv(8, 8, 4.0, torch.nn.GELU, 0.0))
    ours = tiny_vit.ConvBlock(8, 32, rngs=None)
    same_weights(ours, theirs, "image_encoder.layers.0.blocks.0", small(4, 8))
    x = noise(side, side, 8)
    ledger.embedding("TinyViT, convolution block", ours(jnp.asarray(x)), nhwc(theirs(nchw(x))))


# The official code has a stride of 1 where the next stage is 320 wide
@pytest.mark.parametrize(("outputs", "stride"), [(12, 2), (320, 1)])
@pytest.mark.parametrize("side", [8, 9])
def test_merging(side: int, outputs: int, stride: int, ledger):
    part = mobile.tiny_vit_sam.PatchMerging((side, side), 8, outputs, torch.nn.GELU)
    theirs = random_part(part)
    ours = tiny_vit.Merging(8, outputs, stride, rngs=None)
    wide = TinyVitConfig(widths=(8, outputs, 1, 1), depths=(0,) * 4)
    same_weights(ours, theirs, "image_encoder.layers.0.downsample", SamConfig(wide))
    x = noise(side, side, 8)
    got = np.asarray(ours(jnp.asarray(x)))
    expected = theirs(nchw(x))[0].numpy()
    ledger.embedding("TinyViT, merging", got.reshape(-1, outputs), expected)


def test_stem(ledger):
    theirs = random_part(mobile.tiny_vit_sam.PatchEmbed(3, 8, 32, torch.nn.GELU))
    ours = tiny_vit.Stem(8, rngs=None)
    same_weights(ours, theirs, "image_encoder.patch_embed", small(4, 8))
    x = noise(32, 32, 3)
    ledger.embedding("TinyViT, stem", ours(jnp.asarray(x)), nhwc(theirs(nchw(x))))


# ------------------------------------------------- end to end, at full size


@pytest.fixture(scope="module", params=CONFIGS)
def made(request: pytest.FixtureRequest, tmp_path_factory):
    config, predictor = CONFIGS[request.param]
    model = random_variant(config)
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(model.state_dict(), path)
    image = drawn_image(90, 61)
    ours, theirs = samjax.SamPredictor(samjax.load(path)), predictor(model)
    ours.set_image(image)
    theirs.set_image(image)
    return request.param, path, ours, theirs


def test_published_sizes_are_inferred(made):
    family, _, ours, _ = made
    assert ours.model.config == CONFIGS[family][0]
    assert ours.model.family == family
    assert any("counters of training steps" in note for note in ours.model.notes)


def test_predict(made, ledger):
    family, _, ours, theirs = made
    stage = f"{family}, image embedding"
    ledger.embedding(stage, ours.get_image_embedding(), theirs.get_image_embedding().numpy())
    low_res = theirs.predict(np.array([[30.0, 45.0]]), np.array([1]), multimask_output=False)[2]
    sets = prompt_sets(90, 61, low_res)
    for name in ("point", "points and box", "point and mask", "points, box and mask"):
        for multimask in (True, False):
            arguments = sets[name] | {"multimask_output": multimask}
            compare(ours, theirs, arguments, ledger, family)


def test_written_files_load_into_the_official_class(made, tmp_path):
    """The file, to a folder of samjax, and back: bit for bit, and strictly into PyTorch."""
    family, path, ours, theirs = made
    convert_checkpoint(path, tmp_path / "orbax")
    convert_checkpoint(tmp_path / "orbax", tmp_path / "back.pth")
    tensors = read_official_weights(tmp_path / "back.pth").tensors
    back = load_variant(CONFIGS[family][0], tensors).state_dict()
    for key, value in theirs.model.state_dict().items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    loaded = samjax.load(tmp_path / "orbax")
    assert (loaded.config, loaded.family) == (ours.model.config, family)


# ---------------------------------------------------------------- mistakes


def epsilon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tiny_vit, "BATCH_NORM_EPS", 1e-3)


def rows_for_columns_of_biases(patch: pytest.MonkeyPatch) -> None:
    right = tiny_vit.bias_table

    def table(biases, n: int):
        return right(biases.reshape(-1, n, n).swapaxes(1, 2).reshape(biases.shape), n)

    patch.setattr(tiny_vit, "bias_table", table)


def no_biases(patch: pytest.MonkeyPatch) -> None:
    """Drop the biases, as the official code does without ``eval`` after loading."""
    right = tiny_vit.bias_table
    patch.setattr(tiny_vit, "bias_table", lambda biases, n: right(0 * biases, n))


def padded_after_the_norm(patch: pytest.MonkeyPatch) -> None:
    right = tiny_vit.partition
    patch.setattr(tiny_vit, "partition", lambda x, fill, *rest: right(x, 0 * fill, *rest))


def heads_behind_parts(patch: pytest.MonkeyPatch) -> None:
    """Split queries, keys and values in SAM's order, all queries first."""
    right = tiny_vit.partition

    def shuffled(qkv, fill, window: int, heads: int):
        def back(x):
            return x.reshape(*x.shape[:-1], 3, heads, -1).swapaxes(-2, -3).reshape(x.shape)

        return right(back(qkv), back(fill), window, heads)

    patch.setattr(tiny_vit, "partition", shuffled)


@pytest.mark.parametrize(
    "mistake",
    [
        epsilon,
        rows_for_columns_of_biases,
        no_biases,
        padded_after_the_norm,
        heads_behind_parts,
    ],
    ids=lambda f: f.__name__,
)
def test_mistake_is_noticed(mistake: Callable, record_property):
    test_attention_block(4, 10, UNCHUNKED, Ledger())  # right as it is
    ledger = Ledger(strict=False)
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        test_attention_block(4, 10, UNCHUNKED, ledger)
    record_property("violations", ledger.violations())
    assert ledger.violations()


def test_small_difference_of_epsilon_is_noticed():
    """1e-6, LayerNorm2d's: visible where a channel hardly varied during training."""

    def run(ledger: Ledger) -> None:
        theirs = random_part(mobile.tiny_vit_sam.Conv2d_BN(8, 8))
        theirs.bn.running_var.mul_(1e-4)
        ours = tiny_vit.ConvNorm(tiny_vit.Linear(8, 8, use_bias=False, rngs=None), 8)
        ours.conv.kernel[...] = theirs.c.weight[:, :, 0, 0].numpy().T
        norm, bn = ours.norm, theirs.bn
        norm.scale[...], norm.bias[...] = bn.weight.numpy(), bn.bias.numpy()
        norm.mean[...], norm.var[...] = bn.running_mean.numpy(), bn.running_var.numpy()
        x = noise(4, 4, 8)
        ledger.embedding("TinyViT, norm", ours(jnp.asarray(x)), nhwc(theirs(nchw(x))))

    run(Ledger())
    ledger = Ledger(strict=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_vit, "BATCH_NORM_EPS", 1e-6)
        run(ledger)
    assert ledger.violations()
