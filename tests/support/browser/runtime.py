"""Get onnxruntime-web, which decodes masks in the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from samjax.widget.page_decoder import RUNTIME, VERSION


def runtime_folder(folder: Path) -> Path:
    """Return the folder of its files: of SAMJAX_ONNXRUNTIME_WEB, or packed by npm into ``folder``.

    Without both the test fails: nothing is skipped.
    """
    if given := os.environ.get("SAMJAX_ONNXRUNTIME_WEB"):
        return Path(given)
    if (npm := shutil.which("npm")) is None:
        pytest.fail(
            f"no npm on the PATH: install it, or set SAMJAX_ONNXRUNTIME_WEB to the folder dist of "
            f"{RUNTIME} {VERSION}"
        )
    subprocess.run([npm, "pack", f"{RUNTIME}@{VERSION}"], cwd=folder, check=True)
    (packed,) = folder.glob("*.tgz")
    shutil.unpack_archive(packed, folder, filter="data")
    return folder / "package" / "dist"
