"""SamPredictor: NumPy in, NumPy out, with the official class's arguments and results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike

from samjax.embeddings import ImageEmbedding, hash_pixels, read_embedding, write_embedding
from samjax.engine import Segmenter
from samjax.errors import ImageError, PromptError
from samjax.model.mask_decoder import select_masks
from samjax.model.prompt_encoder import Prompts
from samjax.outputs import best_only, full_size, wants_all, wants_several
from samjax.preprocess import Pixels, PreparedImage, prepare, read_for
from samjax.prompts import (
    blocks,
    check_boxes,
    check_masks,
    check_points,
    pack,
)


class Prediction(NamedTuple):
    """Masks of one or many prompts; unpacks like the official tuple.

    ``masks``: bool (or float32 logits) of the original image's size; ``scores``: predicted IoU
    of each mask; ``low_res``: mask logits to be given to the next call as ``mask_input``.
    """

    masks: Shaped[np.ndarray, "*p c H W"]
    scores: Float32[np.ndarray, "*p c"]
    low_res: Float32[np.ndarray, "*p c m m"]


class SamPredictor:
    """Encode an image once, then ask for masks by points, boxes and masks.

    >>> predictor = samjax.SamPredictor(samjax.load())
    >>> predictor.set_image("photo.jpg")
    >>> masks, scores, low_res = predictor.predict(
    ...     point_coords=[[320, 240]], point_labels=[1])

    ``mask_threshold`` is the logit above which a pixel belongs to a mask.
    """

    def __init__(self, sam: Segmenter):
        self.model = sam
        self.mask_threshold = sam.mask_threshold
        self._embedding: ImageEmbedding | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether an image is set."""
        return self._embedding is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """(H, W) of the image that is set, in pixels."""
        return self.current_embedding.original_size

    @property
    def input_size(self) -> tuple[int, int]:
        """(h, w) of that image inside the network's square input, in pixels."""
        return self.current_embedding.input_size

    @property
    def device(self) -> jax.Device:
        """Where the model runs."""
        return self.model.device

    @property
    def current_embedding(self) -> ImageEmbedding:
        """The image that is set, encoded; ``set_embedding`` takes it back.

        Raises:
            PromptError: no image is set.
        """
        if self._embedding is None:
            raise PromptError("no image is set: call set_image(...) first")
        return self._embedding

    # ------------------------------------------------------------------ image

    def encode_image(self, image: Any, image_format: str = "RGB") -> ImageEmbedding:
        """Encode an image without making it the current one.

        Args:
            image: H x W x 3 uint8 array, a PIL image, or a path; see samjax.image.read_image.
            image_format: "RGB" or "BGR", the order of an array's channels.

        Raises:
            ImageError: unreadable, or not an image.
        """
        return self.encode_pixels(read_for(self.model.preset, image, image_format))

    def encode_pixels(self, pixels: Pixels) -> ImageEmbedding:
        """Encode an image that ``samjax.preprocess.read_for`` has read for this model's preset."""
        prepared = prepare(pixels, self.model.config.image_size, self.model.preset)
        return ImageEmbedding(
            self.model.encode(prepared),
            prepared.original_size,
            prepared.input_size,
            hash_pixels(pixels),
        )

    def encode_images(self, images: Iterable[Any]) -> Iterator[ImageEmbedding]:
        """Encode many images, in batches where the model has an accelerator or several devices.

        Raises:
            ImageError: with the number of the image.
        """
        facts: list[tuple[Any, ...]] = []

        def prepared() -> Iterator[PreparedImage]:
            for number, image in enumerate(images):
                try:
                    pixels = read_for(self.model.preset, image, "RGB")
                except ImageError as error:
                    raise type(error)(f"image {number}: {error}") from error
                ready = prepare(pixels, self.model.config.image_size, self.model.preset)
                facts.append((ready.original_size, ready.input_size, hash_pixels(pixels)))
                yield ready

        for number, features in enumerate(self.model.encode_many(prepared())):
            yield ImageEmbedding(features, *facts[number])

    def set_image(self, image: Any, image_format: str = "RGB") -> None:
        """Encode an image (array, PIL image or path) and keep its embedding for predictions.

        Raises:
            ImageError: unreadable, or not an image; the image set before stays.
        """
        self._embedding = self.encode_image(image, image_format)

    def set_embedding(self, embedding: ImageEmbedding) -> None:
        """Make an image encoded earlier the current one."""
        self._embedding = embedding

    def reset_image(self) -> None:
        """Forget the image."""
        self._embedding = None

    def get_image_embedding(self) -> Float32[np.ndarray, "1 c g g"]:
        """The image embedding in the official layout, 1 x C x g x g."""
        channels = self.model.config.mask_decoder.embed_dim  # SAM-HQ's features lie behind
        features = np.asarray(self.current_embedding.features)[..., :channels]
        return features.transpose(2, 0, 1)[None]

    def save_embedding(self, path: str | os.PathLike) -> Path:
        """Write the current image embedding (.npz), keyed by the image and the weights.

        Written under a temporary name and renamed. Returns the path.
        """
        return write_embedding(path, self.current_embedding, self.model.fingerprint)

    def load_embedding(self, path: str | os.PathLike) -> None:
        """Set the image from an embedding that ``save_embedding`` wrote.

        Raises:
            ImageError: not such a file, or written with other weights, dtype or preprocessing.
        """
        self._embedding = read_embedding(path, self.model)

    # ---------------------------------------------------------------- predict

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
    ) -> Prediction:
        """Masks of one object (official SamPredictor.predict).

        Args:
            point_coords: N x 2, (x, y) in pixels of the original image.
            point_labels: N, 1 for the object, 0 for what is not part of it.
            box: (x0, y0, x1, y1) in pixels.
            mask_input: 1 x m x m low-res logits of an earlier prediction; see mask_to_logits.
            multimask_output: three masks (best for one ambiguous click) instead of one; other
                presets than SAM's have rules of their own, see samjax.outputs.
            return_logits: float32 logits instead of binary masks.
            hq_token_only: of SAM-HQ the finer mask alone, not added to SAM's own (official
                SAM-HQ's argument).

        SAM-HQ gives one mask in any case: with ``multimask_output`` that of the highest score.

        Returns:
            masks C x H x W (bool), scores C (float32), low-res logits C x m x m (float32), in
            the official order, which is not by score.

        Raises:
            PromptError: no image, prompts that do not fit together, or hq_token_only without
                SAM-HQ.
        """
        if point_coords is None and point_labels is not None:
            raise PromptError("point_labels without point_coords: give both or neither")
        boxes = None
        if box is not None:
            corners = np.asarray(box)
            if corners.size != 4:
                raise PromptError(
                    f"box has shape {corners.shape}: give (x0, y0, x1, y1); for several boxes "
                    "use predict_many"
                )
            boxes = corners.reshape(1, 4)
        many = self.predict_many(
            None if point_coords is None else [point_coords],
            None if point_labels is None else [point_labels],
            boxes,
            None if mask_input is None else _one_mask(mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
            hq_token_only=hq_token_only,
        )
        return Prediction(*(x[0] for x in many))

    def predict_many(
        self,
        point_coords: np.ndarray | Sequence[ArrayLike] | None = None,
        point_labels: np.ndarray | Sequence[ArrayLike] | None = None,
        boxes: ArrayLike | None = None,
        mask_inputs: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
    ) -> Prediction:
        """Masks of P objects of the current image in one call (official predict_torch).

        Args:
            point_coords: P sets of points, P x N x 2, or a list of N_i x 2 (ragged).
            point_labels: as many labels.
            boxes: P x 4.
            mask_inputs: P x 1 x m x m.
            multimask_output, return_logits, hq_token_only: as for predict.

        Returns:
            masks P x C x H x W, scores P x C, low-res logits P x C x m x m.

        Raises:
            PromptError: no image, no prompt, or prompts of different number or shape.
        """
        return _predict(
            self.model,
            self.current_embedding,
            point_coords,
            point_labels,
            boxes,
            mask_inputs,
            multimask=multimask_output,
            threshold=None if return_logits else self.mask_threshold,
            hq_token_only=hq_token_only,
        )

    def predict_images(
        self,
        images: Sequence[Any],
        prompts: Sequence[Mapping[str, Any]],
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
    ) -> list[Prediction]:
        """Masks for several images in one call, each with its own prompts, of any number.

        Args:
            images: arrays, PIL images or paths, of any sizes.
            prompts: for each image the arguments of predict_many: point_coords, point_labels,
                boxes, mask_inputs.
            multimask_output, return_logits, hq_token_only: as for predict.

        Returns:
            One Prediction an image. The current image of the predictor stays as it is.

        Raises:
            ImageError, PromptError: with the number of the image.
        """
        if len(images) != len(prompts):
            raise PromptError(
                f"{len(images)} images but {len(prompts)} prompts: give one mapping an image"
            )
        known = {"point_coords", "point_labels", "boxes", "mask_inputs"}
        threshold = None if return_logits else self.mask_threshold
        predictions = []
        embeddings = self.encode_images(images)
        for number, (image, given) in enumerate(zip(embeddings, prompts, strict=True)):
            try:
                if unknown := set(given) - known:
                    raise PromptError(f"unknown {sorted(unknown)}: use {sorted(known)}")
                predictions.append(
                    _predict(
                        self.model,
                        image,
                        **given,
                        multimask=multimask_output,
                        threshold=threshold,
                        hq_token_only=hq_token_only,
                    )
                )
            except PromptError as error:
                raise type(error)(f"image {number}: {error}") from error
        return predictions


def _one_mask(mask: ArrayLike) -> np.ndarray:
    array = np.asarray(mask)
    if array.ndim != 3 or array.shape[0] != 1:
        raise PromptError(
            f"mask_input has shape {array.shape}: give the 1 x m x m low-res logits of one mask, "
            "such as low_res[i : i + 1]"
        )
    return array


def _predict(
    model: Segmenter,
    image: ImageEmbedding,
    point_coords: np.ndarray | Sequence[ArrayLike] | None = None,
    point_labels: np.ndarray | Sequence[ArrayLike] | None = None,
    boxes: ArrayLike | None = None,
    mask_inputs: ArrayLike | None = None,
    *,
    multimask: bool,
    threshold: float | None,
    hq_token_only: bool = False,
) -> Prediction:
    """Check the prompts, decode, and bring the masks to the original size."""
    if hq_token_only and not model.config.hq:
        raise PromptError(
            f"hq_token_only is for SAM-HQ, this model is {model.family!r}: leave it out, or load "
            "a SAM-HQ checkpoint"
        )
    points = None
    if point_coords is not None:
        coords = list(point_coords)
        labels = [None] * len(coords) if point_labels is None else list(point_labels)
        if len(coords) != len(labels):
            raise PromptError(f"{len(coords)} sets of points but {len(labels)} of labels")
        points = [check_points(c, marks) for c, marks in zip(coords, labels, strict=True)]
    size = model.config.low_res_size
    checked_boxes = None if boxes is None else check_boxes(boxes)
    masks = None if mask_inputs is None else check_masks(mask_inputs, size)
    given = {"points": points, "boxes": checked_boxes, "mask_inputs": masks}
    counts = {name: len(value) for name, value in given.items() if value is not None}
    preset = model.preset
    if not counts and not preset.without_prompt:
        raise PromptError("no prompt: give point_coords with point_labels, a box, or mask_input")
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise PromptError(f"prompts of different number, {counts}: give one of each an object")
    prompts = pack(points, checked_boxes, masks, image.original_size, image.input_size)
    if model.config.hq:
        prompts = prompts._replace(hq_only=np.full(len(prompts.coords), hq_token_only))
    tokens = None if wants_all(preset) else wants_several(preset, multimask)
    low_res, scores = best_only(*_decode(model, image, prompts, tokens), preset, multimask)
    upscaled = full_size(
        low_res,
        model.config.image_size,
        image.input_size,
        image.original_size,
        threshold,
        preset,
    )
    if tokens is None:
        upscaled, low_res, scores = (
            x[:, select_masks(multimask)] for x in (upscaled, low_res, scores)
        )
    return Prediction(upscaled, scores, low_res)


def _decode(
    model: Segmenter, image: ImageEmbedding, prompts: Prompts, multimask: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    """Low-res logits and scores on the host: one prompt as a click, many in bounded blocks.

    ``multimask=None``: of all tokens.
    """
    count = len(prompts.coords)
    if count == 1:
        return model.click(image.features, prompts, multimask=multimask)
    decoded = []
    for kept, block in blocks(prompts):
        arrays = jax.device_get(model.decode(image.features, block, multimask=multimask))
        decoded.append([x[:kept] for x in arrays])
    low_res, scores = (np.concatenate(x) for x in zip(*decoded, strict=True))
    return low_res, scores
