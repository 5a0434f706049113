"""The encoders and the decoder share these building blocks.

Precision: a product takes its operands in the dtype of its kernel (float32, bfloat16, float16)
and accumulates in float32; everything else (norms, softmax, residuals, coordinates) is float32.
Casting the kernels is therefore all it takes to change the dtype of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Num

_Tree = TypeVar("_Tree")
_Out = TypeVar("_Out")


def dot(
    x: Float[Array, "*b i"], kernel: Float[Array, "i o"], *, narrow: bool = False
) -> Float[Array, "*b o"]:
    """Return ``x @ kernel`` with operands in the kernel's dtype and a float32 result.

    XLA:CPU chooses its fused bfloat16 products only if float32 output is asked for. A ``narrow``
    product is rounded to the kernel's dtype, which halves what an accelerator writes and reads.
    """
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    made = kernel.dtype if narrow else jnp.float32
    y = lax.dot_general(x.astype(kernel.dtype), kernel, contract, preferred_element_type=made)
    return y.astype(jnp.float32)


def along(x: Num[Array, "*b c"], y: Num[Array, "*a"]) -> Num[Array, "*d"]:
    """Give ``x`` leading axes of length 1, as many as ``y`` has more.

    JAX would do so by itself, but not under ``jax_numpy_rank_promotion="raise"``.
    """
    return x.reshape((1,) * (y.ndim - x.ndim) + x.shape)


def gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Apply the exact GELU in torch.nn.GELU's own form, not JAX's tanh approximation.

    ``jax.nn.gelu(approximate=False)`` is written with erfc, whose two branches of long
    polynomials keep XLA's fusion for GPUs busy for minutes, and take longer everywhere.
    """
    return 0.5 * x * (1 + lax.erf(x * np.float32(0.5**0.5)))


def random(rngs: nnx.Rngs | None, shape: tuple[int, ...], scale: float) -> Float[Array, "*s"]:
    """Return normal initial values; without ``rngs`` zeros, which a checkpoint then replaces."""
    return jnp.zeros(shape) if rngs is None else scale * jax.random.normal(rngs.params(), shape)


def block_size(length: int, limit: int | None) -> int:
    """Return the largest divisor of ``length`` that is not above ``limit`` (None: no limit)."""
    if limit is None or limit >= length:
        return length
    return next(size for size in range(limit, 0, -1) if length % size == 0)


def map_blocks(function: Callable[[_Tree], _Out], xs: _Tree, limit: int | None) -> _Out:
    """Apply ``function`` to blocks of the leading axis, one after the other.

    A block that stays in the cache is faster on a CPU, and bounds memory everywhere.
    ``limit`` is the largest block; None applies the function once, to everything.
    """
    if limit is None:  # the length may be symbolic here, while exporting
        return function(xs)
    length = jax.tree.leaves(xs)[0].shape[0]
    size = block_size(length, limit)
    if size == length:
        return function(xs)
    blocked = jax.tree.map(lambda x: x.reshape(length // size, size, *x.shape[1:]), xs)
    out = lax.map(function, blocked)
    return jax.tree.map(lambda x: x.reshape(length, *x.shape[2:]), out)


def update_each(function: Callable[..., Array], x: Array, *others: Array) -> Array:
    """Replace each row of ``x`` by ``function`` of the rows of all arrays, in turn and in place.

    lax.map would fill an array of zeros instead, and XLA:CPU makes the zeros of all loops of a
    program when it starts: with two loops a block 0.3 GB for ViT-B.
    """

    def step(i: Array, x: Array) -> Array:
        rows = [lax.dynamic_index_in_dim(array, i, keepdims=False) for array in (x, *others)]
        return lax.dynamic_update_index_in_dim(x, function(*rows), i, 0)

    return lax.fori_loop(0, x.shape[0], step, x)


def update_blocks(
    function: Callable[..., Array], x: Array, *others: Array, limit: int | None
) -> Array:
    """Replace blocks of rows of ``x`` by ``function`` of them, in turn and in place.

    ``function`` returns the shape and dtype of its first argument; ``limit`` is the largest block,
    None applies the function once, to everything.
    """
    length = x.shape[0]
    size = block_size(length, limit)
    if size == length:
        return function(x, *others)
    blocks = [a.reshape(length // size, size, *a.shape[1:]) for a in (x, *others)]
    return update_each(function, *blocks).reshape(x.shape)


def map_each(function: Callable[[Array], _Out], xs: Array, one_by_one: bool) -> _Out:
    """Apply ``function`` to each row of the leading axis, in turn or all at once."""
    return lax.map(function, xs) if one_by_one else jax.vmap(function)(xs)


class Linear(nnx.Module):
    """A dense layer multiplies by ``kernel`` of shape (inputs, outputs) and adds a bias."""

    def __init__(self, inputs: int, outputs: int, *, use_bias: bool = True, rngs: nnx.Rngs | None):
        self.kernel = nnx.Param(random(rngs, (inputs, outputs), 0.02))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None

    def __call__(self, x: Float[Array, "*b i"], *, narrow: bool = False) -> Float[Array, "*b o"]:
        y = dot(x, self.kernel[...], narrow=narrow)
        return y if self.bias is None else y + along(self.bias[...], y)


class LayerNorm(nnx.Module):
    """LayerNorm normalises over the last axis.

    In NHWC this is the official LayerNorm2d as well. The epsilon differs between the parts of
    SAM: 1e-6 in the image encoder and wherever the official code uses LayerNorm2d, 1e-5
    (torch's default) in the two-way transformer.
    """

    def __init__(self, width: int, *, eps: float):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        scale, bias = along(self.scale[...], x), along(self.bias[...], x)
        return (x - mean) * lax.rsqrt(variance + self.eps) * scale + bias


class MLP(nnx.Module):
    """An MLP applies two dense layers with an activation between them (official MLPBlock)."""

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Callable[[Array], Array],
        *,
        rngs: nnx.Rngs | None,
    ):
        self.lin1 = Linear(width, hidden, rngs=rngs)
        self.lin2 = Linear(hidden, width, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "*b c"], *, narrow: bool = False) -> Float[Array, "*b c"]:
        return self.lin2(self.activation(self.lin1(x, narrow=narrow)))


class Conv2x2(nnx.Module):
    """A 2x2 convolution of stride 2 multiplies each 2x2 square of pixels by one matrix."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs | None):
        # (row, column, in, out) flattened to (4 * in, out)
        self.kernel = nnx.Param(random(rngs, (4 * inputs, outputs), 0.02))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h/2 w/2 o"]:
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c)  # b y dy x dx c
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
        return dot(x, self.kernel[...]) + along(self.bias[...], x)


class ConvTranspose2x2(nnx.Module):
    """A 2x2 transposed convolution of stride 2 leaves its output in 2x2 squares.

    With stride equal to kernel size no output pixel is written twice: the layer is one matrix
    product per pixel, whose outputs are that pixel's 2x2 square. The square stays an axis of
    its own; the caller sorts pixels into rows once, at the very end, on a thin array.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs | None):
        # (in, row, column, out) flattened to (in, 4 * out)
        self.kernel = nnx.Param(random(rngs, (inputs, 4 * outputs), 0.02))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*b i"], *, narrow: bool = False) -> Float[Array, "*b 4 o"]:
        y = dot(x, self.kernel[...], narrow=narrow)
        y = y.reshape(*y.shape[:-1], 4, self.bias[...].shape[0])
        if narrow:  # XLA's search for tiles of the norm that follows is slow across the reshape
            y = lax.optimization_barrier(y.astype(self.kernel[...].dtype)).astype(jnp.float32)
        return y + along(self.bias[...], y)


class Conv3x3(nnx.Module):
    """A 3x3 convolution pads the image with zeros; ``stride`` is 1 or 2."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs | None,
    ):
        # (row, column, in) flattened, times out
        self.kernel = nnx.Param(random(rngs, (9 * inputs, outputs), 0.02))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        kernel = self.kernel[...]
        y = lax.conv_general_dilated(
            x.astype(kernel.dtype),
            kernel.reshape(3, 3, x.shape[-1], -1),
            (self.stride, self.stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )
        return y if self.bias is None else y + along(self.bias[...], y)


class Head(nnx.Module):
    """A head applies dense layers with ReLU between them (official MLP)."""

    def __init__(self, widths: tuple[int, ...], *, rngs: nnx.Rngs | None):
        self.layers = nnx.List(Linear(i, o, rngs=rngs) for i, o in pairwise(widths))

    def __call__(self, x: Float[Array, "p i"]) -> Float[Array, "p o"]:
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


class Upscaling(nnx.Module):
    """Two transposed convolutions upscale four times and keep each pixel's 4x4 square together.

    With ``activated`` a GELU follows the last one, too (the mask decoder's own). The result is
    float32, or in the kernels' dtype if ``narrow``.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        activated: bool = False,
        rngs: nnx.Rngs | None,
    ):
        self.conv1 = ConvTranspose2x2(inputs, hidden, rngs=rngs)
        self.norm1 = LayerNorm(hidden, eps=1e-6)
        self.conv2 = ConvTranspose2x2(hidden, outputs, rngs=rngs)
        self.activated = activated

    def __call__(
        self, image: Float[Array, "p n i"], *, narrow: bool = False
    ) -> Float[Array, "p n 4 4 o"]:
        x = gelu(self.norm1(self.conv1(image, narrow=narrow)))
        x = self.conv2(x, narrow=narrow)
        x = gelu(x) if self.activated else x
        return x.astype(self.conv2.kernel[...].dtype) if narrow else x
