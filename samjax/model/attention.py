"""The image encoder's self-attention adds decomposed relative positions to its scores.

The score of query pixel (y, x) and key pixel (y', x') is
``scale * q.k + q.Rh[y - y'] + q.Rw[x - x']`` (official add_decomposed_rel_pos). The two terms
are never added to a materialised table: that would cost 0.4 GB a block.

Shape, platform and dtype choose among three exact implementations of the same sum:

- ``attend_added`` adds the terms to a block of scores by broadcasting, for the global blocks;
- ``attend_folded`` appends them to the queries and one-hot coordinates to the keys, so that one
  product makes the whole score, for the many small windows;
- ``attend_fused`` folds likewise and gives everything to the GPU's fused (flash) attention,
  where that takes the dtype and heads of that width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from samjax.model.layers import update_blocks

Fused = Literal["cudnn", "xla"]


@dataclass(frozen=True)
class Chunks:
    """Chunks bound the work that runs at a time: speed and memory, not the result.

    None means everything at once. ``heads``, ``queries`` and ``tokens`` concern the image
    encoder; ``pixels`` the mask decoder, where each prompt has its own copy of the image
    embedding's pixels: only so many prompts run together as have that many.

    ``absorb`` chooses between the mask decoder's two implementations of cross attention (see
    token_attention); None takes the one of fewer operations.
    ``fused_width`` is the widest head that the device's fused attention takes (0: it has none);
    ``fused_by`` the implementation, as jax.nn.dot_product_attention calls it. ``kernel`` gives
    global blocks to pallas_attention instead, where it takes their size.

    ``narrow`` rounds some large products (see ``samjax.model.layers.dot``) to the model's dtype
    before a bias is added and GELU applied: less to write and read for an accelerator, one more
    rounding in half precision, nothing in float32. The mask decoder is then also written for the
    compilers of accelerators, with the same numbers.
    """

    heads: int | None = None
    queries: int | None = None
    tokens: int | None = None
    pixels: int | None = None
    absorb: bool | None = None
    fused_width: int = 0
    fused_by: Fused = "cudnn"
    kernel: Literal["none", "pallas", "interpreted"] = "none"
    narrow: bool = False


UNCHUNKED = Chunks()
# Sizes that keep a block in a core's cache.
CPU_CHUNKS = Chunks(heads=1, queries=256, tokens=512, pixels=4096)
# An accelerator wants large products; an image's scores in a global block of ViT-B are bounded to
# about 100 MB.
ACCELERATOR_CHUNKS = Chunks(queries=512, pixels=64 * 4096, narrow=True)


def relative_table(rel_pos: Float[Array, "{2*n-1} c"], n: int) -> Float[Array, "{n} {n} c"]:
    """Index relative positions by query and key: ``table[q, k] = rel_pos[q - k + n - 1]``."""
    index = jnp.arange(n)[:, None] - jnp.arange(n)[None, :] + n - 1
    return rel_pos[index]


def _product(spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _weighted(weights: Float[Array, "*b q k"], v: Float[Array, "*b k c"]) -> Array:
    """Average ``v`` by ``weights``, divided after the product: fewer divisions, same numbers.

    The weights come rounded to the dtype of ``v``, so that numerator and denominator see the
    same rounding.
    """
    total = weights.astype(jnp.float32).sum(-1, keepdims=True)
    return (_product("...qk,...kc->...qc", weights, v) / total).astype(v.dtype)


def position_terms(
    q: Float[Array, "*w t c"], table_h: Float[Array, "n n c"], table_w: Float[Array, "n n c"]
) -> tuple[Float[Array, "*w t c"], Float[Array, "*w t n"], Float[Array, "*w t n"]]:
    """Return scaled queries, and what the key's row and column add to their scores (float32)."""
    n, c = table_h.shape[1:]
    grid = q.reshape(*q.shape[:-2], n, n, c)
    terms_h = _product("...yxc,ykc->...yxk", grid, table_h).reshape(*q.shape[:-1], n)
    terms_w = _product("...yxc,xkc->...yxk", grid, table_w).reshape(*q.shape[:-1], n)
    scale = jnp.asarray(c**-0.5, jnp.float32)
    return (q.astype(jnp.float32) * scale).astype(q.dtype), terms_h, terms_w


def attend_added(
    q: Float[Array, "1 t c"],
    k: Float[Array, "1 t c"],
    v: Float[Array, "1 t c"],
    table_h: Float[Array, "n n c"],
    table_w: Float[Array, "n n c"],
    query_limit: int | None,
) -> Float[Array, "1 t c"]:
    """Attend with one head in a single window of ``t = n * n`` tokens, by blocks of queries."""
    n = table_h.shape[1]
    q, k, v = q[0], k[0], v[0]
    scaled, terms_h, terms_w = position_terms(q, table_h, table_w)

    def block(q: Array, terms_h: Array, terms_w: Array) -> Array:
        scores = lax.dot_general(q, k, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        scores = scores.reshape(-1, n, n) + terms_h[:, :, None]
        # A maximum over rows, then over columns, works on whole vectors: a tenth less time.
        terms_w = terms_w - (scores.max(1) + terms_w).max(-1, keepdims=True)
        weights = jnp.exp(scores + terms_w[:, None, :]).astype(v.dtype)
        return _weighted(weights.reshape(-1, n * n), v)

    return update_blocks(block, scaled, terms_h, terms_w, limit=query_limit)[None]


def fold(
    q: Float[Array, "w t c"],
    k: Float[Array, "w t c"],
    table_h: Float[Array, "n n c"],
    table_w: Float[Array, "n n c"],
) -> tuple[Float[Array, "w t c+2*n"], Float[Array, "w t c+2*n"]]:
    """Return queries and keys of one head whose plain product is the whole score."""
    n = table_h.shape[1]
    w, t, _ = q.shape
    scaled, terms_h, terms_w = position_terms(q, table_h, table_w)
    # Row k of the one-hot table selects key k's own row and column among the 2n terms.
    key = jnp.arange(t)
    one_hot = jnp.concatenate(
        [key[:, None] // n == jnp.arange(n)[None], key[:, None] % n == jnp.arange(n)[None]], -1
    ).astype(q.dtype)
    q = jnp.concatenate([scaled, terms_h.astype(q.dtype), terms_w.astype(q.dtype)], -1)
    return q, jnp.concatenate([k, jnp.broadcast_to(one_hot, (w, t, 2 * n))], -1)


def attend_folded(
    q: Float[Array, "w t c"],
    k: Float[Array, "w t c"],
    v: Float[Array, "w t c"],
    table_h: Float[Array, "n n c"],
    table_w: Float[Array, "n n c"],
) -> Float[Array, "w t c"]:
    """Attend with one head in ``w`` windows of ``t = n * n`` tokens, all windows at once."""
    q, k = fold(q, k, table_h, table_w)
    scores = _product("wqc,wkc->wqk", q, k)
    return _weighted(jnp.exp(scores - scores.max(-1, keepdims=True)).astype(v.dtype), v)


def fused_attention(
    q: Float[Array, "w t h c"],
    k: Float[Array, "w t h c"],
    v: Float[Array, "w t h c"],
    implementation: Fused = "cudnn",
) -> Float[Array, "w t h c"]:
    """Return ``softmax(q k) v``; fused implementations never write a score to memory."""
    return jax.nn.dot_product_attention(q, k, v, scale=1.0, implementation=implementation)


def fused_size(c: int, n: int) -> int:
    """Return the width of a folded head, a multiple of eight as fused attention needs it."""
    return -(-(c + 2 * n) // 8) * 8


def attend_fused(
    q: Float[Array, "h w t c"],
    k: Float[Array, "h w t c"],
    v: Float[Array, "h w t c"],
    table_h: Float[Array, "n n c"],
    table_w: Float[Array, "n n c"],
    implementation: Fused,
) -> Float[Array, "h w t c"]:
    """Attend with all heads and windows at once, values padded to the folded keys' width."""
    n, c = table_h.shape[1:]
    folded_q, folded_k = jax.vmap(lambda q, k: fold(q, k, table_h, table_w))(q, k)

    def arrange(x: Array) -> Array:  # h w t c -> w t h c, filled up with zeros
        wider = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, fused_size(c, n) - x.shape[-1])))
        return wider.transpose(1, 2, 0, 3)

    out = fused_attention(arrange(folded_q), arrange(folded_k), arrange(v), implementation)
    return out[..., :c].transpose(2, 0, 1, 3)


def partition(
    qkv: Float[Array, "g g d"], fill: Float[Array, " d"], window: int, heads: int
) -> tuple[Array, Array, Array]:
    """Cut projected tokens into windows: three arrays (heads, windows, window * window, c).

    The official code pads the normalised tokens with zeros *before* the projection, so a padded
    token's query, key and value are the projection's bias (``fill``), and padded keys take part
    in the softmax. Padding after the projection is the same and saves their products.
    """
    g, d = qkv.shape[0], qkv.shape[-1]
    pad = -g % window
    if pad:
        right = jnp.broadcast_to(fill, (g, pad, d))
        below = jnp.broadcast_to(fill, (pad, g + pad, d))
        qkv = jnp.concatenate([jnp.concatenate([qkv, right], 1), below], 0)
    m = (g + pad) // window
    qkv = qkv.reshape(m, window, m, window, 3, heads, d // 3 // heads)
    # windows' y, y, windows' x, x, qkv, head, c -> qkv, head, windows' y, windows' x, y, x, c
    qkv = qkv.transpose(4, 5, 0, 2, 1, 3, 6).reshape(3, heads, m * m, window * window, -1)
    return qkv[0], qkv[1], qkv[2]


def unpartition(out: Float[Array, "h w t c"], g: int, window: int) -> Float[Array, "{g*g} h*c"]:
    """Put windows back into the image's tokens in rows, and crop the padding."""
    heads, _, _, c = out.shape
    m = -(-g // window)
    out = out.reshape(heads, m, m, window, window, c).transpose(1, 3, 2, 4, 0, 5)
    return out.reshape(m * window, m * window, heads * c)[:g, :g].reshape(g * g, heads * c)
