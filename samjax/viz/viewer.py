"""A light viewer: masks over an image that light up under the mouse, without a running kernel.

Plain HTML, SVG and CSS, no script: the picture stays alive in a saved notebook, in an exported
page, and wherever scripts of a cell's output are not run.
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

from samjax.annotations.records import Record, segmentation_of
from samjax.errors import AnnotationError, ImageError
from samjax.files import replacing
from samjax.image import read_image, resize, resize_longest_side
from samjax.polygons import mask_to_polygons
from samjax.rle import Segmentation, to_mask
from samjax.viz import BOX, NEGATIVE, PALETTE, POSITIVE, Colour, overlay

LEGEND = 120  # masks with an entry of their own; the rules of many more slow the page down
_TOLERANCE = 0.6  # pixels by which outlines may differ from the mask at the size shown

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

# Of one mask: its entry hides it, pointing at either lights up both.
_RULES = """
.samjax-viewer:has(.samjax-c{i} input:not(:checked)) .samjax-m{i}{{display:none}}
.samjax-viewer:has(.samjax-c{i}:hover,.samjax-c{i} :focus-visible) path:not(.samjax-m{i}){{
  fill-opacity:0;stroke-opacity:.25}}
.samjax-viewer:has(.samjax-m{i}:hover) .samjax-c{i}{{outline-color:{colour};opacity:1}}
"""


@dataclass(frozen=True, eq=False)
class Viewer:
    """What ``samjax.show`` returns: shows itself at the end of a cell.

    Attributes:
        html: the page, self-contained, without scripts.
        still: the same as a picture, for places that show no HTML.
        count: of masks.
    """

    html: str
    still: Image.Image
    count: int

    def __repr__(self) -> str:
        masks = "1 mask" if self.count == 1 else f"{self.count} masks"
        return f"Viewer({masks}, {self.still.width} x {self.still.height} pixels)"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/html": self.html,
            "image/png": base64.b64encode(_encoded(self.still, "PNG")).decode("ascii"),
            "text/plain": repr(self),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the viewer (.html) or its picture (.png, .jpg), atomically; returns the path.

        Raises:
            ImageError: another suffix.
        """
        path = Path(path).expanduser()
        kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
        suffix = path.suffix.lower()
        if suffix in (".html", ".htm"):
            page = f'<!doctype html><meta charset="utf-8"><title>samjax</title>{self.html}'
            content = page.encode()
        elif suffix in kinds:
            content = _encoded(self.still, kinds[suffix])
        else:
            raise ImageError(f"{path}: unknown ending {suffix!r}: use .html, .png or .jpg")
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return path


def show(
    image: Any,
    masks: Bool[np.ndarray, "*N H W"] | Sequence[Segmentation | Record],
    scores: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    *,
    points: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    alpha: float = 0.5,
    max_size: int = 1024,
) -> Viewer:
    """Masks over an image, to look at: pointing at one lights it up, its entry below hides it.

    Needs no running kernel and no widget; where HTML is not shown, it is a picture.

    Args:
        image: a path, PIL image or array; see ``samjax.read_image``.
        masks: N x H x W or H x W bool, a list of masks or run lengths of the image's size, or the
            records of ``SamAutomaticMaskGenerator``, whose ``predicted_iou`` and ``label`` are
            then shown.
        scores: N, predicted IoU of each mask.
        labels: name of each mask.
        points: P x 2, (x, y) of prompts in pixels.
        point_labels: P, 1 positive, 0 negative, below 0 not drawn; None: all positive.
        boxes: B x 4, (x0, y0, x1, y1) in pixels.
        alpha: opacity of the fill, 0 to 1.
        max_size: longest side of what is shown, in pixels: larger images are shown smaller.

    Raises:
        ImageError: unreadable image, alpha outside [0, 1] or max_size below 1.
        AnnotationError: masks of another size, or scores or labels of another number.
        PromptError: point_labels without points.
    """
    pixels = read_image(image)
    size = pixels.shape[:2]
    fit = resize_longest_side(size, min(max_size, max(size)))
    small = pixels if fit == size else resize(pixels, fit)
    found = [_fitted(each, size, fit) for each in _listed(masks)]
    texts = _texts(_listed(masks), scores, labels)
    zoom = np.array(fit[::-1]) / size[::-1]
    # Pixel centres lie at +0.5 of the axis that is scaled.
    xy = None if points is None else (np.asarray(points, float).reshape(-1, 2) + 0.5) * zoom - 0.5
    kinds = None if point_labels is None else np.asarray(point_labels)
    xyxy = None
    if boxes is not None:
        xyxy = (np.asarray(boxes, float).reshape(-1, 4) + 0.5) * np.tile(zoom, 2) - 0.5
    stack = np.stack(found) if found else np.zeros((0, *fit), bool)
    still = overlay(small, stack, xy, kinds, xyxy, alpha=alpha)
    prompts = "".join((*_boxes(xyxy, fit), *_points(xy, kinds, fit)))
    html = _page(small, still, stack, texts, prompts, alpha)
    return Viewer(html, Image.fromarray(still), len(found))


def _listed(masks: Any) -> list[Any]:
    if isinstance(masks, np.ndarray):
        return list(masks.reshape(-1, *masks.shape[-2:]))
    return list(masks)


def _fitted(mask: Any, size: tuple[int, int], fit: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    record = mask if isinstance(mask, dict) and "segmentation" in mask else {"segmentation": mask}
    full = to_mask(segmentation_of(record, size))
    if size == fit:
        return full
    grey = Image.fromarray(full.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(fit[::-1], Image.Resampling.BILINEAR)) > 127


def _texts(
    masks: list[Any], scores: Any | None, labels: Sequence[str] | None
) -> list[tuple[str, str]]:
    """(name, score) of each mask; a mask without a name has its number."""
    for name, given in (("scores", scores), ("labels", labels)):
        if given is not None and len(given) != len(masks):
            raise AnnotationError(f"{len(masks)} masks but {len(given)} {name}: pass one a mask")

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
    # Small masks last: they lie on top, where the mouse finds them.
    for index in np.argsort(-masks.sum((1, 2), dtype=np.int64), kind="stable").tolist():
        title = escape(" ".join(filter(None, texts[index])))
        colour = _css(PALETTE[index % len(PALETTE)])
        shapes.append(
            f'<path class="samjax-m{index}" fill="{colour}" stroke="{colour}" '
            f'fill-rule="evenodd" d="{_outline(masks[index])}"><title>{title}</title></path>'
        )
    listed = range(len(masks)) if len(masks) <= LEGEND else range(0)
    rules = "".join(_RULES.format(i=i, colour=_css(PALETTE[i % len(PALETTE)])) for i in listed)
    legend = "".join(
        f'<label class="samjax-c{i}" style="--colour:{_css(PALETTE[i % len(PALETTE)])}">'
        f'<input type="checkbox" checked>{escape(texts[i][0])} <small>{texts[i][1]}</small></label>'
        for i in listed
    )
    count = "1 mask" if len(masks) == 1 else f"{len(masks)} masks"
    # Where a host strips style and SVG from a notebook it does not trust, the first picture shows.
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
    """The mask's edge as SVG path data, in pixels with the corner at (0, 0)."""
    if not mask.any():
        return ""
    rings = [ring for part in mask_to_polygons(mask, tolerance=_TOLERANCE) for ring in part.rings]
    return "".join("M" + "L".join(f"{x:g},{y:g}" for x, y in ring.tolist()) + "Z" for ring in rings)


def _points(xy: Any | None, labels: Any | None, size: tuple[int, int]) -> Iterator[str]:
    """Markers as `overlay` draws them: a green disc with a plus, a red diamond with a minus."""
    if xy is None:
        return
    kinds = np.ones(len(xy)) if labels is None else labels
    radius = max(6.0, max(size) / 55)
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
            f'{shape} fill="{_css(POSITIVE if kind > 0 else NEGATIVE)}"/>{sign}</g>'
        )


def _boxes(xyxy: Any | None, size: tuple[int, int]) -> Iterator[str]:
    width = max(2.0, max(size) / 280)
    for x0, y0, x1, y1 in () if xyxy is None else xyxy.tolist():
        place = (
            f'x="{x0 + 0.5:.1f}" y="{y0 + 0.5:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        )
        for colour, stroke in (("rgb(17,24,39,.6)", 2 * width), (_css(BOX), width)):
            yield f'<rect {place} fill="none" stroke="{colour}" stroke-width="{stroke:.1f}"/>'


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()


def _data(image: UInt8[np.ndarray, "h w 3"]) -> str:
    encoded = base64.b64encode(_encoded(Image.fromarray(image), "JPEG")).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"
