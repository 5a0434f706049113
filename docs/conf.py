"""Sphinx builds the site with this configuration: ``python -m sphinx -W docs build/site``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from docs import figures  # noqa: E402
from docs.publish import repository  # noqa: E402
from samjax import __version__  # noqa: E402

project = "samjax"
author = "the samjax authors"
copyright = "the samjax authors, Apache-2.0"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
napoleon_attr_annotations = False  # the signatures have them

# Notebooks are shown with the outputs that they are stored with; the tests execute them.
nb_execution_mode = "off"
# A widget needs a kernel: its stored picture comes first.
nb_mime_priority_overrides = [("html", "image/png", 5), ("html", "text/html", 6)]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"samjax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
if address := repository():
    html_theme_options |= {
        "source_repository": address,
        "source_branch": "main",
        "source_directory": "docs/",
    }
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def copy_notebooks(gallery: Path) -> None:
    """Copy the notebooks into the gallery, where Sphinx finds them, as IPython's language."""
    for stale in gallery.glob("*.ipynb"):
        stale.unlink(missing_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        language = {"name": "python", "pygments_lexer": "ipython3"}  # of lines with ! and %
        notebook["metadata"]["language_info"] = language
        (gallery / path.name).write_text(json.dumps(notebook), "utf-8")


def setup(app: object) -> dict[str, bool]:
    """Make what is not committed: the gallery's copies and the figures of the numbers."""
    del app
    copy_notebooks(HERE / "gallery")
    figures.draw_all(HERE / "_figures")
    return {"parallel_read_safe": True}
