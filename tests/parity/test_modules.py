"""Compare each module with the official one, on the same random weights and inputs."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.parameters import fill_model, to_parameters
from samjax.image.preset import normalise, prepare
from samjax.model.attention import ACCELERATOR_CHUNKS, CPU_CHUNKS, UNCHUNKED, Chunks
from samjax.model.config import SamConfig
from samjax.model.prompt_encoder import ABSENT, NOT_A_POINT, Prompts
from samjax.model.sam import Sam
from tests.support.models import SIZES, drawn_image
from tests.support.parity.official import random_official, state_arrays

pytestmark = pytest.mark.parity
CHUNKS = {"unchunked": UNCHUNKED, "cpu": CPU_CHUNKS, "accelerator": ACCELERATOR_CHUNKS}
# Cuts everything at these small sizes as well, where the presets hold most in one piece
CHUNKS["fine"] = Chunks(heads=1, queries=8, tokens=5, pixels=1)
CHUNKS["fused, absorbed"] = Chunks(fused_width=256, fused_by="xla", absorb=True)


class Both:
    """Holds a network and the official one with the same weights, loaded by the real loader."""

    def __init__(self, config: SamConfig):
        self.official = random_official(config)
        tensors = state_arrays(self.official)
        self.config = infer_config(tensors)
        parameters = to_parameters(tensors, self.config)
        self.ours: Sam = fill_model(parameters, self.config, dtype=np.float32)
        image = prepare(drawn_image(48, 70), config.image_size)
        self.pixels = np.asarray(normalise(image.pixels, np.array(image.input_size, np.int32)))

    def encode(self, chunks: Chunks = UNCHUNKED) -> jax.Array:
        return jax.jit(lambda x: self.ours.encode(x, chunks))(self.pixels)


@cache
def made(name: str) -> Both:
    return Both(SIZES[name])


@pytest.fixture(params=SIZES)
def both(request: pytest.FixtureRequest) -> Both:
    return made(request.param)


# All sizes with what runs on a CPU; the other presets where they cut differently
PAIRS = [(name, "cpu") for name in SIZES]
PAIRS += [("padded windows", chunks) for chunks in CHUNKS if chunks != "cpu"]
PAIRS += [("wide", "accelerator"), ("wide", "fused, absorbed")]
by_chunks = pytest.mark.parametrize(("name", "chunks"), PAIRS)


@pytest.fixture(autouse=True)
def _highest():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(2, 0, 1)[None]))


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).numpy()


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def test_sizes_are_inferred(both: Both, request: pytest.FixtureRequest):
    assert both.config == SIZES[request.node.callspec.params["both"]]


def test_normalised_image(both: Both, ledger):
    image = prepare(drawn_image(48, 70), both.config.image_size)
    h, w = image.input_size
    inside = torch.from_numpy(image.pixels[:h, :w]).permute(2, 0, 1)[None]
    ledger.embedding("normalised image", both.pixels, nhwc(both.official.preprocess(inside)))


def test_patch_embedding(both: Both, ledger):
    ours = both.ours.image_encoder.patch_embed(jnp.asarray(both.pixels))
    theirs = both.official.image_encoder.patch_embed(nchw(both.pixels))[0]
    ledger.embedding("patch embedding", ours, theirs.flatten(0, 1).numpy())


@by_chunks
def test_blocks(name: str, chunks: str, ledger):
    both = made(name)
    encoder, official = both.ours.image_encoder, both.official.image_encoder
    g, width = both.config.grid, both.config.image_encoder.width
    x = noise(g, g, width)
    for i in (0, 1):  # of different kinds, except where all blocks are of one kind
        kind = "global" if i in both.config.image_encoder.global_blocks else "windowed"
        block = encoder.blocks[i]
        a = jax.jit(lambda x, block=block: block(x, CHUNKS[chunks]))(x.reshape(g * g, width))
        b = official.blocks[i](torch.from_numpy(x)[None])[0].flatten(0, 1).numpy()
        ledger.embedding(f"block, {kind}", a, b)


def test_neck(both: Both, ledger):
    g, width = both.config.grid, both.config.image_encoder.width
    x = noise(g, g, width)
    ours = both.ours.image_encoder.neck(jnp.asarray(x.reshape(g * g, width)), g)
    ledger.embedding("neck", ours, nhwc(both.official.image_encoder.neck(nchw(x))))


@by_chunks
def test_image_encoder(name: str, chunks: str, ledger):
    both = made(name)
    theirs = nhwc(both.official.image_encoder(nchw(both.pixels)))
    ledger.embedding("image encoder", both.encode(CHUNKS[chunks]), theirs)


def test_positions_of_the_image(both: Both, ledger):
    ours = both.ours.decoder.prompt_encoder.image_positions()
    theirs = both.official.prompt_encoder.get_dense_pe()[0]
    ledger.embedding("positions of the image", ours, theirs.flatten(1).T.numpy())


def _points(config: SamConfig, prompts: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Draw points in pixels of the input, some outside, and labels 1, 0 and -1."""
    rng = np.random.default_rng(3)
    xy = rng.uniform(-0.1, 1.1, (prompts, 4, 2)) * config.image_size
    return xy.astype(np.float32), np.array([[1, 0, 1, -1]] * prompts)


def _cases(config: SamConfig) -> dict[str, tuple[Prompts, dict]]:
    """Make prompts of samjax with the arguments of the official prompt encoder."""
    p, m = 3, config.low_res_size
    xy, labels = _points(config, p)
    kinds = np.where(labels == -1, NOT_A_POINT, labels).astype(np.int32)
    padding = np.zeros((p, 1, 2), np.float32)
    corners = np.sort(_points(config, p)[0][:, :2], 1)
    box_kinds = np.tile(np.array([2, 3], np.int32), (p, 1))
    masks = noise(p, m, m, seed=5, scale=8)
    given = {
        "points": (torch.from_numpy(xy), torch.from_numpy(labels)),
        "boxes": torch.from_numpy(corners.reshape(p, 4)),
        "masks": torch.from_numpy(masks)[:, None],
    }
    here = np.ones(p, bool)
    points = (
        np.concatenate([xy, padding], 1),
        np.concatenate([kinds, np.full((p, 1), NOT_A_POINT, np.int32)], 1),
    )
    both_kinds = (np.concatenate([xy, corners], 1), np.concatenate([kinds, box_kinds], 1))
    nothing = (np.zeros((p, 0, 2), np.float32), np.zeros((p, 0), np.int32))

    def official(*names: str) -> dict:
        return {name: given[name] if name in names else None for name in given}

    return {
        "points": (Prompts(*points), official("points")),
        "boxes": (Prompts(corners, box_kinds), official("boxes")),
        "points and boxes": (Prompts(*both_kinds), official("points", "boxes")),
        "masks": (Prompts(*nothing, masks, here), official("masks")),
        "all": (Prompts(*both_kinds, masks, here), official("points", "boxes", "masks")),
    }


CASES = ("points", "boxes", "points and boxes", "masks", "all")


@pytest.mark.parametrize("case", CASES)
def test_prompt_encoder(both: Both, case: str, ledger):
    prompts, arguments = _cases(both.config)[case]
    encoder = both.ours.decoder.prompt_encoder
    sparse, dense = both.official.prompt_encoder(**arguments)
    ours = encoder.sparse(prompts.coords, prompts.kinds)
    if sparse.shape[1]:
        ledger.embedding("prompt tokens", ours, sparse.numpy())
    else:
        assert ours.shape == sparse.shape
    ours = np.asarray(encoder.dense(prompts.masks, prompts.has_mask))
    theirs = dense.flatten(2).transpose(1, 2).numpy()
    ledger.embedding("mask prompts", np.broadcast_to(ours, theirs.shape), theirs)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("own_image", [False, True])
def test_two_way_transformer(both: Both, own_image: bool, absorbed: bool, ledger):
    decoder, official = both.ours.decoder.mask_decoder, both.official.mask_decoder
    g, c, p = both.config.grid, both.config.mask_decoder.embed_dim, 2
    image, tokens, pe = noise(p, g * g, c), noise(p, 7, c, seed=1), noise(g * g, c, seed=2)
    if not own_image:
        image[1:] = image[0]

    def grid(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).transpose(1, 2).reshape(-1, c, g, g)

    theirs = official.transformer(grid(image), grid(np.stack([pe] * p)), torch.from_numpy(tokens))
    pixels = jnp.asarray(image if own_image else image[:1])
    first = None
    if not absorbed:
        first = decoder.transformer.layers[0].project_image(pixels, jnp.asarray(pe))
    ours = decoder.transformer(
        jnp.asarray(tokens), pixels, jnp.asarray(pe), first, jnp.ones((p, 7), bool)
    )
    for name, a, b in zip(("tokens", "image"), ours, theirs, strict=True):
        ledger.embedding(f"two-way transformer, {name}", a, b.numpy())


def test_quality_head_and_upscaling(both: Both, ledger):
    decoder, official = both.ours.decoder.mask_decoder, both.official.mask_decoder
    g, c = both.config.grid, both.config.mask_decoder.embed_dim
    tokens = noise(4, c)
    ledger.scores(
        "quality head",
        decoder.iou_prediction_head(jnp.asarray(tokens)),
        official.iou_prediction_head(torch.from_numpy(tokens)).numpy(),
    )
    image = noise(g, g, c)
    ours = np.asarray(decoder.output_upscaling(jnp.asarray(image.reshape(1, g * g, c))))
    # n (dy1 dx1) (dy2 dx2) c -> rows and columns
    ours = ours.reshape(g, g, 2, 2, 2, 2, -1).transpose(0, 2, 4, 1, 3, 5, 6)
    ledger.embedding(
        "mask upscaling",
        ours.reshape(4 * g, 4 * g, -1),
        nhwc(official.output_upscaling(nchw(image))),
    )


def filled(prompts: Prompts, width: int = 8) -> Prompts:
    """Pad rows to one width: two compilations serve all cases, with and without masks."""
    coords, kinds = prompts.coords, prompts.kinds
    more = [(0, 0), (0, width - kinds.shape[1])]
    return prompts._replace(
        coords=np.pad(coords, [*more, (0, 0)]), kinds=np.pad(kinds, more, constant_values=ABSENT)
    )


@by_chunks
def test_decoder(name: str, chunks: str, ledger):
    both = made(name)
    embedding = nhwc(both.official.image_encoder(nchw(both.pixels)))
    decode = jax.jit(lambda e, p: both.ours.decode(e, p, multimask=None, chunks=CHUNKS[chunks]))
    for prompts, arguments in _cases(both.config).values():
        sparse, dense = both.official.prompt_encoder(**arguments)
        low_res, iou = map(np.asarray, decode(embedding, filled(prompts)))
        for multimask, select in ((False, slice(0, 1)), (True, slice(1, None))):
            masks, quality = both.official.mask_decoder(
                image_embeddings=nchw(embedding),
                image_pe=both.official.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
            ledger.logits("decoder, logits", low_res[:, select], masks.numpy())
            ledger.scores("decoder, scores", iou[:, select], quality.numpy())
