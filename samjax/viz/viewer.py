"""Show masks over an image that are highlighted under the mouse, without a running kernel.

The viewer is plain HTML, SVG and CSS without scripts: it stays interactive in a saved notebook, in
an exported page, and wherever scripts of a cell's output are not run.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from samjax.arguments import real_number, whole_number
from samjax.array_arguments import number_array, rows
from samjax.errors import AnnotationError, ImageError
from samjax.files import given_path, protecting, replacing
from samjax.image.longest_side import resize, resize_longest_side
from samjax.image.read import read_image
from samjax.masks.polygons import mask_to_polygons
from samjax.masks.upscale import resize_mask
from samjax.palette import BOX, NEGATIVE, PALETTE, POSITIVE, css
from samjax.prediction import Prediction
from samjax.viz.masks_given import Masks, check_count, listed, mask_of
from samjax.viz.overlay import marker_radius, overlay
from samjax.words import counted

LEGEND = 120  # most masks for which a legend is shown: the CSS rules of more slow the page down
_TOLERANCE = 0.6  # pixels by which outlines may differ from the mask at the displayed size

_STYLE = """
.samjax-viewer{max-width:100%;font:13px/1.4 var(--jp-ui-font-family,system-ui,sans-serif);
  color:var(--jp-ui-font-color1,inherit)}
.samjax-viewer .samjax-still{display:none}
.samjax-viewer svg{display:block;width:100%;height:auto;border-radius:4px}
.samjax-viewer path{fill-opacity:var(--fill);stroke-width:2;stroke-linejoin:round;
  vector-effect:non-scaling-stroke;transition:fill-opacity .12s,stroke-opacity .12s}
.samjax-viewer .samjax-prompts{pointer-events:none}
.samjax-viewer .samjax-masks:has(path:hover) path:not(:hover){
  fill-opacity:calc(var(--fill)*.3);stroke-opacity:.4}
.samjax-viewer .samjax-masks path:hover{fill-opacity:min(1,calc(var(--fill)*1.3))}
.samjax-legend{display:flex;flex-wrap:wrap;gap:4px;margin-top:6px;max-height:9em;overflow:auto}
.samjax-legend label{display:inline-flex;align-items:center;gap:5px;padding:1px 8px 1px 6px;
  border-radius:10px;cursor:pointer;background:var(--jp-layout-color2,rgba(128,128,128,.14));
  outline:2px solid transparent;outline-offset:-2px}
.samjax-legend label:has(:focus-visible){outline-color:var(--jp-brand-color1,#2196f3)}
.samjax-legend label:hover{outline-color:var(--colour)}
.samjax-legend label:has(input:not(:checked)){opacity:.5}
.samjax-legend input{appearance:none;width:10px;height:10px;margin:0;border-radius:3px;
  background:var(--colour);cursor:pointer}
.samjax-legend input:not(:checked){background:none;box-shadow:inset 0 0 0 2px var(--colour)}
.samjax-legend input:focus-visible{outline:none}
.samjax-legend small{opacity:.7;font-size:12px;font-variant-numeric:tabular-nums}
"""

# CSS of one mask: its legend entry hides it, and pointing at either highlights both.
_RULES = """
.samjax-viewer:has(.samjax-c{i} input:not(:checked)) .samjax-m{i}{{display:none}}
.samjax-viewer:has(.samjax-c{i}:hover,.samjax-c{i} :focus-visible) path:not(.samjax-m{i}){{
  fill-opacity:0;stroke-opacity:.25}}
.samjax-viewer:has(.samjax-m{i}:hover) .samjax-c{i}{{outline-color:{colour};opacity:1}}
"""


@dataclass(frozen=True, eq=False)
class Viewer:
    """Displays itself at the end of a notebook cell; ``samjax.show`` returns it.

    Attributes:
        html: self-contained page without scripts.
        still: the same as a picture, for places that show no HTML.
        count: number of masks.
        source: file of the image, which ``save`` never replaces; None for other images.
    """

    html: str
    still: Image.Image
    count: int
    source: Path | None = None

    def __repr__(self) -> str:
        masks = counted(self.count, "mask")
        return f"Viewer({masks}, {self.still.width} x {self.still.height} pixels)"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/html": self.html,
            "image/png": base64.b64encode(_encoded(self.still, "PNG")).decode("ascii"),
            "text/plain": repr(self),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the viewer (.html) or its picture (.png, .jpg) atomically, and return the path.

        Raises:
            ImageError: the path has another suffix, or is the image's own.
        """
        path = given_path(path, ImageError)
        kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
        suffix = path.suffix.lower()
        if suffix in (".html", ".htm"):
            page = f'<!doctype html><meta charset="utf-8"><title>samjax</title>{self.html}'
            content = page.encode()
        elif suffix in kinds:
            content = _encoded(self.still, kinds[suffix])
        else:
            raise ImageError(f"{path}: unknown ending {suffix!r}: use .html, .png or .jpg")
        sources = [] if self.source is None else [self.source]
        with protecting(sources, ImageError), replacing(path) as temporary:
            temporary.write_bytes(content)
        return path


def show(
    image: Any,
    masks: Masks,
    scores: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    *,
    points: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    alpha: float = 0.5,
    max_size: int = 1024,
) -> Viewer:
    """Show masks over an image: pointing at a mask highlights it, its legend entry hides it.

    The viewer needs no running kernel and no widget; where HTML is not shown, it is a picture.

    Args:
        image: a path, PIL image or array; see ``samjax.read_image``.
        masks: N x H x W or H x W bool, logits (drawn where above 0) or 0 and 1, one mask or a list
            of masks, PIL images, run lengths or records of the image's size, or what ``predict``
            returns. Scores of predictions, ``predicted_iou`` and ``label`` of records are shown.
        scores: N, predicted IoU of each mask.
        labels: name of each mask.
        points: P x 2, (x, y) of prompts in pixels.
        point_labels: P, 1 is positive, 0 negative, below 0 is not drawn; None means all positive.
        boxes: B x 4, (x0, y0, x1, y1) in pixels.
        alpha: opacity of the fill, 0 to 1.
        max_size: longest side of the displayed image, in pixels; larger images are scaled down.

    Raises:
        ImageError: the image is unreadable, alpha is outside [0, 1] or max_size is below 1.
        AnnotationError: masks have another size, or scores or labels another number.
        PromptError: point_labels are given without points.
    """
    alpha = real_number(alpha, "alpha", 0, 1, ImageError)
    max_size = whole_number(max_size, "max_size", error=ImageError)
    pixels = read_image(image)
    size = (pixels.shape[0], pixels.shape[1])
    fit = resize_longest_side(size, min(max_size, max(size)))
    small = pixels if fit == size else resize(pixels, fit)
    if isinstance(masks, Prediction) and scores is None:
        scores = np.ravel(masks.scores)
    given = listed(masks)
    found = [resize_mask(mask_of(each, size), fit) for each in given]
    texts = _texts(given, scores, labels)
    zoom = np.array(fit[::-1]) / size[::-1]
    # Pixel centres lie at +0.5 of the axis that is scaled.
    xy = None if points is None else (rows(points, "points", 2) + 0.5) * zoom - 0.5
    kinds = None if point_labels is None else number_array(point_labels, "point_labels")
    xyxy = None
    if boxes is not None:
        xyxy = (rows(boxes, "boxes", 4) + 0.5) * np.tile(zoom, 2) - 0.5
    stack = np.stack(found) if found else np.zeros((0, *fit), bool)
    still = overlay(small, stack, xy, kinds, xyxy, alpha=alpha)
    prompts = "".join((*_boxes(xyxy, fit), *_points(xy, kinds, fit)))
    html = _page(small, still, stack, texts, prompts, alpha)
    source = given_path(image, ImageError) if isinstance(image, (str, os.PathLike)) else None
    return Viewer(html, Image.fromarray(still), len(found), source)


def _texts(
    masks: list[Any], scores: Any | None, labels: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Return the (name, score) of each mask as text; a mask without a name is numbered."""
    check_count(masks, scores=scores, labels=labels)
    scores = None if scores is None else number_array(scores, "scores", AnnotationError)

    def said(index: int, given: Any | None, key: str) -> Any:
        if given is not None:
            return given[index]
        return masks[index].get(key) if isinstance(masks[index], dict) else None

    texts = []
    for index in range(len(masks)):
        label, score = said(index, labels, "label"), said(index, scores, "predicted_iou")
        texts.append((str(label or index + 1), "" if score is None else f"{float(score):.2f}"))
    return texts


def _page(
    image: UInt8[np.ndarray, "h w 3"],
    still: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "N h w"],
    texts: Sequence[tuple[str, str]],
    prompts: str,
    alpha: float,
) -> str:
    height, width = image.shape[:2]
    shapes = []
    # Small masks come last: they lie on top, where the mouse can reach them.
    for index in np.argsort(-masks.sum((1, 2), dtype=np.int64), kind="stable").tolist():
        title = escape(" ".join(filter(None, texts[index])))
        colour = css(PALETTE[index % len(PALETTE)])
        shapes.append(
            f'<path class="samjax-m{index}" fill="{colour}" stroke="{colour}" '
            f'fill-rule="evenodd" d="{_outline(masks[index])}"><title>{title}</title></path>'
        )
    listed = range(len(masks)) if len(masks) <= LEGEND else range(0)
    rules = "".join(_RULES.format(i=i, colour=css(PALETTE[i % len(PALETTE)])) for i in listed)
    legend = "".join(
        f'<label class="samjax-c{i}" style="--colour:{css(PALETTE[i % len(PALETTE)])}">'
        f'<input type="checkbox" checked>{escape(texts[i][0])} <small>{texts[i][1]}</small></label>'
        for i in listed
    )
    count = counted(len(masks), "mask")
    # Hosts that strip style and SVG from untrusted notebooks show the still picture.
    return (
        f'<div class="samjax-viewer" style="--fill:{alpha};width:{max(width, 240)}px">'
        f'<img class="samjax-still" alt="{count}" src="{_data(still)}">'
        f"<style>{_STYLE}{rules}</style>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{count} on an image">'
        f'<image width="{width}" height="{height}" href="{_data(image)}"/>'
        f'<g class="samjax-masks">{"".join(shapes)}</g>'
        f'<g class="samjax-prompts">{prompts}</g></svg>'
        f'<div class="samjax-legend">{legend or count}</div></div>'
    )


def _outline(mask: Bool[np.ndarray, "h w"]) -> str:
    """Trace the mask's edge as SVG path data, in pixels with the top left corner at (0, 0)."""
    if not mask.any():
        return ""
    rings = [ring for part in mask_to_polygons(mask, tolerance=_TOLERANCE) for ring in part.rings]
    return "".join("M" + "L".join(f"{x:g},{y:g}" for x, y in ring.tolist()) + "Z" for ring in rings)


def _points(xy: Any | None, labels: Any | None, size: tuple[int, int]) -> Iterator[str]:
    """Yield SVG markers like those of `overlay`: green disc with plus, red diamond with minus."""
    if xy is None:
        return
    kinds = np.ones(len(xy)) if labels is None else labels
    radius = marker_radius(size)
    for (x, y), kind in zip(xy, kinds, strict=True):
        if kind < 0:
            continue
        arm, side = 0.42 * radius, 0.98 * radius
        if kind > 0:
            shape = f'<circle r="{0.85 * radius:.1f}"'
            sign = f'<line x1="{-arm:.1f}" x2="{arm:.1f}"/><line y1="{-arm:.1f}" y2="{arm:.1f}"/>'
        else:
            shape = f'<polygon points="0,{-side:.1f} {side:.1f},0 0,{side:.1f} {-side:.1f},0"'
            sign = f'<line x1="{-arm:.1f}" x2="{arm:.1f}"/>'
        yield (
            f'<g transform="translate({x + 0.5:.1f} {y + 0.5:.1f})" stroke="#fff" '
            f'stroke-width="{radius / 5:.1f}">'
            f'{shape} fill="{css(POSITIVE if kind > 0 else NEGATIVE)}"/>{sign}</g>'
        )


def _boxes(xyxy: Any | None, size: tuple[int, int]) -> Iterator[str]:
    width = max(2.0, max(size) / 280)
    for x0, y0, x1, y1 in () if xyxy is None else xyxy.tolist():
        place = (
            f'x="{x0 + 0.5:.1f}" y="{y0 + 0.5:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        )
        for colour, stroke in (("rgb(17,24,39,.6)", 2 * width), (css(BOX), width)):
            yield f'<rect {place} fill="none" stroke="{colour}" stroke-width="{stroke:.1f}"/>'


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()


def _data(image: UInt8[np.ndarray, "h w 3"]) -> str:
    encoded = base64.b64encode(_encoded(Image.fromarray(image), "JPEG")).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"
