"""Build ONNX graphs from the network's layers.

`Graph` collects nodes and weights; its methods take and return names of values. Only operators of
the official opset 17 are used, all of them known to onnxruntime-web.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from samjax.errors import ExportError
from samjax.model.layers import Head, LayerNorm, Linear

OPSET, IR_VERSION = 17, 8
# Protobuf's limit, less what is not weights
LARGEST_BYTES = 2**31 - 2**20
# Smaller arrays keep float32: they are norms, biases and tokens
_LARGE = 1024

Dimensions = Sequence[int | str]


def import_onnx() -> types.ModuleType:
    """Import the package onnx.

    Raises:
        ExportError: it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise ExportError(
            "ONNX files are written by the package onnx: pip install 'samjax[export]'"
        ) from None
    return onnx


def host(value: Any) -> np.ndarray:
    """Return an array or parameter on the host, float32."""
    array: Array = value[...]
    return np.asarray(jax.device_get(array)).astype(np.float32)


class Graph:
    """A graph grows by one node for each call; ``model`` returns it as a checked ONNX model."""

    def __init__(self, weights: str = "float32"):
        self._onnx = import_onnx()
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._bytes = 0

    def input(self, name: str, shape: Dimensions, dtype: str = "float32") -> str:
        """Declare an input of the graph; text in ``shape`` names an open dimension."""
        self._inputs.append(self._described(name, shape, dtype))
        return name

    def output(self, name: str, value: str, shape: Dimensions, dtype: str = "float32") -> None:
        """Declare an output of the graph, which has the value ``value``."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._described(name, shape, dtype))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, and return that output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node of ``count`` outputs."""
        number = len(self._nodes)
        names = [f"{kind}_{number}" + (f"_{i}" if count > 1 else "") for i in range(count)]
        node = self._onnx.helper.make_node(
            kind, list(inputs), names, name=f"{kind}_{number}", **attributes
        )
        self._nodes.append(node)
        return names

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Return a constant; equal ones are stored once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._store(array)
        return self._constants[key]

    def weight(self, array: np.ndarray, axis: int = -1) -> str:
        """Return a weight as float32, stored as the graph stores weights.

        ``axis`` is that of the outputs: in uint8 each has a scale of its own.
        """
        if self._weights == "float32" or array.size < _LARGE:
            return self._store(array)
        if self._weights == "float16":
            if np.abs(array).max() > np.finfo(np.float16).max:
                raise ExportError("a weight is too large for float16: choose float32 or uint8")
            return self.op("Cast", self._store(array.astype(np.float16)), to=self._kind("float32"))
        quantised, scale, zero = quantise(array, axis)
        names = [self._store(x) for x in (quantised, scale, zero)]
        return self.op("DequantizeLinear", *names, axis=axis % array.ndim)

    def model(self, name: str, about: dict[str, str]) -> Any:
        """Return the checked ONNX model.

        Raises:
            ExportError: larger than a file can be.
        """
        if self._bytes > LARGEST_BYTES:
            raise ExportError(
                f"{self._bytes / 1e9:.1f} GB of weights do not fit into one ONNX file (2 GB): "
                'choose weights="float16" or "uint8" (--weights)'
            )
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, self._initializers
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="samjax",
            producer_version=about.get("samjax", ""),
        )
        helper.set_model_props(made, about)
        self._onnx.checker.check_model(made)
        return made

    # -------------------------------------------------------------------- shapes and arithmetic

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is what is left."""
        return self.op("Reshape", x, self.constant(shape, "int64"))

    def transpose(self, x: str, *order: int) -> str:
        """Reorder the axes."""
        return self.op("Transpose", x, perm=list(order))

    def scale(self, x: str, factor: float) -> str:
        """Multiply by a number."""
        return self.op("Mul", x, self.constant(factor))

    def cast(self, x: str, dtype: str) -> str:
        """Cast to a dtype."""
        return self.op("Cast", x, to=self._kind(dtype))

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """Return ``x[start:stop]`` along an axis."""
        return self.op("Slice", x, *(self.constant([i], "int64") for i in (start, stop, axis)))

    def size(self, x: str, axis: int) -> str:
        """Return the length of an axis, an int64 of shape (1,)."""
        return self.op("Gather", self.op("Shape", x), self.constant([axis], "int64"))

    def gelu(self, x: str) -> str:
        """Apply the exact GELU, ``0.5 x (1 + erf(x / sqrt 2))``, as runtimes know to fuse it."""
        half = self.op("Erf", self.op("Div", x, self.constant(2**0.5)))
        return self.scale(self.op("Mul", x, self.op("Add", half, self.constant(1.0))), 0.5)

    # ----------------------------------------------------------------------------------- layers

    def linear(self, x: str, layer: Linear) -> str:
        """Apply a dense layer to the last axis."""
        y = self.op("MatMul", x, self.weight(host(layer.kernel)))
        return y if layer.bias is None else self.op("Add", y, self.constant(host(layer.bias)))

    def norm(self, x: str, layer: LayerNorm) -> str:
        """Normalise the last axis."""
        scale, bias = (self.constant(host(p)) for p in (layer.scale, layer.bias))
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.eps)

    def head(self, x: str, head: Head) -> str:
        """Apply dense layers with ReLU between them."""
        *hidden, last = head.layers
        for layer in hidden:
            x = self.op("Relu", self.linear(x, layer))
        return self.linear(x, last)

    def conv(
        self,
        x: str,
        kernel: Float[np.ndarray, "o i h w"],
        bias: Float[np.ndarray, " o"] | None = None,
        *,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
    ) -> str:
        """Convolve an NCHW array."""
        inputs = [x, self.weight(kernel, axis=0)]
        if bias is not None:
            inputs.append(self.constant(bias))
        size = list(kernel.shape[2:])
        return self.op(
            "Conv", *inputs, kernel_shape=size, strides=[stride] * 2, pads=[pad] * 4, group=group
        )

    def to_nchw(self, x: str) -> str:
        """Move the channels from the last to the second axis."""
        return self.transpose(x, 0, 3, 1, 2)

    def to_nhwc(self, x: str) -> str:
        """Move the channels from the second to the last axis."""
        return self.transpose(x, 0, 2, 3, 1)

    # ------------------------------------------------------------------------------------------

    def _store(self, array: np.ndarray) -> str:
        name = f"w{len(self._initializers)}"
        self._bytes += array.nbytes
        if self._bytes <= LARGEST_BYTES:  # beyond it `model` refuses
            made = self._onnx.numpy_helper.from_array(np.array(array, order="C"), name)
            self._initializers.append(made)
        return name

    def _kind(self, dtype: str) -> int:
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _described(self, name: str, shape: Dimensions, dtype: str) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._kind(dtype), list(shape))


def quantise(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantise to uint8, each index of ``axis`` by its own range.

    Returns:
        Values, scales and zero points: ``(values - zero) * scale`` is close to ``array``, and 0
        stays 0.
    """
    axis %= array.ndim
    others = tuple(i for i in range(array.ndim) if i != axis)
    low = np.minimum(array.min(others, keepdims=True), 0)
    high = np.maximum(array.max(others, keepdims=True), 0)
    scale = np.maximum((high - low) / np.float32(255), np.finfo(np.float32).tiny)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    values = np.clip(np.rint(array / scale) + zero, 0, 255).astype(np.uint8)
    return values, scale.ravel().astype(np.float32), zero.ravel().astype(np.uint8)
