"""Draw masks, prompts and ranked candidates over an image.

Drawing uses NumPy and Pillow, and matplotlib's object interface for titles. It never uses pyplot,
whose global state is not safe in the threads that serve a notebook's widget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32, Num, UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageFilter

from samjax.arguments import real_number, several, shown
from samjax.array_arguments import number_array, rows, shown_array
from samjax.errors import AnnotationError, ImageError, PromptError
from samjax.image.read import read_image
from samjax.masks.regions import mask_box
from samjax.masks.upscale import resize_mask
from samjax.palette import BOX, DARK, NEGATIVE, PALETTE, POSITIVE, WHITE, Colour
from samjax.viz.labels import draw_labels
from samjax.viz.masks_given import Masks, check_count, listed, mask_of


def overlay(
    image: Any,
    masks: Masks,
    points: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    *,
    labels: Sequence[str] | None = None,
    alpha: float = 0.5,
    outline: bool = True,
    colors: Sequence[Colour] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw masks, then boxes, then points over a copy of an image.

    Lines and markers scale with the image. A pixel is filled once, by the smallest mask that holds
    it, so that the image stays visible below many masks; a mask's colour depends on its index only.

    Args:
        image: a path, PIL image or array; see ``samjax.read_image``.
        masks: N x H x W or H x W bool, logits (drawn where above 0) or 0 and 1, one mask or a list
            of masks, PIL images, run lengths or records, or what ``predict`` returns; N may be 0.
        points: P x 2, (x, y) in pixels; (0, 0) is the centre of the top left pixel.
        point_labels: P, 1 is positive (green disc, plus), 0 negative (red diamond, minus), below 0
            is not drawn; None means all positive.
        boxes: B x 4, (x0, y0, x1, y1) in pixels.
        labels: name of each mask, written beside it, as in ``samjax.show``.
        alpha: opacity of the fill, 0 to 1.
        outline: draw the masks' edges.
        colors: RGB of 0..255 per mask, repeated if there are fewer; default `PALETTE`.

    Raises:
        PromptError: point_labels are given without points, or for another number of points.
        AnnotationError: masks have another size than the image, or labels are not one text each.
        ImageError: the image is unreadable, alpha is outside [0, 1], or colors is empty.
    """
    alpha = real_number(alpha, "alpha", 0, 1, ImageError)
    colours: Sequence[Any] = PALETTE if colors is None else _checked_colours(colors)
    if point_labels is not None and points is None:
        raise PromptError("point_labels were passed without points: pass points too")
    canvas = read_image(image).copy()
    size = (canvas.shape[0], canvas.shape[1])
    found = [mask_of(each, size) for each in listed(masks)]
    _check_labels(found, labels)
    width = _line_width(size)
    areas = np.array([np.count_nonzero(mask) for mask in found], np.int64)
    order = np.argsort(-areas, kind="stable").tolist()
    # The smallest mask at each pixel is the only one that fills it; of equal ones the first, below
    # the edge of the last, so that both are seen.
    above = np.full(size, -1, np.int32)
    for index in sorted(order, key=lambda i: (-areas[i], -i)):
        above[found[index]] = index
    for index in order:
        colour = colours[index % len(colours)]
        _paint_mask(canvas, found[index], above, index, colour, alpha, width * outline)
    for box in () if boxes is None else rows(boxes, "boxes", 4):
        _paint_box(canvas, box, width)
    if points is not None:
        xy = rows(points, "points", 2)
        kinds = np.ones(len(xy))
        if point_labels is not None:
            kinds = number_array(point_labels, "point_labels").ravel()
        if len(kinds) != len(xy):
            raise PromptError(f"{len(xy)} points but {len(kinds)} point_labels: pass one a point")
        radius = marker_radius(size)
        for (x, y), kind in zip(xy, kinds, strict=True):
            if kind >= 0:
                _paint_point(canvas, float(x), float(y), bool(kind > 0), radius)
    if labels is None:
        return canvas
    named = np.array([mask_box(mask) for mask in found]).reshape(-1, 4)
    return draw_labels(canvas, named, labels, colors=colours)


def _checked_colours(colours: Any) -> list[Colour]:
    """Return colours as tuples of three whole numbers, if there are any."""
    found = number_array(colours, "colors", ImageError)
    if not found.size:
        raise ImageError("colors is empty: pass at least one (r, g, b), or None for the palette")
    if found.ndim != 2 or found.shape[1] != 3:
        raise ImageError(f"colors are {shown(colours)}: pass (r, g, b) of each, of 0 to 255")
    if found.min() < 0 or found.max() > 255:
        raise ImageError(f"colors hold {shown_array(found)}: pass (r, g, b) of 0 to 255")
    return [(round(r), round(g), round(b)) for r, g, b in found.tolist()]


def _check_labels(masks: Sequence[Any], labels: Any) -> None:
    if labels is not None and not all(
        isinstance(label, str) for label in several(labels, "labels", "texts", AnnotationError)
    ):
        raise AnnotationError(
            "labels are the names of the masks, texts: for points pass point_labels"
        )
    check_count(masks, labels=labels)


def draw_candidates(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Bool[np.ndarray, "N H W"],
    scores: Float[np.ndarray, " N"],
    points: Num[np.ndarray, "P 2"] | None = None,
    point_labels: Num[np.ndarray, " P"] | None = None,
    boxes: Num[np.ndarray, "B 4"] | None = None,
    *,
    panel_width: int = 480,
    columns: int = 3,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the candidate masks of one prompt side by side, by descending score, with titles.

    Args:
        image: RGB.
        masks: N >= 1 candidates, in any order.
        scores: predicted IoU of each.
        points, point_labels, boxes: the prompt, as in `overlay`.
        panel_width: width of one picture, in pixels of the result.
        columns: maximum number of pictures per row.

    Returns:
        The drawn figure, RGB on white.

    Raises:
        ImageError: there are no masks.
    """
    if not len(masks):
        raise ImageError("no masks to draw: pass at least one")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(masks))
    rows = math.ceil(len(masks) / columns)
    gap, title = 12, 40
    panel_height = max(1, round(panel_width * image.shape[0] / image.shape[1]))
    panel = (panel_width, panel_height)
    # Drawn at the size of the panel, so that lines and markers are alike for images of any size.
    small = np.array(Image.fromarray(image).resize(panel, Image.Resampling.LANCZOS))
    zoom = np.array(panel) / (image.shape[1], image.shape[0])
    points = None if points is None else (points + 0.5) * zoom - 0.5
    boxes = None if boxes is None else (boxes + 0.5) * np.tile(zoom, 2) - 0.5
    total_width = columns * panel_width + (columns + 1) * gap
    total_height = rows * (panel_height + title) + gap
    dpi = 100
    figure = Figure(figsize=(total_width / dpi, total_height / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for rank, index in enumerate(np.argsort(-scores, kind="stable")):
        row, column = divmod(rank, columns)
        left = gap + column * (panel_width + gap)
        top = title + row * (panel_height + title)
        picture = overlay(
            small, resize_mask(masks[index], panel[::-1])[None], points, point_labels, boxes
        )
        # figimage draws pixel for pixel, imshow would blur.
        figure.figimage(picture, left, total_height - top - panel_height)
        baseline = 1 - (top - 12) / total_height
        text = f"IoU {scores[index]:.2f}"
        figure.text(left / total_width, baseline, f"{rank + 1}", weight="bold", size=13)
        figure.text((left + 22) / total_width, baseline, text, size=13, color="#374151")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _line_width(shape_hw: tuple[int, ...]) -> float:
    return max(2.0, max(shape_hw) / 280)


def marker_radius(shape_hw: tuple[int, ...]) -> float:
    """Return the radius of a point's marker in pixels, for an image of this size."""
    return max(6.0, max(shape_hw) / 55)


def _blend(
    region: UInt8[np.ndarray, "h w 3"], colour: Colour, weight: Float[np.ndarray, "h w"]
) -> None:
    """Blend `colour` into `region` in place; weight 0 keeps the region, 1 replaces it."""
    mix = weight[..., None].astype(np.float32)
    region[:] = np.rint(region + (np.array(colour, np.float32) - region) * mix)


def _paint_mask(
    canvas: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    above: Int32[np.ndarray, "H W"],
    index: int,
    colour: Colour,
    alpha: float,
    width: float,
) -> None:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return
    # Only the mask's surroundings are touched: a picture may hold hundreds of small masks.
    margin = math.ceil(3 * width) + 1
    area = np.s_[
        max(0, int(rows[0]) - margin) : int(rows[-1]) + margin + 1,
        max(0, int(cols[0]) - margin) : int(cols[-1]) + margin + 1,
    ]
    region, part = canvas[area], mask[area]
    _blend(region, colour, (above[area] == index) * np.float32(alpha))
    if width <= 0:
        return
    _blend(region, WHITE, np.float32(0.6) * _edge(part, 1.8 * width))
    _blend(region, colour, _edge(part, width))


def _edge(mask: Bool[np.ndarray, "h w"], width: float) -> Float[np.ndarray, "h w"]:
    """Compute the coverage, 0..1, of an antialiased line of `width` pixels along the mask's edge.

    The value of the blurred mask gives the distance to the edge; blurring also smooths the pixel
    steps.
    """
    sigma = max(1.0, 0.6 * width)
    step = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    soft = np.asarray(step.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / 255
    soft = np.clip(soft, 1 / 512, 511 / 512)
    # The blurred step is a normal CDF, which the logistic function of scale 1/1.702 approximates.
    distance = np.abs(np.log(soft / (1 - soft))) * np.float32(sigma / 1.702)
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def _coverage(size: int, start: float, stop: float) -> Float[np.ndarray, " size"]:
    """Compute the share, 0..1, of each of `size` pixels between two positions on their axis."""
    edges = np.arange(size + 1, dtype=np.float64)
    return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, 1)


def _paint_box(
    canvas: UInt8[np.ndarray, "H W 3"], box: Num[np.ndarray, " 4"], width: float
) -> None:
    # Pixel centres lie at +0.5 of the axis that _coverage measures along.
    x0, y0, x1, y1 = (float(value) + 0.5 for value in box)
    for colour, half in ((DARK, width), (BOX, width / 2)):
        outer_x = _coverage(canvas.shape[1], x0 - half, x1 + half)
        outer_y = _coverage(canvas.shape[0], y0 - half, y1 + half)
        inner_x = _coverage(canvas.shape[1], x0 + half, x1 - half)
        inner_y = _coverage(canvas.shape[0], y0 + half, y1 - half)
        weight = outer_y[:, None] * outer_x - inner_y[:, None] * inner_x
        _blend(canvas, colour, weight * (0.6 if colour == DARK else 1))


def _paint_point(
    canvas: UInt8[np.ndarray, "H W 3"], x: float, y: float, positive: bool, radius: float
) -> None:
    # A point may lie on the border or outside: the slices end at the canvas.
    reach = math.ceil(radius * 1.6) + 1
    top, left = max(0, math.floor(y) - reach), max(0, math.floor(x) - reach)
    area = np.s_[top : max(0, math.ceil(y) + reach + 1), left : max(0, math.ceil(x) + reach + 1)]
    region = canvas[area]
    rows = np.abs(np.arange(region.shape[0]) + top - y)[:, None]  # [h, 1] pixels from the centre
    cols = np.abs(np.arange(region.shape[1]) + left - x)[None, :]  # [1, w]
    # A disc, or a diamond with sides at 0.85 of its radius, which looks as large.
    distance = np.hypot(rows, cols) if positive else (rows + cols) / (0.85 * math.sqrt(2))

    def within(limit: float, values: np.ndarray) -> np.ndarray:
        return np.clip(limit + 0.5 - values, 0, 1)

    _blend(region, DARK, 0.4 * within(1.12 * radius, distance))
    _blend(region, WHITE, within(radius, distance))
    _blend(region, POSITIVE if positive else NEGATIVE, within(0.76 * radius, distance))
    arm, half = 0.42 * radius, max(0.6, 0.11 * radius)
    _blend(region, WHITE, within(half, rows) * within(arm, cols))
    if positive:
        _blend(region, WHITE, within(arm, rows) * within(half, cols))
