"""Resize position embeddings to another image size, as the fine-tuning codes do.

SAMed, SAM-Med2D and others change the network's input size by interpolating the position embedding
and the relative positions of the global blocks; windows keep theirs. Source: ``load_from`` in
their build_sam.py (torch's bilinear interpolation, half-pixel centres, no antialias).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from samjax.bilinear import bilinear_matrix
from samjax.checkpoint.families.detect import part_numbers
from samjax.errors import CheckpointError

_POS_EMBED = "image_encoder.pos_embed"
_PATCH = "image_encoder.patch_embed.proj.weight"
_REL_POS = r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_[hw]$"
# Global blocks of the published models by depth: no shape tells them if windows fill the grid.
_GLOBAL_BLOCKS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 32: (7, 15, 23, 31)}
MAX_SIDE = 8192


def resize_positions(tensors: Mapping[str, np.ndarray], image_size: int) -> dict[str, np.ndarray]:
    """Return official tensors for another input size in pixels; unchanged if it is their own.

    Raises:
        CheckpointError: not a multiple of the patch, or tensors without positions to resize.
    """
    pos_embed, patch = tensors.get(_POS_EMBED), tensors.get(_PATCH)
    if pos_embed is None or patch is None or pos_embed.ndim != 4 or patch.ndim != 4:
        raise CheckpointError(
            f"image_size={image_size} needs a ViT with {_POS_EMBED!r}, this model has none: leave "
            "image_size out"
        )
    side = patch.shape[-1]
    if image_size % side or not 0 < image_size <= MAX_SIDE:
        raise CheckpointError(
            f"image_size={image_size} does not fit: give a multiple of {side}, the patch, up to "
            f"{MAX_SIDE}"
        )
    old, new = pos_embed.shape[1], image_size // side
    if old == new:
        return dict(tensors)
    result = dict(tensors)
    grid = bilinear_matrix(old, new)
    result[_POS_EMBED] = np.einsum(
        "ai,bj,nijd->nabd", grid, grid, pos_embed.astype(np.float32), optimize=True
    )
    along = bilinear_matrix(2 * old - 1, 2 * new - 1)
    for key in _global_positions(tensors, old):
        result[key] = along @ tensors[key].astype(np.float32)
    return result


def _global_positions(tensors: Mapping[str, np.ndarray], grid: int) -> list[str]:
    """Return the keys of the relative positions of blocks that attend to the whole image."""
    found = part_numbers(tensors, _REL_POS)
    long = [key for key in found if tensors[key].shape[0] == 2 * grid - 1]
    depth = max(found.values(), default=-1) + 1
    if len(long) == len(found) and depth in _GLOBAL_BLOCKS:
        return [key for key in long if found[key] in _GLOBAL_BLOCKS[depth]]
    return long
