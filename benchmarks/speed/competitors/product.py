"""One large matrix product in JAX: the machine's own measure of what can be reached."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.competitors.sizes import PRODUCT
from benchmarks.speed.task import Contender, Task
from samjax.devices import choose_device


def load(task: Task) -> Contender:
    """The product in the task's dtype, summed in float32."""
    m, k, n = PRODUCT
    rng = np.random.default_rng(0)
    device = choose_device(task.device)
    a, b = (
        jax.device_put(jnp.asarray(rng.standard_normal(shape, np.float32), task.dtype), device)
        for shape in ((m, k), (k, n))
    )
    product = jax.jit(
        lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32, precision="highest")
    )
    return Contender(
        "precision highest" if task.dtype == "float32" else f"{task.dtype} products",
        {"product": lambda: product(a, b).block_until_ready()},
        None,
    )
