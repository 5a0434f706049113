"""Move prompts between pixels of an image and the frame of the network's input."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import ArrayLike

from samjax.image.longest_side import scale_coords
from samjax.image.preset import Preset


class InputFrame:
    """Moves images and prompts into the frame of the network's input, as ``ResizeLongestSide``.

    It takes and returns NumPy arrays, and resizes as the model's preset does. Only
    ``SamPredictor.predict_torch`` needs it: all other methods take pixels of the image.

    Attributes:
        target_length: side of the network's square input, in pixels.
    """

    def __init__(self, preset: Preset, target_length: int):
        self.preset, self.target_length = preset, target_length

    def apply_image(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Resize an image to the frame, without padding."""
        size = self.preset.fit((image.shape[0], image.shape[1]), self.target_length)
        resized: np.ndarray = self.preset.resample(image, size)
        return resized

    def apply_coords(
        self, coords: ArrayLike, original_size: tuple[int, int]
    ) -> Float32[np.ndarray, "*n 2"]:
        """Move (x, y) in pixels of an image of ``original_size`` (H, W) into the frame."""
        height, width = original_size[:2]
        size = self.preset.fit((height, width), self.target_length)
        return scale_coords(np.asarray(coords), (height, width), size)

    def apply_boxes(
        self, boxes: ArrayLike, original_size: tuple[int, int]
    ) -> Float32[np.ndarray, "n 4"]:
        """Move boxes (x0, y0, x1, y1) in pixels into the frame."""
        corners = np.asarray(boxes).reshape(-1, 2, 2)
        return self.apply_coords(corners, original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: ArrayLike, original_size: tuple[int, int]) -> Any:
        """Do the same as ``apply_coords``: arrays are NumPy's here."""
        return self.apply_coords(coords, original_size)

    def apply_boxes_torch(self, boxes: ArrayLike, original_size: tuple[int, int]) -> Any:
        """Do the same as ``apply_boxes``: arrays are NumPy's here."""
        return self.apply_boxes(boxes, original_size)
