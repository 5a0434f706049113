"""Read any supported checkpoint as SAM's weights under their official names.

A file is opened, the state dict is found in it, prefixes of wrappers are stripped, families that
are not SAM are refused by name, Hugging Face keys are renamed. ``OfficialWeights.notes``
tells anything unusual. The caller checks whether keys and shapes are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samjax.checkpoint.families.detect import variant
from samjax.checkpoint.families.huggingface import (
    OFFICIAL_EPS,
    OFFICIAL_HQ,
    check_config,
    decoder_eps,
    is_huggingface,
    is_standard_preprocessor,
    official_key,
    official_tensors,
)
from samjax.checkpoint.families.lora import (
    Update,
    has_pairs,
    is_peft,
    merge,
    split_inline,
    split_peft,
)
from samjax.checkpoint.families.partial import complete, name_component, needs_base, what_is_partial
from samjax.checkpoint.families.positions import resize_positions
from samjax.checkpoint.families.prefixes import only_sam
from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.formats.open import TensorFile, open_tensor_file
from samjax.checkpoint.formats.pickle_machine import RESAVE, Stub, type_name
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.errors import CheckpointError

# The key under which samjax records the preprocessing in the metadata of the safetensors it writes
PREPROCESS_KEY = "samjax.preprocess"
# ... and the address and commit of the weights
SOURCE_KEY = "samjax.source"
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")
_MAX_WRAPPERS = 4  # nested in each other
# Buffers that are no weights: constants of the preprocessing
_CONSTANTS = ("pixel_mean", "pixel_std")
# Batch normalisation counts training steps: no result depends on them, torch fills them in.
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class OfficialWeights:
    """Official weights are SAM's tensors under official names, as stored.

    ``tensors`` are read-only views of the file in its dtype; merged and resized ones are float32.
    ``notes`` tell the user of unwrapping, dropped keys and assumptions. ``preprocess`` is
    a preset's name where the file itself says so, None where it does not say; ``doubt`` then says
    why SAM's own may be wrong, "" if nothing speaks against it. ``layer_norm_eps`` belongs to
    norm1 to norm4 of the decoder's two-way layers. ``thresholds`` are None where the file has none.
    """

    family: str
    container: str
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...]
    preprocess: str | None
    layer_norm_eps: float
    doubt: str = ""
    ignored: str = ""
    thresholds: AutomaticThresholds | None = None


@dataclass(frozen=True)
class ReadOptions:
    """ReadOptions give settings that a file does not record; see ``samjax.load``."""

    base: OfficialWeights | None = None
    lora_layers: tuple[int, ...] | None = None
    image_size: int | None = None
    prefix: str | None = None
    ignore: tuple[str, ...] = ()


def read_official_weights(
    path: str | Path, options: ReadOptions = ReadOptions()
) -> OfficialWeights:
    """Open a file or folder of any supported family.

    Raises:
        CheckpointError: files that cannot be read or are unsafe, unsupported families, weights
            that are not tensors, or options that do not fit.
    """
    path = Path(path)
    with errors_name(path):
        opened = open_tensor_file(path)
        found, family, notes = unwrap(opened.content)
        if said := opened.metadata.get(SOURCE_KEY):
            notes.append(f"{said:.300}, by the metadata of the file")
        tensors, ignored = only_sam(_only_arrays(found), options.prefix, options.ignore, notes)
        check_config(opened.config)
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
            notes.append(f"the keys lack {alone + '.'!r}, it was put before them")
        tensors = _without_constants(tensors, notes)
        _refuse_empty(tensors)
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
        thresholds = AutomaticThresholds.from_metadata(opened.metadata)
        if options.base is not None:
            thresholds = thresholds or options.base.thresholds
            if not preprocess and not doubt:
                preprocess = options.base.preprocess
        weights = OfficialWeights(
            family,
            opened.container,
            tensors,
            tuple(notes),
            preprocess,
            eps,
            doubt,
            ignored,
            thresholds,
        )
        return resized(weights, options.image_size)


def resized(weights: OfficialWeights, image_size: int | None) -> OfficialWeights:
    """Return the weights for another input size in pixels; None or their own changes nothing.

    Raises:
        CheckpointError: sizes that do not fit.
    """
    old = _image_size(weights.tensors)
    if image_size is None or image_size == old:
        return weights
    tensors = resize_positions(weights.tensors, image_size)
    note = f"positions resized from {old} px to {image_size} px, bilinear"
    return replace(weights, tensors=tensors, notes=(*weights.notes, note))


def _refuse_options(options: ReadOptions) -> None:
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
    """Return (tensors without adapters, their updates, the kind of adapter or "")."""
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
    """Return the function that turns keys of the adapted model into official ones."""
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
    """Return the family of a partial file."""
    if not has_pairs(tensors):
        return "partial" if family == "official" else family
    return "samed" if any(key.startswith("mask_decoder.") for key in tensors) else "sam-lora"


# Finding the state dict


def unwrap(content: object) -> tuple[Mapping[object, object], str, list[str]]:
    """Return (the mapping of weights in a file's object, family, notes).

    Raises:
        CheckpointError: no weights in the object, or a pickled module.
    """
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
    """Return the family of a training checkpoint, by the names of its parts."""
    if "pytorch-lightning_version" in content:
        return "lightning"
    if "model_state" in content and ("decoder_state" in content or "init" in content):
        return "micro-sam"
    return "training checkpoint" if "optimizer" in content else family


def _why_no_weights(content: object) -> str:
    """Say why there is no state dict in a file's object, and what to do."""
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
    """Return the weights, each checked to be an array under a text key."""
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


# Further properties of the weights


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


def _refuse_empty(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse weights of no size: their other axes may count anything, and no file pays for it."""
    for key, array in tensors.items():
        if not array.size:
            raise CheckpointError(
                f"{key!r:.200} has shape {array.shape} and holds no values: damaged, save the "
                "model's state_dict again"
            )


def _by_shape(tensors: Mapping[str, np.ndarray], family: str, notes: list[str]) -> str:
    """Return the family of files that differ from the official ones in sizes only."""
    hidden = tensors.get("image_encoder.blocks.0.mlp.lin1.weight")
    pos_embed = tensors.get("image_encoder.pos_embed")
    if hidden is not None and hidden.ndim == 2 and hidden.shape[0] != 4 * hidden.shape[1]:
        notes.append(
            f"width {hidden.shape[1]} with an MLP of {hidden.shape[0]}: pruned, as SlimSAM"
        )
        return "slimsam" if family == "official" else family
    # SAM-Med2D's training files are ViT-B at 256 px; other models at 256 px may be anybody's.
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
    opened: TensorFile, tensors: Mapping[str, np.ndarray], family: str, options: ReadOptions
) -> str:
    """Say why SAM's preprocessing may be wrong for a file that does not record its own, or ""."""
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
    """Return the side of the network's input in pixels: grid x patch."""
    pos_embed = tensors.get("image_encoder.pos_embed")
    patch = tensors.get("image_encoder.patch_embed.proj.weight")
    if pos_embed is None or patch is None or pos_embed.ndim != 4 or patch.ndim != 4:
        return None
    return pos_embed.shape[1] * patch.shape[-1]


def _shown(key: object) -> str:
    """Return a key for a message: one short line."""
    text = str(key)[:60]
    return text if text.isprintable() else repr(text)
