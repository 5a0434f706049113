"""Low-res logits to the masks that a family's own code gives: official, MedSAM's, SAMed's...

Rules (``Preprocess.output``), each for the masks of one prompt:

official     the masks of ``multimask_output``, upscaled as logits, above the threshold.
probability  the single mask; its sigmoid is upscaled in one step to the image's size, above 0.5.
             Between two low-res pixels a mean of sigmoids is not the sigmoid of the mean: the
             outline can lie up to one low-res pixel beside that of the logits, where one side is
             far more certain than the other.
best         of several masks the one with the highest predicted IoU alone; else as official. A
             sigmoid above 0.5 is there the same as a logit above 0: it is taken after upscaling.
classes      of all mask tokens the strongest wins at each pixel of the network's input, token 0
             is the background; labels are brought to the image's size by nearest pixels. Masks
             of different classes never overlap, and the threshold plays no part.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

from samjax.masks import upscale
from samjax.preprocess import Preprocess
from samjax.resampling import resize_labels

_CERTAIN = 1e-7  # probabilities are kept this far from 0 and 1, where logits are infinite


def wants_all(preset: Preprocess) -> bool:
    """Whether a rule looks at all mask tokens, whichever are returned."""
    return preset.output == "classes"


def wants_several(preset: Preprocess, multimask: bool) -> bool:
    """Whether the masks of ``multimask_output=True`` are to be decoded.

    MedSAM's training left the tokens of the three masks alone: only the single one means anything.
    """
    return multimask and preset.output != "probability"


def count_masks(preset: Preprocess, num_masks: int, multimask: bool) -> int:
    """How many masks a prompt gives; ``num_masks`` is that of the network's configuration."""
    several = wants_several(preset, multimask) and preset.output != "best"
    return num_masks if several else 1


def best_only(
    low_res: Float32[np.ndarray, "p c m m"],
    scores: Float32[np.ndarray, "p c"],
    preset: Preprocess,
    multimask: bool,
) -> tuple[Float32[np.ndarray, "p k m m"], Float32[np.ndarray, "p k"]]:
    """The mask with the highest score of each prompt for the rule "best", else all."""
    if preset.output != "best" or not multimask:
        return low_res, scores
    best = scores.argmax(1)[:, None]
    taken = np.take_along_axis(low_res, best[..., None, None], 1)
    return taken, np.take_along_axis(scores, best, 1)


def full_size(
    low_res: Float32[np.ndarray, "p c m m"],
    image_size: int,
    input_size: tuple[int, int],
    original_size: tuple[int, int],
    threshold: float | None,
    preset: Preprocess,
) -> Shaped[np.ndarray, "p c H W"]:
    """Masks of the original size by the preset's rule; see `samjax.masks.upscale`.

    ``low_res`` are the masks of all tokens for the rule "classes". ``threshold=None`` gives
    float32 logits that are above 0 inside the masks: for "probability" those of the upscaled
    sigmoid, for "classes" the lead over the strongest other token.
    """
    if preset.output == "probability":
        m = low_res.shape[-1]
        certain = _sigmoid(low_res)
        upscaled = upscale(certain, m, (m, m), original_size, None)
        upscaled = np.clip(upscaled, _CERTAIN, 1 - _CERTAIN)
        logits = np.log(upscaled) - np.log1p(-upscaled)
        return logits if threshold is None else logits > threshold
    if preset.output == "classes":
        logits = upscale(low_res, image_size, input_size, input_size, None)
        out = [_classes(one, original_size, threshold is None) for one in logits]
        return np.stack(out)
    return upscale(low_res, image_size, input_size, original_size, threshold)


def _classes(
    logits: Float32[np.ndarray, "c h w"], original_size: tuple[int, int], leads: bool
) -> Shaped[np.ndarray, "c H W"]:
    """Where each token is the strongest, or by how much it leads."""
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
