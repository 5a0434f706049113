"""Pure functions that the engine compiles: static structure and settings come before arrays.

nnx.split separates a structure from its weights; the weights are always arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from samjax.image.preset import Preset, normalise
from samjax.model.attention import Chunks
from samjax.model.prompt_encoder import Prompts


def flat(module: nnx.Module) -> tuple[tuple[Any, ...], list[Any]]:
    """Split a module into its structure and the list of its weights, or of their shapes."""
    graphdef, state = nnx.split(module)
    leaves, treedef = jax.tree.flatten(state)
    return (graphdef, treedef), leaves


def restore(structure: tuple[Any, ...], leaves: list[Array]) -> Any:
    """Rebuild the module from its structure and weights."""
    graphdef, treedef = structure
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))


def encode(
    structure: tuple[Any, ...],
    preset: Preset,
    precision: str,
    chunks: Chunks,
    leaves: list[Array],
    pixels: Array,
    input_size: Array,
) -> Array:
    """Normalise and encode an image."""
    # Set while tracing: JAX's configuration contexts are local to a thread.
    with jax.default_matmul_precision(precision):
        return restore(structure, leaves)(normalise(pixels, input_size, preset), chunks)


def encode_rows(
    one: Callable[..., Array], mesh: Mesh, leaves: list[Array], pixels: Array, sizes: Array
) -> Array:
    """Encode a batch spread over devices: CPUs take images in turn, accelerators all at once."""
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
        check_vma=False,  # a kernel of pallas_attention does not say over which axes it varies
    )(leaves, pixels, sizes)


def positions(structure: tuple[Any, ...], leaves: list[Array]) -> Array:
    """Return the positional encoding of the image embedding's pixels."""
    return restore(structure, leaves).prompt_encoder.image_positions()


def decode(
    structure: tuple[Any, ...],
    precision: str,
    chunks: Chunks,
    leaves: list[Array],
    image_pe: Array,
    image_embedding: Array,
    prompts: Prompts,
    *,
    multimask: bool | None,
) -> tuple[Array, Array]:
    """Return low-res logits and predicted IoUs of prompts; see PromptDecoder."""
    with jax.default_matmul_precision(precision):
        decoder = restore(structure, leaves)
        return decoder(
            image_embedding, prompts, multimask=multimask, image_pe=image_pe, chunks=chunks
        )
