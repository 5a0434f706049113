"""The one place that compiles: a network with its weights, dtype, device and preprocessing.

Weights are split from the structure once; the compiled functions close over the structure and
take weights and inputs as traced arguments, so that nothing recompiles when they change.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from samjax.checkpoint import hub, store
from samjax.checkpoint.families import OfficialWeights, Options
from samjax.checkpoint.loading import (
    fill_model,
    model_parameters,
    parameter_count,
    random_parameters,
)
from samjax.config import SamConfig, TinyVitConfig
from samjax.errors import CheckpointError, CheckpointWarning, DeviceError
from samjax.model.attention import ACCELERATOR_CHUNKS, CPU_CHUNKS, Chunks
from samjax.model.mask_decoder import select_masks
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import Sam
from samjax.preprocess import PreparedImage, Preprocess, get_preset, normalise
from samjax.prompts import pack
from samjax.proposals import Canvas, Measured, measure

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
PRECISIONS = ("highest", "high", "default")
EMBEDDED = "tiny_256.safetensors"


def choose_device(device: str | jax.Device | None) -> jax.Device:
    """The device of that name: "cpu", "gpu", "tpu", "gpu:1"; None: JAX's first.

    Raises:
        DeviceError: JAX has no such device here.
    """
    if device is None:
        try:
            return jax.devices()[0]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"JAX finds no device ({reason}): check JAX_PLATFORMS and your drivers"
            ) from None
    if not isinstance(device, str):
        return device
    platform, _, index = device.partition(":")
    try:
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        raise DeviceError(
            f"no device {device!r} here: JAX sees {found}; choose one of these, or install "
            "JAX for your accelerator (pip install 'samjax[cuda13]')"
        ) from None


def choose_dtype(dtype: str | np.dtype | type) -> np.dtype:
    """The dtype of the network's products.

    Raises:
        DeviceError: not one of float32, bfloat16, float16.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r} is not supported: use {', '.join(DTYPES)}")
    return np.dtype(DTYPES[name])


class Segmenter:
    """What ``samjax.load`` returns: a network, ready to encode images and decode prompts.

    Attributes:
        config: sizes of the network.
        preset: preprocessing of images.
        dtype: of the network's products; sums, norms and softmax are float32.
        precision: of float32 products on GPU and TPU; "highest" keeps the official numbers,
            "default" allows TF32 there.
        device: where the weights live and everything runs.
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
    ):
        self.config: SamConfig = model.config
        self.preset, self.dtype, self.precision = preset, dtype, precision
        self.device, self.family, self.source, self.notes = device, family, source, notes
        self.mask_threshold = 0.0
        self._model = model
        chunks = CPU_CHUNKS if device.platform == "cpu" else ACCELERATOR_CHUNKS
        encoder, self._encoder_leaves = _flat(model.image_encoder)
        decoder, self._decoder_leaves = _flat(model.decoder)
        self._encode = jax.jit(partial(_encode, encoder, preset, precision, chunks))
        self._decode = jax.jit(
            partial(_decode, decoder, precision, chunks), static_argnames="multimask"
        )
        self._measure = jax.jit(partial(measure, one_by_one=device.platform == "cpu"))
        self._positions = jax.jit(partial(_positions, decoder))

    def __repr__(self) -> str:
        millions = parameter_count(self.config) / 1e6
        return (
            f"Segmenter({self.source}: {self.family}, {millions:.1f} M parameters, "
            f"{self.config.image_size} px, {_sizes(self.config)}, {self.dtype.name}, "
            f"precision {self.precision}, preprocessing {self.preset.name}, on {self.device})"
        )

    def encode(self, image: PreparedImage) -> Float[Array, "g g c"]:
        """The image embedding, float32, on the device (asynchronous, as all of JAX)."""
        pixels = jax.device_put(image.pixels, self.device)
        size = jax.device_put(np.asarray(image.input_size, np.int32), self.device)
        return self._encode(self._encoder_leaves, pixels, size)

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
        """The same for one prompt, on the host, by one compiled function for every click.

        With or without a mask prompt, for one mask or several: the network always takes the
        first and makes all, and the choice is left to NumPy. That costs a millisecond a click
        and saves seconds of compilation in the middle of a session.
        """
        if prompts.masks is None:
            m = self.config.low_res_size
            none = np.zeros((1, m, m), np.float32)
            prompts = prompts._replace(masks=none, has_mask=np.zeros(1, bool))
        if self.config.hq and prompts.hq_only is None:
            prompts = prompts._replace(hq_only=np.zeros(1, bool))
        low_res, iou = jax.device_get(self.decode(image_embedding, prompts, multimask=None))
        select = slice(None) if multimask is None else select_masks(multimask)
        return low_res[:, select], iou[:, select]

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
        point = (np.zeros((1, 2), np.float32), np.ones(1, np.int32))
        prompts = pack([point], None, None, (size, size), (size, size))
        self.click(self.encode(blank), prompts, multimask=True)
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


def _flat(module: nnx.Module) -> tuple[tuple, list[Array]]:
    graphdef, state = nnx.split(module)
    leaves, treedef = jax.tree.flatten(state)
    return (graphdef, treedef), leaves


def _restore(structure: tuple, leaves: list[Array]) -> Any:
    graphdef, treedef = structure
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))


def _encode(
    structure: tuple,
    preset: Preprocess,
    precision: str,
    chunks: Chunks,
    leaves: list[Array],
    pixels: Array,
    input_size: Array,
) -> Array:
    # Set while tracing: JAX's configuration contexts are local to a thread.
    with jax.default_matmul_precision(precision):
        return _restore(structure, leaves)(normalise(pixels, input_size, preset), chunks)


def _positions(structure: tuple, leaves: list[Array]) -> Array:
    return _restore(structure, leaves).prompt_encoder.image_positions()


def _decode(
    structure: tuple,
    precision: str,
    chunks: Chunks,
    leaves: list[Array],
    image_pe: Array,
    image_embedding: Array,
    prompts: Prompts,
    *,
    multimask: bool | None,
) -> tuple[Array, Array]:
    with jax.default_matmul_precision(precision):
        decoder = _restore(structure, leaves)
        return decoder(
            image_embedding, prompts, multimask=multimask, image_pe=image_pe, chunks=chunks
        )


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
    dtype: str = "float32",
    precision: str = "highest",
    device: str | jax.Device | None = None,
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
        dtype: "float32", "bfloat16" or "float16", of the network's products.
        precision: of float32 products on GPU and TPU: "highest" (the official numbers), "high",
            "default" (may be TF32).
        device: "cpu", "gpu", "gpu:1", "tpu", a jax.Device; None: JAX's first device.
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
    chosen, kind = choose_device(device), choose_dtype(dtype)
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
    )
