"""Arrange pixels in ONNX: convolutions' kernels, windows, and the upscaling of embeddings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from samjax.export.graph import Graph, host
from samjax.model.layers import Conv3x3, ConvTranspose2x2, Upscaling


def upscale(g: Graph, layers: Upscaling, image: str) -> str:
    """Upscale four times; the 16 pixels of each stay together: (batch, pixels * 16, channels)."""
    x = _quadruple(g, layers.conv1, image)
    x = _quadruple(g, layers.conv2, g.gelu(g.norm(x, layers.norm1)))
    return g.gelu(x) if layers.activated else x


def _quadruple(g: Graph, layer: ConvTranspose2x2, x: str) -> str:
    """Make four pixels of each, side by side on the second axis."""
    bias = host(layer.bias)
    x = g.op("MatMul", x, g.weight(host(layer.kernel)))
    return g.op("Add", g.reshape(x, 0, -1, len(bias)), g.constant(bias))


def sort_pixels(g: Graph, planes: str, channels: int, size: int) -> str:
    """Sort (batch, channels, pixels * 16) into (batch, channels, 4 * size, 4 * size).

    The 16 are (row, column) of a square of two, then (row, column) in a square of two of those.
    """
    x = g.transpose(g.reshape(planes, -1, size * size, 16), 0, 2, 1)
    x = g.reshape(x, -1, 16, size, size)
    for _ in range(2):
        x = g.op("DepthToSpace", x, blocksize=2, mode="DCR")
    return g.reshape(x, -1, channels, 4 * size, 4 * size)


def conv_kernel(
    kernel: Float[np.ndarray, "k o"], side: int
) -> Float[np.ndarray, "o i {side} {side}"]:
    """Return the kernel of a convolution, (row, column, in) flattened, times out, as ONNX's."""
    return kernel.reshape(side, side, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)


def conv3x3(g: Graph, layer: Conv3x3, x: str) -> str:
    """Apply a 3x3 convolution with its bias to an NCHW array."""
    bias = None if layer.bias is None else host(layer.bias)
    return g.conv(x, conv_kernel(host(layer.kernel), 3), bias, stride=layer.stride, pad=1)


def split_windows(g: Graph, x: str, grid: int, window: int, width: int) -> str:
    """Pad with zeros and cut into windows, (batch * windows, window * window, width)."""
    pad = -grid % window
    if pad:
        x = g.op("Pad", x, g.constant([0, 0, 0, 0, 0, pad, pad, 0], "int64"))
    m = (grid + pad) // window
    x = g.reshape(x, -1, m, window, m, window, width)
    return g.reshape(g.transpose(x, 0, 1, 3, 2, 4, 5), -1, window * window, width)


def join_windows(g: Graph, x: str, grid: int, window: int, width: int) -> str:
    """Put windows back in their places and crop the padding, (batch, grid, grid, width)."""
    m = -(-grid // window)
    x = g.transpose(g.reshape(x, -1, m, m, window, window, width), 0, 1, 3, 2, 4, 5)
    x = g.reshape(x, -1, m * window, m * window, width)
    for axis in (1, 2):
        x = x if m * window == grid else g.slice(x, 0, grid, axis)
    return x
