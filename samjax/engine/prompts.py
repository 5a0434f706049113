"""Check the user's points, labels, boxes and masks, and pack them into rows of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from samjax.array_arguments import array, number_array, shown_array
from samjax.errors import PromptError
from samjax.image.longest_side import scale_coords
from samjax.model.prompt_encoder import (
    ABSENT,
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NOT_A_POINT,
    Prompts,
)

# Two buckets hold the clicks of a session: up to 3 points, or a box with 2; then up to 19 points.
# Measured on a CPU, 4 tokens take two thirds of the time of 20 (see token_attention). Both are
# compiled at the first click, so that no later one waits (see clicks).
CLICK_BUCKETS = (4, 20)
# Prompts decoded in one call: bounds memory (3 masks of 256 x 256 each) and compilations.
LARGEST_BLOCK = 64


# Pixels and logits beyond these mean nothing, and overflow inside the network.
LARGEST_PIXEL = 1e9
LARGEST_LOGIT = 3e4
MAX_POINTS = 2000  # of one prompt: attention takes the square of it, 8 heads, in memory
# Squares of tokens decoded in one call: LARGEST_BLOCK prompts of 64 tokens, fewer longer ones.
_BLOCK_SQUARES = LARGEST_BLOCK * 64**2


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    found = number_array(values, what)
    if found.size and (largest := float(np.abs(found).max())) > LARGEST_PIXEL:
        raise PromptError(f"{what} hold {largest:.4g}: give pixels of the image")
    return found


def check_points(
    coords: ArrayLike, labels: ArrayLike | None
) -> tuple[Float32[np.ndarray, "n 2"], Int32[np.ndarray, " n"]]:
    """Check the points of one prompt, (x, y) in pixels, at most MAX_POINTS, and their labels.

    Labels are 1 (object), 0 (background) or -1 (padding).

    Points outside the image are allowed, as in the official class.

    Raises:
        PromptError: wrong shapes or lengths, NaN, or other labels.
    """
    xy = _numbers(coords, "point_coords")
    if labels is None:
        raise PromptError(
            "point_coords without point_labels: give one label a point, 1 (object) or "
            "0 (background)"
        )
    marks = _numbers(labels, "point_labels")
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError(f"point_coords have shape {xy.shape}: give N x 2, one (x, y) a point")
    if marks.shape != xy.shape[:1]:
        raise PromptError(
            f"{len(xy)} points but point_labels of shape {marks.shape}: give one label a point"
        )
    if not np.isin(marks, (-1, 0, 1)).all():
        raise PromptError(
            f"point_labels {shown_array(marks)}: use 1 (object), 0 (background) or -1 (padding)"
        )
    if len(xy) > MAX_POINTS:
        raise PromptError(
            f"{len(xy)} points in one prompt: give at most {MAX_POINTS}, or a mask, as by "
            "samjax.mask_to_logits"
        )
    return xy.astype(np.float32), marks.astype(np.int32)


def check_boxes(
    boxes: ArrayLike, size: tuple[int, int] | None = None
) -> Float32[np.ndarray, "p 4"]:
    """Check boxes (x0, y0, x1, y1) in pixels; ``size`` is (H, W) of their image, if known.

    Raises:
        PromptError: wrong shape, NaN, corners in the wrong order, or fractions of the image.
    """
    xyxy = _numbers(boxes, "boxes")
    if xyxy.shape == (0,):  # an empty list
        xyxy = xyxy.reshape(0, 4)
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise PromptError(f"boxes have shape {xyxy.shape}: give P x 4, (x0, y0, x1, y1) each")
    wrong = (xyxy[:, 2] < xyxy[:, 0]) | (xyxy[:, 3] < xyxy[:, 1])
    if wrong.any():
        first = xyxy[np.argmax(wrong)].tolist()
        raise PromptError(
            f"box {first} has x1 < x0 or y1 < y0: give the top left corner, then the bottom right"
        )
    tiny = size is not None and max(size) <= 2  # there a box may well be below 1
    if xyxy.size and not tiny and xyxy.min() >= 0 and xyxy.max() <= 1 and (xyxy % 1).any():
        raise PromptError(
            f"boxes hold {shown_array(xyxy)}, which look like fractions of the image: give pixels, "
            "boxes * [width, height, width, height]"
        )
    return xyxy.astype(np.float32)


def check_masks(masks: ArrayLike, size: int) -> Float32[np.ndarray, "p m m"]:
    """Check low-res mask logits, P x size x size or P x 1 x size x size.

    Raises:
        PromptError: another shape, or values that are no numbers, not finite or beyond 3e4.
    """
    logits = array(masks, "mask_input")
    if logits.ndim == 4 and logits.shape[1] == 1:
        logits = logits[:, 0]
    if logits.ndim != 3 or logits.shape[1:] != (size, size):
        raise PromptError(
            f"mask_input has shape {np.shape(masks)}: give low-res logits of 1 x {size} x {size}, "
            "from an earlier prediction or from samjax.mask_to_logits(mask, size)"
        )
    if logits.dtype == np.bool_:
        raise PromptError(
            "mask_input is a binary mask: turn it into logits with samjax.mask_to_logits"
        )
    if logits.dtype.kind not in "iuf" and logits.dtype.type.__module__ != "ml_dtypes":
        raise PromptError(f"mask_input is of dtype {logits.dtype}: give float logits")
    if not np.isfinite(logits).all():
        raise PromptError("mask_input holds NaN or infinite values: give finite logits")
    if logits.size and (largest := float(np.abs(logits).max())) > LARGEST_LOGIT:
        raise PromptError(
            f"mask_input holds {largest:.4g}: give logits within {LARGEST_LOGIT:g}, as of an "
            "earlier prediction or of samjax.mask_to_logits"
        )
    return logits.astype(np.float32)


def bucket(count: int, smallest: int) -> int:
    """Round ``count`` up to ``smallest`` times a power of two: few shapes, few compilations."""
    size = smallest
    while size < count:
        size *= 2
    return size


def click_bucket(count: int) -> int:
    """Round the tokens of one prompt up to one of CLICK_BUCKETS, or to twice the last, ..."""
    return next((size for size in CLICK_BUCKETS if size >= count), bucket(count, CLICK_BUCKETS[-1]))


def pack(
    points: Sequence[tuple[np.ndarray, np.ndarray] | None] | None,
    boxes: Float32[np.ndarray, "p 4"] | None,
    masks: Float32[np.ndarray, "p m m"] | None,
    original_size: tuple[int, int],
    input_size: tuple[int, int],
) -> Prompts:
    """Pack prompts into rows of tokens: points, then padding or box corners, as the official.

    ``points`` may be ragged. Without any prompt there is one row without tokens. The official
    code appends its padding point (label -1) to points without a box; that token takes part in
    attention and is kept. Tokens that fill a row up to the bucket are marked ABSENT, masked out
    in the decoder, and change nothing.
    """
    count = max((len(x) for x in (points, boxes, masks) if x is not None), default=1)
    rows = []
    for i in range(count):
        coords, kinds = [], []
        point_set = None if points is None else points[i]
        if point_set is not None:
            xy, labels = point_set
            coords.append(scale_coords(xy, original_size, input_size))
            kinds.append(np.where(labels == -1, NOT_A_POINT, labels))
            if boxes is None:
                coords.append(np.zeros((1, 2), np.float32))
                kinds.append(np.array([NOT_A_POINT]))
        if boxes is not None:
            coords.append(scale_coords(boxes[i].reshape(2, 2), original_size, input_size))
            kinds.append(np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]))
        rows.append((coords, kinds))
    longest = max(sum(map(len, kinds)) for _, kinds in rows)
    width = click_bucket(longest) if count == 1 else bucket(longest, 2)
    coords_rows = np.zeros((count, width, 2), np.float32)
    kinds_rows = np.full((count, width), ABSENT, np.int32)
    for i, (coords, kinds) in enumerate(rows):
        if coords:
            used = sum(map(len, kinds))
            coords_rows[i, :used] = np.concatenate(coords)
            kinds_rows[i, :used] = np.concatenate(kinds)
    return Prompts(coords_rows, kinds_rows, masks, None if masks is None else np.ones(count, bool))


def blocks(prompts: Prompts, size: int = LARGEST_BLOCK) -> Iterator[tuple[int, Prompts]]:
    """Yield many prompts in bounded blocks, each with its number of prompts before padding.

    A block is padded with empty prompts to a power of two, so that nearby numbers of prompts
    share one compiled function.
    """
    total, tokens = prompts.kinds.shape
    fits = max(1, _BLOCK_SQUARES // tokens**2)
    size = min(size, 1 << (fits.bit_length() - 1))  # a power of two, as blocks are padded to
    for start in range(0, total, size):
        count = min(size, total - start)
        extra = bucket(count, 1) - count

        def part(x: Any, value: int, start: int = start, count: int = count, n: int = extra) -> Any:
            if x is None:
                return None
            pad = [(0, n)] + [(0, 0)] * (x.ndim - 1)
            return np.pad(x[start : start + count], pad, constant_values=value)

        coords, kinds, masks, has_mask, hq_only = prompts
        filled = Prompts(
            part(coords, 0),
            part(kinds, ABSENT),
            part(masks, 0),
            part(has_mask, 0),
            part(hq_only, 0),
        )
        yield count, filled
