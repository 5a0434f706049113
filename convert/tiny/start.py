"""Where training starts: a good random initialisation, or weights of an earlier run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from convert.official import build_official, load_official
from convert.tiny.samples import Sampler
from samjax.checkpoint.parameters import to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.model.config import (
    ImageEncoderConfig,
    MaskDecoderConfig,
    SamConfig,
)

BLOCKS = "image_encoder.blocks."


def tiny_config(size: int, width: int, depth: int, decoder_mlp: int) -> SamConfig:
    """The embedded model's sizes: heads of 64, windows of 8 or 7 cells, four global blocks."""
    window = next((n for n in (8, 7) if size % (16 * n) == 0), None)  # whole ones: none is padded
    if window is None:
        raise SystemExit(f"an input of {size} pixels: give a multiple of 128 or 112")
    quarters = tuple(sorted({max(0, depth * i // 4 - 1) for i in (1, 2, 3, 4)}))
    encoder = ImageEncoderConfig(
        image_size=size,
        width=width,
        depth=depth,
        num_heads=width // 64,
        mlp_dim=4 * width,
        window_size=window,
        global_blocks=quarters,
    )
    return SamConfig(encoder, mask_decoder=MaskDecoderConfig(mlp_dim=decoder_mlp))


def random_start(config: SamConfig, sampler: Sampler) -> torch.nn.Module:
    """Official classes with a whitening patch embedding, sin-cos positions, keys = queries.

    Tokens and pixels at the same place attend to each other from the first step: with the
    default initialisation a small model spends most of a short run finding that out.
    """
    model = build_official(config).train()
    encoder, grid, width = model.image_encoder, config.grid, config.image_encoder.width
    patches = []
    for _ in range(150):
        x = sampler.sample(1).image.reshape(3, grid, 16, grid, 16).transpose(1, 3, 0, 2, 4)
        patches.append(x.reshape(-1, 768))
    pixels = np.concatenate(patches)
    pixels = pixels[np.abs(pixels).sum(1) > 0].astype(np.float64)
    values, vectors = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    values, vectors = values[::-1][:width], vectors[:, ::-1][:, :width]
    whitening = (vectors / np.sqrt(values + 0.05)).T * 0.7
    spread, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))
    weight = torch.tensor((spread @ whitening).reshape(width, 3, 16, 16), dtype=torch.float32)
    frequencies = (grid / 2) ** (-torch.arange(width // 4) / (width // 4)) * math.pi / 2
    ys, xs = torch.meshgrid(*[torch.arange(grid).float()] * 2, indexing="ij")
    waves = [f(t[..., None] * frequencies) for t in (ys, xs) for f in (torch.sin, torch.cos)]
    with torch.no_grad():
        encoder.patch_embed.proj.weight.copy_(weight)
        encoder.patch_embed.proj.bias.zero_()
        encoder.pos_embed.copy_(0.3 * torch.cat(waves, -1)[None])
        for block in encoder.blocks:
            block.attn.qkv.weight[width : 2 * width] = block.attn.qkv.weight[:width]
            block.attn.qkv.bias.zero_()
            block.attn.proj.weight.mul_(0.7)
            block.mlp.lin2.weight.mul_(0.7)
        for name, part in model.mask_decoder.transformer.named_modules():
            if "image" in name and hasattr(part, "q_proj"):
                part.q_proj.weight.mul_(2.0)
                part.k_proj.weight.copy_(part.q_proj.weight)
                part.q_proj.bias.zero_()
                part.k_proj.bias.zero_()
    return model


def _resize_line(values: torch.Tensor, length: int) -> torch.Tensor:
    """[n, c] -> [length, c], bilinear."""
    line = values.t()[None]
    return torch.nn.functional.interpolate(line, length, mode="linear")[0].t().contiguous()


def deepen(
    state: dict[str, torch.Tensor], old: ImageEncoderConfig, new: ImageEncoderConfig
) -> dict[str, torch.Tensor]:
    """The weights of an encoder with more windowed blocks that computes the same at first.

    Global blocks keep their order. A new block follows the windowed blocks of its run, copies the
    last one and adds nothing yet: its two output projections are zero.
    """
    made = {k: v for k, v in state.items() if not k.startswith(BLOCKS)}
    source = -1  # the old block that block i starts from
    for i in range(new.depth):
        same_kind = (i in new.global_blocks) == (source + 1 in old.global_blocks)
        after_windowed = source >= 0 and source not in old.global_blocks
        if not same_kind and (i in new.global_blocks or not after_windowed):
            raise SystemExit(f"a depth of {new.depth} cannot start from {old.depth} blocks")
        source += same_kind
        start = f"{BLOCKS}{source}."
        for name, value in ((k[len(start) :], v) for k, v in state.items() if k.startswith(start)):
            silent = not same_kind and name.startswith(("attn.proj.", "mlp.lin2."))
            made[f"{BLOCKS}{i}.{name}"] = torch.zeros_like(value) if silent else value
    return made


def warm_start(config: SamConfig, path: Path) -> torch.nn.Module:
    """Weights of an earlier run, of the same widths; positions are resized to this input size."""
    found = read_checkpoint(path)
    tensors = to_official(found.parameters, found.config)
    state = {k: torch.tensor(np.asarray(v).astype(np.float32)) for k, v in tensors.items()}
    if config.image_encoder.depth != found.config.image_encoder.depth:
        state = deepen(state, found.config.image_encoder, config.image_encoder)
    grid, key = config.grid, "image_encoder.pos_embed"
    if state[key].shape[1] != grid:
        x = state[key].permute(0, 3, 1, 2)
        x = torch.nn.functional.interpolate(x, (grid, grid), mode="bilinear")
        state[key] = x.permute(0, 2, 3, 1).contiguous()
    encoder = config.image_encoder
    for i in range(encoder.depth):
        side = grid if i in encoder.global_blocks else encoder.window_size
        for k in (f"{BLOCKS}{i}.attn.rel_pos_{axis}" for axis in "hw"):
            if len(state[k]) != 2 * side - 1:
                state[k] = _resize_line(state[k], 2 * side - 1)
    return load_official(config, {k: v.numpy() for k, v in state.items()}).train()
