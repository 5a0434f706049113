"""Configurations hold the sizes of each part of SAM: frozen, hashable, free of JAX."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Configure the ViT image encoder (paper, section 3, appendix A; official ImageEncoderViT).

    ``image_size`` is the side of the square input in pixels, ``window_size`` the side of an
    attention window in patches; the ``global_blocks`` attend to the whole image.
    """

    image_size: int = 1024
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    out_dim: int = 256
    window_size: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)

    @property
    def grid(self) -> int:
        """Return the side of the image embedding: patches along one side of the input."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TinyVitConfig:
    """Configure MobileSAM's image encoder (Wu et al. 2022, Zhang et al. 2023; tiny_vit_sam.py).

    A stem of stride 4, a stage of convolutions, then stages of windowed attention; each entry of
    a tuple belongs to one stage. Between stages the grid is halved, but not before the last, so
    that one pixel of the embedding covers 16 x 16 of the image. No shape tells ``image_size``: the
    network has no position embedding, and runs at any size. ``num_classes`` belongs to the
    classifier of the pretraining, which comes with the weights and is not used; 0 leaves it out.
    """

    image_size: int = 1024
    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (0, 4, 5, 10)
    window_sizes: tuple[int, ...] = (0, 7, 14, 7)
    conv_dim: int = 256
    mlp_dims: tuple[int, ...] = (0, 512, 640, 1280)
    out_dim: int = 256
    num_classes: int = 1000

    @property
    def grids(self) -> tuple[int, ...]:
        """Return the side of the grid in each stage."""
        last = len(self.widths) - 1
        return tuple(self.image_size // 4 // 2 ** min(i, last - 1) for i in range(last + 1))

    @property
    def grid(self) -> int:
        """Return the side of the image embedding."""
        return self.grids[-1]


@dataclass(frozen=True)
class PromptEncoderConfig:
    """Configure the encoder of points, boxes and masks (official PromptEncoder)."""

    embed_dim: int = 256
    mask_channels: int = 16


@dataclass(frozen=True)
class MaskDecoderConfig:
    """Configure the two-way transformer with mask and quality heads (official MaskDecoder).

    ``num_masks`` counts the tokens of ``multimask_output=True``; there is one mask token more,
    for the single mask. ``hq`` adds SAM-HQ's token, whose mask is added to SAM's; of
    several masks only the best is then returned.
    """

    embed_dim: int = 256
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    attention_dim: int = 128
    num_masks: int = 3
    iou_head_depth: int = 3
    iou_head_dim: int = 256
    layer_norm_eps: float = 1e-5  # of norm1 to norm4 in the two-way blocks
    hq: bool = False

    @property
    def masks_given(self) -> int:
        """Return the number of masks that ``multimask_output=True`` gives."""
        return 1 if self.hq else self.num_masks


@dataclass(frozen=True)
class SamConfig:
    """Configure one Segment Anything model."""

    image_encoder: ImageEncoderConfig | TinyVitConfig = field(default_factory=ImageEncoderConfig)
    prompt_encoder: PromptEncoderConfig = field(default_factory=PromptEncoderConfig)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)

    @property
    def image_size(self) -> int:
        """Return the side of the square network input in pixels."""
        return self.image_encoder.image_size

    @property
    def grid(self) -> int:
        """Return the side of the image embedding."""
        return self.image_encoder.grid

    @property
    def low_res_size(self) -> int:
        """Return the side of the low-res masks: four times the image embedding."""
        return 4 * self.grid

    @property
    def hq(self) -> bool:
        """Return whether the model has SAM-HQ's head."""
        return self.mask_decoder.hq

    def with_hq(self) -> SamConfig:
        """Return the same configuration with SAM-HQ's head."""
        return replace(self, mask_decoder=replace(self.mask_decoder, hq=True))

    @classmethod
    def mobile(cls) -> SamConfig:
        """Return MobileSAM's sizes: 10.1 M parameters, a third of a million of them unused."""
        return cls(TinyVitConfig())

    @classmethod
    def vit_b(cls) -> SamConfig:
        """Return the sizes of the official ViT-B: 93.7 M parameters."""
        return cls()

    @classmethod
    def vit_l(cls) -> SamConfig:
        """Return the sizes of the official ViT-L: 312.3 M parameters."""
        return cls(
            ImageEncoderConfig(
                width=1024, depth=24, num_heads=16, mlp_dim=4096, global_blocks=(5, 11, 17, 23)
            )
        )

    @classmethod
    def vit_h(cls) -> SamConfig:
        """Return the sizes of the official ViT-H: 641.1 M parameters."""
        return cls(
            ImageEncoderConfig(
                width=1280, depth=32, num_heads=16, mlp_dim=5120, global_blocks=(7, 15, 23, 31)
            )
        )
