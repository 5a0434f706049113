"""The one place that compiles: a network with its weights, dtype, device and preprocessing.

Weights are split from the structure once; the compiled functions close over the structure and
take weights and inputs as traced arguments, so that nothing recompiles when they change.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int

from samjax.checkpoint import hub, store
from samjax.checkpoint.families import OfficialWeights, Options
from samjax.checkpoint.loading import (
    fill_model,
    model_parameters,
    parameter_count,
    random_parameters,
)
from samjax.clicks import Clicks
from samjax.config import SamConfig, TinyVitConfig
from samjax.devices import PRECISIONS, choose_devices, choose_dtype, chunks_for, keep_compiled
from samjax.errors import CheckpointError, CheckpointWarning, DeviceError
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import Sam
from samjax.preprocess import PreparedImage, Preprocess, get_preset
from samjax.proposals import Canvas, Measured, measure
from samjax.traced import decode, encode, encode_rows, flat, positions

EMBEDDED = "tiny_384.safetensors"
# Images that an accelerator encodes at once: enough to keep it busy, within any GPU's memory.
_BATCH = 8
_T = TypeVar("_T")


class Segmenter:
    """What ``samjax.load`` returns: a network, ready to encode images and decode prompts.

    Attributes:
        config: sizes of the network.
        preset: preprocessing of images.
        dtype: of the network's products; sums, norms and softmax are float32.
        precision: of float32 products on GPU and TPU; "highest" keeps the official numbers,
            "default" allows TF32 there.
        device: where the weights live, single images are encoded and prompts are decoded.
        devices: where batches of images are encoded; the first one is ``device``.
        family: of checkpoint, for example "official".
        notes: what was assumed or left out while loading.
        mask_threshold: logit above which a pixel belongs to a mask (0.0, as the official).
    """

    def __init__(
        self,
        model: Sam,
        *,
        preset: Preprocess,
        dtype: np.dtype,
        precision: str,
        device: jax.Device,
        family: str,
        source: str,
        notes: tuple[str, ...] = (),
        devices: Sequence[jax.Device] = (),
        automatic: bool = False,
    ):
        self.config: SamConfig = model.config
        self.preset, self.dtype, self.precision = preset, dtype, precision
        self.device, self.family, self.source, self.notes = device, family, source, notes
        self.devices = tuple(devices) or (device,)
        self.mask_threshold = 0.0
        self._model, self._automatic = model, automatic
        self._chunks = chunks = chunks_for(device, dtype)
        encoder, self._encoder_leaves = flat(model.image_encoder)
        decoder, self._decoder_leaves = flat(model.decoder)
        self._encode = jax.jit(partial(encode, encoder, preset, precision, chunks))
        self._decode = jax.jit(
            partial(decode, decoder, precision, chunks), static_argnames="multimask"
        )
        self._measure = jax.jit(partial(measure, one_by_one=device.platform == "cpu"))
        self._positions = jax.jit(partial(positions, decoder))
        self._clicks = Clicks(model.config)

    def __repr__(self) -> str:
        millions = parameter_count(self.config) / 1e6
        return (
            f"Segmenter({self.source}: {self.family}, {millions:.1f} M parameters, "
            f"{self.config.image_size} px, {_sizes(self.config)}, {self._products()}, "
            f"preprocessing {self.preset.name}, on {', '.join(map(str, self.devices))})"
        )

    def _products(self) -> str:
        """dtype and precision in words."""
        chosen = " (chosen for this device)" if self._automatic else ""
        return f"{self.dtype.name}{chosen}, precision {self.precision}"

    def encode(self, image: PreparedImage) -> Float[Array, "g g c"]:
        """The image embedding, float32, on the device (asynchronous, as all of JAX)."""
        pixels = jax.device_put(image.pixels, self.device)
        size = jax.device_put(np.asarray(image.input_size, np.int32), self.device)
        return self._encode(self._encoder_leaves, pixels, size)

    def encode_many(self, images: Iterable[PreparedImage]) -> Iterator[Float[Array, "g g c"]]:
        """The embeddings of many images, each on ``device``, encoded in batches on ``devices``.

        The next batch is prepared by the host while the devices work on one.
        """
        size = self._images_at_once * len(self.devices)
        pending: Iterator[Array] = iter(())
        for batch in _batches(images, size):
            started = (
                iter([self.encode(image) for image in batch])
                if size == 1
                else self._encode_batch(batch, size)
            )
            yield from pending
            pending = started
        yield from pending

    @property
    def _images_at_once(self) -> int:
        """Images of a batch on one device: a CPU's cores are busy with a single one."""
        return 1 if self.device.platform == "cpu" else _BATCH

    def _encode_batch(self, images: list[PreparedImage], size: int) -> Iterator[Array]:
        """Start a batch, filled up to ``size``; rows are taken apart when they are asked for."""
        filled = images + images[-1:] * (size - len(images))
        pixels = np.stack([image.pixels for image in filled])
        sizes = np.array([image.input_size for image in filled], np.int32)
        compiled, leaves, rows = self._batched
        found = compiled(leaves, jax.device_put(pixels, rows), jax.device_put(sizes, rows))
        return (jax.device_put(found[i], self.device) for i in range(len(images)))

    @cached_property
    def _batched(self) -> tuple[Any, list[Array], NamedSharding]:
        """The encoder of batches, its weights on all devices, and how rows are distributed."""
        mesh = Mesh(np.array(self.devices), ("images",))
        structure, _ = flat(self._model.image_encoder)
        leaves = jax.device_put(self._encoder_leaves, NamedSharding(mesh, PartitionSpec()))
        one = partial(encode, structure, self.preset, self.precision, self._chunks)
        compiled = jax.jit(partial(encode_rows, one, mesh))
        return compiled, leaves, NamedSharding(mesh, PartitionSpec("images"))

    def decode(
        self, image_embedding: Float[Array, "g g c"], prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float[Array, "p m 4*g 4*g"], Float[Array, "p m"]]:
        """Low-res mask logits and predicted IoUs of many prompts, on the device.

        ``multimask=None`` gives all masks, the single one first. Compiled once for each number
        of prompts and tokens: fill them to buckets; see ``click`` for one prompt.
        """
        return self._decode(
            self._decoder_leaves, self._image_pe, image_embedding, prompts, multimask=multimask
        )

    def click(
        self, image_embedding: Float[Array, "g g c"], prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float32[np.ndarray, "1 m 4*g 4*g"], Float32[np.ndarray, "1 m"]]:
        """The same for one prompt, on the host; see Clicks."""
        return self._clicks(self._decode_all, image_embedding, prompts, multimask)

    def _decode_all(self, image_embedding: Array, prompts: Prompts) -> tuple[Array, Array]:
        return self.decode(image_embedding, prompts, multimask=None)

    def measure(
        self,
        low_res: Float[Array, "p c m m"],
        index: Int[np.ndarray, " k"],
        canvas: Canvas,
        threshold: float,
        offset: float,
    ) -> Iterator[tuple[Int[np.ndarray, " j"], Measured]]:
        """Make the masks ``index`` (of p * c) at full size, in chunks, and measure them.

        Yields the chunk's indices and its measurements, on the host.
        """
        size = canvas.masks_at_once
        flat = low_res.reshape(-1, *low_res.shape[2:])
        extent = np.asarray(canvas.size, np.int32)
        levels = np.float32(threshold), np.float32(offset)

        def start(part: np.ndarray) -> Measured:
            filled = np.resize(part, size)  # every chunk has the same shape
            return self._measure(flat, filled, canvas.rows, canvas.columns, extent, *levels)

        parts = np.split(index, range(size, len(index), size)) if len(index) else []
        pending = start(parts[0]) if parts else None
        for i, part in enumerate(parts):
            # One chunk ahead: the device works while the host takes this one apart.
            current, pending = pending, start(parts[i + 1]) if i + 1 < len(parts) else None
            yield part, Measured(*(x[: len(part)] for x in jax.device_get(current)))

    @cached_property
    def _image_pe(self) -> Array:
        return self._positions(self._decoder_leaves)

    def warmup(self) -> Segmenter:
        """Compile what a first image and a first click need, so that they do not wait."""
        size = self.config.image_size
        blank = PreparedImage(np.zeros((size, size, 3), np.uint8), (size, size), (size, size))
        self._clicks.compile_all(self._decode_all, self.encode(blank))
        return self

    @cached_property
    def fingerprint(self) -> str:
        """A hash of weights, dtype and preprocessing: the key of saved image embeddings."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.config, self.dtype.name, self.preset.name)).encode())
        for path, value in sorted(model_parameters(self._model).items()):
            digest.update(path.encode())
            digest.update(np.asarray(value).tobytes())
        return digest.hexdigest()

    def parameters(self) -> dict[str, np.ndarray]:
        """All weights by dotted path, on the host."""
        return {path: np.asarray(v) for path, v in model_parameters(self._model).items()}


def _sizes(config: SamConfig) -> str:
    """Width and depth of the image encoder in words."""
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


def embedded_path() -> Path:
    """The checkpoint that comes with the package."""
    return Path(str(resources.files("samjax") / "weights" / EMBEDDED))


def locate(source: str | os.PathLike | None, *, progress: bool = True) -> Path:
    """The file or folder that ``load`` reads: the embedded one, a download, or a path.

    Raises:
        CheckpointError: neither a known name nor an existing path.
        DownloadError: official weights that could not be fetched.
    """
    if source is None:
        return embedded_path()
    if isinstance(source, str) and source in hub.OFFICIAL:
        return hub.fetch(source, progress=progress)
    path = Path(source).expanduser()
    if not path.exists():
        names = ", ".join(hub.OFFICIAL)
        raise CheckpointError(
            f"{source}: no such file or folder, and not a model's name ({names}); "
            "check the path, or leave it out for the embedded checkpoint"
        )
    return path


def load_options(
    base: str | os.PathLike | Segmenter | None = None,
    lora_layers: Sequence[int] | None = None,
    image_size: int | None = None,
    *,
    progress: bool = True,
) -> Options:
    """What ``load`` was told about a file, with the base read.

    Raises:
        CheckpointError: an unusable base.
    """
    found: OfficialWeights | None = None
    if isinstance(base, Segmenter):
        parts = store.Checkpoint(base.parameters(), base.config, base.family, base.preset.name)
        found = store.official_weights(parts, f"{base.source}, {base.dtype.name}")
    elif base is not None:
        found = store.read_weights(locate(base, progress=progress), Options())
        found = replace(found, container=str(base))
    layers = None if lora_layers is None else tuple(lora_layers)
    return Options(found, layers, image_size)


def load(
    source: str | os.PathLike | SamConfig | None = None,
    *,
    dtype: str = "auto",
    precision: str = "highest",
    device: str | jax.Device | Sequence[jax.Device] | None = None,
    preprocess: str | None = None,
    base: str | os.PathLike | Segmenter | None = None,
    lora_layers: Sequence[int] | None = None,
    image_size: int | None = None,
    progress: bool = True,
) -> Segmenter:
    """A model, from the embedded checkpoint, an official name, or a file or folder.

    Args:
        source: None for the small embedded checkpoint (offline); "vit_b", "vit_l", "vit_h" for
            the official weights (downloaded once); else a path: .pth, .safetensors, a Hugging
            Face folder, or a folder written by ``samjax convert``. A SamConfig gives random
            weights of its sizes, for timing.
        dtype: of the network's products: "float32", "bfloat16", "float16", or "auto": the
            fastest that the device is good at, see devices.automatic_dtype. ``print(sam)`` says
            which. "float32" with precision "highest" keeps the official numbers.
        precision: of float32 products on GPU and TPU: "highest" (the official numbers), "high",
            "default" (may be TF32).
        device: "cpu", "gpu", "gpu:1", "tpu", a jax.Device; None: JAX's first device; "all" or a
            list of devices: batches of images are spread over them.
        preprocess: preset for images: "sam", "medsam", "microsam", "samed" or "sammed2d"; None:
            what the checkpoint says, else "sam", with a CheckpointWarning where that is doubtful.
        base: the SAM that a partial file (LoRA, encoder or decoder alone) was trained on: a
            name, a path or a loaded model.
        lora_layers: blocks of numbered LoRA pairs, where a file has them for some blocks only.
        image_size: side of the network's input in pixels, if not the file's own: positions are
            resized, as SAMed and SAM-Med2D do.
        progress: show a bar while downloading.

    Raises:
        CheckpointError, DownloadError, DeviceError: each says what, why and what to do.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"precision {precision!r} is not known: use {', '.join(PRECISIONS)}")
    keep_compiled()
    chosen, *others = choose_devices(device)
    kind = choose_dtype(dtype, chosen)
    if isinstance(source, SamConfig):
        name = "random weights"
        found = store.Checkpoint(random_parameters(source), source, "random", None)
    else:
        name = "embedded" if source is None else str(source)
        options = load_options(base, lora_layers, image_size, progress=progress)
        found = store.read(locate(source, progress=progress), placement=chosen, options=options)
    preset = get_preset(preprocess or found.preprocess or "sam")
    if found.doubt and preprocess is None:
        warnings.warn(
            f"{name}: preprocessed as for SAM, which may be wrong: {found.doubt}; choose with "
            "preprocess=",
            CheckpointWarning,
            stacklevel=2,
        )
    return Segmenter(
        fill_model(found.parameters, found.config, dtype=kind, placement=chosen),
        preset=preset,
        dtype=kind,
        precision=precision,
        device=chosen,
        family=found.family,
        source=name,
        notes=found.notes,
        devices=(chosen, *others),
        automatic=dtype == "auto" and chosen.platform != "cpu",
    )
