"""Pictures of results: masks, prompts and ranked candidates drawn over an image.

NumPy and Pillow; matplotlib's object interface for titles. Never pyplot: its global state is not
safe in the threads that serve a notebook's widget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8
from PIL import Image, ImageFilter

from samjax.errors import ImageError, PromptError

Colour = tuple[int, int, int]

# Neighbours in the list differ in hue and in lightness. Green and red are left to the points.
PALETTE: tuple[Colour, ...] = (
    (30, 144, 255),
    (255, 159, 28),
    (199, 87, 255),
    (0, 201, 177),
    (255, 99, 164),
    (255, 221, 51),
    (92, 104, 255),
    (158, 217, 70),
    (255, 128, 92),
    (94, 214, 255),
    (178, 118, 62),
    (224, 150, 255),
)
POSITIVE: Colour = (22, 163, 74)
NEGATIVE: Colour = (220, 38, 38)
BOX: Colour = (255, 255, 255)
_WHITE: Colour = (255, 255, 255)
_DARK: Colour = (17, 24, 39)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Bool[np.ndarray, "N H W"],
    points: Num[np.ndarray, "P 2"] | None = None,
    labels: Num[np.ndarray, " P"] | None = None,
    boxes: Num[np.ndarray, "B 4"] | None = None,
    *,
    alpha: float = 0.5,
    outline: bool = True,
    colors: Sequence[Colour] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw masks, then boxes, then points over a copy of an image.

    Lines and markers scale with the image. Large masks are painted first, so that small ones stay
    visible; a mask's colour depends on its index only.

    Args:
        image: RGB.
        masks: N masks; N may be 0.
        points: (x, y) in pixels; (0, 0) is the centre of the top left pixel.
        labels: 1 positive (green disc, plus), 0 negative (red diamond, minus), below 0 not drawn;
            None means all positive.
        boxes: (x0, y0, x1, y1) in pixels.
        alpha: opacity of the fill, 0 to 1.
        outline: draw the masks' edges.
        colors: RGB of 0..255 per mask, repeated if there are fewer; default `PALETTE`.

    Raises:
        PromptError: labels without points.
        ImageError: alpha outside [0, 1] or an empty list of colours.
    """
    if not 0 <= alpha <= 1:
        raise ImageError(f"alpha is {alpha}: pass an opacity from 0 to 1")
    if colors is not None and not len(colors):
        raise ImageError("colors is empty: pass at least one (r, g, b), or None for the palette")
    if labels is not None and points is None:
        raise PromptError("labels were passed without points: pass points too")
    colours = PALETTE if colors is None else colors
    canvas = image.copy()
    width = _line_width(image.shape[:2])
    for index in np.argsort(-masks.sum(axis=(1, 2), dtype=np.int64), kind="stable"):
        _paint_mask(canvas, masks[index], colours[index % len(colours)], alpha, width * outline)
    for box in () if boxes is None else boxes:
        _paint_box(canvas, box, width)
    if points is not None:
        kinds = np.ones(len(points)) if labels is None else labels
        radius = _marker_radius(image.shape[:2])
        for (x, y), kind in zip(points, kinds, strict=True):
            if kind >= 0:
                _paint_point(canvas, float(x), float(y), bool(kind > 0), radius)
    return canvas


def draw_candidates(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Bool[np.ndarray, "N H W"],
    scores: Float[np.ndarray, " N"],
    points: Num[np.ndarray, "P 2"] | None = None,
    labels: Num[np.ndarray, " P"] | None = None,
    boxes: Num[np.ndarray, "B 4"] | None = None,
    *,
    panel_width: int = 480,
    columns: int = 3,
) -> UInt8[np.ndarray, "h w 3"]:
    """The candidate masks of one prompt side by side, by falling score, each with its title.

    Args:
        image: RGB.
        masks: N >= 1 candidates, in any order.
        scores: predicted IoU of each.
        points, labels, boxes: the prompt, as in `overlay`.
        panel_width: width of one picture, in pixels of the result.
        columns: pictures per row, at most.

    Returns:
        The drawn figure, RGB on white.

    Raises:
        ImageError: no masks.
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
        picture = overlay(small, _resize_mask(masks[index], panel)[None], points, labels, boxes)
        # figimage draws pixel for pixel, imshow would blur.
        figure.figimage(picture, left, total_height - top - panel_height)
        baseline = 1 - (top - 12) / total_height
        text = f"IoU {scores[index]:.2f}"
        figure.text(left / total_width, baseline, f"{rank + 1}", weight="bold", size=13)
        figure.text((left + 22) / total_width, baseline, text, size=13, color="#374151")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _resize_mask(mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127


def _line_width(shape_hw: tuple[int, ...]) -> float:
    return max(2.0, max(shape_hw) / 280)


def _marker_radius(shape_hw: tuple[int, ...]) -> float:
    return max(6.0, max(shape_hw) / 55)


def _blend(
    region: UInt8[np.ndarray, "h w 3"], colour: Colour, weight: Float[np.ndarray, "h w"]
) -> None:
    """Mix `colour` into `region` in place; `weight` 0 keeps, 1 replaces."""
    mix = weight[..., None].astype(np.float32)
    region[:] = np.rint(region + (np.array(colour, np.float32) - region) * mix)


def _paint_mask(
    canvas: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
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
    _blend(region, colour, part * np.float32(alpha))
    if width <= 0:
        return
    _blend(region, _WHITE, np.float32(0.6) * _edge(part, 1.8 * width))
    _blend(region, colour, _edge(part, width))


def _edge(mask: Bool[np.ndarray, "h w"], width: float) -> Float[np.ndarray, "h w"]:
    """Coverage 0..1 of a soft line of `width` pixels along the mask's edge.

    A blurred step tells the distance to the edge; blurring also rounds off the stairs.
    """
    sigma = max(1.0, 0.6 * width)
    step = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    soft = np.asarray(step.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / 255
    soft = np.clip(soft, 1 / 512, 511 / 512)
    # The blurred step is a normal distribution, which the logistic one of scale 1/1.702 follows.
    distance = np.abs(np.log(soft / (1 - soft))) * np.float32(sigma / 1.702)
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def _coverage(size: int, start: float, stop: float) -> Float[np.ndarray, " size"]:
    """How much of each of `size` pixels, 0..1, lies between two positions on their axis."""
    edges = np.arange(size + 1, dtype=np.float64)
    return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, 1)


def _paint_box(
    canvas: UInt8[np.ndarray, "H W 3"], box: Num[np.ndarray, " 4"], width: float
) -> None:
    # Pixel centres lie at +0.5 of the axis that _coverage measures along.
    x0, y0, x1, y1 = (float(value) + 0.5 for value in box)
    for colour, half in ((_DARK, width), (BOX, width / 2)):
        outer_x = _coverage(canvas.shape[1], x0 - half, x1 + half)
        outer_y = _coverage(canvas.shape[0], y0 - half, y1 + half)
        inner_x = _coverage(canvas.shape[1], x0 + half, x1 - half)
        inner_y = _coverage(canvas.shape[0], y0 + half, y1 - half)
        weight = outer_y[:, None] * outer_x - inner_y[:, None] * inner_x
        _blend(canvas, colour, weight * (0.6 if colour == _DARK else 1))


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

    _blend(region, _DARK, 0.4 * within(1.12 * radius, distance))
    _blend(region, _WHITE, within(radius, distance))
    _blend(region, POSITIVE if positive else NEGATIVE, within(0.76 * radius, distance))
    arm, half = 0.42 * radius, max(0.6, 0.11 * radius)
    _blend(region, _WHITE, within(half, rows) * within(arm, cols))
    if positive:
        _blend(region, _WHITE, within(arm, rows) * within(half, cols))
