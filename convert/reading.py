"""Read a checkpoint a second time by PyTorch itself, with LoRA as layers that are not merged.

samjax reads files with its own reader and merges LoRA into the weights. Here the tensors come
from ``torch.load`` or ``safetensors.torch``, and every low-rank pair is a hook on its frozen
layer: agreement verifies the reader, key names, order, scale and merge.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convert.official import fill
from samjax.checkpoint.families.huggingface import is_huggingface, official_key, official_tensors
from samjax.checkpoint.families.lora import (
    Update,
    has_pairs,
    is_peft,
    split_inline,
    split_pairs,
    split_peft,
)
from samjax.checkpoint.families.official import ReadOptions, unwrap
from samjax.checkpoint.families.partial import name_component
from samjax.checkpoint.families.prefixes import drop_keys, find_sam, strip_prefixes, take_prefix
from samjax.checkpoint.formats.open import open_tensor_file
from samjax.checkpoint.orbax_folder import is_orbax_folder
from samjax.checkpoint.read import read_weights
from samjax.model.config import SamConfig

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Second:
    """Holds what PyTorch read: official tensors before any merge, LoRA pairs, and the reader."""

    tensors: Tensors
    updates: Sequence[Update]
    how: str


def read_again(path: Path, options: ReadOptions) -> Second:
    """Read a file or folder with PyTorch, completed by the base's tensors.

    If torch refuses the pickled objects of a training file, samjax reads its tensors.
    """
    if is_orbax_folder(path):
        read = read_weights(path, ReadOptions())
        return Second(dict(read.tensors), (), "samjax's own folder: written again by itself")
    content, how = _content(path)
    found, _, _ = unwrap(content)
    tensors = {str(k): v for k, v in found.items() if isinstance(v, np.ndarray)}
    tensors = drop_keys(tensors, options.ignore, [])
    if options.prefix:
        tensors, _ = take_prefix(tensors, options.prefix)
    tensors, _, _ = find_sam(strip_prefixes(tensors)[0])
    updates: list[Update] = []
    if is_peft(tensors):
        tensors, updates = split_peft(tensors, _adapter(path), _names(tensors))
    else:
        tensors, updates = split_inline(tensors)
    if is_huggingface(tensors):
        tensors = official_tensors(tensors)
    tensors, _ = name_component(tensors)
    tensors = {k: v for k, v in tensors.items() if k not in ("pixel_mean", "pixel_std")}
    if options.base is not None:
        base = options.base.tensors
        if has_pairs(tensors):
            depth = 1 + max(int(k.split(".")[2]) for k in base if k.startswith("image_encoder.bl"))
            tensors, pairs = split_pairs(tensors, depth, options.lora_layers)
            updates += pairs
        lacking = {u.key.split(".")[0] for u in updates if u.key not in tensors}
        plain = {k for k in tensors if not (updates and k.endswith(".bias"))}
        own = {key.split(".")[0] for key in plain} - lacking
        tensors = {k: v for k, v in base.items() if k.split(".")[0] not in own} | tensors
    return Second(tensors, updates, how)


def _content(path: Path) -> tuple[Any, str]:
    """Read nested dictionaries of arrays, and name the reader."""
    from safetensors.torch import load_file

    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if files and files[0].suffix == ".safetensors":
        merged = {k: v for file in files for k, v in load_file(file).items()}
        return _arrays(merged), "safetensors.torch"
    file = path if path.is_file() else next(iter(sorted(path.glob("*.bin"))))
    try:
        return _arrays(torch.load(file, map_location="cpu", weights_only=True)), "torch.load"
    except pickle.UnpicklingError:
        return open_tensor_file(path).content, "samjax: torch.load refuses its pickled objects"


def _arrays(value: Any) -> Any:
    """Convert tensors in nested dictionaries to NumPy arrays, half precision to float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    return value


def _adapter(path: Path) -> dict[str, Any] | None:
    file = (path if path.is_dir() else path.parent) / "adapter_config.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _names(tensors: Tensors) -> Callable[[str], str]:
    plain = {key.removeprefix("base_model.model."): array for key, array in tensors.items()}
    return official_key if is_huggingface(plain) else str


def build_second(second: Second, config: SamConfig) -> nn.Module:
    """Build the family's PyTorch classes with these tensors, and a hook for each LoRA pair."""
    if config.hq or not hasattr(config.image_encoder, "depth"):
        from convert.variants import build_variant as build
    else:
        from convert.official import build_official as build  # type: ignore[assignment]
    sam = fill(build(config), _resized(second.tensors, config))
    for layer in sam.mask_decoder.transformer.layers:
        for norm in (layer.norm1, layer.norm2, layer.norm3, layer.norm4):
            norm.eps = config.mask_decoder.layer_norm_eps  # Hugging Face's fine-tunes have 1e-6
    layers = dict(sam.named_modules())
    for update in second.updates:
        layers[update.key.removesuffix(".weight")].register_forward_hook(_hook(update))
    return sam


def _hook(update: Update) -> Callable[..., torch.Tensor]:
    """Make a hook that adds the low-rank term to its part (q, k, v) of a linear layer's output."""
    a = torch.from_numpy(np.array(update.a, np.float32))
    b = torch.from_numpy(np.array(update.b, np.float32))
    start = {"": 0, "q": 0, "k": 1, "v": 2}[update.part] * len(b)

    def add(_layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        term = update.scale * nn.functional.linear(nn.functional.linear(inputs[0], a), b)
        return output + nn.functional.pad(term, (start, output.shape[-1] - start - len(b)))

    return add


def _resized(tensors: Tensors, config: SamConfig) -> Tensors:
    """Resize absolute and relative positions to another input size by torch's interpolation."""
    grid, key = config.grid, "image_encoder.pos_embed"
    if key not in tensors or tensors[key].shape[1] == grid:
        return tensors
    result = dict(tensors)
    image = torch.from_numpy(np.array(tensors[key], np.float32)).permute(0, 3, 1, 2)
    image = nn.functional.interpolate(image, (grid, grid), mode="bilinear", align_corners=False)
    result[key] = image.permute(0, 2, 3, 1).numpy()
    for block in config.image_encoder.global_blocks:  # type: ignore[union-attr]
        for axis in "hw":
            key = f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"
            rows = torch.from_numpy(np.array(tensors[key], np.float32))[None, None]
            size = (2 * grid - 1, rows.shape[-1])
            rows = nn.functional.interpolate(rows, size, mode="bilinear", align_corners=False)
            result[key] = rows[0, 0].numpy()
    return result
