"""Define small networks and draw images for tests with and without torch."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from samjax.checkpoint.layout import official_layout
from samjax.model.config import (
    ImageEncoderConfig,
    MaskDecoderConfig,
    PromptEncoderConfig,
    SamConfig,
    TinyVitConfig,
)


def sized(
    *,
    grid: int,
    window: int,
    patch: int = 8,
    width: int = 32,
    heads: int = 2,
    depth: int = 2,
    global_blocks: tuple[int, ...] = (1,),
    embed: int = 64,
    masks: int = 3,
) -> SamConfig:
    """Make the sizes of a small SAM; the official decoder's attention halves its width, 8 heads."""
    return SamConfig(
        ImageEncoderConfig(
            image_size=grid * patch,
            patch_size=patch,
            width=width,
            depth=depth,
            num_heads=heads,
            mlp_dim=2 * width,
            out_dim=embed,
            window_size=window,
            global_blocks=global_blocks,
        ),
        PromptEncoderConfig(embed_dim=embed, mask_channels=16),
        MaskDecoderConfig(
            embed_dim=embed,
            mlp_dim=96,
            attention_dim=embed // 2,
            num_masks=masks,
            iou_head_dim=48,
        ),
    )


# 10 patches a side in windows of 4: two patches of padding
PLAIN = sized(grid=10, window=4)
SIZES = {
    "padded windows": PLAIN,
    "exact windows": sized(grid=8, window=4),
    # What no shape tells apart from global attention, and computes the same
    "window of the whole grid": sized(grid=6, window=6, global_blocks=(0, 1)),
    "one mask": sized(grid=9, window=5, masks=1),
    "five masks": sized(grid=7, window=3, masks=5, global_blocks=(0,)),
    # The published models' head width, window and decoder, at 512 pixels and 2 blocks
    "wide": dataclasses.replace(
        SamConfig(),
        image_encoder=ImageEncoderConfig(
            image_size=512, width=256, depth=2, num_heads=4, mlp_dim=1024, global_blocks=(1,)
        ),
    ),
}

# Of the golden files: small enough for its weights to be stored beside its results
GOLDEN = sized(grid=6, window=4, width=16, embed=32)

# MobileSAM's layout at widths that run in no time; the last one is wide and the decoder as large
# as in the published model, which the official code wants
_THIN = TinyVitConfig(
    widths=(8, 12, 16, 320),
    depths=(1, 1, 2, 1),
    num_heads=(0, 3, 2, 5),
    conv_dim=16,
    mlp_dims=(0, 12, 16, 320),
    num_classes=3,
)
MOBILE = SamConfig(_THIN, mask_decoder=MaskDecoderConfig(mlp_dim=96, iou_head_dim=48))
# SAM-HQ's head on either encoder, and sizes for tests that need no other code
VARIANTS = {
    "SAM-HQ": PLAIN.with_hq(),
    "MobileSAM": MOBILE,
    "Light HQ-SAM": MOBILE.with_hq(),
}
TINY_MOBILE = dataclasses.replace(
    PLAIN,
    image_encoder=TinyVitConfig(
        image_size=160,
        widths=(8, 12, 16, 24),
        depths=(1, 1, 1, 1),
        num_heads=(0, 3, 2, 4),
        conv_dim=16,
        mlp_dims=(0, 24, 32, 48),
        out_dim=PLAIN.mask_decoder.embed_dim,
        num_classes=0,
    ),
)


def seeded_tensors(config: SamConfig) -> dict[str, np.ndarray]:
    """Draw official tensors of these sizes in float32, the same on every machine.

    The golden files hold PyTorch's results on them; RandomState's numbers never change.
    """
    tensors = {}
    for key, entry in official_layout(config).items():
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(entry.shape)
        if entry.kind in ("linear", "conv", "transposed"):
            inputs = entry.shape[0] if entry.kind == "transposed" else np.prod(entry.shape[1:])
            noise *= 1.2 * inputs**-0.5
        elif entry.path.endswith((".scale", ".bias")):
            noise = 0.2 * noise + entry.path.endswith(".scale")
        elif entry.path.endswith(".var"):
            noise = abs(1 + 0.3 * noise) + 0.1
        elif entry.path.endswith((".mean", "rel_pos_h", "rel_pos_w")):
            noise *= 0.3
        tensors[key] = noise.astype(np.float32)
    return tensors


# (height, width): landscape, portrait, square, very small, one pixel, very narrow
DRAWN = ((48, 70), (90, 61), (80, 80), (5, 7), (1, 1), (3, 40))


def drawn_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw discs and stripes with noise, uint8 RGB: channels differ, nothing is symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    y, x = (y + 0.5) / height, (x + 0.5) / width
    image = np.stack([255 * x, 255 * y, 128 + 127 * np.sin(9 * x + 5 * y)], -1)
    image[(x - 0.35) ** 2 + (y - 0.4) ** 2 < 0.05] = (250, 40, 20)
    image[(abs(x - 0.7) < 0.12) & (abs(y - 0.6) < 0.25)] = (20, 60, 240)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
