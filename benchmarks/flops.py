"""Count the FLOPs of SAM's ViT image encoder from its sizes (a multiply-add is two)."""

from __future__ import annotations

from samjax.model.config import ImageEncoderConfig, SamConfig


def encoder_flops(config: SamConfig, *, attention: bool = True) -> float:
    """Count the floating-point operations for one image, without the padding of windows.

    Args:
        config: sizes of the network.
        attention: count the two attention products and the relative positions; most published
            GMACs (half of this number) leave them out.
    """
    c = config.image_encoder
    assert isinstance(c, ImageEncoderConfig), "TinyViT has other parts"
    tokens, width = c.grid**2, c.width
    total = 2 * tokens * 3 * c.patch_size**2 * width
    for block in range(c.depth):
        side = c.grid if block in c.global_blocks else c.window_size
        total += 2 * tokens * width * (4 * width + 2 * c.mlp_dim)  # qkv, proj; the MLP
        if attention:
            total += 4 * tokens * side**2 * width  # QK^T and AV
            total += 4 * tokens * side * width  # relative positions in y and x
    return total + 2 * tokens * c.out_dim * (width + 9 * c.out_dim)
