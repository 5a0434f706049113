"""Complete a file that holds a part of a SAM (encoder, decoder, adapters) from its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samjax.checkpoint.families.detect import foreign, part_numbers
from samjax.checkpoint.families.lora import Update, describe_pairs, has_pairs, merge, split_pairs
from samjax.errors import CheckpointError

COMPONENTS = ("image_encoder", "prompt_encoder", "mask_decoder")
# Beginnings of keys that a component must have when it is saved alone, without its name
_ALONE = {
    "image_encoder": ({"patch_embed", "blocks"}, {"patch_embed", "layers"}),
    "mask_decoder": ({"transformer", "iou_token", "mask_tokens"},),
}
_BLOCK = r"image_encoder\.blocks\.(\d+)\."


def name_component(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Return (tensors with the component's name before keys that lack it, that name or "")."""
    starts = {key.split(".", 1)[0] for key in tensors}
    if not starts & {*COMPONENTS, "vision_encoder"}:
        for component, sets in _ALONE.items():
            if any(needed <= starts for needed in sets):
                return {f"{component}.{key}": array for key, array in tensors.items()}, component
    return dict(tensors), ""


def what_is_partial(tensors: Mapping[str, np.ndarray], updates: Sequence[Update]) -> str:
    """Describe the part of a SAM that a file holds, for messages; "" stands for a whole one.

    Raises:
        CheckpointError: nothing of a SAM at all.
    """
    if has_pairs(tensors):
        return describe_pairs(tensors)
    parts = {key.split(".", 1)[0] for key in tensors} & set(COMPONENTS)
    if updates and not all(update.key in tensors for update in updates):
        return f"LoRA-only file ({len(updates)} pairs, rank {updates[0].a.shape[0]})"
    if {"image_encoder", "mask_decoder"} <= parts:
        return ""  # the strict check names other missing keys
    if not parts:
        raise foreign(tensors)
    found = " and ".join(name.replace("_", " ") for name in COMPONENTS if name in parts)
    return f"a partial file, {found} alone"


def needs_base(what: str, hint: str) -> CheckpointError:
    """Return the error for a partial file without a base."""
    trained = f" ({hint})" if hint else ""
    return CheckpointError(
        f"{what}: pass base=, the SAM it was trained on{trained}: a path, vit_b, vit_l or vit_h; "
        "on the command line --base"
    )


def complete(
    base: Mapping[str, np.ndarray],
    tensors: Mapping[str, np.ndarray],
    updates: Sequence[Update],
    lora_layers: Sequence[int] | None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return (the base's tensors, replaced by the file's and with its LoRA merged; notes).

    A component of which the file has weights of its own is taken from the file alone: a key
    that it lacks there is an error later, not filled up by the base. Only adapters may change
    single weights (biases, norms) of a component.
    """
    own = dict(tensors)
    merged = list(updates)
    if has_pairs(own):
        depth = max(part_numbers(base, _BLOCK).values(), default=-1) + 1
        own, pairs = split_pairs(own, depth, lora_layers)
        merged += pairs
    elif lora_layers is not None:
        raise CheckpointError("lora_layers= is for files of numbered LoRA pairs: leave it out")
    adapted = {update.key.split(".", 1)[0] for update in updates if update.key not in own}
    # PEFT's bias="all" saves the biases of every component beside its pairs.
    single = {key for key in own if updates and key.endswith(".bias")}
    whole = {key.split(".", 1)[0] for key in set(own) - single} - adapted
    kept = {key: a for key, a in base.items() if key.split(".", 1)[0] not in whole}
    notes = []
    if whole:
        notes.append(f"{', '.join(sorted(whole))} from the file, the rest from base")
    elif own:
        notes.append(f"{len(own)} weights besides the pairs from the file")
    if merged:
        notes.append(f"{len(merged)} LoRA pairs merged into the weights, in float32")
    return merge({**kept, **own}, merged), notes
