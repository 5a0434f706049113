"""One prompt at a time, by one compiled function for each bucket of tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock, Thread
from threading import enumerate as all_threads

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from samjax.config import SamConfig
from samjax.model.mask_decoder import select_masks
from samjax.model.prompt_encoder import ABSENT, Prompts
from samjax.prompts import CLICK_BUCKETS

_THREAD = "samjax-clicks"
Decode = Callable[[Array, Prompts], tuple[Array, Array]]


class Clicks:
    """Decodes single prompts, and sees to it that hardly one waits for a compilation.

    With or without a mask prompt, for one mask or several: the network always takes the first
    and makes all, and the choice is left to NumPy. That costs a millisecond a click and saves
    seconds of compilation in the middle of a session.

    A first click waits for the function of its own bucket alone. Once a second one shows that
    more will come, those of the other CLICK_BUCKETS are compiled in a thread. One is compiled at
    a time: XLA uses all cores for each, and two at once would hold more memory.

    ``decode`` makes a prompt's low-res logits and predicted IoUs of all masks. It is given at
    each call, not kept: a model that referred to itself would keep its weights until Python's
    next collection of garbage.
    """

    def __init__(self, config: SamConfig):
        self._config = config
        self._compiled: set[int] = set()
        self._compiling = Lock()
        self._more_expected = False

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
            if not self._more_expected:
                self._more_expected = True
                work = partial(self._compile_quietly, decode, image_embedding)
                Thread(target=work, name=_THREAD).start()
        else:
            with self._compiling:
                low_res, iou = self._run(decode, image_embedding, prompts)
                self._compiled.add(prompts.coords.shape[1])
        select = slice(None) if multimask is None else select_masks(multimask)
        return low_res[:, select], iou[:, select]

    def compile_all(self, decode: Decode, image_embedding: Float[Array, "g g c"]) -> None:
        """Compile what is not yet compiled for CLICK_BUCKETS."""
        for n in CLICK_BUCKETS:
            with self._compiling:
                if n in self._compiled:
                    continue
                coords, kinds = np.zeros((1, n, 2), np.float32), np.full((1, n), ABSENT, np.int32)
                self._run(decode, image_embedding, Prompts(coords, kinds, None))
                self._compiled.add(n)

    def _compile_quietly(self, decode: Decode, image_embedding: Array) -> None:
        with suppress(Exception):  # the click that needs the function will say what is wrong
            self.compile_all(decode, image_embedding)

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


def wait_for_compilations() -> None:
    """Return when no thread compiles functions of later clicks: for measurements and tests."""
    for thread in all_threads():
        if thread.name == _THREAD:
            thread.join()
