"""Segment Anything: an image is encoded once, prompts are decoded against its embedding."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from samjax.model.attention import UNCHUNKED, Chunks
from samjax.model.config import SamConfig, TinyVitConfig
from samjax.model.image_encoder import ImageEncoder
from samjax.model.mask_decoder import MaskDecoder
from samjax.model.prompt_encoder import ABSENT, PromptEncoder, Prompts
from samjax.model.tiny_vit import TinyVit


class PromptDecoder(nnx.Module):
    """The prompt decoder joins prompt encoder and mask decoder: all that a click needs."""

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs | None):
        self.prompt_encoder = PromptEncoder(config, rngs=rngs)
        self.mask_decoder = MaskDecoder(config.mask_decoder, rngs=rngs)

    def __call__(
        self,
        image_embedding: Float[Array, "g g e"],
        prompts: Prompts,
        *,
        multimask: bool | None,
        image_pe: Float[Array, "n c"] | None = None,
        chunks: Chunks = UNCHUNKED,
    ) -> tuple[Float[Array, "p m 4*g 4*g"], Float[Array, "p m"]]:
        """Return low-res mask logits and predicted IoUs of ``p`` prompts for one image.

        ``image_pe`` is ``prompt_encoder.image_positions()``, which depends on the weights alone;
        given, it is not computed again (a tenth of a click on a CPU).
        """
        encoder = self.prompt_encoder
        return self.mask_decoder(
            image_embedding,
            encoder.image_positions() if image_pe is None else image_pe,
            encoder.sparse(prompts.coords, prompts.kinds),
            jnp.asarray(prompts.kinds) != ABSENT,
            encoder.dense(prompts.masks, prompts.has_mask),
            multimask=multimask,
            hq_only=None if prompts.hq_only is None else jnp.asarray(prompts.hq_only),
            chunks=chunks,
        )


class Sam(nnx.Module):
    """Sam is the whole network, from arrays to arrays.

    ``rngs=None`` leaves weights of zeros, to be filled from a checkpoint.

    >>> sam = Sam(SamConfig.vit_b(), rngs=nnx.Rngs(0))
    >>> embedding = sam.encode(image)                               # (64, 64, 256)
    >>> low_res, iou = sam.decode(embedding, prompts, multimask=True)  # (p, 3, 256, 256), (p, 3)
    """

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs | None):
        self.config = config
        if isinstance(config.image_encoder, TinyVitConfig):
            self.image_encoder: ImageEncoder | TinyVit = TinyVit(
                config.image_encoder, hq=config.hq, rngs=rngs
            )
        else:
            self.image_encoder = ImageEncoder(config.image_encoder, hq=config.hq, rngs=rngs)
        self.decoder = PromptDecoder(config, rngs=rngs)

    def encode(
        self, image: Float[Array, "s s 3"], chunks: Chunks = UNCHUNKED
    ) -> Float[Array, "g g c"]:
        """Return the image embedding of one normalised, padded image (float32).

        SAM-HQ's has more channels than the official one: see hq.HqFeatures.
        """
        return self.image_encoder(image, chunks)

    def decode(
        self,
        image_embedding: Float[Array, "g g c"],
        prompts: Prompts,
        *,
        multimask: bool | None,
        chunks: Chunks = UNCHUNKED,
    ) -> tuple[Float[Array, "p m 4*g 4*g"], Float[Array, "p m"]]:
        """Return low-res mask logits and predicted IoUs; see PromptDecoder."""
        return self.decoder(image_embedding, prompts, multimask=multimask, chunks=chunks)
