"""Test the network alone: chunks change nothing, and masked tokens have no influence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.checkpoint.parameters import fill_model, random_parameters
from samjax.engine.functions import flat, restore
from samjax.model.attention import (
    ACCELERATOR_CHUNKS,
    CPU_CHUNKS,
    UNCHUNKED,
    Chunks,
    attend_added,
    attend_folded,
    attend_fused,
    fused_size,
    partition,
    relative_table,
    unpartition,
)
from samjax.model.config import ImageEncoderConfig
from samjax.model.image_encoder import ImageEncoder
from samjax.model.layers import (
    ConvTranspose2x2,
    LayerNorm,
    block_size,
    gelu,
    map_blocks,
    update_blocks,
)
from samjax.model.prompt_encoder import ABSENT, NOT_A_POINT, Prompts
from samjax.model.sam import Sam
from samjax.model.token_attention import Attention
from tests.support.models import PLAIN, SIZES

CHUNKS = {
    "cpu": CPU_CHUNKS,
    "accelerator": ACCELERATOR_CHUNKS,
    "fine": Chunks(heads=1, queries=5, tokens=20, pixels=1),
    "fused": Chunks(fused_width=256, fused_by="xla"),
    "fused windows": Chunks(queries=5, fused_width=24, fused_by="xla"),
    "absorbed": Chunks(absorb=True),
    "absorbed, one by one": Chunks(absorb=True, pixels=1),
    "projected": Chunks(absorb=False),
}


@pytest.fixture(scope="module")
def sam() -> Sam:
    return fill_model(random_parameters(PLAIN), PLAIN, dtype=np.float32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def prompts(masks: bool, count: int = 3) -> Prompts:
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, PLAIN.image_size, (count, 4, 2)).astype(np.float32)
    kinds = np.array([[1, 0, NOT_A_POINT, ABSENT], [2, 3, ABSENT, ABSENT], [0, 2, 3, ABSENT]])
    m = PLAIN.low_res_size
    return Prompts(
        coords,
        kinds[:count].astype(np.int32),
        8 * noise(count, m, m) if masks else None,
        np.array([True, False, True])[:count] if masks else None,
    )


def decode(sam: Sam, embedding, given: Prompts, chunks: Chunks = UNCHUNKED):
    run = jax.jit(lambda e, p: sam.decode(e, p, multimask=None, chunks=chunks))
    return jax.device_get(run(embedding, given))


def close(got, expected) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype == np.float32
    assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def embedding(sam):
    return jax.jit(lambda x: sam.encode(x))(noise(PLAIN.image_size, PLAIN.image_size, 3))


@pytest.mark.parametrize("chunks", CHUNKS)
def test_chunks_do_not_change_the_embedding(sam, embedding, chunks: str):
    image = noise(PLAIN.image_size, PLAIN.image_size, 3)
    close(jax.jit(lambda x: sam.encode(x, CHUNKS[chunks]))(image), embedding)


@pytest.mark.parametrize("chunks", ["cpu", "accelerator", "fused"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_images_at_once(chunks: str, dtype: str):
    """Accelerators map the encoder over a batch; its loops must carry the same dtype then."""
    sam = fill_model(random_parameters(PLAIN), PLAIN, dtype=jnp.dtype(dtype))
    images = noise(2, PLAIN.image_size, PLAIN.image_size, 3)
    one = jax.jit(lambda x: sam.encode(x, CHUNKS[chunks]))
    both = jax.jit(jax.vmap(lambda x: sam.encode(x, CHUNKS[chunks])))(images)
    limit = 2e-5 if dtype == "float32" else 0.05
    for image, found in zip(images, both, strict=True):
        expected = one(image)
        assert np.abs(found - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_products_are_nearly_the_wide_ones(embedding, dtype: str):
    """The programs differ; whether their numbers do is the processor's affair (AMX: no)."""
    sam = fill_model(random_parameters(PLAIN), PLAIN, dtype=jnp.dtype(dtype))
    image = noise(PLAIN.image_size, PLAIN.image_size, 3)

    def encode(chunks: Chunks):
        return jax.jit(lambda x: sam.encode(x, chunks)).lower(image)

    def masks(chunks: Chunks):  # the scores need no narrow products
        given = {"prompts": prompts(False), "multimask": None, "chunks": chunks}
        return jax.jit(lambda e: sam.decode(e, **given)[0]).lower(embedding)

    for lower, x in ((encode, image), (masks, embedding)):
        narrow, wide = lower(Chunks(narrow=True)), lower(UNCHUNKED)
        assert narrow.as_text() != wide.as_text()
        found, expected = (np.asarray(program.compile()(x)) for program in (narrow, wide))
        assert found.dtype == expected.dtype == np.float32
        assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()


@pytest.fixture(scope="module", params=[False, True], ids=["shared image", "own image"])
def decoded(request, sam, embedding):
    given = prompts(request.param)
    return given, decode(sam, embedding, given)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_chunks_do_not_change_the_masks(sam, embedding, decoded, chunks: str):
    given, expected = decoded
    for got, reference in zip(decode(sam, embedding, given, CHUNKS[chunks]), expected, strict=True):
        close(got, reference)


def test_filling_tokens_change_nothing(sam, embedding, decoded):
    given, expected = decoded
    coords = np.concatenate([given.coords, 1e3 * noise(3, 9, 2)], 1)
    kinds = np.pad(given.kinds, ((0, 0), (0, 9)), constant_values=ABSENT)
    got = decode(sam, embedding, given._replace(coords=coords, kinds=kinds))
    for a, b in zip(got, expected, strict=True):
        close(a, b)


def test_filling_prompts_change_nothing(sam, embedding, decoded):
    given, expected = decoded
    more = Prompts(*(None if x is None else np.concatenate([x, np.zeros_like(x)]) for x in given))
    more.kinds[3:] = ABSENT
    for a, b in zip(decode(sam, embedding, more), expected, strict=True):
        close(a[:3], b)
        assert np.isfinite(a).all()


def test_a_mask_that_is_not_there_is_no_mask(sam, embedding):
    m = PLAIN.low_res_size
    expected = decode(sam, embedding, prompts(False))
    absent = prompts(False)._replace(masks=noise(3, m, m), has_mask=np.zeros(3, bool))
    for a, b in zip(decode(sam, embedding, absent), expected, strict=True):
        close(a, b)


@pytest.mark.parametrize("multimask", [False, True])
def test_masks_can_be_chosen_inside_or_outside(sam, embedding, multimask: bool):
    given = prompts(False)
    low_res, iou = jax.jit(lambda e, p: sam.decode(e, p, multimask=multimask))(embedding, given)
    select = slice(1, None) if multimask else slice(0, 1)
    all_low_res, all_iou = decode(sam, embedding, given)
    close(low_res, all_low_res[:, select])
    close(iou, all_iou[:, select])


@pytest.mark.parametrize("name", ["one mask", "five masks"])
def test_number_of_masks(name: str):
    config = SIZES[name]
    sam = fill_model(random_parameters(config), config, dtype=np.float32)
    given = Prompts(np.zeros((1, 2, 2), np.float32), np.array([[1, NOT_A_POINT]], np.int32))
    low_res, iou = decode(sam, noise(config.grid, config.grid, 64), given)
    masks = config.mask_decoder.num_masks + 1
    assert low_res.shape == (1, masks, config.low_res_size, config.low_res_size)
    assert iou.shape == (1, masks)


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize("limit", [None, 1, 5, 16])
def test_all_ways_of_attention_are_the_written_sum(limit):
    n, c, w = 4, 6, 3
    q, k, v = (noise(w, n * n, c, seed=i) for i in range(3))
    table_h, table_w = (relative_table(jnp.asarray(noise(2 * n - 1, c, seed=i)), n) for i in (3, 4))
    y, x = np.divmod(np.arange(n * n), n)
    for window in range(w):
        added = (q[window][:, None] * (np.asarray(table_h)[y][:, y])).sum(-1)
        added += (q[window][:, None] * (np.asarray(table_w)[x][:, x])).sum(-1)
        scores = q[window] @ k[window].T / np.float32(c**0.5) + added
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = (weights / weights.sum(-1, keepdims=True)) @ v[window]
        given = [jnp.asarray(x[window : window + 1]) for x in (q, k, v)]
        close(attend_added(*given, table_h, table_w, limit)[0], expected)
        close(attend_folded(*given, table_h, table_w)[0], expected)
        heads = [jnp.stack([x, x[:, ::-1]]) for x in given]  # the second one is not looked at
        close(attend_fused(*heads, table_h, table_w, "xla")[0, 0], expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_large_scores_do_not_overflow(dtype):
    """Scores of thousands, where a softmax without the exact maximum is 0 / 0 or infinite."""
    n, c = 4, 4  # a scale of 1/2, which rounds nothing
    q, k, v = (jnp.asarray(noise(1, n * n, c, seed=i), dtype) for i in range(3))
    q, k = 40 * q, 40 * k
    table_h, table_w = (
        relative_table(jnp.asarray(40 * noise(2 * n - 1, c, seed=i), dtype), n) for i in (3, 4)
    )
    exact = [np.asarray(x, np.float64) for x in (q[0], k[0], v[0], table_h, table_w)]
    y, x = np.divmod(np.arange(n * n), n)
    scores = (exact[0] / c**0.5) @ exact[1].T
    for table, at in zip(exact[3:], (y, x), strict=True):
        scores += (exact[0][:, None] * table[at][:, at]).sum(-1)
    assert scores.max() > 3000
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = (weights / weights.sum(-1, keepdims=True)) @ exact[2]
    for limit in (None, 4):
        found = np.asarray(attend_added(q, k, v, table_h, table_w, limit)[0], np.float64)
        np.testing.assert_allclose(found, expected, atol=5e-3 if dtype == jnp.float32 else 0.05)


def test_widths_that_the_fused_attention_is_asked_for():
    """ViT-B's and ViT-L's windows and global blocks, then ViT-H's."""
    assert [fused_size(c, n) for c in (64, 80) for n in (14, 64)] == [96, 192, 112, 208]


@pytest.mark.parametrize(("tokens", "absorbs"), [(7, True), (9, True), (17, True), (18, False)])
def test_a_click_is_absorbed_by_its_tokens(tokens: int, absorbs: bool):
    """Up to 17 tokens of the official sizes take fewer operations that way."""
    assert Attention(256, 128, 8, rngs=None).absorbs(tokens) is absorbs


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_absorbed_attention_is_the_projected_one(dtype):
    attn = Attention(32, 16, 4, rngs=nnx.Rngs(0))
    for i, linear in enumerate((attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj)):
        linear.bias[...] = jnp.asarray(noise(*linear.bias.shape, seed=i))
        linear.kernel[...] = (10 * linear.kernel[...]).astype(dtype)
    sizes = enumerate((5, 5, 40, 40))
    tokens, other, keys, values = (jnp.asarray(noise(2, n, 32, seed=i)) for i, n in sizes)
    valid = jnp.asarray([[True] * 5, [True, True, False, True, False]])

    def same(a, b):
        error = np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max()
        assert error <= (1e-5 if dtype == jnp.float32 else 2e-2)

    q, k, v = attn.q_proj(tokens), attn.k_proj(keys), attn.v_proj(values)
    same(attn.tokens_to_pixels(tokens, keys, values), attn(q, k, v))
    q, k, v = attn.q_proj(keys), attn.k_proj(tokens), attn.v_proj(other)
    same(attn.pixels_to_tokens(keys, tokens, other, valid), attn(q, k, v, valid))


def test_relative_table_counts_from_query_to_key():
    table = relative_table(jnp.arange(7.0)[:, None], 4)[..., 0]
    assert table[0, 0] == 3
    assert table[3, 0] == 6
    assert table[0, 3] == 0


@pytest.mark.parametrize(("g", "window"), [(10, 4), (8, 4), (6, 6), (5, 7)])
def test_windows_there_and_back(g: int, window: int):
    heads, c = 2, 3
    qkv = noise(g, g, 3 * heads * c)
    fill = jnp.arange(3.0 * heads * c)
    q, k, v = partition(jnp.asarray(qkv), fill, window, heads)
    m = -(-g // window)
    assert q.shape == (heads, m * m, window * window, c)
    for i, part in enumerate((q, k, v)):
        expected = qkv[..., i * heads * c : (i + 1) * heads * c].reshape(g * g, -1)
        np.testing.assert_array_equal(unpartition(part, g, window), expected)
    if m * window > g:
        corner = np.asarray(k)[:, -1, -1]
        np.testing.assert_array_equal(corner.ravel(), fill[heads * c : 2 * heads * c])


def test_transposed_convolution_by_hand():
    layer = ConvTranspose2x2(2, 3, rngs=None)
    kernel = noise(2, 3, 2, 2)  # in, out, row, column: torch's order
    layer.kernel[...] = kernel.transpose(0, 2, 3, 1).reshape(2, 12)
    layer.bias[...] = jnp.arange(3.0)
    x = noise(5, 2)
    got = np.asarray(layer(jnp.asarray(x))).reshape(5, 2, 2, 3)
    close(got, np.einsum("ni,iohw->nhwo", x, kernel) + np.arange(3, dtype=np.float32))


def test_norm_and_gelu_by_hand():
    from math import erf

    x = noise(4, 8) * 1e-3
    norm = LayerNorm(8, eps=1e-6)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    close(norm(jnp.asarray(x)), expected)
    values = np.linspace(-4, 4, 33, dtype=np.float32)
    exact = np.array([v / 2 * (1 + erf(v / np.sqrt(2))) for v in values], np.float32)
    np.testing.assert_allclose(gelu(jnp.asarray(values)), exact, atol=1e-6)


@pytest.mark.parametrize(("length", "limit", "size"), [(10, None, 10), (10, 4, 2), (7, 3, 1)])
def test_blocks_divide_evenly(length: int, limit: int | None, size: int):
    assert block_size(length, limit) == size
    x = jnp.arange(float(length))
    np.testing.assert_array_equal(map_blocks(lambda v: 2 * v, x, limit), 2 * x)
    updated = update_blocks(lambda v, w: v - 3 * w, x, x + 1, limit=limit)
    np.testing.assert_array_equal(updated, x - 3 * (x + 1))


def test_annotations_are_checked():
    """The import hook of conftest.py is at work, on functions and on methods of modules."""
    with pytest.raises(TypeError, match="Type-check error"):
        relative_table(jnp.zeros((6, 2)), 4)
    with pytest.raises(TypeError, match="Type-check error"):
        LayerNorm(8, eps=1e-6)(jnp.zeros((3, 8), jnp.int32))


def test_memory_does_not_grow_with_depth():
    """Each block works in place: XLA:CPU once kept two arrays for each of them, see update_each."""

    def temporary(depth: int) -> int:
        config = ImageEncoderConfig(image_size=256, width=32, num_heads=2, depth=depth, mlp_dim=64)
        structure, leaves = flat(ImageEncoder(config, rngs=nnx.Rngs(0)))
        encode = jax.jit(lambda leaves, x: restore(structure, leaves)(x, CPU_CHUNKS))
        analysis = encode.lower(leaves, np.zeros((256, 256, 3), np.float32)).compile()
        return analysis.memory_analysis().temp_size_in_bytes

    tokens = 16 * 16 * 32 * 4
    assert temporary(7) - temporary(3) < tokens
