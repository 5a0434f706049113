"""The example page uses the names of the exported files, and loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from samjax.export.layout import (
    DECODER_INPUTS,
    DECODER_OUTPUTS,
    ENCODER_INPUT,
    ENCODER_OUTPUT,
    SIZE_INPUT,
)

PAGE = Path(__file__).parents[2] / "examples" / "onnx_page"


def test_the_page_feeds_what_the_files_take():
    script = (PAGE / "page.js").read_text("utf-8")
    (fed,) = re.findall(r"decoder\.run\(\{\n(.*?)\n  \}\)", script, re.DOTALL)
    assert tuple(re.findall(r"^    (\w+):", fed, re.MULTILINE)) == (*DECODER_INPUTS, SIZE_INPUT)
    assert f"encoder.run({{ {ENCODER_INPUT}: " in script
    used = set(re.findall(r"found\.(\w+)", script))
    assert used <= set(DECODER_OUTPUTS)
    assert f").{ENCODER_OUTPUT};" in script


def test_the_page_loads_its_own_folder_alone():
    for file in PAGE.iterdir():
        text = file.read_text("utf-8")
        assert "//cdn" not in text
        assert not re.search(r"https?://", text)
        for source in re.findall(r"(?:from|src=) ?\"([^\"]+)\"", text):
            assert source.startswith(("./node_modules/", "page.js"))
