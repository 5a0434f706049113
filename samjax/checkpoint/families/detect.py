"""Tell model families apart by their keys, and name those that are not supported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from samjax.errors import CheckpointError

_FOREIGN = "not supported: use its own code"
_LATER = "not supported yet: load a plain SAM, or use its own code"
_MERGE = "not supported: merge it into the weights with its own code first"

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
    (r"\.Adapter\.", "SAM-Med2D with adapters", _LATER),
    (r"\.(FacT[uv]|[qv]_FacTs)\.", "micro-sam's or MA-SAM's FacT", _MERGE),
    (r"\.(w_[ab]_linear_[qkv]|linear_[ab]_[qkv])\.bias$", "a LoRA with biases", _MERGE),
)


def refuse_unsupported(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise CheckpointError with the family's name if the tensors are of another network."""
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


def variant(tensors: Mapping[str, np.ndarray]) -> str:
    """The family with parts of its own that samjax has, too, by official keys; "" if none."""
    hq = "mask_decoder.hf_token.weight" in tensors
    if is_tiny_vit(tensors):
        return "light hq-sam" if hq else "mobilesam"
    return "sam-hq" if hq else ""


def is_tiny_vit(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the image encoder is MobileSAM's."""
    return any(key.startswith("image_encoder.layers.") for key in tensors)


def foreign(tensors: Mapping[str, np.ndarray]) -> CheckpointError:
    """The error for a file none of whose keys belongs to a SAM."""
    return CheckpointError(
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
