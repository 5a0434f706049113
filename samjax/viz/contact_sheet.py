"""Draw the worst findings about a data set on a contact sheet: a PNG, and HTML without scripts."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from samjax.annotations.check import CheckReport
from samjax.annotations.quality import KINDS, Finding
from samjax.errors import ImageError, printable
from samjax.files import check_foreign, check_outputs, replacing
from samjax.image.read import read_image
from samjax.masks.rle import crop, rle_to_mask
from samjax.palette import DARK, NEGATIVE, WHITE, css
from samjax.viz.labels import label_font, shortened
from samjax.viz.overlay import overlay
from samjax.words import counted

_SIDE = 240  # of a tile, in pixels
_COLUMNS = 6
_GAP = 12
_FONT = 13
_LINES = 4
_CONTEXT = 0.35  # around the masks, of their size
_LEAST = 48  # pixels of the image that a tile shows at least
_BLANK = 96  # grey of an image that is missing
_AUTHOR = ("Software", "samjax check")  # in the picture: files of an earlier check are known by it
_HEAD = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'

_STYLE = f"""
body{{margin:24px;font:14px/1.5 system-ui,sans-serif;color:{css(DARK)};background:#fff}}
table{{border-collapse:collapse;margin:12px 0 24px}}
th,td{{padding:3px 14px 3px 0;text-align:left;border-bottom:1px solid #ddd}}
td.n,th.n{{text-align:right;font-variant-numeric:tabular-nums}}
.sheet{{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:16px}}
figure{{margin:0}}
figure img{{width:100%;height:auto;border-radius:4px;background:#eee}}
figcaption{{overflow-wrap:anywhere}}
figcaption b{{display:block}}
"""


class Tile(NamedTuple):
    """Holds the picture of one finding and its caption."""

    picture: UInt8[np.ndarray, "side side 3"]
    caption: tuple[str, str, str]


def write_contact_sheet(
    report: CheckReport, folder: str | os.PathLike[str], count: int = 24
) -> tuple[Path, Path]:
    """Write ``check.html`` and ``check.png`` with the worst findings, and return their paths.

    The page is one file, and has no scripts. Images are read one at a time.

    Args:
        report: of `check_dataset`.
        folder: folder to write; files of an earlier check are replaced, others never.
        count: most findings to draw.

    Raises:
        SamjaxError: a file of that name is not of an earlier check.
    """
    page, sheet = check_sheet(folder)
    tiles = [draw_finding(finding, file) for finding, file in report.worst(count)]
    author = PngInfo()
    author.add_text(*_AUTHOR)
    with replacing(sheet) as temporary, temporary.open("wb") as opened:
        Image.fromarray(draw_sheet(tiles)).save(opened, format="PNG", pnginfo=author)
    with replacing(page) as temporary:
        temporary.write_text(_page(report, tiles), encoding="utf-8")
    return page, sheet


def check_sheet(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the paths of page and picture, if nothing but an earlier check's is there.

    Raises:
        SamjaxError: which file is something else.
    """
    page, sheet = Path(folder) / "check.html", Path(folder) / "check.png"
    check_outputs([page, sheet])
    check_foreign([page, sheet], _is_sheet)
    return page, sheet


def _is_sheet(path: Path) -> bool:
    if path.suffix == ".html":
        with path.open(encoding="utf-8") as file:
            return file.read(len(_HEAD)) == _HEAD and "<title>samjax check " in file.read(1000)
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.info.get(_AUTHOR[0]) == _AUTHOR[1]


def draw_finding(finding: Finding, file: Path | None) -> Tile:
    """Draw the objects of a finding with their surroundings; grey where the image is missing."""
    height, width = finding.size
    window = _window(finding)
    left, top, right, bottom = window
    try:
        image = None if file is None else read_image(file)
    except (ImageError, OSError):
        image = None
    if image is not None and finding.kind == "image size":
        part = image
    elif image is not None and image.shape[:2] == (height, width):
        part = image[top:bottom, left:right]
    else:  # missing, or not the image that the masks belong to
        part = np.full((bottom - top, right - left, 3), _BLANK, np.uint8)
    del image
    scale = _SIDE / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    small = np.array(Image.fromarray(part).resize(size, _filter(scale)))
    masks = [
        np.array(Image.fromarray(rle_to_mask(rle)[top:bottom, left:right]).resize(size, 0))
        for rle in finding.masks
    ]
    painted = overlay(small, masks, alpha=0.45) if masks else small
    canvas = Image.new("RGB", (_SIDE, _SIDE), (238, 238, 238))
    at = ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2)
    canvas.paste(Image.fromarray(painted), at)
    draw = ImageDraw.Draw(canvas)
    for x, y, w, h in finding.boxes:
        x0, y0 = at[0] + (x - left) * scale, at[1] + (y - top) * scale
        x1, y1 = x0 + max(0.0, w) * scale, y0 + max(0.0, h) * scale
        for grown, colour in ((3, WHITE), (2, NEGATIVE)):
            corners = [(x0 - grown, y0 - grown), (x1 + grown, y1 + grown)]
            draw.rectangle(corners, outline=colour)
    objects = " and ".join(f"#{number}" for number in finding.objects)
    name = " ".join(filter(None, (finding.image, objects)))
    return Tile(np.array(canvas), (finding.kind, printable(name), printable(finding.detail)))


def draw_sheet(tiles: Sequence[Tile]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay tiles out in rows with their captions below."""
    columns = max(1, min(_COLUMNS, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    line = round(_FONT * 1.4)
    step = (_SIDE + _GAP, _SIDE + _LINES * line + 2 * _GAP)
    canvas = Image.new("RGB", (columns * step[0] + _GAP, rows * step[1] + _GAP), WHITE)
    draw, font = ImageDraw.Draw(canvas), label_font(_FONT)
    if not tiles:
        draw.text((_GAP, _GAP), "no findings", fill=DARK, font=font)
    for i, tile in enumerate(tiles):
        x, y = _GAP + i % columns * step[0], _GAP + i // columns * step[1]
        canvas.paste(Image.fromarray(tile.picture), (x, y))
        kind, name, detail = tile.caption
        for number, text in enumerate([kind, name, *_two_lines(detail, font)]):
            place = (x, y + _SIDE + 4 + number * line)
            colour = NEGATIVE if number == 0 else DARK
            draw.text(place, shortened(text, font, _SIDE), fill=colour, font=font)
    return np.array(canvas)


def _two_lines(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a text after the words that fit."""
    words = text.split()
    fit = len(words)
    while fit > 1 and font.getlength(" ".join(words[:fit])) > _SIDE:
        fit -= 1
    return [" ".join(words[:fit]), " ".join(words[fit:])]


def _window(finding: Finding) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the part of the image to show."""
    height, width = finding.size
    places: list[tuple[float, float, float, float]] = []
    for rle in finding.masks:
        part = crop(rle)
        if part.pixels.size:
            h, w = part.pixels.shape
            places.append((part.left, part.top, part.left + w, part.top + h))
    if finding.kind == "box":
        places += [(x, y, x + w, y + h) for x, y, w, h in finding.boxes]
    if not places:
        return 0, 0, width, height
    left, top = min(p[0] for p in places), min(p[1] for p in places)
    right, bottom = max(p[2] for p in places), max(p[3] for p in places)
    room = max(_LEAST, right - left, bottom - top) * _CONTEXT
    side = max(_LEAST, right - left, bottom - top) + 2 * room
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    x0, y0 = min(max(0, int(x)), width - 1), min(max(0, int(y)), height - 1)
    x1, y1 = min(width, max(x0 + 1, int(x + side))), min(height, max(y0 + 1, int(y + side)))
    return x0, y0, x1, y1


def _filter(scale: float) -> Image.Resampling:
    return Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST


def _page(report: CheckReport, tiles: Sequence[Tile]) -> str:
    classes = "".join(
        f'<tr><td>{escape(printable(name))}</td><td class="n">{masks}</td>'
        f'<td class="n">{images}</td></tr>'
        for name, (masks, images) in report.classes.items()
    )
    kinds = "".join(
        f'<tr><td>{kind}</td><td class="n">{number}</td><td>{KINDS[kind]}</td></tr>'
        for kind, number in report.counts.items()
    )
    figures = "".join(_figure(tile) for tile in tiles)
    title = f"samjax check {escape(printable(str(report.path)))}"
    said = f"{report.format}, {counted(report.images, 'image')}, {counted(report.masks, 'mask')}"
    return (
        f"{_HEAD}"
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        f"<p>{said}</p>\n"
        '<table><tr><th>class</th><th class="n">masks</th><th class="n">images</th></tr>'
        f"{classes}</table>\n"
        '<table><tr><th>finding</th><th class="n">count</th><th>meaning</th></tr>'
        f"{kinds or '<tr><td>no findings</td><td></td><td></td></tr>'}</table>\n"
        f'<div class="sheet">{figures}</div>\n</body></html>\n'
    )


def _figure(tile: Tile) -> str:
    buffer = io.BytesIO()
    Image.fromarray(tile.picture).save(buffer, format="JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    kind, name, detail = (escape(text) for text in tile.caption)
    return (
        f'<figure><img alt="{kind}: {name}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><b>{kind}</b>{name}<br>{detail}</figcaption></figure>\n"
    )
