"""Draw text labels beside the objects of an overlay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image, ImageDraw, ImageFont

from samjax.palette import DARK, PALETTE, Colour

Place = tuple[float, float, float, float]


def draw_labels(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Num[np.ndarray, "N 4"],
    labels: Sequence[str],
    *,
    colors: Sequence[Colour] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a label at each box over a copy of an image, in the colour of its mask in `overlay`.

    A label is placed above its box where there is room, else inside or below; labels wider than
    the image are shortened and end in "...".

    Args:
        image: RGB.
        boxes: (x0, y0, x1, y1) in pixels.
        labels: one text for each box.
        colors: RGB of 0..255 per box, repeated if there are fewer; default `PALETTE`.
    """
    colours = PALETTE if colors is None else colors
    height, width = image.shape[:2]
    font = label_font(max(10, round(max(height, width) / 50)))
    padding = font.size / 4
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    taken: list[Place] = []
    for index, (box, label) in enumerate(zip(boxes.astype(float).tolist(), labels, strict=True)):
        text = shortened(label, font, width - 2 * padding)
        size = (font.getlength(text) + 2 * padding, font.size * 1.3)
        places = list(_places(box, size, (width, height)))
        place = next((p for p in places if not any(_touch(p, t) for t in taken)), places[0])
        taken.append(place)
        draw.rectangle(place, fill=colours[index % len(colours)])
        middle = (place[1] + place[3]) / 2
        draw.text((place[0] + padding, middle), text, fill=DARK, font=font, anchor="lm")
    return np.array(picture)


def _places(
    box: Sequence[float], size: tuple[float, float], image_size: tuple[int, int]
) -> Iterator[Place]:
    """Yield the candidate rectangles of a label, best first, all inside the image."""
    x0, y0, _, y1 = box
    (wide, high), (width, height) = size, image_size
    left = min(max(0.0, x0), max(0.0, width - wide))
    above, lowest = y0 - high, max(0.0, height - high)
    tops = [y0, y1 - high, y1] if above < 0 else [above, y0, y1 - high, y1]
    for top in tops:
        clear = min(max(0.0, top), lowest)
        yield left, clear, left + wide, clear + high


def _touch(a: Place, b: Place) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float | int) -> str:
    """Shorten a text to ``room`` pixels, with "..." at its end if something is left out."""
    words = " ".join(text.split())
    if font.getlength(words) <= room:
        return words
    while words and font.getlength(words + "...") > room:
        words = words[:-1]
    return words + "..."


@lru_cache(maxsize=8)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib and covers Latin, Greek, Cyrillic and more."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
