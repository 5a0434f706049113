"""Tell model families apart by their keys, and name those that are not supported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from samjax.errors import CheckpointError

_FOREIGN = "not supported: use its own code"
_LATER = "not supported yet: load a plain SAM, or use its own code"
_MERGE = "not supported yet: merge it into the base weights with its own code first"

# (regex on a key, family, what to say). The first family with a matching key is named. Keys are
# stripped of their common prefixes. Order matters: a family's own parts come before the parts
# that it shares with others.
_SIGNATURES: tuple[tuple[str, str, str], ...] = (
    (r"^(image_encoder\.)?fuse_stage|^image_encoder\.(features|fuse_stage)", "EdgeSAM", _FOREIGN),
    (r"(^|\.)bbox_top_left_embeddings", "EfficientSAM", _FOREIGN),
    (r"^image_encoder\.backbone\.", "EfficientViT-SAM", _FOREIGN),
    (r"(^|\.)prompt_generator\.", "SAM-Adapter", _FOREIGN),
    (r"\.(Space|MLP|Depth)_Adapter\.", "Medical-SAM-Adapter", _FOREIGN),
    (r"custom_robust_token", "RobustSAM", _FOREIGN),
    (r"(^|\.)cellfinder\.", "CellSAM", _FOREIGN),
    (r"^(image_encoder\.trunk\.|vision_encoder\.backbone\.|memory_attention\.)", "SAM 2", _FOREIGN),
    (
        r"^mask_decoder\.(hf_token|hf_mlp|hq_token|hq_mask_mlp|compress_vit|embedding_encoder)",
        "SAM-HQ",
        _LATER,
    ),
    (r"^image_encoder\.(layers\.|patch_embed\.seq\.)", "MobileSAM (TinyViT)", _LATER),
    (r"\.Adapter\.", "SAM-Med2D with adapters", _LATER),
    (r"\.qkv\.linear_[ab]_[qv]\.|^image_encoder.*\.linear_[ab]_[qv]\.", "inline LoRA", _MERGE),
    (r"\.w_[ab]_linear_", "micro-sam's inline LoRA", _MERGE),
    (r"(^|\.)lora_[AB](\.|$)", "a PEFT adapter or model (LoRA)", _MERGE),
)

_LORA_ONLY = re.compile(r"^w_([ab])_(\d+)$")


def refuse_unsupported(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise CheckpointError with the family's name if the tensors are not a plain SAM."""
    _refuse_lora_only(tensors)
    for pattern, family, advice in _SIGNATURES:
        key = _first_match(pattern, tensors)
        if key is not None:
            raise CheckpointError(f"looks like {family} ({key!r:.200}): {advice}")
    pos_embed = tensors.get("image_encoder.pos_embed")
    if pos_embed is not None and pos_embed.ndim == 3:
        raise CheckpointError(
            f"looks like EfficientSAM (image_encoder.pos_embed of shape {pos_embed.shape}): "
            f"{_FOREIGN}"
        )
    _refuse_partial(tensors)


def _refuse_lora_only(tensors: Mapping[str, np.ndarray]) -> None:
    pairs = [key for key in tensors if re.match(r"^w_a_\d+$", key)]
    if not pairs or not any(_LORA_ONLY.match(key) and key[2] == "b" for key in tensors):
        return
    first = tensors[min(pairs)]
    rank = first.shape[0] if first.ndim else 0
    raise CheckpointError(
        f"LoRA-only file ({len(pairs)} pairs, rank {rank}): it needs base=... "
        "(the SAM it was trained on), not supported yet: merge it into that SAM with its own code"
    )


def _refuse_partial(tensors: Mapping[str, np.ndarray]) -> None:
    parts = {key.split(".", 1)[0] for key in tensors}
    if {"image_encoder", "mask_decoder"} <= parts or {"vision_encoder", "mask_decoder"} <= parts:
        return
    for names, what in (
        ({"image_encoder", "vision_encoder"}, "an image encoder without a mask decoder"),
        ({"mask_decoder"}, "a mask decoder without an image encoder"),
        ({"blocks", "patch_embed"}, "an image encoder alone"),
        ({"transformer", "mask_tokens", "iou_token"}, "a mask decoder alone"),
    ):
        if parts & names:
            raise CheckpointError(
                f"a partial file, {what}: it needs base=... (the SAM it belongs to), not supported "
                "yet: save the state dict of the whole model"
            )
    raise CheckpointError(
        f"not a SAM checkpoint, its {len(tensors)} keys are like {_examples(tensors)}: "
        "name a file with image_encoder.*, prompt_encoder.* and mask_decoder.* weights"
    )


def _first_match(pattern: str, keys: Iterable[str]) -> str | None:
    search = re.compile(pattern).search
    return next((key for key in keys if search(key)), None)


def _examples(keys: Iterable[str]) -> str:
    """The first three distinct beginnings of keys, for an error message."""
    starts = dict.fromkeys(".".join(key.split(".")[:2])[:60] for key in keys)
    return ", ".join(repr(start) for start in list(starts)[:3])
