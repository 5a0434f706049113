"""Draw results: overlays, automatic masks, labels, and a viewer without scripts."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.viz.automatic import draw_masks
    from samjax.viz.labels import draw_labels
    from samjax.viz.viewer import show

__all__ = [
    "draw_labels",
    "draw_masks",
    "show",
]

__getattr__ = lazy(
    __name__,
    {
        "draw_labels": "samjax.viz.labels",
        "draw_masks": "samjax.viz.automatic",
        "show": "samjax.viz.viewer",
    },
)
