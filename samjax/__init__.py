"""samjax runs Segment Anything (SAM) in JAX and Flax NNX.

Public names are imported on first use, so that ``import samjax`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.annotations.check import check_dataset
    from samjax.annotations.segment_dataset import segment_dataset
    from samjax.automatic.generator import SamAutomaticMaskGenerator
    from samjax.embedding import ImageEmbedding
    from samjax.engine.load import load
    from samjax.engine.registry import (
        build_sam,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        sam_model_registry,
    )
    from samjax.engine.segmenter import Segmenter
    from samjax.engine.spec import ModelSpec
    from samjax.errors import SamjaxError
    from samjax.export.write import export_model
    from samjax.image.read import read_image
    from samjax.jobs.automask import AutomaskJob
    from samjax.jobs.results import read_results
    from samjax.masks.upscale import mask_to_logits
    from samjax.model.config import SamConfig
    from samjax.prediction import Prediction
    from samjax.predictor import SamPredictor
    from samjax.text.detectors import load_detector
    from samjax.text.segment import segment_text
    from samjax.viz.overlay import overlay
    from samjax.viz.viewer import show
    from samjax.widget import Annotator

__version__ = "0.1.0"

_HOMES = {
    "Annotator": "samjax.widget",
    "AutomaskJob": "samjax.jobs.automask",
    "ModelSpec": "samjax.engine.spec",
    "ImageEmbedding": "samjax.embedding",
    "Prediction": "samjax.prediction",
    "SamAutomaticMaskGenerator": "samjax.automatic.generator",
    "SamConfig": "samjax.model.config",
    "SamPredictor": "samjax.predictor",
    "SamjaxError": "samjax.errors",
    "Segmenter": "samjax.engine.segmenter",
    "check_dataset": "samjax.annotations.check",
    "build_sam": "samjax.engine.registry",
    "build_sam_vit_b": "samjax.engine.registry",
    "build_sam_vit_h": "samjax.engine.registry",
    "build_sam_vit_l": "samjax.engine.registry",
    "export_model": "samjax.export.write",
    "load": "samjax.engine.load",
    "load_detector": "samjax.text.detectors",
    "mask_to_logits": "samjax.masks.upscale",
    "overlay": "samjax.viz.overlay",
    "read_image": "samjax.image.read",
    "read_results": "samjax.jobs.results",
    "sam_model_registry": "samjax.engine.registry",
    "segment_dataset": "samjax.annotations.segment_dataset",
    "segment_text": "samjax.text.segment",
    "show": "samjax.viz.viewer",
}

__all__ = [
    "Annotator",
    "AutomaskJob",
    "ImageEmbedding",
    "ModelSpec",
    "Prediction",
    "SamAutomaticMaskGenerator",
    "SamConfig",
    "SamPredictor",
    "SamjaxError",
    "Segmenter",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "check_dataset",
    "export_model",
    "load",
    "load_detector",
    "mask_to_logits",
    "overlay",
    "read_image",
    "read_results",
    "sam_model_registry",
    "segment_dataset",
    "segment_text",
    "show",
]


_find = lazy(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from samjax.migration import answer_import

        answer_import(name)
    return _find(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
