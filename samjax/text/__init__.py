"""Segment what a text names: a detector finds boxes for phrases, SAM predicts their masks."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.text.detectors import load_detector
    from samjax.text.segment import parse_phrases, segment_text

__all__ = [
    "load_detector",
    "parse_phrases",
    "segment_text",
]

__getattr__ = lazy(
    __name__,
    {
        "load_detector": "samjax.text.detectors",
        "parse_phrases": "samjax.text.segment",
        "segment_text": "samjax.text.segment",
    },
)
