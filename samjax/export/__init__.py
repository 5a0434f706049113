"""Write a loaded model as ONNX or StableHLO, for programs without samjax or without Python."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.export.write import Exported, export_model

__all__ = ["Exported", "export_model"]

__getattr__ = lazy(
    __name__,
    {"Exported": "samjax.export.write", "export_model": "samjax.export.write"},
)
