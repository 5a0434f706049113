"""Find SAM's keys in a state dict: under a trainer's prefixes, beside losses and other heads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from samjax.checkpoint.families.detect import refuse_unsupported
from samjax.checkpoint.families.lora import is_peft
from samjax.errors import CheckpointError

_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.", "sam_model.")
_COMPILED = "_orig_mod."
_SHOWN = 8  # keys listed in a message
_PART = re.compile(r"(?:^|\.)(image_encoder|vision_encoder|prompt_encoder|mask_decoder)\.")
# Keys that belong to a SAM and to none of its parts: Hugging Face's positions, constants, LoRA
_BESIDE = re.compile(r"shared_image_embedding\.|pixel_(mean|std)$|w_[ab]_\d{1,5}$")
_WHOLE = ({"image_encoder", "mask_decoder"}, {"vision_encoder", "mask_decoder"})

Tensors = Mapping[str, np.ndarray]


def only_sam(
    tensors: Tensors, prefix: str | None, ignore: Sequence[str], notes: list[str]
) -> tuple[dict[str, np.ndarray], str]:
    """Return (SAM's tensors without a trainer's prefixes, a sentence on ignored ones or "").

    Args:
        tensors: all tensors of a file.
        prefix: the user's choice among several models; what it leaves out is only noted.
        ignore: names or patterns of keys that the user leaves out.
        notes: gets sentences on what was stripped and ignored.

    Raises:
        CheckpointError: another family, several models, or a choice that fits no key.
    """
    tensors = drop_keys(tensors, ignore, notes)
    others: list[str] = []
    if prefix:
        tensors, others = take_prefix(tensors, prefix)
    tensors, stripped = strip_prefixes(tensors)
    refuse_unsupported(tensors)
    tensors, found, more = find_sam(tensors)
    if stripped:
        notes.append(f"stripped the prefix {stripped!r} from every key")
    if prefix or found:
        notes.append(f"SAM's keys taken from under the prefix {(prefix or '') + found!r}")
    others += more
    if not others:
        return tensors, ""
    what = "weight that is" if len(others) == 1 else "weights that are"
    ignored = f"ignored {len(others)} {what} not SAM's: {listed(others)}"
    notes.append(ignored)
    return tensors, "" if prefix else ignored


def strip_prefixes(tensors: Tensors) -> tuple[dict[str, np.ndarray], str]:
    """Return (tensors without wrappers' prefixes that all keys share, the stripped prefix)."""
    result = dict(tensors)
    stripped = ""
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in result)), ""):
        result = {key.removeprefix(prefix): array for key, array in result.items()}
        stripped += prefix
    # torch.compile of a part of the model leaves its mark in the middle of a key.
    plain = {key.replace(f".{_COMPILED}", "."): array for key, array in result.items()}
    if len(plain) != len(tensors):
        raise CheckpointError(
            "two keys are the same but for '_orig_mod.', left by torch.compile: "
            "remove one of them and save the file again"
        )
    return plain, stripped


def drop_keys(tensors: Tensors, patterns: Sequence[str], notes: list[str]) -> dict[str, np.ndarray]:
    """Return the tensors without those that the user's ``ignore=`` names.

    Args:
        tensors: tensors under the names in the file.
        patterns: names, or patterns with ``*`` and ``?``.
        notes: gets a sentence.

    Raises:
        CheckpointError: a pattern that no key matches.
    """
    dropped: set[str] = set()
    for pattern in patterns:
        found = {key for key in tensors if fnmatchcase(key, pattern)}
        if not found:
            raise CheckpointError(
                f"ignore={pattern!r} matches none of its {len(tensors)} keys, such as "
                f"{next(iter(tensors), '')[:200]!r}: give a name as in the file, or a pattern "
                "such as '*.my_head.*'"
            )
        dropped |= found
    if dropped:
        notes.append(f"ignored as asked: {listed(sorted(dropped))}")
    return {key: array for key, array in tensors.items() if key not in dropped}


def take_prefix(tensors: Tensors, prefix: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return (the tensors under the user's ``prefix=``, without it; the names of all others).

    Raises:
        CheckpointError: no key begins with it.
    """
    taken = {
        key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)
    }
    if not taken:
        there = ", ".join(repr(p[:80]) for p in list(_parts_by_prefix(tensors))[:4])
        found = f"SAM's keys lie under {there}" if there else "no key looks like SAM's"
        raise CheckpointError(f"no key begins with prefix={prefix!r}; {found}")
    return taken, [key for key in tensors if not key.startswith(prefix)]


def find_sam(tensors: Tensors) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """Return (SAM's tensors under their own names, the prefix they had, the other keys).

    A file that holds no key of a part of SAM comes back as it is: a part saved alone, LoRA pairs.

    Raises:
        CheckpointError: two models, or parts under different prefixes.
    """
    parts = {} if is_peft(tensors) else _parts_by_prefix(tensors)
    if not parts:
        return dict(tensors), "", []
    prefix = _only_prefix(parts)
    taken, others = {}, []
    for key, array in tensors.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and (_BESIDE.match(name) or _begins_with_part(name)):
            taken[name] = array
        else:
            others.append(key)
    if prefix:
        refuse_unsupported(taken)
    return taken, prefix, others


def _begins_with_part(name: str) -> bool:
    found = _PART.match(name)
    return found is not None and found.start(1) == 0


def _parts_by_prefix(tensors: Tensors) -> dict[str, set[str]]:
    """Return the parts of SAM that there are under each prefix."""
    parts: dict[str, set[str]] = {}
    for key in tensors:
        if found := _PART.search(key):
            parts.setdefault(key[: found.start(1)], set()).add(found[1])
    return parts


def _only_prefix(parts: Mapping[str, set[str]]) -> str:
    whole = [prefix for prefix, names in parts.items() if any(w <= names for w in _WHOLE)]
    candidates = whole or list(parts)
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(f"{prefix[:80]!r}" for prefix in candidates[:4])
    what = "several SAMs" if whole else "parts of a SAM"
    raise CheckpointError(
        f"{what} under the prefixes {names}: choose one with prefix=, on the command line --prefix"
    )


def listed(keys: Sequence[str]) -> str:
    """Return the first few keys as text, and how many more there are."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(f"{key[:200]!r}" for key in keys[:_SHOWN]) + more
