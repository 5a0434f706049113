"""The notebook widget: click on images, get masks (anywidget).

`session` holds what the user did as immutable values, `decode` and `results` turn that into
masks, `images` encodes in a thread, `view` tells the page, `store` and `export` write files, and
`annotator` is the thin shell around them.
"""

from samjax.widget.annotator import Annotator
from samjax.widget.session import Stroke, paint

__all__ = ["Annotator", "Stroke", "paint"]
