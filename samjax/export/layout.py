"""Names, shapes and options of exported models, the same in both formats.

The decoder has the names and layout of the official ``export_onnx_model.py``, so that programs
written for its files run with these.
"""

from __future__ import annotations

from dataclasses import dataclass

from samjax.arguments import shown, whole_number
from samjax.errors import ExportError
from samjax.image.preset import Preset
from samjax.model.config import SamConfig
from samjax.model.prompt_encoder import ABSENT, NOT_A_POINT

DECODER_INPUTS = (
    "image_embeddings",
    "point_coords",
    "point_labels",
    "mask_input",
    "has_mask_input",
)
# The size of the original image, an input of ONNX alone: no shape in StableHLO depends on a value
SIZE_INPUT = "orig_im_size"
DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")
ENCODER_INPUT, ENCODER_OUTPUT = "image", "image_embeddings"
# Labels below 0 are kinds of tokens: -1 is the official padding point, which takes part in
# attention; -2 is samjax's own, masked out: it fills a file of a fixed number of points.
LABEL_OFFSET = NOT_A_POINT - 1
ABSENT_LABEL = LABEL_OFFSET - ABSENT

MASKS = ("all", "best")
MOST = 4096  # prompts, images or points of a call
WEIGHTS = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an exported part.

    Attributes:
        batch: number of prompts that the decoder takes, and of images that the encoder takes;
            None: any number, chosen at each call.
        points: number of points in each prompt, box corners and padding points included; None:
            any number.
        masks: "all" returns the masks of all tokens, the single mask first (the official default);
            "best" one mask: the first from 3 points on, else the best of the others (official
            ``--return-single-mask``).
        weights: dtype of the weights in an ONNX file; arithmetic is float32.
    """

    batch: int | None = 1
    points: int | None = None
    masks: str = "all"
    weights: str = "float32"

    def check(self) -> None:
        """Refuse options that mean nothing.

        Raises:
            ExportError: naming the option.
        """
        for name, number in (("batch", self.batch), ("points", self.points)):
            if number is None:
                continue
            if not 1 <= whole_number(number, name, error=ExportError) <= MOST:
                raise ExportError(
                    f"{name} is {shown(number)}: give 1 to {MOST}, or None (--{name} any) for any "
                    "number"
                )
        for name, value, known in (
            ("masks", self.masks, MASKS),
            ("weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise ExportError(f"{name} is {value!r}: use {' or '.join(known)}")


def embedding_width(config: SamConfig) -> int:
    """Return the channels of the image embedding; SAM-HQ's has features behind the official."""
    width = config.mask_decoder.embed_dim
    return 3 * width if config.hq else width


def image_dtype(preset: Preset) -> str:
    """Return the dtype of the encoder's pixels."""
    return "float32" if preset.values == "unit" else "uint8"
