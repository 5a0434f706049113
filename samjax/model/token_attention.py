"""The mask decoder attends between a few tokens and the thousands of an image's pixels.

The cross attentions have two exact implementations:

- *projected*: keys, values and queries of all pixels are projected, as the official code does;
- *absorbed*: the projections move to the tokens' side, ``(x Wk) . q = x . (Wk q)`` and
  ``sum_n w_n (x_n Wv) = (sum_n w_n x_n) Wv``, head by head, so that pixels are multiplied by
  tokens only. A pixel then costs ``4 heads tokens width`` operations instead of
  ``4 (width + tokens) inner``: less for up to 17 tokens of the official sizes (a click has 9),
  and nothing of the image has to be kept for the attention. The small products of tokens with
  projections are float32 in any dtype; those with pixels have the model's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from samjax.model.layers import Linear


class Attention(nnx.Module):
    """Multi-head attention projects to the width ``inner`` and back."""

    def __init__(self, width: int, inner: int, num_heads: int, *, rngs: nnx.Rngs | None):
        self.width, self.inner, self.num_heads = width, inner, num_heads
        self.q_proj = Linear(width, inner, rngs=rngs)
        self.k_proj = Linear(width, inner, rngs=rngs)
        self.v_proj = Linear(width, inner, rngs=rngs)
        self.out_proj = Linear(inner, width, rngs=rngs)

    def __call__(
        self,
        q: Float[Array, "#p s e"],
        k: Float[Array, "#p t e"],
        v: Float[Array, "#p t e"],
        valid: Bool[Array, "#p t"] | None = None,
    ) -> Float[Array, "#p s c"]:
        """Attend with projected queries, keys and values; ``valid`` marks the keys that count."""
        dtype = self.q_proj.kernel[...].dtype

        def split(x: Array) -> Array:  # p s (h c) -> p h s c
            return x.astype(dtype).reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)

        q, k, v = split(q), split(k), split(v)
        scores = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
        scores = scores / q.shape[-1] ** 0.5
        if valid is not None:
            scores = jnp.where(valid[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, -1).astype(dtype)
        out = jnp.matmul(weights, v, preferred_element_type=jnp.float32).swapaxes(1, 2)
        return self.out_proj(out.reshape(*out.shape[:2], -1))

    def absorbs(self, tokens: int) -> bool:
        """Return whether the absorbed implementation takes fewer operations for so many tokens."""
        return self.num_heads * tokens * self.width < (self.width + tokens) * self.inner

    def tokens_to_pixels(
        self,
        tokens: Float[Array, "p t c"],
        keys: Float[Array, "#p n c"],
        values: Float[Array, "#p n c"],
    ) -> Float[Array, "p t c"]:
        """Tokens attend to pixels, none of them projected (absorbed).

        The bias of the keys adds the same to all scores of a token, which the softmax cancels.
        """
        p, t, width = tokens.shape
        heads, dtype = self.num_heads, self.q_proj.kernel[...].dtype
        q = self._heads(self.q_proj(tokens) * (self.inner // heads) ** -0.5)
        q = jnp.einsum("pthe,che->phtc", q, self._by_head(self.k_proj))
        scores = _matmul(q.reshape(p, heads * t, width), keys.swapaxes(-1, -2), dtype)
        weights = jnp.exp(scores - scores.max(-1, keepdims=True)).astype(dtype)
        total = weights.astype(jnp.float32).sum(-1, keepdims=True)
        mean = (_matmul(weights, values, dtype) / total).reshape(p, heads, t, width)
        out = jnp.einsum("phtc,che->pthe", mean, self._by_head(self.v_proj))
        return self.out_proj(out.reshape(p, t, self.inner) + self._bias(self.v_proj)[None, None])

    def pixels_to_tokens(
        self,
        pixels: Float[Array, "#p n c"],
        keys: Float[Array, "p t c"],
        values: Float[Array, "p t c"],
        valid: Bool[Array, "p t"],
    ) -> Float[Array, "p n c"]:
        """Pixels, not projected, attend to tokens (absorbed)."""
        p, t, width = keys.shape
        heads, dtype = self.num_heads, self.q_proj.kernel[...].dtype
        k = self._heads(self.k_proj(keys) * (self.inner // heads) ** -0.5)
        folded = jnp.einsum("pthe,che->pcht", k, self._by_head(self.q_proj))
        bias = self._bias(self.q_proj).reshape(heads, -1)
        offset = jnp.einsum("pthe,he->pht", k, bias)
        offset = jnp.where(valid[:, None], offset, jnp.finfo(jnp.float32).min)
        scores = _matmul(pixels, folded.reshape(p, width, heads * t), dtype)
        scores = scores.reshape(p, -1, heads, t) + offset[:, None]
        weights = jax.nn.softmax(scores, -1).reshape(p, -1, heads * t)
        v = self._heads(self.v_proj(values))
        kernel = self.out_proj.kernel[...].astype(jnp.float32).reshape(heads, -1, width)
        v = jnp.einsum("pthe,hec->phtc", v, kernel)
        out = _matmul(weights, v.reshape(p, heads * t, width), dtype)
        return out + self._bias(self.out_proj)[None, None]

    def _heads(self, x: Float[Array, "p t {self.inner}"]) -> Float[Array, "p t h e"]:
        return x.reshape(*x.shape[:2], self.num_heads, -1)

    def _by_head(self, linear: Linear) -> Float[Array, "c h e"]:
        return linear.kernel[...].astype(jnp.float32).reshape(self.width, self.num_heads, -1)

    @staticmethod
    def _bias(linear: Linear) -> Float[Array, " o"]:
        assert linear.bias is not None
        return linear.bias[...]


def _matmul(a: Float[Array, "#p i k"], b: Float[Array, "#p k o"], dtype: jnp.dtype) -> Array:
    return jnp.matmul(a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)
