"""Turn official tensors into samjax parameters and back, strictly and completely."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from samjax.checkpoint.layout import official_layout
from samjax.errors import CheckpointError
from samjax.model.config import SamConfig
from samjax.model.sam import Sam

_SHOWN = 8  # keys listed in an error before it is cut
# Random norms have parameters near one and near zero.
_NEAR_ONE, _NEAR_ZERO = (".scale", ".var"), (".bias", ".mean")
# Buffers are stored but not trained: the matrix of positions, statistics of batch normalisation
_BUFFERS = ("gaussian_matrix", ".mean", ".var")


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    shown = (key if key.isprintable() else repr(key) for key in keys[:_SHOWN])
    return f"{len(keys)} {what}: {', '.join(key[:200] for key in shown)}{more}"


def describe_misfits(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> str:
    """Say which shapes are missing, unexpected or others than wanted; "" if none is."""
    kinds = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "mis-shaped": [
            f"{key} {found[key]} instead of {shape}"
            for key, shape in wanted.items()
            if key in found and found[key] != shape
        ],
    }
    return "; ".join(_listed(kind, keys) for kind, keys in kinds.items() if keys)


def to_parameters(
    tensors: Mapping[str, np.ndarray], config: SamConfig, *, where: str = "checkpoint"
) -> dict[str, np.ndarray]:
    """Turn official tensors into samjax parameters by path; one error names every misfit."""
    layout = official_layout(config)
    problems = describe_misfits(
        {key: tensor.shape for key, tensor in tensors.items()},
        {key: entry.shape for key, entry in layout.items()},
    )
    if problems:
        hint = "; if they are not SAM's: ignore=, or --ignore" * ("unexpected:" in problems)
        raise CheckpointError(f"{where}: does not fit SAM's layout; {problems}{hint}")
    return {entry.path: entry.to_samjax(tensors[key]) for key, entry in layout.items()}


def to_official(parameters: Mapping[str, np.ndarray], config: SamConfig) -> dict[str, np.ndarray]:
    """Turn samjax parameters into official tensors, in the order of the official state_dict."""
    layout = official_layout(config)
    return {key: entry.to_official(parameters[entry.path]) for key, entry in layout.items()}


def abstract_model(config: SamConfig) -> Sam:
    """Return the network's structure with shapes for weights: no memory, no random numbers."""
    return nnx.eval_shape(lambda: Sam(config, rngs=None))


def random_parameters(config: SamConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random parameters of these sizes, for timing and tests.

    Kernels keep the variance of their inputs, norms are near the identity.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for entry in official_layout(config).values():
        value = rng.standard_normal(entry.shape, np.float32)
        if entry.kind != "same":
            inputs = entry.shape[0] if entry.kind == "transposed" else np.prod(entry.shape[1:])
            value *= np.float32(inputs**-0.5)
        elif entry.path.endswith(_NEAR_ONE + _NEAR_ZERO):
            value = value * np.float32(0.1) + np.float32(entry.path.endswith(_NEAR_ONE))
            value = abs(value) if entry.path.endswith(".var") else value
        parameters[entry.path] = entry.to_samjax(value)
    return parameters


def parameter_dtype(path: str, dtype: np.dtype | type) -> np.dtype:
    """Kernels carry the model's dtype; biases, norms, embeddings and positions are float32."""
    return np.dtype(dtype) if path.endswith(".kernel") else np.dtype(np.float32)


def dotted(path: tuple[Any, ...]) -> str:
    """Return a key path of an nnx state as the dotted name used in this package."""
    return ".".join(str(part) for part in path)


def _place(
    value: np.ndarray | jax.Array,
    dtype: np.dtype,
    placement: jax.Device | jax.sharding.Sharding | None,
) -> jax.Array:
    """Put one parameter on its device, and release the memory-mapped pages that it came from."""
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    # A copy even where none is needed: the CPU backend may keep a host array instead of copying
    # it, and a file that changes later must not change the weights.
    placed = jax.device_put(np.array(value, dtype, order="C"), placement)
    _release(value)
    return placed


def _release(array: np.ndarray) -> None:
    """Give back the pages of the file under ``array``: they would count as memory twice."""
    base: object = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def fill_model(
    parameters: Mapping[str, np.ndarray | jax.Array],
    config: SamConfig,
    *,
    dtype: np.dtype | type,
    placement: jax.Device | jax.sharding.Sharding | None = None,
) -> Sam:
    """Return a network with these parameters, cast to ``dtype`` and put on ``placement``."""
    graphdef, state = nnx.split(abstract_model(config))
    flat = nnx.to_flat_state(state)
    filled = []
    for path, variable in flat:
        name = dotted(path)
        wanted = parameter_dtype(name, dtype)
        filled.append((path, variable.replace(_place(parameters[name], wanted, placement))))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def model_parameters(model: Sam) -> dict[str, jax.Array]:
    """Return the parameters of a network by dotted path."""
    return {dotted(path): v[...] for path, v in nnx.to_flat_state(nnx.state(model))}


def parameter_count(config: SamConfig) -> int:
    """Return the number of trained parameters, without buffers."""
    return sum(
        int(np.prod(entry.shape))
        for entry in official_layout(config).values()
        if not entry.path.endswith(_BUFFERS)
    )
