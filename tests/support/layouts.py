"""Make state dicts in the layouts of fine-tuned families, with NumPy alone.

Each function takes official tensors and returns the state dict that the family's own code saves.
The LoRA matrices are random and not small, so that a wrong order, side or scale is detected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Tensors = dict[str, np.ndarray]
ENCODER, PROMPTS, DECODER = "image_encoder.", "prompt_encoder.", "mask_decoder."


def matrices(outputs: int, inputs: int, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the (A, B) of one pair: (rank, inputs) and (outputs, rank)."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rank, inputs)).astype(np.float32) / np.float32(inputs**0.5)
    b = rng.standard_normal((outputs, rank)).astype(np.float32) / np.float32(rank**0.5)
    return a, b


def parts(tensors: Mapping[str, np.ndarray], *starts: str) -> Tensors:
    """Select the tensors whose keys begin with one of the prefixes."""
    return {key: array for key, array in tensors.items() if key.startswith(starts)}


def depth_of(tensors: Mapping[str, np.ndarray]) -> int:
    """Count the blocks of the image encoder."""
    return 1 + max(int(key.split(".")[2]) for key in parts(tensors, f"{ENCODER}blocks."))


# Each LoRA layout returns what is saved, and the official tensors that it should be after merging.


def pairs(
    tensors: Tensors, rank: int = 4, layers: Sequence[int] | None = None, decoder: bool = False
) -> tuple[Tensors, Tensors]:
    """Make SAMed's file (with prompt encoder and mask decoder) or Sam_LoRA's (pairs alone)."""
    saved: Tensors = {}
    merged = dict(tensors)
    used = range(depth_of(tensors)) if layers is None else layers
    for k, block in enumerate(used):
        key = f"{ENCODER}blocks.{block}.attn.qkv.weight"
        width = tensors[key].shape[1]
        weight = tensors[key].astype(np.float64)
        for i, rows in enumerate((slice(0, width), slice(-width, None))):
            a, b = matrices(width, width, rank, 2 * k + i)
            saved[f"w_a_{2 * k + i:03d}"], saved[f"w_b_{2 * k + i:03d}"] = a, b
            weight[rows] += b.astype(np.float64) @ a
        merged[key] = weight
    # All of A before all of B, as saved.
    saved = dict(sorted(saved.items()))
    return saved | (parts(tensors, PROMPTS, DECODER) if decoder else {}), merged


def inline_samed(tensors: Tensors, rank: int = 4) -> tuple[Tensors, Tensors]:
    """Make the whole state dict of a model with SAMed's layers in encoder and decoder."""
    saved: Tensors = {}
    merged = dict(tensors)
    seed = 0
    for key, array in tensors.items():
        stem, _, name = key.rpartition(".")
        if stem.endswith("attn.qkv"):
            saved[f"{stem}.qkv.{name}"] = array
            if name != "weight":
                continue
            width = array.shape[1]
            weight = array.astype(np.float64)
            for part, rows in (("q", slice(0, width)), ("v", slice(-width, None))):
                a, b = matrices(width, width, rank, seed := seed + 1)
                saved[f"{stem}.linear_a_{part}.weight"] = a
                saved[f"{stem}.linear_b_{part}.weight"] = b
                weight[rows] += b.astype(np.float64) @ a
            merged[key] = weight
        elif stem.startswith(f"{DECODER}transformer") and stem.endswith(("q_proj", "v_proj")):
            saved[f"{stem}.proj.{name}"] = array
            if name == "weight":
                a, b = matrices(*array.shape, rank, seed := seed + 1)
                saved[f"{stem}.w_a.weight"], saved[f"{stem}.w_b.weight"] = a, b
                merged[key] = array + b.astype(np.float64) @ a
        else:
            saved[key] = array
    return saved, merged


def inline_microsam(tensors: Tensors, rank: int = 4) -> tuple[Tensors, Tensors]:
    """Make the state dict of micro-sam's PEFT_Sam, with LoRA on q, k, v and the MLPs."""
    saved: Tensors = {}
    merged = dict(tensors)
    seed = 50
    for key, array in tensors.items():
        stem, _, name = key.rpartition(".")
        if stem.endswith("attn.qkv"):
            saved[f"{stem}.qkv_proj.{name}"] = array
            if name != "weight":
                continue
            width = array.shape[1]
            weight = array.astype(np.float64)
            for i, part in enumerate("qkv"):
                a, b = matrices(width, width, rank, seed := seed + 1)
                saved[f"{stem}.w_a_linear_{part}.weight"] = a
                saved[f"{stem}.w_b_linear_{part}.weight"] = b
                weight[i * width : (i + 1) * width] += b.astype(np.float64) @ a
            merged[key] = weight
        elif stem.startswith(ENCODER) and stem.endswith(("mlp.lin1", "mlp.lin2")):
            mlp, number = stem[: -len(".lin1")], stem[-1]
            saved[f"{mlp}.mlp_layer.lin{number}.{name}"] = array
            if name == "weight":
                a, b = matrices(*array.shape, rank, seed := seed + 1)
                saved[f"{mlp}.w_a_linear_{number}.weight"] = a
                saved[f"{mlp}.w_b_linear_{number}.weight"] = b
                merged[key] = array + b.astype(np.float64) @ a
        else:
            saved[key] = array
    return saved, merged


def peft(
    tensors: Tensors, rank: int = 4, scale: float = 2.0, whole: str = ""
) -> tuple[Tensors, Tensors]:
    """Make a PEFT adapter of the official classes on every qkv; ``whole`` is saved in full too."""
    saved: Tensors = {}
    merged = dict(tensors)
    for seed, (key, array) in enumerate(tensors.items()):
        if key.endswith("attn.qkv.weight"):
            a, b = matrices(*array.shape, rank, seed)
            at = f"base_model.model.{key.removesuffix('.weight')}"
            saved[f"{at}.lora_A.weight"], saved[f"{at}.lora_B.weight"] = a, b
            merged[key] = array + scale * (b.astype(np.float64) @ a)
        elif whole and key.startswith(whole):
            saved[f"base_model.model.{key}"] = merged[key] = array + np.float32(0.125)
    return saved, merged
