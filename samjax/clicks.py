"""One prompt at a time, by one compiled function for each bucket of tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from samjax.config import SamConfig
from samjax.model.mask_decoder import select_masks
from samjax.model.prompt_encoder import ABSENT, Prompts
from samjax.prompts import CLICK_BUCKETS

# Of the thread that compiles; tests wait for it.
THREAD = "samjax-clicks"
Decode = Callable[[Array, Prompts], tuple[Array, Array]]


class Clicks:
    """Decodes single prompts, and sees to it that hardly one waits for a compilation.

    With or without a mask prompt, for one mask or several: the network always takes the first
    and makes all, and the choice is left to NumPy. That costs a millisecond a click and saves
    seconds of compilation in the middle of a session.

    The first click waits for the function of its own bucket alone. Those of the other
    CLICK_BUCKETS are compiled behind it, one at a time: XLA uses all cores for each, and two at
    once would hold more memory.

    ``decode`` makes a prompt's low-res logits and predicted IoUs of all masks. It is given at
    each call, not kept: a model that referred to itself would keep its weights until Python's
    next collection of garbage.
    """

    def __init__(self, config: SamConfig):
        self._config = config
        self._compiled: set[int] = set()
        self._compiling = Lock()

    def __call__(
        self,
        decode: Decode,
        image_embedding: Float[Array, "g g c"],
        prompts: Prompts,
        multimask: bool | None,
    ) -> tuple[Float32[np.ndarray, "1 m 4*g 4*g"], Float32[np.ndarray, "1 m"]]:
        """Low-res mask logits and predicted IoUs, on the host."""
        if prompts.coords.shape[1] in self._compiled:
            low_res, iou = self._run(decode, image_embedding, prompts)
        else:
            first = not self._compiled
            low_res, iou = self._compile(decode, image_embedding, prompts)
            if first:
                Thread(
                    target=self._compile_quietly, args=(decode, image_embedding), name=THREAD
                ).start()
        select = slice(None) if multimask is None else select_masks(multimask)
        return low_res[:, select], iou[:, select]

    def compile_all(self, decode: Decode, image_embedding: Float[Array, "g g c"]) -> None:
        """Compile what is not yet compiled for CLICK_BUCKETS."""
        for n in CLICK_BUCKETS:
            if n not in self._compiled:
                coords, kinds = np.zeros((1, n, 2), np.float32), np.full((1, n), ABSENT, np.int32)
                self._compile(decode, image_embedding, Prompts(coords, kinds, None))

    def _compile_quietly(self, decode: Decode, image_embedding: Array) -> None:
        with suppress(Exception):  # the click that needs the function will say what is wrong
            self.compile_all(decode, image_embedding)

    def _compile(
        self, decode: Decode, image_embedding: Array, prompts: Prompts
    ) -> tuple[np.ndarray, np.ndarray]:
        with self._compiling:
            found = self._run(decode, image_embedding, prompts)
            self._compiled.add(prompts.coords.shape[1])
            return found

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
