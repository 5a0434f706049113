"""Any supported checkpoint -> SAM's weights under their official names.

A file is opened, the state dict is found in it, prefixes of wrappers are stripped, families that
are not SAM are refused by name, Hugging Face keys are renamed. What is unusual is told in
``OfficialWeights.notes``. Whether keys and shapes are complete is for the caller to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samjax.checkpoint.file_errors import errors_name
from samjax.checkpoint.huggingface import (
    OFFICIAL_EPS,
    OFFICIAL_HQ,
    check_config,
    decoder_eps,
    is_huggingface,
    is_standard_preprocessor,
    official_key,
    official_tensors,
)
from samjax.checkpoint.lora import (
    Update,
    has_pairs,
    is_peft,
    merge,
    split_inline,
    split_peft,
)
from samjax.checkpoint.partial import complete, name_component, needs_base, what_is_partial
from samjax.checkpoint.pickle_machine import RESAVE, Stub, type_name
from samjax.checkpoint.positions import resize_positions
from samjax.checkpoint.signatures import refuse_unsupported, variant
from samjax.checkpoint.tensor_files import TensorFile, open_tensor_file
from samjax.errors import CheckpointError

# Under which samjax records the preprocessing in the metadata of the safetensors it writes
PREPROCESS_KEY = "samjax.preprocess"
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.", "sam_model.")
_MAX_WRAPPERS = 4  # one inside the other
# Buffers that are no weights: constants of the preprocessing
_CONSTANTS = ("pixel_mean", "pixel_std")
# Of batch normalisation: training steps, which no result depends on and torch fills in
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class OfficialWeights:
    """SAM's weights under official names, as stored.

    ``tensors`` are read-only views of the file in its dtype; merged and resized ones are float32.
    ``notes`` are sentences for the user: what was unwrapped, dropped, assumed. ``preprocess`` is
    a preset's name where the file itself says so, None where it does not say; ``doubt`` then says
    why SAM's own may be wrong, "" if nothing speaks against it. ``layer_norm_eps`` belongs to
    norm1 to norm4 of the decoder's two-way layers.
    """

    family: str
    container: str
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...]
    preprocess: str | None
    layer_norm_eps: float
    doubt: str = ""


@dataclass(frozen=True)
class Options:
    """What a file does not say about itself; see ``samjax.load``."""

    base: OfficialWeights | None = None
    lora_layers: tuple[int, ...] | None = None
    image_size: int | None = None


def read_official_weights(path: str | Path, options: Options = Options()) -> OfficialWeights:
    """Open a file or folder of any supported family.

    Raises CheckpointError for files that cannot be read or are unsafe, for unsupported families,
    for weights that are not tensors, and for options that do not fit.
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
        tensors, updates, kind = _split_adapters(tensors, opened, notes)
        family = kind or family
        eps = OFFICIAL_EPS
        if is_huggingface(tensors):
            family = family if kind else "huggingface"
            tensors = official_tensors(tensors)
            eps, why = decoder_eps(opened.config, path)
            notes += ["Hugging Face keys renamed to the official ones", why]
            if variant(tensors) == "sam-hq":
                notes.append(OFFICIAL_HQ)
        tensors, alone = name_component(tensors)
        if alone:
            notes.append(f"the keys lack {alone + '.'!r}, they are taken for that part's")
        tensors = _without_constants(tensors, notes)
        if what := what_is_partial(tensors, updates):
            if options.base is None:
                raise needs_base(what, _trained_on(opened))
            family = family_of_part(family, tensors)
            tensors, more = complete(options.base.tensors, tensors, updates, options.lora_layers)
            notes += [f"{what}; base: {options.base.container}", *more]
            eps = options.base.layer_norm_eps if eps == OFFICIAL_EPS else eps
        else:
            _refuse_options(options)
            if updates:
                tensors = merge(tensors, updates)
                notes.append(f"{len(updates)} LoRA pairs merged into the weights, in float32")
        family = variant(tensors) or _by_shape(tensors, family, notes)
        preprocess = _preprocess(opened, tensors, family, notes)
        doubt = "" if preprocess else _doubt(opened, tensors, family, options)
        if options.base is not None and not preprocess and not doubt:
            preprocess = options.base.preprocess
        weights = OfficialWeights(
            family, opened.container, tensors, tuple(notes), preprocess, eps, doubt
        )
        return resized(weights, options.image_size)


def resized(weights: OfficialWeights, image_size: int | None) -> OfficialWeights:
    """The weights for inputs of another size in pixels; as they are for None or their own size.

    Raises CheckpointError for sizes that do not fit.
    """
    old = _image_size(weights.tensors)
    if image_size is None or image_size == old:
        return weights
    tensors = resize_positions(weights.tensors, image_size)
    note = f"positions resized from {old} px to {image_size} px, bilinear"
    return replace(weights, tensors=tensors, notes=(*weights.notes, note))


def _refuse_options(options: Options) -> None:
    for name in ("base", "lora_layers"):
        if getattr(options, name) is not None:
            raise CheckpointError(
                f"{name}= is for partial files (LoRA, encoder or decoder alone), this one holds a "
                f"whole model: leave {name} out"
            )


# Adapters


def _split_adapters(
    tensors: dict[str, np.ndarray], opened: TensorFile, notes: list[str]
) -> tuple[dict[str, np.ndarray], list[Update], str]:
    """(tensors without adapters, their updates, the kind of adapter or "")."""
    if is_peft(tensors):
        names = _peft_names(opened.adapter, tensors)
        plain, updates = split_peft(tensors, opened.adapter, names)
        notes.append("PEFT adapter, scaled as its adapter_config.json says")
        return plain, updates, "peft"
    plain, updates = split_inline(tensors)
    return plain, updates, "inline lora" if updates else ""


def _peft_names(
    config: Mapping[str, Any] | None, tensors: Mapping[str, np.ndarray]
) -> Callable[[str], str]:
    """How the adapted model's keys become official ones: it is Hugging Face's, or not."""
    said = config.get("auto_mapping") if config else None
    library = said.get("parent_library", "") if isinstance(said, dict) else ""
    foreign = "transformers" in str(library) or is_huggingface(
        {key.removeprefix("base_model.model."): array for key, array in tensors.items()}
    )
    return official_key if foreign else str


def _trained_on(opened: TensorFile) -> str:
    name = (opened.adapter or {}).get("base_model_name_or_path")
    return f"{name:.100} by its adapter_config.json" if isinstance(name, str) and name else ""


def family_of_part(family: str, tensors: Mapping[str, np.ndarray]) -> str:
    """The family of a partial file."""
    if not has_pairs(tensors):
        return "partial" if family == "official" else family
    return "samed" if any(key.startswith("mask_decoder.") for key in tensors) else "sam-lora"


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
    counters = [key for key in tensors if key.endswith(_COUNTER)]
    if counters:
        notes.append(f"dropped {len(counters)} counters of training steps ({_COUNTER[1:]})")
    gone = {*dropped, *counters}
    return {key: array for key, array in tensors.items() if key not in gone}


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
    opened: TensorFile, tensors: Mapping[str, np.ndarray], family: str, notes: list[str]
) -> str | None:
    if said := opened.metadata.get(PREPROCESS_KEY):
        return said
    if family == "micro-sam":
        notes.append("a training file of micro-sam, which stretches each channel: preset microsam")
        return "microsam"
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


def _doubt(
    opened: TensorFile, tensors: Mapping[str, np.ndarray], family: str, options: Options
) -> str:
    """Why SAM's own preprocessing may be wrong for a file that does not say its own, or ""."""
    if opened.preprocessor is not None:
        return "the folder's image processor is not SAM's own"
    if family == "samed":
        size = options.image_size or _image_size(tensors)
        return (
            "LoRA and decoder in one file, as SAMed saves them: SAMed takes values of 0 to 1 "
            f"without prompts (preprocess='samed'), mostly at 512 px (image_size=, now {size})"
        )
    if family == "ft-sam":
        return "ViT-B at 256 px, as SAM-Med2D's FT-SAM (preprocess='sammed2d')"
    if family == "training checkpoint" and _image_size(tensors) == 1024:
        return "a training file with model and optimizer, as MedSAM's (preprocess='medsam')"
    return ""


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
