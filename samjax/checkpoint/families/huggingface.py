"""Read Hugging Face's SamModel and SamHQModel: keys, the decoder's epsilon, preprocessing.

The networks are the official ones under other names; shapes and orientations are the same.
Source: transformers, models/sam/modeling_sam.py, convert_sam_to_hf.py and models/sam_hq.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from samjax.errors import CheckpointError

OFFICIAL_EPS = 1e-5
# Seen in transformers 5.23: modeling_sam_hq.py, SamHQMaskDecoder.forward
OFFICIAL_HQ = (
    "computed as SAM-HQ's own code does; transformers' SamHQModel gives other masks, it upscales "
    "the image embedding from before its two-way transformer"
)

_GAUSSIAN = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
# The same matrix: the model holds it twice, files store it once or twice.
_GAUSSIAN_NAMES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)

_PERCEPTRONS = r"mask_decoder\.(?:output_hyp|iou_pred|hf_mlp).*"
_HQ_CONVS = r"mask_decoder\.(?:compress_vit_feat|embedding_encoder|embedding_maskfeature)"
# Replacements of parts of a key, all applied, in this order.
_PARTS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
        (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
        (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
        (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
        (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
        (r"^vision_encoder\.", "image_encoder."),
        (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
        (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
        (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
        (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
        (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
        (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
        (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
        (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
        (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
        # SamHQModel's own parts
        (r"^mask_decoder\.hq_token\.", "mask_decoder.hf_token."),
        (r"^mask_decoder\.hq_mask_mlp\.", "mask_decoder.hf_mlp."),
        (r"^mask_decoder\.compress_vit_", "mask_decoder.compress_vit_feat."),
        (r"^mask_decoder\.encoder_", "mask_decoder.embedding_encoder."),
        (r"^mask_decoder\.mask_(conv|norm)", r"mask_decoder.embedding_maskfeature.\1"),
        (rf"^({_HQ_CONVS})\.conv1\.", r"\1.0."),
        (rf"^({_HQ_CONVS})\.norm\.", r"\1.1."),
        (rf"^({_HQ_CONVS})\.conv2\.", r"\1.3."),
        # The three-layer perceptrons of the masks and of the quality: layers 0, 1, 2
        (rf"^({_PERCEPTRONS})\.proj_out\.", r"\1.layers.2."),
        (rf"^({_PERCEPTRONS})\.layers\.0\.", r"\1.layers.1."),
        (rf"^({_PERCEPTRONS})\.proj_in\.", r"\1.layers.0."),
        (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
        (r"\.layer_norm([1-4])\.", r".norm\1."),
    )
)


# Names that the official code does not have
_OWN_NAMES = re.compile(
    r"^vision_encoder\.|\.proj_(in|out)\.|\.layer_norm|\.(upscale_conv\d|point_embed|mask_embed)\."
)


def is_huggingface(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether keys are those of a SamModel, or of a part of one."""
    return any(_OWN_NAMES.search(key) for key in tensors)


def official_key(key: str) -> str:
    """Return the official name of a SamModel key; unknown keys come back as they are."""
    if key in _GAUSSIAN_NAMES:
        return _GAUSSIAN
    for pattern, replacement in _PARTS:
        key = pattern.sub(replacement, key)
    return key


def official_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors under official keys.

    Raises:
        CheckpointError: two different tensors that get the same key.
    """
    result: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    for key, array in tensors.items():
        name = official_key(key)
        if name in result:
            same = name == _GAUSSIAN and np.array_equal(result[name], array)
            if not same:
                raise CheckpointError(
                    f"{origin[name]!r} and {key!r} are both {name!r} and differ: "
                    "remove one of them and save the file again"
                )
            continue
        result[name], origin[name] = array, key
    return result


# Settings in config.json

_TRAINING_FILES = ("trainer_state.json", "training_args.bin", "optimizer.pt")


def decoder_eps(config: Mapping[str, Any] | None, folder: Path) -> tuple[float, str]:
    """Return (epsilon of the decoder's LayerNorms, a sentence that says why).

    transformers runs norm1 to norm4 of the two-way layers at config.json's value, 1e-6 unless
    changed; the official code at 1e-5. Converted official weights want the official value,
    weights trained by transformers want the one they were trained with.
    """
    decoder = _part(config, "mask_decoder_config")
    if config is None or not folder.is_dir():
        return OFFICIAL_EPS, "decoder LayerNorm eps 1e-05, the official value: no config.json"
    eps = decoder.get("layer_norm_eps", 1e-6)
    if not isinstance(eps, float) or not 0 < eps < 1e-2:
        raise CheckpointError(
            f"config.json: mask_decoder_config.layer_norm_eps is {eps!r:.80}, "
            "not a small number: correct it"
        )
    reason = _trained_by_transformers(config, folder)
    if reason:
        return eps, f"decoder LayerNorm eps {eps:g} from config.json: {reason}"
    return OFFICIAL_EPS, (
        "decoder LayerNorm eps 1e-05, the official value: the folder looks like converted "
        "official weights"
    )


def _trained_by_transformers(config: Mapping[str, Any], folder: Path) -> str:
    """Say why the weights seem to be trained by transformers, or "" if they do not."""
    for name in _TRAINING_FILES:
        if (folder / name).exists():
            return f"{name} lies beside, the weights were trained by transformers"
    # The official weights were converted with the first version that had the model.
    first_later = (4, 53) if config.get("model_type") == "sam_hq" else (4, 30)
    version = re.match(r"(\d{1,4})\.(\d{1,4})", str(config.get("transformers_version", "")))
    if version and (int(version[1]), int(version[2])) >= first_later:
        return f"saved by transformers {version[0]}, taken for a fine-tune"
    return ""


def check_config(config: Mapping[str, Any] | None) -> None:
    """Refuse a config.json whose network is not the official one; sizes are not checked here."""
    if config is None:
        return
    kind = config.get("model_type", "sam")
    if kind not in ("sam", "sam_hq"):
        raise CheckpointError(
            f"config.json says model_type {kind!r:.80}: only 'sam' and 'sam_hq' are supported, "
            "name a folder of SamModel or SamHQModel"
        )
    expected = (
        ("vision_config", "hidden_act", "gelu"),
        ("vision_config", "layer_norm_eps", 1e-6),
        ("mask_decoder_config", "hidden_act", "relu"),
        ("prompt_encoder_config", "hidden_act", "gelu"),
    )
    for part, name, value in expected:
        found = _part(config, part).get(name, value)
        if found != value:
            raise CheckpointError(
                f"config.json: {part}.{name} is {found!r:.80}, not {value!r}: not the official "
                "network, not supported"
            )


def _part(config: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    part = (config or {}).get(name)
    return part if isinstance(part, dict) else {}


# Settings in preprocessor_config.json

_STANDARD = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_pad": True,
    "resample": 2,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 1 / 255,
}


def is_standard_preprocessor(preprocessor: Mapping[str, Any], image_size: int | None) -> bool:
    """Return whether preprocessing is SAM's own: longest side to ``image_size``, padded."""
    pad = _part(preprocessor, "pad_size")
    sizes = (
        _part(preprocessor, "size").get("longest_edge"),
        pad.get("height"),
        pad.get("width"),
    )
    return sizes == (image_size,) * 3 and all(
        _equal(preprocessor.get(name, value), value) for name, value in _STANDARD.items()
    )


def _equal(found: object, expected: object) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(_equal, found, expected))
        )
    if isinstance(expected, float):
        return isinstance(found, (int, float)) and abs(found - expected) < 1e-6
    return type(found) is type(expected) and found == expected
