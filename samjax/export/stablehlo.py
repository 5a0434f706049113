"""Write a part of the model as StableHLO by jax.export: for CPU, CUDA and TPU, weights inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from samjax.errors import ExportError
from samjax.export.layout import LABEL_OFFSET, ExportOptions, embedding_width, image_dtype
from samjax.image.preset import Preset, normalise
from samjax.model.attention import ACCELERATOR_CHUNKS, Chunks
from samjax.model.config import SamConfig
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import PromptDecoder, Sam

PLATFORMS = ("cpu", "cuda", "tpu")
# jax.export keeps everything in one flatbuffer
LARGEST_BYTES = 2**31 - 2**20


def export_decoder(
    decoder: PromptDecoder, config: SamConfig, options: ExportOptions, precision: str
) -> bytes:
    """Return the decoder, a function of image_embeddings, ..., has_mask_input as serialised bytes.

    Raises:
        ExportError: it cannot be serialised here.
    """
    channels, g, m = embedding_width(config), config.grid, config.low_res_size
    batch, points = _numbers(options)
    # Few tokens are expected where their number is open
    chunks = Chunks(absorb=True if options.points is None else None)

    def decode(
        image_embeddings: Array,
        point_coords: Array,
        point_labels: Array,
        mask_input: Array,
        has_mask_input: Array,
    ) -> tuple[Array, Array]:
        labels = point_labels.astype(jnp.int32)
        kinds = jnp.where(labels < 0, LABEL_OFFSET - labels, labels)
        prompts = Prompts(point_coords, kinds, mask_input[:, 0], has_mask_input > 0)
        image = image_embeddings[0].transpose(1, 2, 0)
        with jax.default_matmul_precision(precision):
            masks, iou = decoder(image, prompts, multimask=None, chunks=chunks)
        if options.masks == "best":
            # select_masks of the official SamOnnxModel
            first = 1000 * (point_coords.shape[1] - 2.5)
            chosen = jnp.argmax(iou.at[:, 0].add(first), -1)[:, None]
            iou = jnp.take_along_axis(iou, chosen, 1)
            masks = jnp.take_along_axis(masks, chosen[..., None, None], 1)
        return iou, masks

    return _serialised(
        decode,
        jax.ShapeDtypeStruct((1, channels, g, g), jnp.float32),
        jax.ShapeDtypeStruct((batch, points, 2), jnp.float32),
        jax.ShapeDtypeStruct((batch, points), jnp.float32),
        jax.ShapeDtypeStruct((batch, 1, m, m), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
    )


def export_encoder(model: Sam, preset: Preset, options: ExportOptions, precision: str) -> bytes:
    """Return the image encoder, a function of resized images, as serialised bytes.

    Raises:
        ExportError: it cannot be serialised here.
    """
    config = model.config
    size = config.image_size
    batch, height, width = _image_numbers(options, config)

    def encode(image: Array) -> Array:
        _, h, w, _ = image.shape
        pixels = jnp.pad(image, ((0, 0), (0, size - h), (0, size - w), (0, 0)))
        inside = jnp.stack([jnp.asarray(h, jnp.int32), jnp.asarray(w, jnp.int32)])

        def one(pixels: Array) -> Array:
            return model.encode(normalise(pixels, inside, preset), ACCELERATOR_CHUNKS)

        with jax.default_matmul_precision(precision):
            return jax.lax.map(one, pixels).transpose(0, 3, 1, 2)

    dtype = jnp.dtype(image_dtype(preset))
    return _serialised(encode, jax.ShapeDtypeStruct((batch, height, width, 3), dtype))


def _numbers(options: ExportOptions) -> tuple[Any, Any]:
    names = [
        name if value is None else str(value)
        for name, value in (("batch", options.batch), ("points", options.points))
    ]
    batch, points = jax.export.symbolic_shape(", ".join(names))
    return batch, points


def _image_numbers(options: ExportOptions, config: SamConfig) -> tuple[Any, Any, Any]:
    size = config.image_size
    batch = "batch" if options.batch is None else str(options.batch)
    found = jax.export.symbolic_shape(
        f"{batch}, height, width", constraints=[f"height <= {size}", f"width <= {size}"]
    )
    return found[0], found[1], found[2]


def _serialised(function: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> bytes:
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    if len(exported.mlir_module_serialized) > LARGEST_BYTES:
        raise ExportError(
            "this part has more than the 2 GB that a .jaxexport file holds: load it with "
            'dtype="bfloat16" (--dtype bfloat16), or write .onnx with float16 weights'
        )
    return bytes(exported.serialize())


def check_serialises() -> None:
    """Refuse to begin where the result could not be serialised.

    Raises:
        ExportError: flatbuffers, jax.export's own package, is missing.
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ExportError(
            ".jaxexport files are written with the package flatbuffers: "
            "pip install 'samjax[export]'"
        ) from None
