"""The pure functions that the engine compiles: structure and settings first, then arrays.

A structure is what nnx.split leaves beside the weights; the weights are always arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from samjax.model.attention import Chunks
from samjax.model.prompt_encoder import Prompts
from samjax.preprocess import Preprocess, normalise


def flat(module: nnx.Module) -> tuple[tuple, list[Array]]:
    """A module's structure and the list of its weights."""
    graphdef, state = nnx.split(module)
    leaves, treedef = jax.tree.flatten(state)
    return (graphdef, treedef), leaves


def restore(structure: tuple, leaves: list[Array]) -> Any:
    """The module again."""
    graphdef, treedef = structure
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))


def encode(
    structure: tuple,
    preset: Preprocess,
    precision: str,
    chunks: Chunks,
    leaves: list[Array],
    pixels: Array,
    input_size: Array,
) -> Array:
    """Normalise an image, and encode it."""
    # Set while tracing: JAX's configuration contexts are local to a thread.
    with jax.default_matmul_precision(precision):
        return restore(structure, leaves)(normalise(pixels, input_size, preset), chunks)


def encode_rows(
    one: Callable[..., Array], mesh: Mesh, leaves: list[Array], pixels: Array, sizes: Array
) -> Array:
    """``one`` image after the other on each device, on accelerators a device's images at once."""
    in_turn = mesh.devices.flat[0].platform == "cpu"

    def local(leaves: list[Array], pixels: Array, sizes: Array) -> Array:
        def encode(image: tuple[Array, Array]) -> Array:
            return one(leaves, *image)

        images = (pixels, sizes)
        return jax.lax.map(encode, images) if in_turn else jax.vmap(encode)(images)

    rows = PartitionSpec("images")
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(), rows, rows),
        out_specs=rows,
    )(leaves, pixels, sizes)


def positions(structure: tuple, leaves: list[Array]) -> Array:
    """Positional encoding of the image embedding's pixels."""
    return restore(structure, leaves).prompt_encoder.image_positions()


def decode(
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
    """Low-res logits and predicted IoUs of prompts; see PromptDecoder."""
    with jax.default_matmul_precision(precision):
        decoder = restore(structure, leaves)
        return decoder(
            image_embedding, prompts, multimask=multimask, image_pe=image_pe, chunks=chunks
        )
