"""Official tensors to samjax parameters and back: sizes from shapes, strict and complete."""

from __future__ import annotations

import dataclasses
import mmap
import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from samjax.checkpoint.layout import official_layout
from samjax.config import ImageEncoderConfig, MaskDecoderConfig, PromptEncoderConfig, SamConfig
from samjax.errors import CheckpointError
from samjax.model.sam import Sam

_SHOWN = 8  # keys listed in an error before it is cut


def _count(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    """One more than the largest index that ``pattern`` captures among the keys."""
    found = [int(m[1]) for m in map(re.compile(pattern).match, tensors) if m]
    return max(found, default=-1) + 1


class _Shapes:
    """Shapes by key, with an error that says what a missing one was needed for."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where = tensors, where

    def __call__(self, key: str, rank: int) -> tuple[int, ...]:
        tensor = self.tensors.get(key)
        if tensor is None:
            hint = ", ".join(list(self.tensors)[:3]) or "nothing"
            raise CheckpointError(
                f"{self.where}: not a complete SAM checkpoint: '{key}' is missing (the file has "
                f"{len(self.tensors)} tensors: {hint} ...); give a whole model's state_dict"
            )
        if tensor.ndim != rank:
            raise CheckpointError(
                f"{self.where}: '{key}' has shape {tensor.shape}, expected {rank} axes: "
                "not SAM's layout"
            )
        return tensor.shape


def infer_config(
    tensors: Mapping[str, np.ndarray], *, layer_norm_eps: float = 1e-5, where: str = "checkpoint"
) -> SamConfig:
    """Every size of a model from the shapes of its official tensors.

    The decoder's number of heads leaves no trace in the shapes; it is 8 in every known family.
    """
    shape = _Shapes(tensors, where)
    _, grid, _, width = shape("image_encoder.pos_embed", 4)
    patch = shape("image_encoder.patch_embed.proj.weight", 4)[-1]
    depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.")
    reaches = [shape(f"image_encoder.blocks.{i}.attn.rel_pos_h", 2)[0] for i in range(depth)]
    head_dim = shape("image_encoder.blocks.0.attn.rel_pos_h", 2)[1]
    global_reach = 2 * grid - 1
    windowed = {reach for reach in reaches if reach != global_reach}
    if len(windowed) > 1 or head_dim == 0 or width % head_dim:
        raise CheckpointError(
            f"{where}: relative positions of lengths {sorted(set(reaches))} and width {head_dim} "
            f"do not fit a {grid}x{grid} position embedding of width {width}: resized or "
            "damaged weights"
        )
    encoder = ImageEncoderConfig(
        image_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=depth,
        num_heads=width // head_dim,
        mlp_dim=shape("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
        out_dim=shape("image_encoder.neck.0.weight", 4)[0],
        window_size=(windowed.pop() + 1) // 2 if windowed else min(14, grid),
        global_blocks=tuple(i for i, reach in enumerate(reaches) if reach == global_reach),
    )
    prompt = PromptEncoderConfig(
        embed_dim=shape("prompt_encoder.no_mask_embed.weight", 2)[1],
        mask_channels=shape("prompt_encoder.mask_downscaling.3.weight", 4)[0],
    )
    layer = "mask_decoder.transformer.layers"
    inner = shape(f"{layer}.0.cross_attn_token_to_image.q_proj.weight", 2)[0]
    decoder = MaskDecoderConfig(
        embed_dim=shape("mask_decoder.iou_token.weight", 2)[1],
        depth=_count(tensors, rf"{re.escape(layer)}\.(\d+)\."),
        mlp_dim=shape(f"{layer}.0.mlp.lin1.weight", 2)[0],
        attention_dim=inner,
        num_masks=shape("mask_decoder.mask_tokens.weight", 2)[0] - 1,
        iou_head_depth=_count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        iou_head_dim=shape("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
        layer_norm_eps=layer_norm_eps,
    )
    return SamConfig(encoder, prompt, decoder)


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}"


def to_parameters(
    tensors: Mapping[str, np.ndarray], config: SamConfig, *, where: str = "checkpoint"
) -> dict[str, np.ndarray]:
    """Official tensors to samjax parameters by path, or one error that names every misfit."""
    layout = official_layout(config)
    missing = [key for key in layout if key not in tensors]
    unexpected = [key for key in tensors if key not in layout]
    misshaped = [
        f"{key} {tensors[key].shape} instead of {entry.shape}"
        for key, entry in layout.items()
        if key in tensors and tensors[key].shape != entry.shape
    ]
    problems = [
        _listed(what, keys)
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("mis-shaped", misshaped),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(f"{where}: does not fit SAM's layout; {'; '.join(problems)}")
    return {entry.path: entry.to_samjax(tensors[key]) for key, entry in layout.items()}


def to_official(parameters: Mapping[str, np.ndarray], config: SamConfig) -> dict[str, np.ndarray]:
    """samjax parameters to official tensors, in the order of the official state_dict."""
    layout = official_layout(config)
    return {key: entry.to_official(parameters[entry.path]) for key, entry in layout.items()}


def abstract_model(config: SamConfig) -> Sam:
    """The network's structure with shapes for weights: no memory, no random numbers."""
    return nnx.eval_shape(lambda: Sam(config, rngs=None))


def random_parameters(config: SamConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random parameters of these sizes: for timing and tests, where no weights are needed.

    Kernels keep the variance of what they multiply, norms are near the identity.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for entry in official_layout(config).values():
        value = rng.standard_normal(entry.shape, np.float32)
        if entry.kind != "same":
            inputs = entry.shape[0] if entry.kind == "transposed" else np.prod(entry.shape[1:])
            value *= np.float32(inputs**-0.5)
        elif entry.path.endswith((".scale", ".bias")):
            value = value * np.float32(0.1) + np.float32(entry.path.endswith(".scale"))
        parameters[entry.path] = entry.to_samjax(value)
    return parameters


def parameter_dtype(path: str, dtype: np.dtype | type) -> np.dtype:
    """Kernels carry the model's dtype; biases, norms, embeddings and positions are float32."""
    return np.dtype(dtype) if path.endswith(".kernel") else np.dtype(np.float32)


def dotted(path: tuple) -> str:
    """A key path of an nnx state as the dotted name used in this package."""
    return ".".join(str(part) for part in path)


def _place(
    value: np.ndarray | jax.Array,
    dtype: np.dtype,
    placement: jax.Device | jax.sharding.Sharding | None,
) -> jax.Array:
    """One parameter on its device; what was read of a memory map for it is let go."""
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
    """A network with these parameters, cast to ``dtype`` and put on ``placement``."""
    graphdef, state = nnx.split(abstract_model(config))
    flat = nnx.to_flat_state(state)
    filled = []
    for path, variable in flat:
        name = dotted(path)
        wanted = parameter_dtype(name, dtype)
        filled.append((path, variable.replace(_place(parameters[name], wanted, placement))))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def model_parameters(model: Sam) -> dict[str, jax.Array]:
    """The parameters of a network by dotted path."""
    return {dotted(path): v[...] for path, v in nnx.to_flat_state(nnx.state(model))}


def parameter_count(config: SamConfig) -> int:
    """Number of trained parameters (the Gaussian matrix of positions is a buffer)."""
    return sum(
        int(np.prod(entry.shape))
        for entry in official_layout(config).values()
        if not entry.path.endswith("gaussian_matrix")
    )


def describe_config(config: SamConfig) -> dict:
    """The configuration as plain JSON values."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict) -> SamConfig:
    """The inverse of describe_config."""
    encoder = dict(values["image_encoder"])
    encoder["global_blocks"] = tuple(encoder["global_blocks"])
    return SamConfig(
        ImageEncoderConfig(**encoder),
        PromptEncoderConfig(**values["prompt_encoder"]),
        MaskDecoderConfig(**values["mask_decoder"]),
    )
