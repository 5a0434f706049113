"""Run Grounding DINO and OWLv2 as open-vocabulary detectors, through transformers.

This is the only module of the library that uses torch: it needs the extra ``text``, and imports
torch on the first call of ``load_detector``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image

from samjax.errors import DetectorError, PromptError
from samjax.files import given_path
from samjax.masks.nms import suppress

DEFAULT_DETECTOR = "IDEA-Research/grounding-dino-tiny"
_EXTRA = "pip install 'samjax[text]'"

Found = tuple[Float32[np.ndarray, "n 4"], Float32[np.ndarray, " n"], tuple[str, ...]]


def phrase_spans(
    tokens: Sequence[int], separator: int, count: int
) -> Bool[np.ndarray, "phrases tokens"]:
    """Mark which tokens of "[CLS] a dog . a cat . [SEP]" belong to which of ``count`` phrases."""
    spans = np.zeros((count, len(tokens)), bool)
    phrase = 0
    for position, token in enumerate(tokens[1:-1], 1):
        if token == separator:
            phrase += 1
        else:
            spans[phrase, position] = True
    return spans


def corners(boxes: Float[np.ndarray, "q 4"], size: tuple[int, int]) -> Float32[np.ndarray, "q 4"]:
    """Convert relative (centre, width, height) to x0, y0, x1, y1 in pixels.

    Args:
        boxes: cx, cy, w, h relative to ``size``.
        size: (H, W) in pixels that relative 1 stands for.
    """
    centre, extent = boxes[:, :2], boxes[:, 2:]
    height, width = size
    scale = np.array([width, height, width, height], np.float32)
    relative = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    return relative.astype(np.float32) * scale


def keep_best(
    boxes: Float32[np.ndarray, "q 4"],
    scores: Float32[np.ndarray, " q"],
    kinds: Int[np.ndarray, " q"],
    nms_threshold: float,
) -> Int[np.ndarray, " kept"]:
    """Apply NMS within each class and return the kept indices by descending score."""
    kept = []
    for kind in np.unique(kinds):
        group = np.flatnonzero(kinds == kind)
        kept.append(group[suppress(boxes[group], scores[group], nms_threshold)])
    indices = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return indices[np.argsort(-scores[indices], kind="stable")]


class _Adapter:
    """Runs a transformers model with its processor; subclasses turn its outputs into boxes.

    Boxes need a confidence above ``box_threshold``; NMS within each phrase drops those that
    overlap a better one by more than the IoU ``nms_threshold``.
    """

    def __init__(self, model: Any, processor: Any, box_threshold: float, nms_threshold: float):
        if not (math.isfinite(box_threshold) and 0 <= box_threshold < 1):
            raise PromptError(f"box threshold {box_threshold}: give a confidence from 0 to 1")
        self.model = model
        self.processor = processor
        self.box_threshold = box_threshold
        self.nms_threshold = nms_threshold

    def _tokens(self, text: str) -> int:
        """Count the tokens of a text, including the start and end tokens."""
        tokenizer = self.processor.tokenizer
        return len(tokenizer.tokenize(text)) + tokenizer.num_special_tokens_to_add()

    def _run(
        self, image: UInt8[np.ndarray, "H W 3"], text: Any
    ) -> tuple[Float32[np.ndarray, "q t"], Float32[np.ndarray, "q 4"]]:
        """Run the model on an image and its text.

        Returns:
            Probabilities, queries x tokens (or phrases), and boxes, queries x (cx, cy, w, h)
            relative to the image.
        """
        import torch

        # A PIL image, because processors guess the axis order of arrays.
        inputs = self.processor(images=Image.fromarray(image), text=text, return_tensors="pt")
        try:
            with torch.inference_mode():
                outputs = self.model(**inputs.to(self.model.device))
        except torch.OutOfMemoryError as error:
            raise DetectorError(
                f"the detector does not fit beside SAM on {self.model.device}: load it with "
                "device='cpu' (on the command line: --device cpu)"
            ) from error
        probabilities, boxes = outputs.logits[0].sigmoid(), outputs.pred_boxes[0]
        return probabilities.float().cpu().numpy(), boxes.float().cpu().numpy()

    def _found(
        self,
        boxes: Float32[np.ndarray, "q 4"],
        scores: Float32[np.ndarray, " q"],
        kinds: Int[np.ndarray, " q"],
        phrases: Sequence[str],
    ) -> Found:
        kept = keep_best(boxes, scores, kinds, self.nms_threshold)
        return boxes[kept], scores[kept], tuple(phrases[kind] for kind in kinds[kept])


class GroundingDino(_Adapter):
    """Detects phrases with Grounding DINO (arXiv 2303.05499).

    The model reads all phrases in one text and scores each token. A box has the score of its best
    token, as in the official code. Its label is the phrase of the best token within a phrase; the
    official label joins all tokens above the text threshold and need not be any of the phrases. A
    box that matches only the dots between phrases is dropped.

    The default thresholds are those of the official demo; the NMS threshold is Grounded SAM's.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
        nms_threshold: float = 0.8,
    ):
        super().__init__(model, processor, box_threshold, nms_threshold)
        self.text_threshold = text_threshold

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str], /) -> Found:
        """Detect phrases: boxes (pixels), scores, labels; see ``samjax.text.segment.Detector``.

        Raises:
            PromptError: a phrase contains a separator, or the phrases have too many tokens.
        """
        for phrase in phrases:
            for mark in ".?":
                if mark in phrase:
                    raise PromptError(
                        f"phrase {phrase!r} has a {mark!r}: Grounding DINO splits phrases there; "
                        "leave it out"
                    )
        text = ". ".join(phrase.lower() for phrase in phrases) + "."
        length, most = self._tokens(text), self.model.config.max_text_len
        if length > most:
            raise PromptError(
                f"the phrases have {length} tokens together: Grounding DINO reads at most {most}; "
                "give fewer or shorter phrases at a time"
            )
        tokens = self.processor.tokenizer(text)["input_ids"]
        probabilities, relative = self._run(image, text)
        separator = self.processor.tokenizer.convert_tokens_to_ids(".")
        spans = phrase_spans(tokens, separator, len(phrases))
        by_phrase = np.stack([_largest(probabilities[:, : len(tokens)], span) for span in spans])
        scores, kinds = probabilities.max(axis=1), by_phrase.argmax(axis=0)
        keep = (scores > self.box_threshold) & (by_phrase.max(axis=0) > self.text_threshold)
        boxes = corners(relative[keep], image.shape[:2])
        return self._found(boxes, scores[keep], kinds[keep], phrases)


def _largest(
    probabilities: Float32[np.ndarray, "q t"], span: Bool[np.ndarray, " t"]
) -> Float32[np.ndarray, " q"]:
    return probabilities[:, span].max(axis=1, initial=0)


class Owlv2(_Adapter):
    """Detects phrases with OWLv2 (arXiv 2306.09683).

    The model reads each phrase as a text of its own and predicts one box for each image patch.
    Neighbouring patches detect the same object, hence NMS. Phrases are passed on unchanged; the
    paper's prompts are like "a photo of a dog". The default threshold is transformers'.
    """

    def __init__(
        self, model: Any, processor: Any, box_threshold: float = 0.1, nms_threshold: float = 0.5
    ):
        super().__init__(model, processor, box_threshold, nms_threshold)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str], /) -> Found:
        """Detect phrases: boxes (pixels), scores, labels; see ``samjax.text.segment.Detector``.

        Raises:
            PromptError: a phrase is too long.
        """
        most = self.model.config.text_config.max_position_embeddings
        for phrase in phrases:
            length = self._tokens(phrase)
            if length > most:
                raise PromptError(
                    f"phrase {phrase!r} has {length} tokens: OWLv2 reads at most {most} of each; "
                    "shorten it, or separate phrases with dots"
                )
        probabilities, relative = self._run(image, [list(phrases)])
        scores, kinds = probabilities.max(axis=1), probabilities.argmax(axis=1)
        keep = scores > self.box_threshold
        # The image is padded to a square, right and below.
        side = max(image.shape[:2])
        return self._found(
            corners(relative[keep], (side, side)), scores[keep], kinds[keep], phrases
        )


# Keys are transformers' model types. MM Grounding DINO has Grounding DINO's inputs and outputs.
FAMILIES: dict[str, Callable[..., GroundingDino | Owlv2]] = {
    "grounding-dino": GroundingDino,
    "mm-grounding-dino": GroundingDino,
    "owlv2": Owlv2,
}


def load_detector(
    name: str,
    *,
    box_threshold: float | None = None,
    device: str | None = None,
    **options: float,
) -> GroundingDino | Owlv2:
    """Load Grounding DINO or OWLv2 from a folder or from Hugging Face.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a name such as
            "IDEA-Research/grounding-dino-base" or "google/owlv2-base-patch16-ensemble", fetched
            once by transformers.
        box_threshold: confidence above which boxes are kept, 0 to 1; default: the family's.
        device: torch device, such as "cpu" or "cuda:1"; default: CUDA if torch has it.
        options: nms_threshold, and Grounding DINO's text_threshold.

    Raises:
        DetectorError: torch or transformers is missing, there is no such folder or name, the
            model is of another kind, or weights are missing.
        PromptError: a threshold is outside 0 to 1.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise DetectorError(
            f"text prompts need transformers and torch ({error.name} is missing), because SAM's "
            f"own text encoder was never released: {_EXTRA}, or give a detector of your own to "
            "samjax.segment_text"
        ) from error
    source, fetched = _locate(name)
    with _quiet(transformers):
        try:
            parts = _read(transformers, name, source, offline=True)
        except DetectorError:
            if not fetched:
                raise
            # Tried only now, since transformers asks the network even for what the cache holds.
            parts = _read(transformers, name, source, offline=False)
    family, model, report, processor = parts
    _check_complete(name, model, report, processor)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model = model.float().eval().to(torch.device(chosen))
    except (RuntimeError, AssertionError) as error:
        raise DetectorError(
            f"torch cannot use device {chosen!r} ({_first_line(error)}); use 'cpu'"
        ) from error
    thresholds = {} if box_threshold is None else {"box_threshold": box_threshold}
    return family(model, processor, **thresholds, **options)


def _check_complete(name: str, model: Any, report: dict[str, Any], processor: Any) -> None:
    """Refuse a checkpoint with missing weights or tokenizer files.

    transformers initializes missing weights at random and accepts an empty tokenizer.
    """
    weights = {key for key, _ in model.named_parameters()}
    missing = sorted(weights & set(report["missing_keys"]))
    if missing:
        raise DetectorError(
            f"{name}: {len(missing)} of {len(weights)} weights are missing, such as {missing[0]}; "
            "get the whole checkpoint"
        )
    words, known = len(processor.tokenizer), model.config.text_config.vocab_size
    if words < known / 2:
        raise DetectorError(
            f"{name}: its tokenizer knows {words} tokens, the model {known}: files of the "
            "tokenizer are missing; get the whole checkpoint"
        )


def _locate(name: str) -> tuple[str, bool]:
    """Return the source that transformers reads, and whether it is a name on Hugging Face."""
    given = given_path(name, DetectorError)
    if given.is_file():
        raise DetectorError(f"{name}: is a file; give the folder that save_pretrained wrote")
    if given.exists():
        if not (given / "config.json").is_file():
            raise DetectorError(
                f"{name}: no config.json in it; give the folder that save_pretrained wrote"
            )
        return str(given), False
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise DetectorError(
            f"{name}: no such folder, and not a name on Hugging Face, which is OWNER/NAME such as "
            f"{DEFAULT_DETECTOR}"
        )
    return name, True


def _read(
    transformers: Any, name: str, source: str, *, offline: bool
) -> tuple[Callable[..., GroundingDino | Owlv2], Any, dict[str, Any], Any]:
    """Read the adapter's class, the model, transformers' loading report and the processor."""
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=offline)
        if config.model_type in FAMILIES:
            model, report = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(
                source, output_loading_info=True, local_files_only=offline
            )
            processor = transformers.AutoProcessor.from_pretrained(source, local_files_only=offline)
            return FAMILIES[config.model_type], model, report, processor
    except Exception as error:  # transformers, its hub client and its readers raise many kinds
        advice = (
            "cannot be fetched from Hugging Face ({}); check the name and the network, or give "
            "the folder of a detector"
            if source == name and not Path(name).exists()
            else "cannot be loaded as a detector ({}); check that its files are complete"
        )
        raise DetectorError(f"{name}: {advice.format(_first_line(error))}") from error
    raise DetectorError(
        f"{name}: a {config.model_type} model; text prompts work with {', '.join(FAMILIES)}"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence the logs of transformers and its hub client; problems are raised as errors instead.

    Progress bars stay on a terminal.
    """
    from huggingface_hub import logging as hub_logging

    logging = transformers.utils.logging
    before, hub_before = logging.get_verbosity(), hub_logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        hub_logging.set_verbosity(hub_before)
        if bars:
            logging.enable_progress_bar()
