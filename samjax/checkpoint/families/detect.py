"""Tell model families apart by their keys, and name those that are not supported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from samjax.errors import CheckpointError


class ForeignWeightsError(CheckpointError):
    """Reports weights of another network than SAM."""


_FOREIGN = "not supported: use its own code"
_LATER = "not supported yet: load a plain SAM, or use its own code"
_MERGE = "not supported: merge it into the weights with its own code first"

# (regex on a key, family, advice). The first family with a matching key is named. Keys are
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
            raise ForeignWeightsError(f"looks like {family} ({key!r:.200}): {advice}")
    pos_embed = tensors.get("image_encoder.pos_embed")
    if pos_embed is not None and pos_embed.ndim == 3:
        raise ForeignWeightsError(
            f"looks like EfficientSAM (image_encoder.pos_embed of shape {pos_embed.shape}): "
            f"{_FOREIGN}"
        )


# A SAM numbers its blocks, layers and masks: the largest published one has 32.
_MOST_PARTS = 1000


def part_numbers(keys: Collection[str], pattern: str) -> dict[str, int]:
    """Return the number that ``pattern`` captures in each key that it matches.

    Raises:
        CheckpointError: a number that the file's tensors cannot fill: tables of that many
            parts would take all memory.
    """
    matches = {key: found for key in keys if (found := re.match(pattern, key))}
    most = min(_MOST_PARTS, len(keys))
    for key, found in matches.items():
        if len(found[1]) > len(str(most)) or int(found[1]) >= most:
            limit = f"its {len(keys)} tensors" if most == len(keys) else f"{most} parts"
            raise CheckpointError(
                f"{key[:60]!r} numbers its part {found[1][:20]}, more than {limit} allow: damaged "
                "or malicious, get the file from its author again"
            )
    return {key: int(found[1]) for key, found in matches.items()}


def variant(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the variant of SAM that official keys show (SAM-HQ, MobileSAM, both), or ""."""
    hq = "mask_decoder.hf_token.weight" in tensors
    if is_tiny_vit(tensors):
        return "light hq-sam" if hq else "mobilesam"
    return "sam-hq" if hq else ""


def is_tiny_vit(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether the image encoder is MobileSAM's."""
    return any(key.startswith("image_encoder.layers.") for key in tensors)


def foreign(tensors: Mapping[str, np.ndarray]) -> CheckpointError:
    """Return the error for a file without any key of a SAM."""
    return ForeignWeightsError(
        f"not a SAM checkpoint, its {len(tensors)} keys are like {_examples(tensors)}: "
        "name a file with image_encoder.*, prompt_encoder.* and mask_decoder.* weights"
    )


def _first_match(pattern: str, keys: Iterable[str]) -> str | None:
    search = re.compile(pattern).search
    return next((key for key in keys if search(key)), None)


def _examples(keys: Iterable[str]) -> str:
    """Return the first three distinct beginnings of keys, for an error message."""
    starts = dict.fromkeys(".".join(key.split(".")[:2])[:60] for key in keys)
    return ", ".join(repr(start) for start in list(starts)[:3])
