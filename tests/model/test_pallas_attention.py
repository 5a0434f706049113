"""The kernel of the global blocks, interpreted: the same numbers as the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.checkpoint.parameters import fill_model, random_parameters
from samjax.engine.functions import encode_rows
from samjax.model.attention import Chunks, attend_added
from samjax.model.pallas_attention import attend_pallas, suits
from tests.support.models import PLAIN, sized

KERNEL = Chunks(kernel="interpreted")


def given(heads: int, n: int, c: int, dtype=jnp.float32, scale: float = 1.0) -> list:
    rng = np.random.default_rng(0)
    arrays = [scale * rng.standard_normal((heads, n * n, c)) for _ in range(2)]
    arrays += [rng.standard_normal((heads, n * n, c))]
    arrays += [0.3 * rng.standard_normal((n, n, c)) for _ in range(2)]
    return [jnp.asarray(x, dtype) for x in arrays]


def reference(q, k, v, table_h, table_w):
    each = [
        attend_added(q[i : i + 1], k[i : i + 1], v[i : i + 1], table_h, table_w, None)[0]
        for i in range(len(q))
    ]
    return jnp.stack(each)


@pytest.mark.parametrize(
    ("heads", "n", "c"), [(2, 16, 64), (1, 16, 80), (3, 32, 16), (1, 16, 7), (1, 16, 128)]
)
def test_the_kernel_gives_the_reference_s_numbers(heads, n, c):
    arrays = given(heads, n, c)
    found = attend_pallas(*arrays, interpret=True)
    assert (found.shape, found.dtype) == ((heads, n * n, c), jnp.float32)
    assert jnp.abs(found - reference(*arrays)).max() < 1e-5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_in_half_precision_it_is_as_near_as_the_reference(dtype):
    exact = reference(*given(2, 16, 64))
    halves = given(2, 16, 64, dtype)
    off = [
        jnp.abs(x.astype(jnp.float32) - exact).max()
        for x in (attend_pallas(*halves, interpret=True), reference(*halves))
    ]
    assert off[0] < 1.5 * off[1] + 1e-3


def test_large_scores_do_not_overflow():
    arrays = given(1, 16, 64, scale=60.0)
    found = attend_pallas(*arrays, interpret=True)
    assert jnp.isfinite(found).all()
    assert jnp.abs(found - reference(*arrays)).max() < 1e-3


def test_a_mistake_in_the_terms_would_be_seen():
    q, k, v, table_h, table_w = given(2, 16, 64)
    exchanged = attend_pallas(q, k, v, table_w, table_h, interpret=True)
    assert jnp.abs(exchanged - reference(q, k, v, table_h, table_w)).max() > 0.1


@pytest.mark.parametrize(
    ("c", "n", "taken"),
    [
        (64, 64, True), (80, 64, True), (128, 16, True),
        (64, 14, False), (64, 24, False), (64, 8, False), (160, 64, False),
    ],
)  # fmt: skip
def test_sizes_that_the_kernel_takes(c, n, taken):
    assert suits(c, n) == taken


@pytest.mark.parametrize("grid", [16, PLAIN.grid])
@pytest.mark.parametrize("batch", [False, True])
def test_the_encoder_with_the_kernel(grid, batch):
    """A grid of 10 is not the kernel's: the encoder goes its ordinary way there."""
    config = sized(grid=grid, window=4)
    sam = fill_model(random_parameters(config), config, dtype=np.float32)
    side = config.image_size
    images = np.random.default_rng(1).standard_normal((2, side, side, 3), np.float32)
    expected = jax.jit(jax.vmap(sam.encode))(images)

    def encode(image):
        return sam.encode(image, KERNEL)

    found = jax.jit(jax.vmap(encode))(images) if batch else [jax.jit(encode)(x) for x in images]
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() <= 2e-5 * np.abs(other).max()
    uses = "pallas_call" in str(jax.make_jaxpr(encode)(images[0]))
    assert uses == (grid == 16)


def test_a_batch_over_devices():
    """The engine maps batches over a mesh of devices, also of one."""
    config = sized(grid=16, window=4)
    sam = fill_model(random_parameters(config), config, dtype=np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("images",))
    side = config.image_size
    pixels = np.random.default_rng(1).integers(0, 255, (2, side, side, 3), np.uint8)

    def one(leaves, pixels, size):  # noqa: ARG001
        return sam.encode(pixels.astype(jnp.float32) / 255, KERNEL)

    sizes = np.full((2, 2), side, np.int32)
    found = jax.jit(lambda p, s: encode_rows(one, mesh, [], p, s))(pixels, sizes)
    expected = sam.encode(jnp.asarray(pixels[1], jnp.float32) / 255)
    assert np.abs(found[1] - expected).max() <= 2e-5 * np.abs(expected).max()
