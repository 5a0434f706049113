"""Global attention as one GPU kernel, with the relative positions added to each tile of scores.

After FlashAttention-2: a program holds a block of queries and walks over the keys, one row of the
image at a time. All keys of a row share the vertical term, and all rows the horizontal ones, so
that the terms cost a column and a tile that is loaded once; no score is written to memory, and
heads keep their own width (folding makes 64 of ViT-B 192).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from samjax.model.attention import position_terms

_QUERIES = 128  # of a program
_WIDEST = 128  # head
_LOWEST = float(np.finfo(np.float32).min)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def suits(c: int, n: int) -> bool:
    """Say whether the kernel takes heads of width ``c`` on a grid of ``n`` x ``n``.

    Triton's tiles have sides that are powers of two, and products need 16 at least.
    """
    return 16 <= n == _power_of_two(n) and 0 < c <= _WIDEST


def _kernel(n: int, q_ref: Any, k_ref: Any, v_ref: Any, h_ref: Any, w_ref: Any, o_ref: Any) -> None:
    """One block of queries: q [b, c], k and v [n * n, c], terms h and w [b, n], out [b, c]."""
    from jax.experimental import pallas as pl

    q, across = q_ref[...], w_ref[...].astype(jnp.float32)
    product = partial(lax.dot_general, preferred_element_type=jnp.float32)

    def row(y: Any, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        out, top, total = carry
        here = pl.ds(y * n, n)
        k, v = k_ref[here, :], v_ref[here, :]
        scores = product(q, k, (((1,), (1,)), ((), ())))
        scores += across + h_ref[:, pl.ds(y, 1)].astype(jnp.float32)
        higher = jnp.maximum(top, scores.max(1))
        weights = jnp.exp(scores - higher[:, None])
        shrink = jnp.exp(top - higher)
        seen = product(weights.astype(v.dtype), v, (((1,), (0,)), ((), ())))
        return out * shrink[:, None] + seen, higher, total * shrink + weights.sum(1)

    queries = q.shape[0]
    start = (
        jnp.zeros(q.shape, jnp.float32),
        jnp.full((queries,), _LOWEST, jnp.float32),
        jnp.zeros((queries,), jnp.float32),
    )
    out, _, total = lax.fori_loop(0, n, row, start)
    o_ref[...] = (out / total[:, None]).astype(o_ref.dtype)


def attend_pallas(
    q: Float[Array, "h t c"],
    k: Float[Array, "h t c"],
    v: Float[Array, "h t c"],
    table_h: Float[Array, "n n c"],
    table_w: Float[Array, "n n c"],
    *,
    interpret: bool = False,
) -> Float[Array, "h t c"]:
    """Attend with all heads of a global block of ``t = n * n`` tokens.

    ``interpret`` runs the kernel's operations one by one on any device, for tests.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    heads, t, c = q.shape
    n = table_h.shape[0]
    scaled, *terms = position_terms(q, table_h, table_w)
    wide = max(16, _power_of_two(c))
    padded = (jnp.pad(x, ((0, 0), (0, 0), (0, wide - c))) for x in (scaled, k, v))
    queries = min(_QUERIES, t)

    def block(width: int) -> Any:
        return pl.BlockSpec((None, queries, width), lambda head, i: (head, i, 0))

    whole = pl.BlockSpec((None, t, wide), lambda head, i: (head, 0, 0))  # noqa: ARG005
    out = pl.pallas_call(
        partial(_kernel, n),
        out_shape=jax.ShapeDtypeStruct((heads, t, wide), q.dtype),
        grid=(heads, t // queries),
        in_specs=[block(wide), whole, whole, block(n), block(n)],
        out_specs=block(wide),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="relative_attention",
    )(*padded, *(x.astype(q.dtype) for x in terms))
    return out[..., :c]
