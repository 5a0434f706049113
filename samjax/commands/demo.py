"""Run ``samjax demo``: a click, boxes and a negative point on a photograph, offline."""

from __future__ import annotations

import filecmp
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from samjax.commands.request import Request
from samjax.commands.results import (
    Names,
    Ranked,
    check_folder,
    output_errors,
    rank,
    result_names,
    write_png,
    write_results,
)
from samjax.commands.segment import MULTIMASK, SegmentJob, draw, predict, record_of
from samjax.engine.spec import ModelSpec
from samjax.errors import ImageError
from samjax.files import check_foreign, replacing
from samjax.image.read import read_image
from samjax.palette import DARK, css
from samjax.predictor import SamPredictor

_COPY, _PICTURE = "photo.jpg", "demo.png"
# matplotlib's sample photograph of Grace Hopper, 512 x 600, in the public domain.
_PHOTO = "mpl-data/sample_data/grace_hopper.jpg"


@dataclass(frozen=True)
class Scene:
    """Hold one prompt of the demo: the stem of its files, its caption, and its colour."""

    stem: str
    words: str
    request: Request
    colour: tuple[int, int, int]


CLICK = Scene("click", "A click", Request(((460.0, 150.0, 1),), ()), (255, 99, 164))
BOXES = (
    Scene("box", "A box", Request((), ((150.0, 130.0, 370.0, 320.0),)), (30, 144, 255)),
    Scene("large_box", "A larger box", Request((), ((0.0, 310.0, 511.0, 599.0),)), (0, 201, 177)),
    Scene(
        "negative_point",
        "With a negative point",
        Request(((240.0, 350.0, 0),), ((0.0, 310.0, 511.0, 599.0),)),
        (0, 201, 177),
    ),
)


def run_demo(out: Path, model: ModelSpec) -> Iterator[str]:
    """Segment the photograph, write masks and the picture, and yield lines to print.

    Raises:
        SamjaxError: unusable model, device, dtype or folder.
    """
    model.check()
    photo = photograph()
    image = read_image(photo)
    check_folder(out)
    _check_ours(out, photo)
    sam = model.load().warmup()
    predictor = SamPredictor(sam)
    seconds = []
    for _ in range(2):  # what a second image and a second click take
        start = time.perf_counter()
        predictor.set_embedding(embedding := predictor.encode_image(image))
        jax.block_until_ready(embedding.features)
        encoded = time.perf_counter()
        predict(predictor, CLICK.request, multimask=True)
        seconds = [encoded - start, time.perf_counter() - encoded]
    yield (
        f"{photo.name}, {image.shape[1]} x {image.shape[0]} pixels, "
        f"with {model.source} on {sam.device}: "
        f"encoded in {_milliseconds(seconds[0])}, a click in {_milliseconds(seconds[1])}"
    )
    results = []
    for scene in (CLICK, *BOXES):
        ranked = rank(predict(predictor, scene.request, multimask=True))
        job = SegmentJob((photo,), scene.request, model, out)
        names = result_names(scene.stem, 1, MULTIMASK)
        record = record_of(job, sam, photo, image.shape[:2], names, ranked)
        write_results(out, names, ranked, draw(image, scene.request, ranked), record)
        results.append((scene, names, ranked))
    yield "predicted IoU: " + ", ".join(_scores(*result) for result in results)
    picture = compose(image, [(scene, ranked) for scene, _, ranked in results])
    with output_errors(out):
        with replacing(out / _COPY) as temporary:
            temporary.write_bytes(photo.read_bytes())
        with replacing(out / _PICTURE) as temporary:
            write_png(temporary, picture)
    yield f"look at {out / _PICTURE}; the photograph, photo.jpg, and the masks are beside it"


def _check_ours(out: Path, photo: Path) -> None:
    """Refuse a folder in which the demo would replace anything but an earlier demo's files.

    Raises:
        SamjaxError: which file.
    """
    names = [result_names(scene.stem, 1, MULTIMASK) for scene in (CLICK, *BOXES)]

    def is_ours(path: Path) -> bool:
        if path.name == _COPY:
            return filecmp.cmp(path, photo, shallow=False)
        record = next((n.record for n in names if path.name in n), names[0].record)
        found = json.loads((out / record).read_text(encoding="utf-8"))
        listed = path.name == _PICTURE or path.name in found["files"]
        return listed and Path(found["image"]).name == photo.name

    files = [*(name for each in names for name in each), _COPY, _PICTURE]
    check_foreign((out / name for name in files), is_ours)


def photograph() -> Path:
    """Return the path of the sample photograph that comes with matplotlib.

    Raises:
        ImageError: matplotlib was installed without its sample data.
    """
    path = Path(str(resources.files("matplotlib") / _PHOTO))
    if not path.is_file():
        raise ImageError(
            f"{path}: matplotlib's sample photograph is missing; pip install --force-reinstall "
            "matplotlib, or use samjax segment with a picture of yours"
        )
    return path


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _scores(scene: Scene, _: Names, ranked: Ranked) -> str:
    return f"{scene.stem.replace('_', ' ')} {ranked.scores[0, 0]:.2f}"


def compose(
    image: UInt8[np.ndarray, "H W 3"], results: Sequence[tuple[Scene, Ranked]]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the click's candidates in one row, the boxes' best masks in the next."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (click, candidates), *boxes = results
    panels = [
        (f"{click.words}: mask {i + 1} of {MULTIMASK}", score, click, candidates, i)
        for i, score in enumerate(candidates.scores[0])
    ]
    panels += [(scene.words, ranked.scores[0, 0], scene, ranked, 0) for scene, ranked in boxes]
    width, gap, title = 400, 16, 36
    height = round(width * image.shape[0] / image.shape[1])
    total_width, total_height = 3 * width + 4 * gap, 2 * (height + title) + gap
    figure = Figure(figsize=(total_width / 100, total_height / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for number, (words, score, scene, ranked, i) in enumerate(panels):
        row, column = divmod(number, 3)
        left, top = gap + column * (width + gap), title + row * (height + title)
        picture = draw(image, scene.request, ranked, candidate=i, colour=scene.colour)
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        figure.figimage(np.asarray(resized), left, total_height - top - height)
        baseline = 1 - (top - 11) / total_height
        figure.text(left / total_width, baseline, words, size=11, weight="bold", color=css(DARK))
        right = (left + width) / total_width
        figure.text(right, baseline, f"IoU {score:.2f}", size=11, ha="right", color="#4b5563")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
