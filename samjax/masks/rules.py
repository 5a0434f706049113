"""Mask rules turn decoded tokens into the masks that a family's own code gives.

A preset carries its rule (``preset.masks``); callers ask the rule which tokens to decode and let
it finish the masks of each prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Num, Shaped

from samjax.masks.upscale import upscale
from samjax.model.mask_decoder import select_masks

_CERTAIN = 1e-7  # probabilities are kept this far from 0 and 1, where logits are infinite

Finished = tuple[
    Shaped[np.ndarray, "p k H W"], Float32[np.ndarray, "p k"], Float32[np.ndarray, "p k m m"]
]


@dataclass(frozen=True)
class MaskRule:
    """The official rule upscales the logits of ``multimask_output``'s masks, then thresholds them.

    Rules have no fields: a preset with its rule stays hashable, as static arguments must be.

    Attributes:
        automatic: whether the model was trained with clicks, so that a grid of points works.
    """

    automatic: ClassVar[bool] = True

    def tokens(self, multimask: bool) -> bool | None:
        """Return the decoder's ``multimask`` argument; None decodes every mask token."""
        return multimask

    def count(self, num_masks: int, multimask: bool) -> int:
        """Return how many masks a prompt gives.

        Args:
            num_masks: number of masks in the network's configuration, without the single mask.
            multimask: the call's ``multimask_output``.
        """
        return num_masks if multimask else 1

    def choose(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        scores: Float32[np.ndarray, "p c"],
        multimask: bool,  # noqa: ARG002
    ) -> tuple[Float32[np.ndarray, "p k m m"], Float32[np.ndarray, "p k"]]:
        """Return the decoded masks and scores that are made at full size: here all."""
        return low_res, scores

    def full_size(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        image_size: int,
        input_size: tuple[int, int],
        original_size: tuple[int, int],
        threshold: float | None,
    ) -> Shaped[np.ndarray, "p c H W"]:
        """Return masks of the original size.

        Args:
            low_res: logits of the decoded tokens.
            image_size: side of the network's input, in pixels.
            input_size: (h, w) of the resized image inside that square.
            original_size: (H, W) of the masks.
            threshold: logit above which a pixel belongs to a mask; None gives float32 logits that
                are above 0 inside the masks.
        """
        return upscale(low_res, image_size, input_size, original_size, threshold)

    def finish(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        scores: Float32[np.ndarray, "p c"],
        image_size: int,
        input_size: tuple[int, int],
        original_size: tuple[int, int],
        threshold: float | None,
        multimask: bool,
    ) -> Finished:
        """Return masks, scores and low-res logits of the decoded ``tokens``; see ``full_size``."""
        low_res, scores = self.choose(low_res, scores, multimask)
        masks = self.full_size(low_res, image_size, input_size, original_size, threshold)
        return masks, scores, low_res


@dataclass(frozen=True)
class BestMask(MaskRule):
    """SAM-Med2D gives only the mask with the highest predicted IoU of several.

    Its sigmoid above 0.5 is the same as a logit above 0: it is taken after upscaling.
    """

    def count(self, num_masks: int, multimask: bool) -> int:  # noqa: ARG002
        """Return 1: the best mask alone."""
        return 1

    def choose(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        scores: Float32[np.ndarray, "p c"],
        multimask: bool,
    ) -> tuple[Float32[np.ndarray, "p k m m"], Float32[np.ndarray, "p k"]]:
        """Return the mask with the highest score of each prompt."""
        if not multimask:
            return low_res, scores
        best = scores.argmax(1)[:, None]
        taken = np.take_along_axis(low_res, best[..., None, None], 1)
        return taken, np.take_along_axis(scores, best, 1)


@dataclass(frozen=True)
class ProbabilityMask(MaskRule):
    """MedSAM upscales the sigmoid of its single mask in one step to the image's size, above 0.5.

    Its training left the tokens of the three masks alone: only the single one means anything.
    Between two low-res pixels a mean of sigmoids is not the sigmoid of the mean: the outline can
    lie up to one low-res pixel beside that of the logits, where one side is far more certain.
    """

    automatic: ClassVar[bool] = False

    def tokens(self, multimask: bool) -> bool | None:  # noqa: ARG002
        """Return False: the single mask."""
        return False

    def count(self, num_masks: int, multimask: bool) -> int:  # noqa: ARG002
        """Return 1: the single mask."""
        return 1

    def full_size(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        image_size: int,  # noqa: ARG002
        input_size: tuple[int, int],  # noqa: ARG002
        original_size: tuple[int, int],
        threshold: float | None,
    ) -> Shaped[np.ndarray, "p c H W"]:
        """Return masks, or the logits of the upscaled probabilities."""
        m = low_res.shape[-1]
        upscaled = upscale(_sigmoid(low_res), m, (m, m), original_size, None)
        upscaled = np.clip(upscaled, _CERTAIN, 1 - _CERTAIN)
        logits = np.log(upscaled) - np.log1p(-upscaled)
        return logits if threshold is None else logits > threshold


@dataclass(frozen=True)
class ClassMasks(MaskRule):
    """SAMed lets the strongest of all mask tokens win at each pixel of the network's input.

    Token 0 is the background; labels are brought to the image's size by nearest pixels. Masks of
    different classes never overlap, and the threshold plays no part. Logits are the lead over the
    strongest other token.
    """

    automatic: ClassVar[bool] = False

    def tokens(self, multimask: bool) -> bool | None:  # noqa: ARG002
        """Return None: every token competes, whichever are returned."""
        return None

    def full_size(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        image_size: int,
        input_size: tuple[int, int],
        original_size: tuple[int, int],
        threshold: float | None,
    ) -> Shaped[np.ndarray, "p c H W"]:
        """Return the pixels where each token is strongest, or each token's lead in logits."""
        logits = upscale(low_res, image_size, input_size, input_size, None)
        return np.stack([_classes(one, original_size, threshold is None) for one in logits])

    def finish(
        self,
        low_res: Float32[np.ndarray, "p c m m"],
        scores: Float32[np.ndarray, "p c"],
        image_size: int,
        input_size: tuple[int, int],
        original_size: tuple[int, int],
        threshold: float | None,
        multimask: bool,
    ) -> Finished:
        """Compare all tokens, then return the masks of ``multimask``."""
        masks = self.full_size(low_res, image_size, input_size, original_size, threshold)
        chosen = select_masks(multimask)
        return masks[:, chosen], scores[:, chosen], low_res[:, chosen]


def resize_labels(labels: Num[np.ndarray, "h w"], size_hw: tuple[int, int]) -> np.ndarray:
    """SciPy's zoom of order 0 resizes labels, as SAMed does it."""
    from scipy import ndimage

    (h, w), (height, width) = labels.shape, size_hw
    return labels if (h, w) == size_hw else ndimage.zoom(labels, (height / h, width / w), order=0)


def _classes(
    logits: Float32[np.ndarray, "c h w"], original_size: tuple[int, int], leads: bool
) -> Shaped[np.ndarray, "c H W"]:
    """Return the pixels where each token is strongest, or each token's lead in logits."""
    if not leads:
        labels = resize_labels(logits.argmax(0).astype(np.int32), original_size)
        return labels == np.arange(len(logits), dtype=np.int32)[:, None, None]
    lead = np.empty((len(logits), *original_size), np.float32)
    for i, own in enumerate(logits):
        others = np.delete(logits, i, axis=0).max(0) if len(logits) > 1 else 0
        lead[i] = resize_labels(own - others, original_size)
    return lead


def _sigmoid(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-x))).astype(np.float32)
