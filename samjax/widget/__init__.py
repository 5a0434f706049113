"""The notebook widget: click on images, get masks (anywidget).

`state`, `steps` and `history` hold what the user did as immutable values; `decode`, `brush` and
`mask_cache` turn that into masks; `image_loader` encodes in a thread; `project` keeps all images
and `state_file` their files; `controller` keeps these in step and `actions` does what the user
asks for (`picking` offers masks, `editing` changes them, `reviewing` goes through opened ones);
`annotation_sets` reads annotations, `opened` makes objects of them, `correction` lets clicks
correct their masks and `opened_export` keeps what they say; `image_list` knows the progress of all
images and `exports` writes them; `page_link` connects controller and actions with the page
(sources in `src`, bundled into `static`), and `annotator` is the widget around them.
"""

from samjax.widget.annotator import Annotator
from samjax.widget.brush import paint
from samjax.widget.correction import correct
from samjax.widget.state import Stamp, Stroke

__all__ = ["Annotator", "Stamp", "Stroke", "correct", "paint"]
