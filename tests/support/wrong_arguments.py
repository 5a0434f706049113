"""Arguments of wrong types and shapes for pictures, prompts, detectors, annotations and exports.

The calls are made by `tests.support.wrong_types`, whose `Case` they are: a name, a function of one
value, and the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import samjax
from samjax import annotations
from samjax.annotations import AnnotatedImage, check, records
from samjax.annotations.quality import Limits
from tests.support.models import drawn_image
from tests.support.rasters import FindsColours, write_raster

Case = tuple[str, Callable[[Any], Any], Iterable[Any]]

HUGE, LONG = 10**400, 10**5000  # more than a float holds, and than Python writes out
NO_REAL = ["4", "a", b"4", None, [1], {}, float("nan"), float("inf"), HUGE, -LONG, True, 1j]
NO_WHOLE = [*NO_REAL[:8], 1.5, 4.0, True, np.float32(4), np.array([4, 5])]
NO_FLAG = ["yes", 1, None, [True], 0.0]
ODD = [np.zeros((0, 2)), np.array("a")]
NO_PATH = [5, None, b"x", ["x"], "a\0b", "\ud800.png", "~nobody-of-this-name/x.png", *ODD]
NO_NUMBERS = ["a", b"a", {}, {1: 2}, object(), [None], ["a"], [[1], [1, 2]], [1j], [HUGE], {1, 2}]
NO_IMAGE = [
    *(5, None, [], {}, "a\0b", object(), b"abc", True, 1.5, "absent.png", ".", 1j, (), {1}),
    *(np.zeros(3), np.zeros((2, 2, 7)), np.zeros((0, 0, 3)), np.array(["a"]), np.array(None)),
    *(np.zeros((2, 2, 3), complex), np.full((2, 2), np.nan), np.array([[object()]]), print, int),
    *ODD,
    *([[1, 2], [3]], np.zeros((1, 1, 1, 1)), range(3), Path("absent.png"), "", b""),
]
SIZE = (48, 70)
MASK = np.zeros(SIZE, bool)
MASK[5:30, 5:30] = True
RECORD = {"segmentation": MASK, "label": "a"}
IMAGE = AnnotatedImage("a.png", SIZE, [RECORD])


def pictures(model: Any) -> Iterator[Case]:
    """Yield calls that read a picture."""
    predictor = samjax.SamPredictor(model)
    drawn = drawn_image(*SIZE)
    yield "read_image", samjax.read_image, NO_IMAGE
    yield "set_image", predictor.set_image, NO_IMAGE
    yield "show image", lambda v: samjax.show(v, [MASK]), NO_IMAGE
    yield "overlay image", lambda v: samjax.overlay(v, [MASK]), NO_IMAGE
    bands = ["a", b"a", {}, [1, 2], [[0]], 1.5, True, [None], -1, 9, [0, 1, 9], object(), HUGE]
    pages = ["a", b"a", {}, [1], 1.5, True, -1, object(), HUGE, 3]
    for name, call in (("read_image", samjax.read_image), ("set_image", predictor.set_image)):
        yield f"{name} format", partial(call, drawn), [5, None, "rgb", b"RGB", ["RGB"], {}]
        yield f"{name} bands", lambda v, call=call: call(drawn, bands=v), bands
        picture = Image.fromarray(drawn)
        yield f"{name} page", lambda v, call=call, p=picture: call(p, page=v), pages
    several = [5, None, [5], [None], ["absent.png"], [drawn, 5], "absent.png", {1: 2}, print, 1.5]
    yield "encode_images", lambda v: list(predictor.encode_images(v)), several
    yield "set_embedding", predictor.set_embedding, [5, None, "x", {}, [], drawn, object()]
    generator = samjax.SamAutomaticMaskGenerator(model, points_per_side=1)
    yield "generate", generator.generate, NO_IMAGE[:12]
    yield "generate embedding", lambda v: generator.generate(None, embedding=v), [5, "x", [], drawn]
    yield "generate progress", lambda v: generator.generate(drawn, progress=v), [5, "x", []]
    yield "generate on_empty", lambda v: generator.generate(drawn, on_empty=v), [5, "x", []]
    wrong = [5, None, "a\0b", {}, object()]
    yield "generator model", samjax.SamAutomaticMaskGenerator, wrong


def prompts(model: Any) -> Iterator[Case]:
    """Yield calls with prompts."""
    predictor = samjax.SamPredictor(model)
    predictor.set_image(drawn := drawn_image(*SIZE))
    one = [[20, 20]]
    coords = [*NO_NUMBERS, 5, [1, 2], [[1, 2, 3]], [one], [[np.nan, 1]], [[1e300, 1]], print]
    marks = [*NO_NUMBERS, 5, [2], [1, 1], [[1]], [np.nan], [1.5], print]
    corners = [*NO_NUMBERS, 5, [1, 2, 3], [9, 9, 1, 1], [[1, 2, 3, 4]] * 2, [np.inf] * 4, print]
    logits = [*NO_NUMBERS, 5, np.zeros((3, 3)), np.zeros((1, 3, 3)), np.zeros((2, 2, 2, 2)), print]
    yield "coords", lambda v: predictor.predict(v, [1]), coords
    yield "marks", lambda v: predictor.predict(one, v), marks
    yield "corners", lambda v: predictor.predict(box=v), corners
    yield "logits", lambda v: predictor.predict(mask_input=v), logits
    yield "many coords", lambda v: predictor.predict_many([v], [[1]]), coords
    yield "many marks", lambda v: predictor.predict_many([one], [v]), marks
    yield "many corners", lambda v: predictor.predict_many(boxes=[v]), [*corners[:-3], corners[-1]]
    yield "many logits", lambda v: predictor.predict_many(mask_inputs=[v]), logits
    yield "sets of coords", lambda v: predictor.predict_many(v, [[1]]), [5, "a", {}, 1.5, print]
    yield "sets of marks", lambda v: predictor.predict_many([one], v), [5, "ab", {}, 1.5, print]
    outputs = [5, None, "x", [], b"rle", {}]
    yield "output", lambda v: predictor.predict_many(boxes=[[1, 1, 9, 9]], output=v), outputs
    yield "frame coords", lambda v: predictor.predict_torch([v], [[1]]), coords
    yield "frame corners", lambda v: predictor.predict_torch(boxes=[v]), corners[:11]
    masks = [*NO_NUMBERS, 5, np.zeros(SIZE), np.zeros((3, 3)), [[["a"]]], print, None]
    yield "predict_mask", predictor.predict_mask, masks
    yield "mask_to_logits", samjax.mask_to_logits, [*masks[:12], np.zeros((0, 0)), masks[-1]]
    yield "logits' size", partial(samjax.mask_to_logits, MASK), [*NO_WHOLE, 0, -1, 10**9]
    confidence = [*NO_REAL, -1]
    yield "confidence", lambda v: samjax.mask_to_logits(MASK, 64, confidence=v), confidence
    several = [5, None, "a", [5], [None], {}, [{"x": 1}], ["a"], [{"boxes": 5}], [[]]]
    yield "predict_images", lambda v: predictor.predict_images([drawn], v), several
    yield "images", lambda v: predictor.predict_images(v, [{"boxes": [[1, 1, 9, 9]]}]), several[:7]


def drawings() -> Iterator[Case]:
    """Yield calls that draw masks."""
    drawn = drawn_image(*SIZE)
    masks = [
        *(5, "a", b"a", {}, {"x": 1}, [5], ["a"], [None], object(), 1.5, np.zeros(3), [MASK[:5]]),
        *(np.array(["a"]), [{"segmentation": 5}], [{"segmentation": {"size": 5, "counts": 5}}]),
        *(None, print, [1j], np.full(SIZE, 1j), np.array([[object()]])),
    ]
    points = [*NO_NUMBERS, 5, [1, 2, 3], [[np.nan, 1]], print]
    for name, call in (("show", samjax.show), ("overlay", samjax.overlay)):
        draw = partial(call, drawn)
        yield f"{name} masks", draw, masks
        alphas = [*NO_REAL, -1, 2]
        yield f"{name} alpha", lambda v, draw=draw: draw([MASK], alpha=v), alphas
        labels = [5, {}, "ab", ["a", "b"], print, b"a"]
        yield f"{name} labels", lambda v, draw=draw: draw([MASK], labels=v), labels
        yield f"{name} points", lambda v, draw=draw: draw([MASK], points=v), points
        kinds = [*NO_NUMBERS, [1, 1], print]
        yield (
            f"{name} kinds",
            lambda v, draw=draw: draw([MASK], points=[[1, 1]], point_labels=v),
            kinds,
        )
        yield f"{name} boxes", lambda v, draw=draw: draw([MASK], boxes=v), [*points[:-2], print]
    scores = [*NO_NUMBERS[:7], 5, [1, 2], print]
    yield "scores", lambda v: samjax.show(drawn, [MASK], v), scores
    yield "max_size", lambda v: samjax.show(drawn, [MASK], max_size=v), [*NO_WHOLE, 0, -1]
    colours = [5, "red", [], [5], ["red"], [(1, 2)], [None], [(1, 2, "a")], [(1, 2, 999)], print]
    yield "colours", lambda v: samjax.overlay(drawn, [MASK], colors=v), colours


def detectors(model: Any) -> Iterator[Case]:
    """Yield calls with detectors, and detectors that return what is none."""
    drawn = drawn_image(*SIZE)
    good = ([[1, 1, 20, 20]], [0.5], ["a"])

    def found(image: Any, phrases: Any) -> Any:  # noqa: ARG001
        return good

    segment = partial(samjax.segment_text, model, drawn)
    yield "text", lambda v: segment(v, found), [5, None, b"a", [], {}, [5], [None], "", " . ", [""]]
    wrong = [5, None, [], {}, "a\0b", b"a", object(), 1.5, "~nobody-of-this-name/x"]
    yield "detector", lambda v: segment("a", v), wrong
    models = [5, None, [], {}, "a\0b", object()]
    yield "model", lambda v: samjax.segment_text(v, drawn, "a", found), models
    yield "picture", lambda v: samjax.segment_text(model, v, "a", found), NO_IMAGE[:12]
    yield "box_threshold", lambda v: segment("a", found, box_threshold=v), [5, "a", []]
    results = [5, None, "ab", (), (1, 2), {}, object(), print]
    yield "results", lambda v: segment("a", lambda *_: v), results
    boxes = [*NO_NUMBERS, 5, [[1, 2, 3]], [[9, 9, 1, 1]], [[0.1, 0.1, 0.5, 0.5]], [[np.nan] * 4]]
    yield "boxes", lambda v: segment("a", lambda *_: (v, *good[1:])), [*boxes, print]
    scores = [*NO_NUMBERS, 5, [1, 2], [[1]], [np.nan], print]
    yield "scores", lambda v: segment("a", lambda *_: (good[0], v, good[2])), scores
    labels = [5, None, "a", [5], [None], [b"a"], ["a", "b"], {}, [], print]
    yield "labels", lambda v: segment("a", lambda *_: (*good[:2], v)), labels
    yield "load_detector", samjax.load_detector, [5, None, [], {}, b"x", "a\0b", 1.5]


def readers(folder: Path) -> Iterator[Case]:
    """Yield calls that read annotations, from files in ``folder``."""
    coco = annotations.write_coco(folder / "coco.json", [IMAGE])
    npz = annotations.write_npz(folder / "a.npz", SIZE, [RECORD])
    annotations.write_labelme(folder / "labelme", [IMAGE])
    annotations.write_semantic(folder / "semantic", [IMAGE])
    annotations.write_yolo(folder / "yolo", [IMAGE])
    modes = [5, None, "x", [], b"coco_rle", {}, True]
    read = {
        "coco": partial(annotations.read_coco, coco),
        "npz": partial(annotations.read_npz, npz),
        "labelme": partial(annotations.read_labelme, folder / "labelme"),
        "yolo": partial(annotations.read_yolo, folder / "yolo", {"a.png": SIZE}),
        "convert": partial(annotations.convert_records, [RECORD]),
    }
    for name, call in read.items():
        yield f"{name} mode", call, modes
    yield (
        "semantic mode",
        lambda v: annotations.read_semantic(folder / "semantic", output_mode=v),
        modes,
    )
    sizes = [5, "a", [], {"a.png": 5}, {"a.png": "ab"}, {"a.png": (1,)}, {"a.png": (0, -1)}]
    yield "sizes", partial(annotations.read_yolo, folder / "yolo"), sizes
    yield "read_legend", annotations.read_legend, NO_PATH
    yield "legend", lambda v: annotations.read_semantic(folder / "semantic", v), [5, [], b"x"]
    yield "read_results", lambda v: list(samjax.read_results(v)), NO_PATH
    yield "converted", lambda v: annotations.convert_records(v, "coco_rle"), [5, "a", [5], [None]]
    data = partial(check.check_dataset, coco)
    yield "check images", data, [path for path in NO_PATH if path is not None]
    yield "check format", lambda v: data(format=v), [5, "x", [], b"coco", {}]
    yield "check limits", lambda v: data(limits=v), [5, "x", [1], {}, True]
    yield "check progress", lambda v: data(progress=v), [5, "x", []]
    for field in Limits._fields:
        wrong = [*NO_REAL, -1]
        yield f"limit {field}", lambda v, f=field: data(limits=Limits(**{f: v})), wrong


def writers() -> Iterator[Case]:
    """Yield calls that write annotations."""
    write: dict[str, Callable[..., Any]] = {
        "coco": partial(annotations.write_coco, "out.json"),
        "yolo": partial(annotations.write_yolo, "out"),
        "labelme": partial(annotations.write_labelme, "out"),
        "semantic": partial(annotations.write_semantic, "out"),
    }
    images = [
        *(5, None, "ab", [5], [None], ["abc"], [()], [("a",)], {1: 2}, [("a", SIZE, 5)], print),
        *([("a", (9,), [])], [("a", ("a", 9), [])], [("a", 5, [])], [("a", (0, -1), [])]),
        *([("a", SIZE, [5])], [("a", SIZE, [{}])], [("a", SIZE, [{"segmentation": 5}])]),
        *([("a", SIZE, [{"segmentation": MASK[:4]}])], [("a", (9.5, 9), [])]),
        *([("a", SIZE, [{"segmentation": MASK, "label": 5}])], [("a", SIZE, "ab")]),
        [("a", SIZE, [{"segmentation": {"size": "a", "counts": []}}])],
        [("a", SIZE, [{"segmentation": {"size": [9, 9], "counts": "\0"}}])],
        [("a", SIZE, [{"segmentation": {"size": list(SIZE), "counts": [1, "a"]}}])],
    ]
    categories = [5, "ab", [5], [None], {5: 5}, {"a": "b"}, {"a": -1}, ["a", "a"], {"b": 1}, print]
    for name, call in write.items():
        yield f"{name} images", call, images
        if name != "labelme":
            yield f"{name} categories", lambda v, call=call: call([IMAGE], v), categories
        if name != "semantic":
            tolerances = [*NO_REAL, -1]
            options = {"shapes": "polygons"} if name == "coco" else {}
            options |= {"shapes": "polygon"} if name == "labelme" else {}
            yield (
                f"{name} tolerance",
                lambda v, call=call, o=options: call([IMAGE], tolerance=v, **o),
                tolerances,
            )
    shapes = [5, None, "x", [], b"rle", {}]
    yield "coco shapes", lambda v: write["coco"]([IMAGE], shapes=v), shapes
    yield "labelme shapes", lambda v: write["labelme"]([IMAGE], shapes=v), shapes
    sizes = [5, None, "ab", (9,), ("a", 9), (9.5, 9), (0, -1), [], {}]
    yield "npz size", lambda v: annotations.write_npz("out.npz", v, []), sizes
    lists = [5, None, "ab", [5], [None], [{}], [{"segmentation": 5}], {1: 2}, print]
    yield "npz records", partial(annotations.write_npz, "out.npz", SIZE), lists
    yield "label map", annotations.to_label_map, lists
    yield (
        "label map order",
        lambda v: annotations.to_label_map([RECORD], order=v),
        [5, None, "x", []],
    )
    labels = [
        *(5, None, "a", [], [[1, 2], [3]], np.array(["a"]), np.zeros(3, int), -np.ones((2, 2))),
        *(np.zeros((2, 2, 2), int), np.zeros((2, 2)), np.array([[object()]]), print),
    ]
    yield "write_label_png", partial(annotations.write_label_png, "out.png"), labels
    yield "label_map_to_records", annotations.label_map_to_records, labels
    yield "class map", lambda v: annotations.to_class_map(v, ["a"]), lists
    yield "class map names", lambda v: annotations.to_class_map([RECORD], v), categories
    yield "record's box", lambda v: records.new_record(v, "coco_rle"), [5, None, "a", [], {}]


def exports(model: Any, folder: Path) -> Iterator[Case]:
    """Yield calls of the larger functions: data sets, models and rasters."""
    boxes = folder / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1,label\na.png,5,5,30,30,disc\n")
    Image.fromarray(drawn_image(*SIZE)).save(folder / "a.png")

    def data_set(**options: Any) -> Any:
        given = {"boxes": boxes, "images": folder, "out": "out", "sam": model, **options}
        return samjax.segment_dataset(**given)

    yield "data set out", lambda v: data_set(out=v), NO_PATH
    yield "data set sam", lambda v: data_set(sam=v), [5, "a\0b", [], {}, object()]
    reviews = [v for v in NO_REAL if v is not None]
    yield "review_below", lambda v: data_set(review_below=v), [*reviews, -1, 2]
    shards = [
        5,
        None,
        "1/2",
        (1,),
        (0, 1),
        (2, 1),
        ("a", 1),
        (1.0, 2),
        [],
        {},
        (None, 1),
        (1, 2, 3),
    ]
    yield "shard", lambda v: data_set(shard=v), shards
    for name in ("normalised", "overwrite"):
        yield f"data set {name}", lambda v, name=name: data_set(**{name: v}), NO_FLAG
    yield "data set progress", lambda v: data_set(progress=v), [5, "x", []]

    export = partial(samjax.export_model, model, "out.onnx")
    targets = [*NO_PATH, "out", "out.x", "", "."]
    yield "export target", lambda v: samjax.export_model(model, v), targets
    models = [5, None, [], {}, object(), "a\0b"]
    yield "export model", lambda v: samjax.export_model(v, "out.onnx"), models
    yield "export part", lambda v: export(part=v), [5, None, "x", [], b"both", {}]
    for name in ("batch", "points"):
        numbers = [v for v in NO_WHOLE if v is not None]
        yield f"export {name}", lambda v, name=name: export(**{name: v}), [*numbers, 0, -1]
    yield "export masks", lambda v: export(masks=v), [5, None, "x", [], b"all", {}]
    yield "export weights", lambda v: export(weights=v), [5, None, "x", [], b"uint8", {}]
    yield "export overwrite", lambda v: export(overwrite=v), NO_FLAG

    from samjax.geo import segment_raster

    scene = write_raster(folder / "scene.tif", 64, [], block=16)

    def raster(**options: Any) -> Any:
        given = {"generator": FindsColours(), "source": scene, "target": "out.gpkg", **options}
        given.setdefault("progress", lambda *_: None)
        return segment_raster(**given)

    yield "raster source", lambda v: raster(source=v), [*NO_PATH, "absent.tif", ".", boxes]
    yield "raster target", lambda v: raster(target=v), [*NO_PATH, "out", "out.x", "", "."]
    yield "raster generator", lambda v: raster(generator=v), [5, None, "x", [], {}, object()]
    yield "raster tile", lambda v: raster(tile=v), [*NO_WHOLE, 0, -1]
    yield "raster halo", lambda v: raster(halo=v), [*NO_WHOLE, -1]
    yield "raster min_area", lambda v: raster(min_area=v), NO_WHOLE
    bands = ["a", b"a", {}, [], [1, 2], [None], 1.5, True, 0, 9, [1, 1, 9], object(), ["1"]]
    yield "raster bands", lambda v: raster(bands=v), bands
    stretches = ["a", 5, {}, [1], [1, 2, 3], (None, 1), ("a", "b"), (2, 1), (np.nan, 1), object()]
    yield "raster stretch", lambda v: raster(stretch=v), stretches
    yield "raster progress", lambda v: raster(progress=v), [5, "x", []]
    yield "raster overwrite", lambda v: raster(overwrite=v), NO_FLAG


def annotators(model: Any) -> Iterator[Case]:
    """Yield arguments of the annotator and of jobs, and what specifies a model."""
    drawn = drawn_image(*SIZE)

    def make(name: str, value: Any) -> Any:
        samjax.Annotator(model, drawn, **{name: value}).close()

    given = [
        *(5, "a\0b", b"x", "absent.json", [5], [None], [{}], object(), 1.5, print),
        *([{"segmentation": 5}], [{"segmentation": MASK[:5]}], {"image": 5}, [[RECORD], [RECORD]]),
        *(True, Path("absent"), "~nobody-of-this-name"),
    ]
    yield "annotations", partial(make, "annotations"), given
    several = (list, tuple, set, range, np.ndarray, type(None))
    wrong = [v for v in NO_IMAGE if not isinstance(v, several) and v not in (".", "")]
    yield (
        "images",
        lambda v: samjax.Annotator(model, [v]).wait(),
        [v for v in wrong if v not in (".", "")],
    )
    yield "images", lambda v: samjax.Annotator(model, v), [1.5, True, object(), print, int, 1j, b""]
    for field in ("dtype", "precision", "attention"):
        values = [5, [], {}, b"x", "x", 1.5]
        yield field, lambda v, f=field: samjax.ModelSpec(**{f: v}).load(), values
    yield "spec", lambda v: samjax.ModelSpec(v).load(), [5, [], {}, "a\0b", 1.5]
    job = partial(samjax.AutomaskJob, "embedded")
    yield "job source", lambda v: job(v, "out").plan(), [5, None, {}, b"x", "a\0b", [5], []]
    yield "job out", lambda v: job([Path("a.png")], v), [5, None, {}, b"x", "a\0b", []]
    yield "job size", partial(job, "x", "out"), [*NO_WHOLE, 0, -1]
    yield "job model", lambda v: samjax.AutomaskJob(v, "x", "out"), [5, None, {}, [], b"x", 1.5]
    engines = [5, None, "x", [], b"ray", {}]
    yield "job engine", lambda v: job([Path("a.png")], "out").run(v), engines
