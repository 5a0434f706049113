"""Run classical methods on the same prompts: OpenCV's GrabCut, random walker, flood fill.

They need ``pip install '.[bench]'``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from benchmarks.miou.clickers import Click
from samjax.errors import SamjaxError

Picture = UInt8[np.ndarray, "H W 3"]
Mask = Bool[np.ndarray, "H W"]
FLOOD_TOLERANCE = 12.0  # colour difference in CIE Lab, about five just noticeable ones
WALKER_SIDE = 320  # pixels of the shrunk picture's longer side
_SEED_RADIUS = 2  # of its pixels; a single seed pixel of a noisy photograph says little


def require() -> None:
    """Raise SamjaxError if OpenCV or scikit-image is missing."""
    try:
        import cv2  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise SamjaxError(
            f"the classical methods need {error.name}, which is not installed: "
            "pip install 'samjax[bench]', or --classical 0 to leave them out"
        ) from None


def rectangle(shape: tuple[int, int], box: Sequence[float]) -> Mask:
    """Fill the box (x0, y0, x1, y1), given at pixel edges."""
    x0, y0, x1, y1 = (round(v) for v in box)
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def grabcut(image: Picture, box: Sequence[float], iterations: int = 5) -> tuple[Mask, bool]:
    """Run OpenCV's grabCut from a box; return the filled box and True if it finds nothing."""
    import cv2

    filled = rectangle(image.shape[:2], box)
    if filled.all():
        return filled, True
    x0, y0, x1, y1 = (round(v) for v in box)
    labels = np.zeros(image.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(
            np.ascontiguousarray(image[..., ::-1]),
            labels,
            (x0, y0, x1 - x0, y1 - y0),
            *models,
            iterations,
            cv2.GC_INIT_WITH_RECT,
        )
    except cv2.error:
        return filled, True
    mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return (mask, False) if mask.any() else (filled, True)


def random_walker(image: Picture, clicks: Sequence[Click]) -> Mask:
    """Run scikit-image's random walker from clicks, with the image border as background.

    The walker is solved exactly on the image shrunk to WALKER_SIDE: the iterative solvers of
    scikit-image do not converge within its tolerance on photographs.
    """
    from skimage.segmentation import random_walker as walk

    height, width = image.shape[:2]
    factor = min(1.0, WALKER_SIDE / max(height, width))
    size = max(3, round(height * factor)), max(3, round(width * factor))
    small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    seeds = np.zeros(size, np.int32)
    seeds[[0, -1]] = seeds[:, [0, -1]] = 2
    y, x = np.mgrid[: size[0], : size[1]]
    for click in sorted(clicks, key=lambda c: c.label):  # the object's seeds win
        distance = np.hypot(x - click.x * size[1] / width, y - click.y * size[0] / height)
        seeds[distance <= _SEED_RADIUS] = 1 if click.label else 2
    found = walk(small / 255.0, seeds, beta=130, mode="bf", channel_axis=-1, return_full_prob=True)
    inside = Image.fromarray(found[0].astype(np.float32))
    return np.asarray(inside.resize((width, height), Image.Resampling.BILINEAR)) > 0.5


def flood_fill(image: Picture, click: Click) -> Mask:
    """Select the connected pixels around a click whose colour is close to the clicked one."""
    from skimage.color import rgb2lab
    from skimage.segmentation import flood

    colours = rgb2lab(image)
    difference = np.linalg.norm(colours - colours[click.y, click.x], axis=-1)
    return flood(difference, (click.y, click.x), tolerance=FLOOD_TOLERANCE)
