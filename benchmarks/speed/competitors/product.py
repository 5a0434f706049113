"""Run one large matrix product in JAX, whose throughput stands for the machine's peak."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.competitors.sizes import PRODUCT
from benchmarks.speed.task import Contender, Task
from samjax.engine.devices import choose_device


def matrix_product(dtype: str, device: jax.Device) -> Callable[[], jax.Array]:
    """Compile the product in a dtype, accumulated in float32 at the highest precision."""
    m, k, n = PRODUCT
    rng = np.random.default_rng(0)
    a, b = (
        jax.device_put(jnp.asarray(rng.standard_normal(shape, np.float32), dtype), device)
        for shape in ((m, k), (k, n))
    )
    product = jax.jit(
        lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32, precision="highest")
    )
    return lambda: product(a, b).block_until_ready()


def load(task: Task) -> Contender:
    """Load the product as a contender with the single job "product"."""
    return Contender(
        "precision highest" if task.dtype == "float32" else f"{task.dtype} products",
        {"product": matrix_product(task.dtype, choose_device(task.device))},
        None,
    )
