"""Predict masks from prompts, from NumPy to NumPy, with the official SamPredictor's interface."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from samjax.arguments import RealNumber, instance, several
from samjax.array_arguments import array, number_array
from samjax.embedding import ImageEmbedding, read_embedding, write_embedding
from samjax.engine.registry import Model, as_segmenter
from samjax.errors import MigrationError, PromptError
from samjax.image.ahead import prepare_images
from samjax.image.frame import InputFrame
from samjax.image.preset import Pixels, PreparedImage, hash_pixels, prepare, read_for
from samjax.masks.regions import mask_prompts
from samjax.masks.upscale import mask_to_logits
from samjax.migration import PREDICTOR, answers
from samjax.prediction import Prediction, one_mask, predict_prompts


class SamPredictor:
    """Encode an image once, then predict masks for points, boxes and masks.

    Args:
        sam: what samjax.load returns, or the name or path of a model.

    >>> predictor = samjax.SamPredictor(samjax.load())
    >>> predictor.set_image("photo.jpg")
    >>> masks, scores, low_res = predictor.predict(
    ...     point_coords=[[320, 240]], point_labels=[1])

    Attributes:
        model: the ``Segmenter`` that encodes and decodes.
        mask_threshold: logit above which a pixel belongs to a mask.
    """

    mask_threshold = RealNumber()

    def __init__(self, sam: Model):
        self.model = as_segmenter(sam)
        self.mask_threshold = self.model.mask_threshold
        self._embedding: ImageEmbedding | None = None

    @property
    def is_image_set(self) -> bool:
        """Tell whether an image is set."""
        return self._embedding is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """Return the (H, W) of the current image, in pixels."""
        return self.current_embedding.original_size

    @property
    def input_size(self) -> tuple[int, int]:
        """Return the (h, w) of the current image inside the network's square input, in pixels."""
        return self.current_embedding.input_size

    @property
    def device(self) -> jax.Device:
        """Return the device on which the model runs."""
        return self.model.device

    @property
    def current_embedding(self) -> ImageEmbedding:
        """Return the embedding of the current image; ``set_embedding`` takes it back.

        Raises:
            PromptError: no image is set.
        """
        if self._embedding is None:
            raise PromptError("no image is set: call set_image(...) first")
        return self._embedding

    # ------------------------------------------------------------------ image

    def encode_image(
        self,
        image: Any,
        image_format: str = "RGB",
        *,
        bands: int | Sequence[int] | None = None,
        page: int | None = None,
    ) -> ImageEmbedding:
        """Encode an image without making it the current one.

        Args:
            image: H x W x 3 uint8 array, a PIL image, or a path; see samjax.image.read.read_image.
            image_format: "RGB" or "BGR", the order of an array's channels.
            bands: one or three bands to read, counted from 0.
            page: page of a file, counted from 0.

        Raises:
            ImageError: the image is unreadable, or is not an image.
        """
        read = read_for(self.model.preset, image, image_format, bands=bands, page=page)
        return self.encode_pixels(read)

    def encode_pixels(self, pixels: Pixels) -> ImageEmbedding:
        """Encode an image that ``read_for`` has read for this model's preset."""
        return self.model.encode(self._prepare(pixels))

    def _prepare(self, pixels: Pixels) -> PreparedImage:
        prepared = prepare(pixels, self.model.config.image_size, self.model.preset)
        return prepared._replace(image_hash=hash_pixels(pixels))

    def encode_images(self, images: Iterable[Any]) -> Iterator[ImageEmbedding]:
        """Encode many images, in batches where the model has an accelerator or several devices.

        Files, and arrays of a list, are read and resized in threads ahead of the devices: give
        paths where you can, not images that were opened one by one.

        Raises:
            ImageError: an image is unreadable; the message gives its index.
        """
        yield from self._encode_images(images, hashed=True)

    def _encode_images(self, images: Iterable[Any], *, hashed: bool) -> Iterator[ImageEmbedding]:
        model = self.model
        images = several(images, "images", "images")
        with closing(
            prepare_images(images, model.config.image_size, model.preset, hashed=hashed)
        ) as prepared:  # ends its threads, whatever happens
            yield from model.encode_many(prepared)

    def set_image(
        self,
        image: Any,
        image_format: str = "RGB",
        *,
        bands: int | Sequence[int] | None = None,
        page: int | None = None,
    ) -> None:
        """Encode an image (array, PIL image or path) and keep its embedding for predictions.

        The arguments are those of ``encode_image``.

        Raises:
            ImageError: the image is unreadable; the image that was set before stays.
        """
        self._embedding = self.encode_image(image, image_format, bands=bands, page=page)

    def set_embedding(self, embedding: ImageEmbedding) -> None:
        """Make an image that was encoded earlier the current one.

        Raises:
            PromptError: it is no ImageEmbedding.
        """
        self._embedding = instance(
            embedding, ImageEmbedding, "embedding", of="what encode_image returns"
        )

    def reset_image(self) -> None:
        """Forget the current image."""
        self._embedding = None

    def get_image_embedding(self) -> Float32[np.ndarray, "1 c g g"]:
        """Return the current image embedding in the official layout, 1 x C x g x g."""
        channels = self.model.config.mask_decoder.embed_dim  # SAM-HQ's own features follow these
        features = jax.device_get(self.current_embedding.features)[..., :channels]
        return features.transpose(2, 0, 1)[None]

    def save_embedding(self, path: str | os.PathLike[str]) -> Path:
        """Write the current image embedding to an .npz file atomically, and return its path.

        The file records the hash of the image and the fingerprint of the weights.

        Raises:
            ImageError: something else than an embedding is there, which is never replaced.
        """
        return write_embedding(path, self.current_embedding, self.model.fingerprint)

    def load_embedding(self, path: str | os.PathLike[str]) -> None:
        """Set the image from an embedding that ``save_embedding`` wrote.

        Raises:
            ImageError: the file is missing, damaged or no embedding, or was written with other
                weights, dtype or preprocessing.
        """
        model = self.model
        self._embedding = read_embedding(path, model.fingerprint, model.device, repr(model))

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
        """Predict masks of one object (official SamPredictor.predict).

        SAM-HQ always returns one mask: with ``multimask_output`` the one of the highest score.

        Args:
            point_coords: N x 2, (x, y) in pixels of the original image.
            point_labels: N, 1 for foreground, 0 for background.
            box: (x0, y0, x1, y1) in pixels.
            mask_input: 1 x m x m low-res logits of an earlier prediction; see mask_to_logits.
            multimask_output: return three masks (best for one ambiguous click) instead of one;
                presets other than SAM's have their own rules, see samjax.masks.rules.
            return_logits: return float32 logits instead of binary masks.
            hq_token_only: return SAM-HQ's own mask alone, not added to SAM's mask (argument of
                the official SAM-HQ).

        Returns:
            masks C x H x W (bool), scores C (float32), low-res logits C x m x m (float32), in
            the official order, which is not by score.

        Raises:
            PromptError: no image is set, the prompts do not fit together, or hq_token_only is
                given without SAM-HQ.
        """
        if point_coords is None and point_labels is not None:
            raise PromptError("point_labels without point_coords: give both or neither")
        boxes = None
        if box is not None:
            corners = array(box, "box")
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
            None if mask_input is None else one_mask(mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
            hq_token_only=hq_token_only,
        )
        return Prediction(*(x[0] for x in many))

    def predict_mask(
        self,
        mask: ArrayLike,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Predict masks of the object that a binary mask shows, to refine it.

        A mask prompt alone is not enough for SAM: it was trained with masks beside the points or
        the box that they came from, and answers a mask without them with nearly anything (IoU
        0.00 to a disc that was given so, 0.96 with its box). The mask's own box and the pixel
        that lies deepest inside are therefore given too.

        Args:
            mask: H x W of the current image's size; bool, or numbers above 0 inside.
            multimask_output, return_logits: as for predict.

        Raises:
            PromptError: no image is set, or the mask is empty or of another size.
        """
        inside = array(mask, "mask", real=True)
        if inside.shape != self.original_size:
            raise PromptError(
                f"mask of shape {inside.shape}: give H x W of the image, {self.original_size}"
            )
        inside = inside > 0
        point, box = mask_prompts(inside)
        config, preset = self.model.config, self.model.preset
        logits = mask_to_logits(inside, config.low_res_size, stretch=preset.stretches)
        return self.predict([point], [1], list(box), logits, multimask_output, return_logits)

    def predict_many(
        self,
        point_coords: np.ndarray | Sequence[ArrayLike] | None = None,
        point_labels: np.ndarray | Sequence[ArrayLike] | None = None,
        boxes: ArrayLike | None = None,
        mask_inputs: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        output: Literal["masks", "rle"] = "masks",
    ) -> Prediction:
        """Predict masks of P objects of the current image in one call (official predict_torch).

        Args:
            point_coords: P sets of points, P x N x 2, or a list of N_i x 2 (ragged).
            point_labels: P x N, or a list of N_i (ragged).
            boxes: P x 4, (x0, y0, x1, y1) in pixels.
            mask_inputs: P x 1 x m x m low-res logits.
            multimask_output, return_logits, hq_token_only: as for predict.
            output: "masks", arrays that take H * W bytes each; or "rle", COCO's run lengths, made
                block by block: 500 masks of a photograph of 12 megapixels then take megabytes
                instead of gigabytes.

        Returns:
            masks P x C x H x W, or P lists of C run lengths; scores P x C, low-res logits
            P x C x m x m. P may be 0, as where a detector found nothing.

        Raises:
            PromptError: no image is set, there is no prompt, prompts differ in number or shape,
                or run lengths of logits are asked for.
        """
        return predict_prompts(
            self.model,
            self.current_embedding,
            point_coords,
            point_labels,
            boxes,
            mask_inputs,
            multimask=multimask_output,
            threshold=None if return_logits else self.mask_threshold,
            hq_token_only=hq_token_only,
            output=output,
        )

    def predict_images(
        self,
        images: Sequence[Any],
        prompts: Sequence[Mapping[str, Any]],
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        output: Literal["masks", "rle"] = "masks",
    ) -> list[Prediction]:
        """Predict masks for several images in one call, each with any number of prompts.

        The current image of the predictor stays as it is.

        Args:
            images: arrays, PIL images or paths, of any sizes.
            prompts: arguments of predict_many for each image: point_coords, point_labels, boxes,
                mask_inputs; of no rows where nothing was found on an image.
            multimask_output, return_logits, hq_token_only, output: as for predict_many.

        Returns:
            One Prediction for each image.

        Raises:
            ImageError: an image is unreadable; the message gives its index.
            PromptError: an image's prompts are unusable; the message gives its index.
        """
        images = list(several(images, "images", "images"))
        prompts = list(several(prompts, "prompts", "dicts, one an image"))
        if len(images) != len(prompts):
            raise PromptError(
                f"{len(images)} images but {len(prompts)} prompts: give one mapping for each image"
            )
        known = {"point_coords", "point_labels", "boxes", "mask_inputs"}
        threshold = None if return_logits else self.mask_threshold
        predictions = []
        embeddings = self._encode_images(images, hashed=False)  # nobody sees them
        for number, (image, given) in enumerate(zip(embeddings, prompts, strict=True)):
            try:
                if unknown := set(instance(given, Mapping, "prompts", of="a dict")) - known:
                    raise PromptError(f"unknown {sorted(unknown)}: use {sorted(known)}")
                predictions.append(
                    predict_prompts(
                        self.model,
                        image,
                        **given,
                        multimask=multimask_output,
                        threshold=threshold,
                        hq_token_only=hq_token_only,
                        output=output,
                    )
                )
            except PromptError as error:
                raise type(error)(f"image {number}: {error}") from error
        return predictions

    # ------------------------------------------------------- official names, for migrated scripts

    @property
    def transform(self) -> InputFrame:
        """Return the official ``ResizeLongestSide``, for predict_torch alone."""
        return InputFrame(self.model.preset, self.model.config.image_size)

    @property
    def features(self) -> Float32[np.ndarray, "1 c g g"]:
        """Return the current image embedding in the official layout, 1 x C x g x g."""
        return self.get_image_embedding()

    @features.setter
    def features(self, _: Any) -> None:
        raise MigrationError(
            "features cannot be set: keep predictor.current_embedding and give it to "
            "set_embedding(...), or use save_embedding and load_embedding with files"
        )

    def predict_torch(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Predict as predict_many, from prompts in the frame of the network's input.

        This is the official contract: the prompts come from ``predictor.transform``. New code
        uses predict_many, which takes pixels of the image.

        Args:
            point_coords: P x N x 2, (x, y) in the frame; NumPy, or a torch tensor on the CPU.
            point_labels: P x N.
            boxes: P x 4, (x0, y0, x1, y1) in the frame.
            mask_input: P x 1 x m x m low-res logits.
            multimask_output, return_logits: as for predict.

        Returns:
            As predict_many: NumPy arrays.

        Raises:
            PromptError: as for predict_many, or coordinates beyond the network's input.
        """
        size = self.model.config.image_size
        given = {"point_coords": point_coords, "boxes": boxes}
        for name, values in given.items():
            found: np.ndarray = np.zeros(0) if values is None else number_array(values, name)
            if found.size and found.max() > size:
                raise PromptError(
                    f"predict_torch takes coordinates of the network's input of {size} x {size} "
                    f"pixels, these go up to {found.max():g}: apply predictor.transform, or use "
                    "predict_many, which takes pixels of the image"
                )
        image = self.current_embedding
        return predict_prompts(
            self.model,
            image,
            None if point_coords is None else np.asarray(point_coords),
            None if point_labels is None else np.asarray(point_labels),
            boxes,
            mask_input,
            multimask=multimask_output,
            threshold=None if return_logits else self.mask_threshold,
            frame=image.input_size,
        )

    if not TYPE_CHECKING:  # type checkers go on refusing unknown names
        __getattr__ = answers(PREDICTOR)
