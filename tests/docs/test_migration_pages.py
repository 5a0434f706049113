"""Every line of the migration pages' right column runs, and every line that stays "the same"."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.checkpoint.sources import Located
from samjax.cli import main
from samjax.commands import checkpoints
from samjax.engine import load, registry
from samjax.model.config import SamConfig
from tests.support.models import drawn_image

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("from_segment_anything.md", "from_transformers.md")
# Stand-ins for what is not on this machine: a GPU, several values, the official weights.
REPLACED = (
    *((".cpu()", ""), (", ...)", ")")),
    *(('device="gpu:1"', 'device="cpu"'), ('device="gpu"', 'device="cpu"')),
    *(("point_coords=...", "point_coords=[[20, 30]]"), ("point_labels=...", "point_labels=[1]")),
    *(("checkpoint=...", 'checkpoint="vit_b"'),),
    *(("predict(mask_input=", "predict([[20, 30]], [1], mask_input="), ("(...)", "(image)")),
    ("predict(...,", "predict([[20, 30]], [1],"),
)


def rows(page: str) -> list[tuple[str, str]]:
    """Return the cells of a page's table, left and right, without its head."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert all(len(cell) == 2 for cell in cells[2:])
    return [(left, right) for left, right in cells[2:]]


def code_of(left: str, right: str) -> list[str]:
    """Return the code of a line that a reader writes: the right cell's, or what stays the same."""
    same = right.startswith("the same")
    found = re.findall(r"`([^`]+)`", right)
    return [c for c in re.findall(r"`([^`]+)`", left) + found if c != ".cpu()"] if same else found


LINES = [
    pytest.param(left, right, id=f"{page[5:-3]}-{number}")
    for page in PAGES
    for number, (left, right) in enumerate(rows(page), 1)
]


@pytest.fixture
def names(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the variables of a script in the middle, with the embedded weights for all names."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    image = drawn_image(48, 70)
    Image.fromarray(image).save("photos/a.png")
    Image.fromarray(image).save("a.png")
    embedded = load.embedded_path()
    for name in ("sam_vit_b_01ec64.pth", "CHECKPOINT"):
        Path(name).write_bytes(embedded.read_bytes())
    monkeypatch.setattr(load, "check_source", lambda _: None)
    for module in (load, checkpoints):  # a module first imported later would keep the stand-in
        monkeypatch.setattr(module, "find_source", lambda *_, **__: Located(embedded))
    monkeypatch.setattr(registry, "_size", lambda _: None)
    monkeypatch.setattr(SamConfig, "vit_b", classmethod(lambda _: small.config))
    predictor = samjax.SamPredictor(small)
    predictor.set_image(image)
    masks, scores, logits = predictor.predict([[20, 30]], [1])
    boxes = np.array([[5, 5, 40, 40], [10, 10, 30, 44]])
    return {
        **{"samjax": samjax, "np": np, "sam": small, "predictor": predictor, "image": image},
        **{"masks": masks, "scores": scores, "low_res": logits, "logits": logits, "best": 0},
        **{"mask": masks[0], "boxes": boxes, "kept": predictor.current_embedding, "x": 20, "y": 30},
        **{"points": np.array([[[20, 30]], [[9, 9]]]), "labels": np.ones((2, 1)), "path": "a.png"},
        **{"x0": 5, "y0": 5, "x1": 40, "y1": 40, "images": [image, image]},
        **{"prompts": [{"boxes": boxes}, {"boxes": boxes[:1]}]},
        **{"record": {"segmentation": masks[0], "predicted_iou": 0.5}},
        **{name: getattr(samjax, name) for name in samjax.__all__},
    }


@pytest.mark.filterwarnings("ignore::samjax.errors.NoMasksWarning")  # of random weights
@pytest.mark.parametrize(("left", "right"), LINES)
def test_every_line_runs(left: str, right: str, names: dict[str, Any]) -> None:
    for code in code_of(left, right):
        if code.startswith(("from segment_anything", "samjax.utils")) or "cv2" in code:
            continue  # the line that is replaced, and a reader of images that is not ours
        if code.startswith("samjax "):
            arguments = code.replace("--model vit_b", "").split()[1:]
            assert main([*arguments, *["--points-per-side=2"] * (arguments[0] == "automask")]) == 0
            continue
        for old, new in REPLACED:
            code = code.replace(old, new)
        exec(compile(code, left, "exec"), names)


def test_the_lines_that_need_nothing_say_so() -> None:
    for page in PAGES:
        for left, right in rows(page):
            assert code_of(left, right) or "leave it out" in right, left
