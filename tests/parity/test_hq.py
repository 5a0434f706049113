"""Compare SAM-HQ with its official PyTorch code and with transformers' SamHQModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import samjax
from benchmarks.speed.competitors.sizes import hugging_face_sizes
from convert.variants import HqPredictor, load_variant
from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.families.huggingface import official_key
from samjax.checkpoint.families.official import read_official_weights
from samjax.model import hq as hq_module
from samjax.model import image_encoder, mask_decoder
from samjax.model.attention import CPU_CHUNKS, UNCHUNKED, Chunks
from samjax.model.config import SamConfig
from samjax.model.prompt_encoder import NOT_A_POINT, Prompts
from tests.parity.test_modules import nchw, nhwc, noise
from tests.parity.test_predictor import compare, prompt_sets
from tests.support.models import DRAWN, PLAIN, SIZES, drawn_image
from tests.support.parity.measure import Ledger
from tests.support.parity.variants import random_variant

pytestmark = pytest.mark.parity
HQ = PLAIN.with_hq()
NAMES = ("padded windows", "window of the whole grid", "five masks")


def saved(config: SamConfig, folder, name: str = "sam_hq") -> samjax.Segmenter:
    path = folder / f"{name}.pth"
    torch.save(random_variant(config).state_dict(), path)
    return samjax.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hq")


@pytest.fixture(scope="module")
def sam(folder) -> samjax.Segmenter:
    return saved(HQ, folder)


@pytest.fixture(scope="module")
def ours(sam) -> samjax.SamPredictor:
    return samjax.SamPredictor(sam)


@pytest.fixture(scope="module")
def theirs() -> HqPredictor:
    return HqPredictor(random_variant(HQ))


@pytest.fixture(autouse=True)
def _highest():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


# ---------------------------------------------------------------- modules


def test_features_of_the_image(sam, ledger):
    decoder, module = random_variant(HQ).mask_decoder, sam.model.image_encoder.hq
    g, c, d = HQ.grid, HQ.mask_decoder.embed_dim, HQ.image_encoder.width
    embedding, early = noise(g, g, c), noise(g, g, d, seed=1)
    expected = decoder.embedding_encoder(nchw(embedding)) + decoder.compress_vit_feat(nchw(early))
    both = module(jnp.asarray(embedding), jnp.asarray(early).reshape(g * g, d))
    image, features = hq_module.split_embedding(both, c)
    np.testing.assert_array_equal(image, embedding)
    # n (dy1 dx1 dy2 dx2) c -> rows and columns
    rows = np.asarray(features).reshape(g, g, 2, 2, 2, 2, -1).transpose(0, 2, 4, 1, 3, 5, 6)
    ledger.embedding("HQ, features", rows.reshape(4 * g, 4 * g, -1), nhwc(expected))


def test_mask_features(sam, ledger):
    official = random_variant(HQ).mask_decoder.embedding_maskfeature
    c, side = HQ.mask_decoder.embed_dim // 8, 12
    pixels, weights = noise(side, side, c), noise(1, c, seed=1)
    expected = torch.einsum("bchw,bc->bhw", official(nchw(pixels)), torch.from_numpy(weights))
    ours = sam.model.decoder.mask_decoder.hq.embedding_maskfeature(
        jnp.asarray(pixels)[None], jnp.asarray(weights)
    )
    ledger.embedding("HQ, mask features", ours, expected.numpy())


@pytest.mark.parametrize("chunks", [UNCHUNKED, CPU_CHUNKS, Chunks(pixels=1)], ids=str)
def test_decoder(sam, chunks, ledger):
    official, grid, size = random_variant(HQ), HQ.grid, HQ.image_size
    x = noise(size, size, 3)
    embedding, early = official.image_encoder(nchw(x))
    both = jax.jit(lambda x: sam.model.encode(x, chunks))(x)
    ledger.embedding("HQ, image embedding", both[..., : HQ.mask_decoder.embed_dim], nhwc(embedding))
    xy = np.random.default_rng(0).uniform(0, size, (5, 3, 2)).astype(np.float32)
    labels = np.tile(np.array([1, 0, 1], np.int32), (5, 1))
    sparse, dense = official.prompt_encoder(
        points=(torch.from_numpy(xy), torch.from_numpy(labels)), boxes=None, masks=None
    )
    padded = np.concatenate([xy, np.zeros((5, 1, 2), np.float32)], 1)
    kinds = np.concatenate([labels, np.full((5, 1), NOT_A_POINT, np.int32)], 1)
    for only in (False, True):
        prompts = Prompts(padded, kinds, hq_only=np.full(len(padded), only))
        for multimask in (True, False):
            run = jax.jit(
                lambda e, p, m=multimask: sam.model.decode(e, p, multimask=m, chunks=chunks)
            )
            low_res, iou = run(both, prompts)
            masks, quality = official.mask_decoder(
                embedding,
                official.prompt_encoder.get_dense_pe(),
                sparse,
                dense,
                multimask,
                only,
                early,
            )
            assert masks.shape == (5, 1, 4 * grid, 4 * grid)
            ledger.logits("HQ decoder, logits", low_res, masks.numpy())
            ledger.scores("HQ decoder, scores", iou, quality.numpy())


# ------------------------------------------------------------- end to end


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_inferred(name: str, folder):
    config = SIZES[name].with_hq()
    loaded = saved(config, folder, name)
    assert (loaded.config, loaded.family) == (config, "sam-hq")


@pytest.mark.parametrize("size", DRAWN[:2], ids=str)
def test_predict(ours, theirs, size: tuple[int, int], ledger):
    image = drawn_image(*size)
    ours.set_image(image)
    theirs.set_image(image)
    ledger.embedding(
        "HQ, image embedding", ours.get_image_embedding(), theirs.get_image_embedding().numpy()
    )
    centre = np.array([[size[1] / 2, size[0] / 2]])
    low_res = theirs.predict(centre, np.array([1]), multimask_output=False)[2]
    for arguments in prompt_sets(*size, low_res).values():
        for multimask in (True, False):
            for only in (True, False):
                extra = {"multimask_output": multimask, "hq_token_only": only}
                compare(ours, theirs, arguments | extra, ledger, "HQ predict")


@pytest.mark.parametrize("name", NAMES[1:])
def test_other_sizes(name: str, folder, ledger):
    config = SIZES[name].with_hq()
    ours, theirs = (
        samjax.SamPredictor(saved(config, folder, name)),
        HqPredictor(random_variant(config)),
    )
    image = drawn_image(48, 70)
    ours.set_image(image)
    theirs.set_image(image)
    for multimask in (True, False):
        arguments = {"point_coords": np.array([[30.0, 20.0]]), "point_labels": np.array([1])}
        compare(ours, theirs, arguments | {"multimask_output": multimask}, ledger, "HQ predict")


@pytest.mark.parametrize("only", [True, False])
def test_many_boxes(ours, theirs, only: bool, ledger):
    size = 48, 70
    image = drawn_image(*size)
    ours.set_image(image)
    theirs.set_image(image)
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 1, (5, 2, 2)), 1).reshape(-1, 4) * np.tile(size[::-1], 2)
    corners = theirs.transform.apply_boxes(boxes, size)
    for multimask in (True, False):
        got = ours.predict_many(boxes=boxes, multimask_output=multimask, hq_token_only=only)
        expected = theirs.predict_torch(
            None,
            None,
            torch.as_tensor(corners, dtype=torch.float),
            multimask_output=multimask,
            hq_token_only=only,
        )
        masks, scores, low_res = (x.numpy() for x in expected)
        ledger.logits("HQ predict_many, low-res logits", got.low_res, low_res)
        ledger.scores("HQ predict_many, scores", got.scores, scores)
        ledger.pixels("HQ predict_many, masks", got.masks, masks)


def test_written_files_load_into_the_official_class(sam, folder):
    """The file, to a folder of samjax, and back: bit for bit, and strictly into PyTorch."""
    convert_checkpoint(folder / "sam_hq.pth", folder / "orbax", overwrite=True)
    for name in ("back.pth", "back.safetensors"):
        convert_checkpoint(folder / "orbax", folder / name, overwrite=True)
        tensors = read_official_weights(folder / name).tensors
        for key, value in load_variant(HQ, tensors).state_dict().items():
            np.testing.assert_array_equal(value, random_variant(HQ).state_dict()[key])
    loaded = samjax.load(folder / "orbax")
    assert (loaded.config, loaded.family) == (sam.config, "sam-hq")


# ----------------------------------------------------------- Hugging Face


@pytest.fixture(scope="module")
def hugging_face(folder):
    """Write transformers' SamHQModel with the weights of the official one."""
    sizes = hugging_face_sizes(HQ)
    sizes["mask_decoder_config"]["vit_dim"] = HQ.image_encoder.width
    config = transformers.SamHQConfig(**sizes, attn_implementation="eager")
    model = transformers.SamHQModel(config).eval()
    weights = random_variant(HQ).state_dict()
    model.load_state_dict({key: weights[official_key(key)] for key in model.state_dict()})
    model.save_pretrained(folder / "hf")
    return folder / "hf"


def upscale_what_the_transformer_gives(decoder: torch.nn.Module) -> None:
    """Put right what SamHQModel's decoder does (seen in transformers 5.23).

    It upscales the image embedding from before the two-way transformer, rows and columns
    exchanged, where SAM-HQ's own code, and SamModel, take the transformer's output.
    """
    seen: dict[str, torch.Tensor] = {}
    decoder.transformer.register_forward_hook(
        lambda _module, _given, made: seen.update(pixels=made[1])
    )

    def replaced(_module: torch.nn.Module, given: tuple[torch.Tensor]) -> torch.Tensor:
        return seen["pixels"].transpose(2, 3).reshape(given[0].shape)

    decoder.upscale_conv1.register_forward_pre_hook(replaced)


def test_hugging_face_forward(hugging_face, sam, theirs, ledger):
    """Its masks are sorted by score, so that the first is the one that SAM-HQ gives."""
    model = transformers.SamHQModel.from_pretrained(hugging_face, attn_implementation="eager")
    upscale_what_the_transformer_gives(model.mask_decoder)
    loaded = samjax.load(hugging_face)
    assert loaded.family == "sam-hq"
    for key, value in sam.parameters().items():
        np.testing.assert_array_equal(loaded.parameters()[key], value, err_msg=key)
    ours = samjax.SamPredictor(loaded)
    size = 48, 70
    image = drawn_image(*size)
    ours.set_image(image)
    theirs.set_image(image)
    resized = torch.from_numpy(theirs.transform.apply_image(image)).permute(2, 0, 1)[None]
    xy, labels = np.array([[30.0, 20.0], [60.0, 10.0]]), np.array([1, 0])
    points = {
        "input_points": torch.as_tensor(theirs.transform.apply_coords(xy, size), dtype=torch.float)[
            None, None
        ],
        "input_labels": torch.as_tensor(labels)[None, None],
    }
    box = np.array([10.0, 5.0, 60.0, 40.0])
    corners = torch.as_tensor(theirs.transform.apply_boxes(box[None], size), dtype=torch.float)
    pixels = theirs.model.preprocess(resized)
    for given, mine in (
        (points, {"point_coords": xy, "point_labels": labels}),
        ({"input_boxes": corners[None]}, {"box": box}),
    ):
        for multimask in (True, False):
            for only in (True, False):
                out = model(
                    pixel_values=pixels, **given, multimask_output=multimask, hq_token_only=only
                )
                got = ours.predict(**mine, multimask_output=multimask, hq_token_only=only)
                ledger.logits("HQ Hugging Face, logits", got.low_res, out.pred_masks[0, 0, :1])
                scores = out.iou_scores[0, 0, :1].numpy()
                ledger.scores("HQ Hugging Face, scores", got.scores, scores)


# ---------------------------------------------------------------- mistakes


def no_sum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mask_decoder, "fuse", lambda sam, *_: sam)


def early_features_of_the_last_block(patch: pytest.MonkeyPatch) -> None:
    right = image_encoder.ImageEncoder.__call__

    def call(self, image, chunks=UNCHUNKED):
        real = self.config
        self.config = dataclasses.replace(real, global_blocks=(0,))
        try:
            return right(self, image, chunks)
        finally:
            self.config = real

    patch.setattr(image_encoder.ImageEncoder, "__call__", call)


def no_early_features(patch: pytest.MonkeyPatch) -> None:
    right = hq_module.HqFeatures.__call__
    patch.setattr(hq_module.HqFeatures, "__call__", lambda s, e, x: right(s, e, 0 * x))


def worst_mask_instead_of_the_best(patch: pytest.MonkeyPatch) -> None:
    right = mask_decoder.best_mask

    def worst(weights, quality, multimask):
        weights, quality = right(weights, -quality, multimask)
        return weights, -quality

    patch.setattr(mask_decoder, "best_mask", worst)


def columns_for_rows_in_the_second_convolution(patch: pytest.MonkeyPatch) -> None:
    right = hq_module.MaskFeatures.__call__

    def call(self, pixels, weights):
        kernel = self.conv2.kernel[...]
        turned = kernel.reshape(3, 3, -1, kernel.shape[1]).swapaxes(0, 1)
        self.conv2.kernel[...] = turned.reshape(kernel.shape)
        try:
            return right(self, pixels, weights)
        finally:
            self.conv2.kernel[...] = kernel

    patch.setattr(hq_module.MaskFeatures, "__call__", call)


def no_bias_of_the_second_convolution(patch: pytest.MonkeyPatch) -> None:
    right = hq_module.MaskFeatures.__call__

    def call(self, pixels, weights):
        bias = self.conv2.bias[...]
        self.conv2.bias[...] = 0 * bias
        try:
            return right(self, pixels, weights)
        finally:
            self.conv2.bias[...] = bias

    patch.setattr(hq_module.MaskFeatures, "__call__", call)


BROKEN = (
    no_sum,
    early_features_of_the_last_block,
    no_early_features,
    worst_mask_instead_of_the_best,
    columns_for_rows_in_the_second_convolution,
    no_bias_of_the_second_convolution,
)


@pytest.mark.parametrize("mistake", BROKEN, ids=lambda f: f.__name__)
def test_mistake_is_noticed(mistake: Callable, theirs, sam, record_property):
    image = drawn_image(48, 70)
    theirs.set_image(image)
    ledger = Ledger(strict=False)
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        broken = samjax.SamPredictor(samjax.load(sam.source))
        broken.set_image(image)
        for xy in ([[30.0, 20.0]], [[10.0, 40.0]], [[60.0, 10.0]]):
            arguments = {"point_coords": np.array(xy), "point_labels": np.array([1])}
            for multimask in (True, False):
                compare(broken, theirs, arguments | {"multimask_output": multimask}, ledger)
    record_property("violations", ledger.violations())
    assert ledger.violations()
