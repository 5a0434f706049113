"""Any supported checkpoint -> SAM's weights under their official names.

A file is opened, the state dict is found in it, prefixes of wrappers are stripped, families that
are not SAM are refused by name, Hugging Face keys are renamed. What is unusual is told in
``OfficialWeights.notes``. Whether keys and shapes are complete is for the caller to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.checkpoint.file_errors import errors_name
from samjax.checkpoint.huggingface import (
    OFFICIAL_EPS,
    check_config,
    decoder_eps,
    is_standard_preprocessor,
    official_tensors,
)
from samjax.checkpoint.pickle_machine import RESAVE, Stub, type_name
from samjax.checkpoint.signatures import refuse_unsupported
from samjax.checkpoint.tensor_files import TensorFile, open_tensor_file
from samjax.errors import CheckpointError

# Under which samjax records the preprocessing in the metadata of the safetensors it writes
PREPROCESS_KEY = "samjax.preprocess"
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.", "sam_model.")
_MAX_WRAPPERS = 4  # one inside the other
# Buffers that are no weights: constants of the preprocessing
_CONSTANTS = ("pixel_mean", "pixel_std")


@dataclass(frozen=True)
class OfficialWeights:
    """SAM's weights under official names, as stored.

    ``tensors`` are read-only views of the file in its dtype. ``notes`` are sentences for the
    user: what was unwrapped, dropped, assumed. ``preprocess`` is "sam" where the file itself says
    so, None where it does not say. ``layer_norm_eps`` belongs to norm1 to norm4 of the decoder's
    two-way layers.
    """

    family: str
    container: str
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...]
    preprocess: str | None
    layer_norm_eps: float


def read_official_weights(path: str | Path) -> OfficialWeights:
    """Open a file or folder of any supported family.

    Raises CheckpointError for files that cannot be read or are unsafe, for unsupported families
    and for weights that are not tensors.
    """
    path = Path(path)
    with errors_name(path):
        opened = open_tensor_file(path)
        found, family, notes = unwrap(opened.content)
        tensors = _only_arrays(found)
        tensors, stripped = strip_prefixes(tensors)
        if stripped:
            notes.append(f"stripped the prefix {stripped!r} from every key")
        check_config(opened.config)
        refuse_unsupported(tensors)
        eps = OFFICIAL_EPS
        if any(key.startswith("vision_encoder.") for key in tensors):
            family = "huggingface"
            tensors = official_tensors(tensors)
            eps, why = decoder_eps(opened.config, path)
            notes += ["Hugging Face keys renamed to the official ones", why]
        tensors = _without_constants(tensors, notes)
        family = _by_shape(tensors, family, notes)
        preprocess = _preprocess(opened, tensors, notes)
    return OfficialWeights(family, opened.container, tensors, tuple(notes), preprocess, eps)


# Finding the state dict


def unwrap(content: object) -> tuple[Mapping[object, object], str, list[str]]:
    """(the mapping of weights in a file's object, family, notes). Raises CheckpointError."""
    family = "official"
    notes: list[str] = []
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(content, dict):
            break
        wrapper = next((key for key in _WRAPPERS if _holds_tensors(content.get(key))), None)
        if wrapper is None:
            break
        family = _family_of_wrapper(content, family)
        ignored = [_shown(key) for key in content if key != wrapper]
        note = f"weights taken from {wrapper!r}"
        notes.append(f"{note}; ignored: {', '.join(ignored[:12])}" if ignored else note)
        if "decoder_state" in content:
            notes.append("decoder_state (micro-sam's instance segmentation decoder) is ignored")
        content = content[wrapper]
    if not _holds_tensors(content):
        raise CheckpointError(_why_no_weights(content))
    assert isinstance(content, dict)
    return content, family, notes


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(v, np.ndarray) for v in value.values())


def _family_of_wrapper(content: Mapping[object, object], family: str) -> str:
    """What wrote a training checkpoint, by the names of its parts."""
    if "pytorch-lightning_version" in content:
        return "lightning"
    if "model_state" in content and ("decoder_state" in content or "init" in content):
        return "micro-sam"
    return "training checkpoint" if "optimizer" in content else family


def _why_no_weights(content: object) -> str:
    """Why there is no state dict in a file's object, and what to do."""
    if isinstance(content, Stub):
        return f"whole pickled module ({content.name}), no code was run: {RESAVE}"
    if not isinstance(content, dict):
        return f"holds {type_name(content)}, not a dictionary of weights: {RESAVE}"
    if not content:
        return f"an empty dictionary, no weights in it: {RESAVE}"
    for key in _WRAPPERS:
        if isinstance(content.get(key), Stub):
            name = content[key].name
            return f"whole pickled module ({name}) under {key!r}, no code was run: {RESAVE}"
    others = [_shown(key) for key, value in content.items() if _holds_tensors(value)]
    if others:
        return (
            f"its tensors lie under {', '.join(map(repr, others[:4]))}, unknown to samjax: "
            f"save that dictionary alone with torch.save(checkpoint[{others[0]!r}], ...)"
        )
    keys = ", ".join(repr(_shown(key)) for key in list(content)[:4])
    return f"a dictionary without tensors (its keys: {keys}): {RESAVE}"


def _only_arrays(found: Mapping[object, object]) -> dict[str, np.ndarray]:
    """The weights, every one an array under a text key."""
    tensors: dict[str, np.ndarray] = {}
    for key, value in found.items():
        if not isinstance(key, str):
            raise CheckpointError(f"a weight is called {key!r:.80}, which is not text: {RESAVE}")
        if isinstance(value, Stub):
            raise CheckpointError(
                f"{key!r:.200} is a pickled object ({value.name:.200}), not a tensor, no code was "
                f"run: {RESAVE}"
            )
        if not isinstance(value, np.ndarray):
            raise CheckpointError(
                f"{key!r:.200} is {type_name(value)}, not a tensor: remove it, or {RESAVE}"
            )
        tensors[key] = value
    return tensors


def strip_prefixes(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """(tensors without the prefixes of wrappers that all keys share, what was stripped)."""
    result = dict(tensors)
    stripped = ""
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in result)), ""):
        result = {key.removeprefix(prefix): array for key, array in result.items()}
        stripped += prefix
    # torch.compile of a part of the model leaves its mark in the middle of a key.
    plain = {key.replace("._orig_mod.", "."): array for key, array in result.items()}
    if len(plain) != len(tensors):
        raise CheckpointError(
            "two keys are the same but for '_orig_mod.', left by torch.compile: "
            "remove one of them and save the file again"
        )
    return plain, stripped


# What else is known about the weights


def _without_constants(
    tensors: Mapping[str, np.ndarray], notes: list[str]
) -> dict[str, np.ndarray]:
    dropped = [key for key in _CONSTANTS if key in tensors]
    if dropped:
        notes.append(f"dropped {' and '.join(dropped)}: constants of the preprocessing")
    return {key: array for key, array in tensors.items() if key not in dropped}


def _by_shape(tensors: Mapping[str, np.ndarray], family: str, notes: list[str]) -> str:
    """The family of files that differ from the official ones in sizes only."""
    hidden = tensors.get("image_encoder.blocks.0.mlp.lin1.weight")
    pos_embed = tensors.get("image_encoder.pos_embed")
    if hidden is not None and hidden.ndim == 2 and hidden.shape[0] != 4 * hidden.shape[1]:
        notes.append(
            f"width {hidden.shape[1]} with an MLP of {hidden.shape[0]}: pruned, as SlimSAM"
        )
        return "slimsam" if family == "official" else family
    # SAM-Med2D's training files are ViT-B at 256 px; a small model at 256 px is anybody's.
    if (
        family == "training checkpoint"
        and pos_embed is not None
        and pos_embed.shape == (1, 16, 16, 768)
    ):
        notes.append("ViT-B at 256 px, as FT-SAM of SAM-Med2D, whose preprocessing is its own")
        return "ft-sam"
    return family


def _preprocess(
    opened: TensorFile, tensors: Mapping[str, np.ndarray], notes: list[str]
) -> str | None:
    if said := opened.metadata.get(PREPROCESS_KEY):
        return said
    if opened.preprocessor is None:
        return None
    size = _image_size(tensors)
    if is_standard_preprocessor(opened.preprocessor, size):
        notes.append(f"the folder's image processor is SAM's own, {size} px")
        return "sam"
    notes.append(
        f"the folder's image processor is not SAM's own at {size} px and is not followed: "
        "choose the preprocessing"
    )
    return None


def _image_size(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Side of the network's input in pixels: grid x patch."""
    pos_embed = tensors.get("image_encoder.pos_embed")
    patch = tensors.get("image_encoder.patch_embed.proj.weight")
    if pos_embed is None or patch is None or pos_embed.ndim != 4 or patch.ndim != 4:
        return None
    return pos_embed.shape[1] * patch.shape[-1]


def _shown(key: object) -> str:
    """A key in a message: one line, short."""
    text = str(key)[:60]
    return text if text.isprintable() else repr(text)
