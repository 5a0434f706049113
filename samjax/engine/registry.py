"""Build models by the official names, and take a loaded model or its name alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NoReturn

from samjax.checkpoint.download import OFFICIAL
from samjax.engine.load import EMBEDDED, load
from samjax.engine.segmenter import Segmenter
from samjax.engine.spec import ModelSpec
from samjax.errors import CheckpointError, PromptError
from samjax.migration import intended_model
from samjax.model.config import ImageEncoderConfig, SamConfig

Model = Segmenter | ModelSpec | str | os.PathLike[str]
Builder = Callable[..., Segmenter]
_CONFIGS = MappingProxyType(
    {"vit_b": SamConfig.vit_b(), "vit_l": SamConfig.vit_l(), "vit_h": SamConfig.vit_h()}
)


def as_segmenter(model: Any) -> Segmenter:
    """Return a loaded model as it is, and load one that is given by name, path or ModelSpec.

    Raises:
        SamjaxError: as ``samjax.load``; PromptError for other objects.
    """
    if isinstance(model, Segmenter):
        return model
    if isinstance(model, ModelSpec):
        return model.load()
    if isinstance(model, (str, os.PathLike)):
        return load(model)
    if type(model).__module__.partition(".")[0] in ("segment_anything", "transformers", "torch"):
        advice = "that is PyTorch's; pass samjax.load(...) of its checkpoint"
    else:
        advice = "pass what samjax.load returns, or a model's name or path"
    raise PromptError(f"the model is of type {type(model).__name__}: {advice}")


def build_sam_vit_b(checkpoint: str | os.PathLike[str] | None = None) -> Segmenter:
    """Load a SAM of size ViT-B, as the official function of this name.

    Args:
        checkpoint: path of the file, or a model's name; None: the official weights, downloaded
            once, where the official function leaves the weights random.

    Raises:
        CheckpointError: the file is not of this size, or as ``samjax.load``.
        DownloadError: official weights that could not be fetched.
    """
    return _built("vit_b", checkpoint)


def build_sam_vit_l(checkpoint: str | os.PathLike[str] | None = None) -> Segmenter:
    """Load a SAM of size ViT-L; see build_sam_vit_b."""
    return _built("vit_l", checkpoint)


def build_sam_vit_h(checkpoint: str | os.PathLike[str] | None = None) -> Segmenter:
    """Load a SAM of size ViT-H; see build_sam_vit_b."""
    return _built("vit_h", checkpoint)


build_sam = build_sam_vit_h


class Registry(dict[str, Builder]):
    """Holds the official builders by name; an unknown name is answered with the right one."""

    def __missing__(self, name: str) -> NoReturn:
        meant = intended_model(name)
        if name in ("vit_t", "vit_tiny"):
            advice = "for MobileSAM write samjax.load('mobile_sam.pt')"
        elif meant in self:
            advice = f'did you mean sam_model_registry["{meant}"]?'
        else:
            advice = "for other models write samjax.load(...) with the path of the checkpoint"
        raise CheckpointError(
            f"sam_model_registry has no {name!r}, only {', '.join(self)}; {advice}"
        )


sam_model_registry = Registry(
    default=build_sam_vit_h, vit_h=build_sam_vit_h, vit_l=build_sam_vit_l, vit_b=build_sam_vit_b
)


def _built(name: str, checkpoint: str | os.PathLike[str] | None) -> Segmenter:
    source = name if checkpoint is None else checkpoint
    sam = load(source)
    named = source == EMBEDDED or source in OFFICIAL  # a name says its own size
    if not named and _size(sam.config) != _size(_CONFIGS[name]):
        found = next((n for n, c in _CONFIGS.items() if _size(c) == _size(sam.config)), None)
        write = f'sam_model_registry["{found}"]' if found else f"samjax.load({str(source)!r})"
        raise CheckpointError(f"{source}: is not of the size of {name}; write {write}")
    return sam


def _size(config: SamConfig) -> tuple[int, int] | None:
    """Return width and depth of a ViT; the input's side may differ in fine-tuned models."""
    encoder = config.image_encoder
    return (encoder.width, encoder.depth) if isinstance(encoder, ImageEncoderConfig) else None
