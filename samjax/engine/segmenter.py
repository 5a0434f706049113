"""The segmenter compiles a network with its weights, dtype, device and preset.

Weights are split from the structure once; the compiled functions close over the structure and
take weights and inputs as traced arguments, so that nothing recompiles when they change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32

from samjax.arguments import RealNumber
from samjax.checkpoint.origin import Origin
from samjax.checkpoint.parameters import (
    model_parameters,
    parameter_count,
)
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.embedding import ImageEmbedding
from samjax.engine.again import load_again
from samjax.engine.clicks import Clicks
from samjax.engine.devices import (
    check_process,
    check_same_device,
    chunks_for,
    images_at_once,
    naming_memory,
    remember_process,
)
from samjax.engine.functions import decode, encode, encode_rows, flat, positions
from samjax.engine.measuring import MaskFunctions, Measuring
from samjax.errors import CheckpointError, MigrationError
from samjax.image.preset import PreparedImage, Preset
from samjax.masks.measure import canvas
from samjax.migration import SEGMENTER, answers
from samjax.model.config import SamConfig, TinyVitConfig
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import Sam

_T = TypeVar("_T")


class Segmenter:
    """A segmenter, from ``samjax.load``, encodes images and decodes prompts.

    It can be pickled if it came from ``samjax.load``: what is pickled is its source, which is
    loaded again, with a hash of the weights. A copy shares the weights. After a fork of the
    process the child must not use it: there it raises a DeviceError.

    Attributes:
        config: sizes of the network.
        preset: preprocessing of images.
        dtype: dtype of the matrix products; sums, norms and softmax are float32.
        precision: precision of float32 matrix products on GPU and TPU; "highest" keeps the
            official numbers, "default" allows TF32.
        attention: what ``load`` was asked for: "auto" or "pallas".
        device: device of the weights, of single images' encoding and of the prompts' decoding.
        devices: devices that encode batches of images; the first one is ``device``.
        family: family of the checkpoint, for example "official".
        notes: sentences on what was assumed or left out while loading.
        origin: address, commit, sha256 and licence of a model that was loaded by its name or by
            an address on the Hugging Face hub; None for paths.
        model: the Flax NNX module, to inspect, differentiate or change: ``nnx.split(sam.model)``.
            The compiled functions hold the weights that it had when it was loaded; after a change
            of weights call ``refresh``.
        automatic_thresholds: thresholds that automatic masks use unless told otherwise; the
            checkpoint's, else the official ones.
        images_at_once: images that ``encode_many`` encodes together on each device.
        mask_threshold: logit above which a pixel belongs to a mask (0.0, as the official).
    """

    mask_threshold = RealNumber()

    def __init__(
        self,
        model: Sam,
        *,
        preset: Preset,
        dtype: np.dtype,
        precision: str,
        attention: str = "auto",
        device: jax.Device,
        family: str,
        source: str,
        notes: tuple[str, ...] = (),
        devices: Sequence[jax.Device] = (),
        dtype_chosen: bool = False,
        thresholds: AutomaticThresholds | None = None,
        origin: Origin | None = None,
        arguments: dict[str, Any] | None = None,
    ):
        remember_process()
        self.config: SamConfig = model.config
        self.preset, self.dtype, self.precision = preset, dtype, precision
        self.attention = attention
        self.device, self.family, self.source, self.notes = device, family, source, notes
        self.devices = tuple(devices) or (device,)
        self.origin = origin
        self.mask_threshold = 0.0
        self.images_at_once = images_at_once(device)
        self.automatic_thresholds = thresholds or AutomaticThresholds()
        self.model, self._dtype_chosen, self._arguments = model, dtype_chosen, arguments
        self._chunks = chunks = chunks_for(device, dtype, attention)
        encoder, self._encoder_leaves = flat(model.image_encoder)
        decoder, self._decoder_leaves = flat(model.decoder)
        self._encode = jax.jit(partial(encode, encoder, preset, precision, chunks))
        self._decode = jax.jit(
            partial(decode, decoder, precision, chunks), static_argnames="multimask"
        )
        self._mask_functions = MaskFunctions.compile(one_by_one=device.platform == "cpu")
        self._positions = jax.jit(partial(positions, decoder))
        self._clicks = Clicks(model.config)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise CheckpointError(
                "a Segmenter that was not made by samjax.load has no source to be pickled as: "
                "write its weights to a file, load that, and pickle the result"
            )
        # Hashed anew: the weights may have changed since the fingerprint was asked for
        settings = self.mask_threshold, self.automatic_thresholds
        return load_again, (self._arguments, self._hash_weights(), *settings)

    def __copy__(self) -> Segmenter:
        return self._with_model(self.model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Segmenter:
        return self._with_model(nnx.clone(self.model))

    def _with_model(self, model: Sam) -> Segmenter:
        """Return a segmenter of the same settings for another module."""
        made = Segmenter(
            model,
            preset=self.preset,
            dtype=self.dtype,
            precision=self.precision,
            attention=self.attention,
            device=self.device,
            family=self.family,
            source=self.source,
            notes=self.notes,
            devices=self.devices,
            dtype_chosen=self._dtype_chosen,
            thresholds=self.automatic_thresholds,
            origin=self.origin,
            arguments=self._arguments,
        )
        made.mask_threshold = self.mask_threshold
        return made

    def __repr__(self) -> str:
        millions = parameter_count(self.config) / 1e6
        known = self.origin and self.origin.entry.commit
        commit = f" at commit {known}" if known else ""
        return (
            f"Segmenter({self.source}{commit}: {self.family}, {millions:.1f} M parameters, "
            f"{self.config.image_size} px, {_sizes(self.config)}, {self._products()}, "
            f"preprocessing {self.preset.name}, {self._automatic()}"
            f"on {', '.join(map(str, self.devices))})"
        )

    def _automatic(self) -> str:
        """Return the thresholds of automatic masks in words; "" for presets without them."""
        if not self.preset.masks.automatic:
            return ""
        return f"automatic masks: {self.automatic_thresholds}, "

    def _repr_html_(self) -> str:
        """Return the model card that a notebook shows."""
        from samjax.engine.card import card_html  # which imports this module

        return card_html(self)

    @property
    def card(self) -> str:
        """Return the text of the README of the model's repository, "" where there is none."""
        return self.origin.card if self.origin else ""

    def _products(self) -> str:
        """Return dtype and precision in words."""
        chosen = " (chosen for this device)" if self._dtype_chosen else ""
        kernel = ", attention by the Pallas kernel" * (self._chunks.kernel == "pallas")
        return f"{self.dtype.name}{chosen}, precision {self.precision}{kernel}"

    def encode(self, image: PreparedImage) -> ImageEmbedding:
        """Encode one prepared image.

        Returns:
            The embedding, float32 features on the device (asynchronous, as all of JAX).
        """
        check_process()
        pixels = jax.device_put(image.pixels, self.device)
        size = jax.device_put(np.asarray(image.input_size, np.int32), self.device)
        with naming_memory(1, self.device):
            return _embedding(self._encode(self._encoder_leaves, pixels, size), image)

    def encode_many(self, images: Iterable[PreparedImage]) -> Iterator[ImageEmbedding]:
        """Yield the embeddings of many images, on ``device``, encoded in batches on ``devices``.

        The next batch is prepared by the host while the devices work on one.
        """
        size = self.images_at_once * len(self.devices)
        pending: Iterator[ImageEmbedding] = iter(())
        for batch in _batches(images, size):
            started = (
                iter([self.encode(image) for image in batch])
                if size == 1
                else self.encode_batch(batch, size)
            )
            yield from pending
            pending = started
        yield from pending

    def encode_batch(self, images: list[PreparedImage], size: int) -> Iterator[ImageEmbedding]:
        """Start a batch, padded to ``size``; its rows are taken apart when they are asked for.

        All batches of one size are one compiled function, so that an embedding does not depend on
        the images beside it.
        """
        check_process()
        filled = images + images[-1:] * (size - len(images))
        pixels = np.stack([image.pixels for image in filled])
        sizes = np.array([image.input_size for image in filled], np.int32)
        compiled, leaves, rows = self._batched
        with naming_memory(size // len(self.devices), self.device):
            found = compiled(leaves, jax.device_put(pixels, rows), jax.device_put(sizes, rows))
        return (_embedding(self._row(found, i), image) for i, image in enumerate(images))

    def _row(self, rows: Array, index: int) -> Array:
        """Return one row of an array on ``device``, whatever jax_transfer_guard says."""
        with jax.transfer_guard("allow"):  # the index goes to the devices: one compilation for all
            return jax.device_put(rows[index], self.device)

    @cached_property
    def _batched(self) -> tuple[Any, list[Array], NamedSharding]:
        """Return the encoder of batches, its weights on all devices, and the rows' sharding."""
        mesh = Mesh(np.array(self.devices), ("images",))
        structure, _ = flat(self.model.image_encoder)
        leaves = jax.device_put(self._encoder_leaves, NamedSharding(mesh, PartitionSpec()))
        one = partial(encode, structure, self.preset, self.precision, self._chunks)
        compiled = jax.jit(partial(encode_rows, one, mesh))
        return compiled, leaves, NamedSharding(mesh, PartitionSpec("images"))

    def decode(
        self, image_embedding: Float[Array, "g g c"], prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float[Array, "p m 4*g 4*g"], Float[Array, "p m"]]:
        """Return low-res mask logits and predicted IoUs of many prompts, on the device.

        ``multimask=None`` gives all masks, the single one first. It is compiled once for
        each number of prompts and tokens: pad them to buckets; see ``click`` for one prompt.
        """
        check_process()
        # On purpose also where jax_transfer_guard forbids it; device_put costs 0.1 ms a click more
        with jax.transfer_guard_host_to_device("allow"):
            return self._decode(
                self._decoder_leaves, self._image_pe, image_embedding, prompts, multimask=multimask
            )

    def click(
        self, image_embedding: Float[Array, "g g c"], prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float32[np.ndarray, "1 m 4*g 4*g"], Float32[np.ndarray, "1 m"]]:
        """Return low-res mask logits and predicted IoUs of one prompt, on the host; see Clicks."""
        return self._clicks(self._decode_all, image_embedding, prompts, multimask)

    def _decode_all(self, image_embedding: Array, prompts: Prompts) -> tuple[Array, Array]:
        return self.decode(image_embedding, prompts, multimask=None)

    def measuring(
        self,
        input_size: tuple[int, int],
        original_size: tuple[int, int],
        threshold: float,
        offset: float,
    ) -> Measuring:
        """Prepare to measure many masks of one image at full size; see Measuring."""
        check_process()
        config = self.config
        area = canvas(config.low_res_size, config.image_size, input_size, original_size)
        return Measuring(self._mask_functions, area, threshold, offset, self.device)

    @cached_property
    def _image_pe(self) -> Array:
        return self._positions(self._decoder_leaves)

    def warmup(self) -> Segmenter:
        """Compile encoder and decoder, so that a first image and a first click do not wait."""
        size = self.config.image_size
        blank = PreparedImage(np.zeros((size, size, 3), np.uint8), (size, size), (size, size))
        self._clicks.compile_all(self._decode_all, self.encode(blank).features)
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of weights, dtype and preset: the key of saved image embeddings."""
        return self._hash_weights()

    def _hash_weights(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.config, self.dtype.name, self.preset.name)).encode())
        for path, value in sorted(self.parameters().items()):
            digest.update(path.encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def refresh(self) -> Segmenter:
        """Take over the weights that ``model`` has now; nothing is compiled again.

        Embeddings that were made before belong to the earlier weights.
        """
        _, self._encoder_leaves = flat(self.model.image_encoder)
        _, self._decoder_leaves = flat(self.model.decoder)
        for name in ("_batched", "_image_pe", "fingerprint"):
            vars(self).pop(name, None)
        return self

    def parameters(self) -> dict[str, np.ndarray]:
        """Return all weights by dotted path, on the host."""
        check_process()
        return {path: jax.device_get(v) for path, v in model_parameters(self.model).items()}

    # ------------------------------------------------------- official names, for migrated scripts

    def to(self, device: Any = None, dtype: Any = None) -> Segmenter:
        """Return the model if it is on that device already: ``load`` chooses the device.

        Args:
            device: a name, "cuda" meaning "gpu", or a jax.Device.
            dtype: dtypes are refused, also as ``device``: ``load`` chooses the dtype.

        Raises:
            DeviceError: the model is on another device, or a dtype is given.
        """
        check_same_device(device, dtype, self.device)
        return self

    def cuda(self, index: int | None = None) -> Segmenter:
        """Return the model if it is on that GPU, or any for None; see ``to``."""
        return self.to("cuda" if index is None else f"cuda:{index}")

    def cpu(self) -> Segmenter:
        """Return the model if it is on the CPU; see ``to``."""
        return self.to("cpu")

    def eval(self) -> Segmenter:
        """Return the model: samjax is for inference alone, without dropout."""
        return self

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse the official call with batched inputs.

        Raises:
            MigrationError: always; it names predict_images.
        """
        raise MigrationError(f"a Segmenter is not called: {SEGMENTER['forward']}")

    if not TYPE_CHECKING:  # type checkers go on refusing unknown names
        __getattr__ = answers(SEGMENTER)


def _embedding(features: Float[Array, "g g c"], image: PreparedImage) -> ImageEmbedding:
    return ImageEmbedding(features, image.original_size, image.input_size, image.image_hash)


def _sizes(config: SamConfig) -> str:
    """Return width and depth of the image encoder in words."""
    e = config.image_encoder
    if isinstance(e, TinyVitConfig):
        return f"TinyViT of widths {'-'.join(map(str, e.widths))}"
    return f"width {e.width}, depth {e.depth}"


def _batches(images: Iterable[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
