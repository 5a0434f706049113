"""Official tensors to samjax parameters and back: sizes from shapes, strict and complete."""

from __future__ import annotations

import dataclasses
import mmap
import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

import jax
import numpy as np
from flax import nnx

from samjax.checkpoint.layout import official_layout
from samjax.checkpoint.signatures import is_tiny_vit
from samjax.config import (
    ImageEncoderConfig,
    MaskDecoderConfig,
    PromptEncoderConfig,
    SamConfig,
    TinyVitConfig,
)
from samjax.errors import CheckpointError
from samjax.model.sam import Sam

_SHOWN = 8  # keys listed in an error before it is cut
_NEAR_ONE, _NEAR_ZERO = (".scale", ".var"), (".bias", ".mean")  # of random norms
# What is stored but not trained: the matrix of positions, statistics of batch normalisation
_BUFFERS = ("gaussian_matrix", ".mean", ".var")


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
    hq = "mask_decoder.hf_token.weight" in tensors
    encoder = _tiny_vit(shape) if is_tiny_vit(tensors) else _vit(shape)
    if hq and isinstance(encoder, ImageEncoderConfig) and not encoder.global_blocks:
        raise CheckpointError(
            f"{where}: SAM-HQ's head without a block of global attention in the image encoder, "
            "whose output it needs: resized or damaged weights"
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
        hq=hq,
    )
    return SamConfig(encoder, prompt, decoder)


def _vit(shape: _Shapes) -> ImageEncoderConfig:
    tensors, where = shape.tensors, shape.where
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
    return ImageEncoderConfig(
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


def _tiny_vit(shape: _Shapes) -> TinyVitConfig:
    """Sizes of MobileSAM's encoder; it runs at the published size, which no shape tells."""
    here, stages = (
        "image_encoder.layers",
        range(_count(shape.tensors, r"image_encoder\.layers\.(\d+)")),
    )
    if len(stages) != len(TinyVitConfig().widths):
        raise CheckpointError(
            f"{shape.where}: a TinyViT of {len(stages)} stages, expected "
            f"{len(TinyVitConfig().widths)}: not MobileSAM's layout"
        )
    stem = shape("image_encoder.patch_embed.seq.2.c.weight", 4)[0]
    wider = [shape(f"{here}.{i}.downsample.conv3.c.weight", 4)[0] for i in stages[:-1]]
    biases = [shape(f"{here}.{i}.blocks.0.attn.attention_biases", 2) for i in stages[1:]]
    for _, offsets in biases:
        if isqrt(offsets) ** 2 != offsets:
            raise CheckpointError(
                f"{shape.where}: {offsets} attention biases a head, not a square: "
                "windows of TinyViT are; damaged weights"
            )
    head = "image_encoder.head.weight"
    return TinyVitConfig(
        widths=(stem, *wider),
        depths=tuple(
            _count(shape.tensors, rf"{re.escape(here)}\.{i}\.blocks\.(\d+)") for i in stages
        ),
        num_heads=(0, *(heads for heads, _ in biases)),
        window_sizes=(0, *(isqrt(offsets) for _, offsets in biases)),
        conv_dim=shape(f"{here}.0.blocks.0.conv1.c.weight", 4)[0],
        mlp_dims=(0, *(shape(f"{here}.{i}.blocks.0.mlp.fc1.weight", 2)[0] for i in stages[1:])),
        out_dim=shape("image_encoder.neck.0.weight", 4)[0],
        num_classes=shape(head, 2)[0] if head in shape.tensors else 0,
    )


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
        elif entry.path.endswith(_NEAR_ONE + _NEAR_ZERO):
            value = value * np.float32(0.1) + np.float32(entry.path.endswith(_NEAR_ONE))
            value = abs(value) if entry.path.endswith(".var") else value
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
    """Number of trained parameters, without buffers."""
    return sum(
        int(np.prod(entry.shape))
        for entry in official_layout(config).values()
        if not entry.path.endswith(_BUFFERS)
    )


def describe_config(config: SamConfig) -> dict:
    """The configuration as plain JSON values."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict) -> SamConfig:
    """The inverse of describe_config."""
    encoder: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values["image_encoder"].items()
    }
    return SamConfig(
        TinyVitConfig(**encoder) if "widths" in encoder else ImageEncoderConfig(**encoder),
        PromptEncoderConfig(**values["prompt_encoder"]),
        MaskDecoderConfig(**values["mask_decoder"]),
    )
