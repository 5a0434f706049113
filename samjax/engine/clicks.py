"""Decode one prompt at a time, by one compiled function for each bucket of tokens."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from samjax.engine.prompts import CLICK_BUCKETS
from samjax.model.config import SamConfig
from samjax.model.mask_decoder import select_masks
from samjax.model.prompt_encoder import ABSENT, Prompts

Decode = Callable[[Array, Prompts], tuple[Array, Array]]


class Clicks:
    """Clicks are decoded so that after the first none waits for a compilation.

    The network always takes a mask prompt, even an unused one, and always decodes all masks;
    NumPy chooses among them. That costs a millisecond a click and saves seconds of compilation
    in the middle of a session. The first click compiles all of CLICK_BUCKETS.

    ``decode`` returns a prompt's low-res logits and predicted IoUs of all masks. It is passed at
    each call, not kept: a model that referred to itself would keep its weights until Python's
    next collection of garbage.
    """

    def __init__(self, config: SamConfig):
        self._config, self._compiled = config, False

    def __call__(
        self,
        decode: Decode,
        image_embedding: Float[Array, "g g c"],
        prompts: Prompts,
        multimask: bool | None,
    ) -> tuple[Float32[np.ndarray, "1 m 4*g 4*g"], Float32[np.ndarray, "1 m"]]:
        """Return low-res mask logits and predicted IoUs, on the host."""
        self.compile_all(decode, image_embedding)
        low_res, iou = self._run(decode, image_embedding, prompts)
        select = slice(None) if multimask is None else select_masks(multimask)
        return low_res[:, select], iou[:, select]

    def compile_all(self, decode: Decode, image_embedding: Float[Array, "g g c"]) -> None:
        """Compile for all of CLICK_BUCKETS, once.

        They are compiled one after the other: XLA uses all cores for each, and two at once would
        hold more memory.
        """
        if self._compiled:
            return
        for n in CLICK_BUCKETS:
            coords, kinds = np.zeros((1, n, 2), np.float32), np.full((1, n), ABSENT, np.int32)
            self._run(decode, image_embedding, Prompts(coords, kinds, None))
        self._compiled = True

    def _run(
        self, decode: Decode, image_embedding: Array, prompts: Prompts
    ) -> tuple[np.ndarray, np.ndarray]:
        if prompts.masks is None:
            m = self._config.low_res_size
            none = np.zeros((1, m, m), np.float32)
            prompts = prompts._replace(masks=none, has_mask=np.zeros(1, bool))
        if self._config.hq and prompts.hq_only is None:
            prompts = prompts._replace(hq_only=np.zeros(1, bool))
        return jax.device_get(decode(image_embedding, prompts))
