"""Answer the names of segment-anything and transformers with the samjax code to write instead.

Nothing is imported here but the errors: the public package reads it when a name is missing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from samjax.errors import MigrationError, MigrationImportError

NAMES = ("embedded", "vit_b", "vit_l", "vit_h")
_SIZES = {"base": "b", "large": "l", "huge": "h", "b": "b", "l": "l", "h": "h"}

# What to write instead, by the official name; the sentences follow "Segmenter has no ...".
SEGMENTER = MappingProxyType(
    {
        "forward": "write samjax.SamPredictor(sam).predict_images(images, prompts), with prompts "
        "in pixels of each image",
        "train": "samjax is for inference; sam.model is the Flax NNX module, nnx.grad "
        "differentiates through it",
        "image_encoder": "write sam.model.image_encoder; its sizes are in sam.config",
        "prompt_encoder": "write sam.model.decoder.prompt_encoder",
        "mask_decoder": "write sam.model.decoder.mask_decoder",
        "preprocess": "write samjax.image.prepare(image, sam.config.image_size, sam.preset)",
        "postprocess_masks": "SamPredictor returns masks of the image's size; of logits of your "
        "own write samjax.masks.upscale.upscale(...)",
        "image_format": "arrays are RGB; of BGR arrays write predictor.set_image(image, 'BGR')",
        "pixel_mean": "write sam.preset.pixel_mean",
        "pixel_std": "write sam.preset.pixel_std",
        "state_dict": "write sam.parameters(), a dict of NumPy arrays",
        "load_state_dict": "write samjax.load('checkpoint.pth'), which reads and checks the file",
        "half": "write samjax.load(..., dtype='float16')",
        "float": "write samjax.load(..., dtype='float32')",
        "bfloat16": "write samjax.load(..., dtype='bfloat16')",
        "named_parameters": "write sam.parameters(), a dict of NumPy arrays",
        "requires_grad_": "nothing is trained unless you take gradients: leave it out",
        "modules": "write flax.nnx.iter_modules(sam.model)",
        "from_pretrained": "write samjax.load(...) with a name or the path of the folder",
        "save_pretrained": "write samjax convert CHECKPOINT FOLDER on the command line",
        "generate": "write samjax.SamAutomaticMaskGenerator(sam).generate(image)",
        "predict": "write samjax.SamPredictor(sam), then set_image and predict",
        "set_image": "write samjax.SamPredictor(sam), then set_image and predict",
        "get_image_embeddings": "write samjax.SamPredictor(sam).encode_image(image)",
    }
)
PREDICTOR = MappingProxyType(
    {
        "set_torch_image": "write predictor.set_image(image), with the image as it was read",
        "orig_h": "write predictor.original_size[0]",
        "orig_w": "write predictor.original_size[1]",
        "input_h": "write predictor.input_size[0]",
        "input_w": "write predictor.input_size[1]",
        "generate": "write samjax.SamAutomaticMaskGenerator(sam).generate(image)",
        "to": "the device is chosen by samjax.load(..., device='gpu'): leave it out",
        "eval": "samjax is for inference: leave it out",
        "set_image_batch": "write predictor.predict_images(images, prompts)",
        "predict_batch": "write predictor.predict_images(images, prompts)",
    }
)
GENERATOR = MappingProxyType(
    {
        "postprocess_small_regions": "write SamAutomaticMaskGenerator(sam, "
        "min_mask_region_area=...)",
        "crop_n_points_downscale": "write crop_n_points_downscale_factor",
        "set_image": "write generator.generate(image)",
    }
)
PACKAGE = MappingProxyType(
    {
        "Sam": "write samjax.load(...), which returns a Segmenter; its network is sam.model",
        "SamModel": "write samjax.load(folder), with the folder of the Hugging Face model, or "
        "samjax.load('vit_b')",
        "AutoModel": "write samjax.load(folder), with the folder of the Hugging Face model",
        "SamProcessor": "SamPredictor prepares images and prompts: leave the processor out",
        "SamImageProcessor": "SamPredictor prepares images and prompts: leave the processor out",
        "AutoProcessor": "SamPredictor prepares images and prompts: leave the processor out",
        "pipeline": "write samjax.SamAutomaticMaskGenerator(sam).generate(image)",
        "ResizeLongestSide": "prompts are in pixels of the image, which nothing transforms; for "
        "predict_torch write predictor.transform",
        "build_sam_vit_t": "write samjax.load('mobile_sam.pt')",
        "SamOnnxModel": "samjax writes no ONNX files; use samjax.SamPredictor",
        "Sam2Model": "SAM 2 is another network; samjax runs SAM 1",
        "build_sam2": "SAM 2 is another network; samjax runs SAM 1",
        "SAM": "write samjax.load(...), then samjax.SamPredictor",
    }
)


def answers(hints: Mapping[str, str]) -> Callable[[Any, str], Any]:
    """Return a class's ``__getattr__``, which answers official names with a MigrationError."""

    def getter(self: Any, name: str) -> Any:
        kind = type(self).__name__
        if name in hints:
            raise MigrationError(f"{kind} has no {name!r}: {hints[name]}")
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    return getter


def answer_import(name: str) -> None:
    """Refuse a public name of segment-anything or transformers, and say what to write instead.

    Raises:
        MigrationImportError: ``name`` is such a name. It is no AttributeError, because Python
            replaces that by its own message in ``from samjax import name``.
    """
    if name in PACKAGE:
        raise MigrationImportError(f"samjax has no {name!r}: {PACKAGE[name]}")


def intended_model(source: str | os.PathLike[str]) -> str | None:
    """Return the model's name that was probably meant, or None.

    >>> intended_model("facebook/sam-vit-base")
    'vit_b'

    Args:
        source: text that is neither a model's name nor an existing path.
    """
    text = os.fspath(source)
    stem = PurePath(text).name.lower()
    if re.search(r"sam-?_?[23]|hiera|mobile|_hq|fast|medsam|lite", stem):
        return None
    words = re.split(r"[-_. ]+", stem)
    words = [part for word in words for part in re.split(r"(?<=vit)(?=[blh]$)", word)]
    if "default" in words and len(words) == 1:
        return "vit_h"  # as the official registry
    if "vit" in words:
        after = words[words.index("vit") + 1 :]
        size = _SIZES.get(after[0]) if after else None
        return f"vit_{size}" if size else None
    close = difflib.get_close_matches(stem, NAMES, 1, 0.75)
    return close[0] if close else None
