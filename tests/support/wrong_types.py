"""Call samjax with arguments of wrong types, in a process that checks no annotations.

``python -m tests.support.wrong_types FOLDER`` prints a line of JSON: the number of calls, and the
calls that were anything but one of samjax's own errors in one line. The tests' own process cannot
do so: there an import hook refuses what contradicts an annotation before samjax sees it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import samjax
from samjax import annotations
from samjax.arguments import shown
from samjax.automatic.options import AutomaticOptions
from samjax.errors import SamjaxError
from tests.support import wrong_arguments
from tests.support.models import PLAIN, drawn_image
from tests.support.wrong_arguments import HUGE, NO_PATH, NO_REAL, NO_WHOLE, Case

Call = Callable[[Any], Any]

NO_LIST = ["12", b"12", None, 5, 1.5, [None], ["a"], [1.5], [True], [[1]]]
NO_TEXT = [5, None, b"x", ["a"], "a\0b", "\ud800", "", "x" * 5000]

WHOLE = [
    *("points_per_side", "points_per_batch", "crop_n_layers", "crop_n_points_downscale_factor"),
    *("min_mask_region_area", "min_area", "max_area", "tile_size", "tile_halo"),
]
REAL = [
    *("pred_iou_thresh", "stability_score_thresh", "stability_score_offset", "box_nms_thresh"),
    *("crop_nms_thresh", "crop_overlap_ratio", "containment_thresh"),
]
NONE = ("points_per_side", "pred_iou_thresh", "stability_score_thresh", "max_area", "tile_size",
        "containment_thresh")  # fmt: skip
IMAGE = annotations.AnnotatedImage("a.png", (9, 9), [])


def _options() -> Iterator[Case]:
    for name in (*WHOLE, *REAL):
        values = NO_WHOLE if name in WHOLE else NO_REAL
        values = [v for v in values if v is not None or name not in NONE]
        yield f"AutomaticOptions {name}", lambda v, name=name: AutomaticOptions(**{name: v}), values


def _annotator(made: Any) -> Iterator[Case]:
    yield from (
        ("click x", lambda v: made.click(v, 1), NO_REAL),
        ("click y", lambda v: made.click(1, v), NO_REAL),
        ("click label", lambda v: made.click(1, 1, v), [*NO_WHOLE[:9], 2, -1]),
        ("box", lambda v: made.box(1, 1, 9, v), NO_REAL),
        ("brush x", lambda v: made.brush([(1, v)], 2), NO_REAL),
        ("brush points", lambda v: made.brush(v, 2), [5, None, [], "12", [1], [(1, 2, 3)]]),
        ("brush radius", lambda v: made.brush([(1, 2)], v), [*NO_REAL, 0, -1]),
        ("set_threshold", made.set_threshold, NO_REAL),
        ("mask_threshold", partial(setattr, made, "mask_threshold"), NO_REAL),
        ("set_multimask", made.set_multimask, ["yes", 1, None, [True]]),
        ("multimask", partial(setattr, made, "multimask"), ["yes", 1, None, [True]]),
        ("choose", made.choose, NO_WHOLE),
        ("go", made.go, [*NO_WHOLE, -1, 2]),
        ("grow", made.grow, [*NO_WHOLE, 10**9]),
        ("select", made.select, NO_WHOLE),
        ("delete", made.delete, [v for v in NO_WHOLE if v is not None]),
        ("pick", made.pick, [*NO_WHOLE, -1, 10**6]),
        ("pick_many", made.pick_many, NO_LIST),
        ("merge", made.merge, [*NO_LIST, [1]]),
        ("subtract", made.subtract, [*NO_LIST, [1]]),
        ("label", made.label, NO_TEXT),
        ("rename_class", lambda v: made.rename_class("object", v), NO_TEXT),
        ("rename_class old", lambda v: made.rename_class(v, "x"), [*NO_TEXT, {}]),
        ("find", made.find, NO_TEXT),
        ("on", lambda v: made.on(v, print), [5, None, [], "x"]),
        ("export kind", lambda v: made.export(v, "x"), [5, None, ["coco"], {}, "svg"]),
    )
    for kind in ("coco", "yolo", "png", "npz"):
        paths = [path for path in NO_PATH if path is not None]
        yield f"export {kind}", partial(made.export, kind), paths


def _annotators(model: Any) -> Iterator[Case]:
    def make(name: str, value: Any) -> Any:
        samjax.Annotator(model, drawn_image(48, 70), **{name: value}).close()

    values = {
        "labels": [5, "cat", b"cat", [], [5], ["a\0"], {}, [None], ["a", "a"]],
        "path": [5, b"x", "a\0b", "~nobody-of-this-name"],
        "height": ["tall", HUGE, None, 1.5, -5, [5]],
        "multimask": ["yes", 5, None],
        "automatic": [5, "x", [1], {"points_per_side": "4"}, {"no_such": 4}, {5: 4}],
        "detector": [5, {}, [1]],
        "decode_in_page": [5, None, b"x", [], {}, "a\0b", "~nobody-of-this-name", "no/such"],
    }
    for name, wrong in values.items():
        yield f"Annotator {name}", partial(make, name), wrong
    yield "Annotator images", partial(samjax.Annotator, model), [5, None, [], {}, "a\0b"]
    yield "Annotator sam", lambda v: samjax.Annotator(v, drawn_image(9, 9)), [5, None, [], "a\0b"]


def _predictors(model: Any) -> Iterator[Case]:
    predictor = samjax.SamPredictor(model)
    predictor.set_image(drawn_image(48, 70))
    yield "SamPredictor", samjax.SamPredictor, [5, None, [], "a\0b"]
    yield "predictor threshold", partial(setattr, predictor, "mask_threshold"), NO_REAL
    yield "model threshold", partial(setattr, model, "mask_threshold"), NO_REAL
    yield "save_embedding", predictor.save_embedding, NO_PATH
    yield "load_embedding", predictor.load_embedding, NO_PATH
    for name in ("point_coords", "box", "mask_input"):
        wrong = [5, "a", b"a", {}, [[None, 1]], [["a", 1]], [[HUGE, 1]], [[1j, 1]], object()]
        yield f"predict {name}", lambda v, n=name: predictor.predict(**{n: v}, **(
            {"point_labels": [1]} if n == "point_coords" else {})), wrong  # fmt: skip


def _paths() -> Iterator[Case]:
    read = (
        *(samjax.read_image, annotations.read_coco, annotations.read_yolo, annotations.read_npz),
        *(annotations.read_label_png, annotations.read_labelme, annotations.read_semantic),
        samjax.check_dataset,
    )
    for call in read:
        yield call.__name__, call, NO_PATH
    write: dict[str, Call] = {
        "write_coco": lambda p: annotations.write_coco(p, [IMAGE], ["a"]),
        "write_yolo": lambda p: annotations.write_yolo(p, [IMAGE], ["a"]),
        "write_npz": lambda p: annotations.write_npz(p, (9, 9), []),
        "write_label_png": lambda p: annotations.write_label_png(p, np.zeros((9, 9), np.uint8)),
        "write_labelme": lambda p: annotations.write_labelme(p, [IMAGE]),
        "write_semantic": lambda p: annotations.write_semantic(p, [IMAGE]),
        "segment_dataset boxes": lambda p: samjax.segment_dataset(p, "x", "y"),
        "segment_dataset images": lambda p: samjax.segment_dataset("x", p, "y"),
        "Viewer.save": lambda p: samjax.show(drawn_image(9, 9), np.ones((9, 9), bool)).save(p),
    }
    for name, call in write.items():
        yield name, call, NO_PATH
    yield "load", samjax.load, [path for path in NO_PATH if path is not None]
    for name in ("lock", "base"):
        paths = [path for path in NO_PATH if path is not None]
        yield f"load {name}", lambda v, name=name: samjax.load(**{name: v}), paths
    wrong = {"image_size": NO_WHOLE, "dtype": [5, [], "x"], "precision": [5, [], None, "x"],
             "device": [5, {}, "x", [5]], "preprocess": [5, [], "x"], "prefix": [5, []],
             "lora_layers": [5, "x", ["x"]], "ignore": [5, "x", [5]]}  # fmt: skip
    for name, values in wrong.items():
        values = [v for v in values if v is not None or name == "precision"]
        yield f"load {name}", lambda v, name=name: samjax.load(**{name: v}), values


def _names() -> Iterator[Case]:
    names = [5, None, b"a.png", [], 1.5, True]
    for write in (annotations.write_coco, annotations.write_yolo, annotations.write_labelme):
        yield write.__name__, lambda v, write=write: write("out", [(v, (9, 9), [])]), names


def try_numpy(model: Any) -> None:
    """Pass NumPy's numbers, which are as good as Python's."""
    for name in (*WHOLE, *REAL):
        number = np.int64(1) if name in WHOLE else np.float32(0.5)
        value = getattr(AutomaticOptions(**{name: number}), name)
        assert (type(value), value) == ((int, 1) if name in WHOLE else (float, 0.5)), name
    made = samjax.Annotator(model, drawn_image(48, 70))
    made.click(np.float32(20), np.int64(20), np.int64(1))
    made.multimask = np.bool_(False)
    made.go(np.uint8(0))
    made.select(np.int32(1))
    made.mask_threshold = np.float32(0.5)
    assert (made.mask_threshold, made.object_count) == (0.5, 1)
    made.close()
    predictor = samjax.SamPredictor(model)
    predictor.mask_threshold = np.float32(0.5)
    assert (predictor.mask_threshold, model.mask_threshold) == (0.5, 0.0)


def problem_of(call: Call, value: Any) -> str | None:
    """Return how a call fails to be one of samjax's own errors; None if it is one."""
    try:
        call(value)
    except SamjaxError as error:
        text = str(error)
        good = len(text.splitlines()) == 1 and text.isprintable() and len(text) < 500
        return None if good else f"not one short line: {text[:80]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:160]
    return "accepted"


def main(folder: str) -> None:
    """Try all calls in an empty folder, which must stay empty."""
    with tempfile.TemporaryDirectory() as files:
        _try_all(folder, Path(files))


def _try_all(folder: str, files: Path) -> None:
    os.chdir(folder)
    warnings.simplefilter("ignore")
    model = samjax.load(PLAIN)
    try_numpy(model)
    made = samjax.Annotator(model, [drawn_image(48, 70), drawn_image(48, 70, seed=1)])
    made.click(20, 20)
    cases = [
        *_options(),
        *_annotator(made),
        *_annotators(model),
        *_predictors(model),
        *_paths(),
        *_names(),
        *wrong_arguments.pictures(model),
        *wrong_arguments.prompts(model),
        *wrong_arguments.drawings(),
        *wrong_arguments.detectors(model),
        *wrong_arguments.readers(files),
        *wrong_arguments.writers(),
        *wrong_arguments.exports(model, files),
        *wrong_arguments.annotators(model),
    ]
    tried, problems = 0, []
    for name, call, values in cases:
        for value in values:
            tried += 1
            if (problem := problem_of(call, value)) is not None:
                problems.append(f"{name} {shown(value)}: {problem}")
    count = made.object_count
    made.close()
    left = sorted(path.name for path in Path().iterdir())
    print(json.dumps({"tried": tried, "problems": problems, "left": left, "objects": count}))


if __name__ == "__main__":
    main(sys.argv[1])
