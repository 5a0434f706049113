"""Make masks that annotation code often gets wrong."""

import numpy as np
from scipy import ndimage


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """Make a smooth random mask with several parts, holes, and parts in holes."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    smooth = ndimage.gaussian_filter(noise, 0.05 * min(height, width))
    return smooth > 0.2 * smooth.std()


def noise(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((height, width)) < rng.uniform(0.1, 0.9)


def square_rings(size: int) -> np.ndarray:
    """Make nested squares, with holes in parts in holes."""
    y, x = np.mgrid[:size, :size]
    return np.minimum(np.minimum(x, y), size - 1 - np.maximum(x, y)) % 4 < 2


def open_ring() -> np.ndarray:
    """Make a ring that closes at a corner only, where its outline touches itself."""
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    mask[0, 0] = False
    return mask


MASKS = {
    "empty": np.zeros((7, 9), bool),
    "full": np.ones((7, 9), bool),
    "1x1 empty": np.zeros((1, 1), bool),
    "1x1 full": np.ones((1, 1), bool),
    "one row": np.array([[1, 0, 1, 1, 0]], bool),
    "one column": np.array([[0, 1, 1, 0, 1]], bool).T,
    "one pixel in the last corner": np.pad([[True]], ((6, 0), (8, 0))),
    "diagonal": np.eye(9, dtype=bool),
    "diagonals crossing": np.eye(9, dtype=bool) | np.eye(9, dtype=bool)[::-1],
    "checkerboard": np.indices((8, 7)).sum(0) % 2 == 0,
    "holes in holes": square_rings(18),
    "open ring": open_ring(),
    "diamond of pixels": np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool),
    "touches all borders": np.pad(np.zeros((5, 6), bool), 1, constant_values=True),
    **{f"blobs {seed}": blobs(60, 45, seed) for seed in range(6)},
    **{f"noise {seed}": noise(13, 17, seed) for seed in range(6)},
}
