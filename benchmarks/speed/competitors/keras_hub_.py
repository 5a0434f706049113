"""Run KerasHub's SAM on Keras's JAX backend.

Its layers are filled from the official weights and compiled with jax.jit, without ``predict``,
whose batching would encode the image again for every prompt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras_hub
import numpy as np
from jaxtyping import Float32

from benchmarks.speed.task import Contender, Outputs, Task, official_outputs
from samjax.checkpoint.formats.torch_file import read_torch_file
from samjax.masks.upscale import upscale
from samjax.model.config import ImageEncoderConfig, SamConfig

# Mean and standard deviation of KerasHub's normalisation, on the scale 0..1
MEAN, STD = (np.array(x, np.float32) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
Tensors = Mapping[str, np.ndarray]


def build(config: SamConfig, dtype: str) -> tuple[Any, Any, Any]:
    """Build the image encoder, prompt encoder and mask decoder of these sizes."""
    e, p, d = config.image_encoder, config.prompt_encoder, config.mask_decoder
    assert isinstance(e, ImageEncoderConfig)
    encoder = keras_hub.models.ViTDetBackbone(
        hidden_size=e.width,
        num_layers=e.depth,
        intermediate_dim=e.mlp_dim,
        num_heads=e.num_heads,
        global_attention_layer_indices=list(e.global_blocks),
        patch_size=e.patch_size,
        num_output_channels=e.out_dim,
        window_size=e.window_size,
        image_shape=(e.image_size, e.image_size, 3),
        dtype=dtype,
    )
    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=p.embed_dim,
        image_embedding_size=(config.grid, config.grid),
        input_image_size=(config.image_size, config.image_size),
        mask_in_channels=p.mask_channels,
        dtype=dtype,
    )
    decoder = keras_hub.layers.SAMMaskDecoder(
        hidden_size=d.embed_dim,
        num_layers=d.depth,
        intermediate_dim=d.mlp_dim,
        num_heads=d.num_heads,
        embedding_dim=d.embed_dim,
        num_multimask_outputs=d.num_masks,
        iou_head_depth=d.iou_head_depth,
        iou_head_hidden_dim=d.iou_head_dim,
        dtype=dtype,
    )
    prompts.build()
    decoder.build()
    return encoder, prompts, decoder


def put(layer: Any, tensors: Tensors, prefix: str) -> None:
    """Fill a dense, convolutional or normalisation layer with its official weight and bias."""
    weight = tensors[f"{prefix}.weight"]
    # Convolutions: (o, i, y, x) to (y, x, i, o); transposed ones: (i, o, y, x) to (y, x, o, i)
    values = [weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T]
    if f"{prefix}.bias" in tensors:
        values.append(tensors[f"{prefix}.bias"])
    layer.set_weights(values)


def fill_encoder(encoder: Any, tensors: Tensors) -> None:
    """Fill all weights of the image encoder."""
    name = "image_encoder"
    kinds: dict[str, list[Any]] = {}
    for layer in encoder.layers:
        kinds.setdefault(type(layer).__name__, []).append(layer)
    put(kinds["ViTDetPatchingAndEmbedding"][0].projection, tensors, f"{name}.patch_embed.proj")
    kinds["AddPositionalEmbedding"][0].set_weights([tensors[f"{name}.pos_embed"]])
    for i, block in enumerate(kinds["WindowedTransformerEncoder"]):
        at = f"{name}.blocks.{i}"
        put(block.layer_norm1, tensors, f"{at}.norm1")
        put(block.layer_norm2, tensors, f"{at}.norm2")
        put(block.attention.qkv, tensors, f"{at}.attn.qkv")
        put(block.attention.projection, tensors, f"{at}.attn.proj")
        positions = block.attention.add_decomposed_relative_pe
        positions.rel_pos_h.assign(tensors[f"{at}.attn.rel_pos_h"])
        positions.rel_pos_w.assign(tensors[f"{at}.attn.rel_pos_w"])
        put(block.mlp_block.dense_net.layers[0], tensors, f"{at}.mlp.lin1")
        put(block.mlp_block.dense_net.layers[2], tensors, f"{at}.mlp.lin2")
    for i in range(4):
        put(encoder.neck.layers[i], tensors, f"{name}.neck.{i}")


def fill_prompts(prompts: Any, tensors: Tensors) -> None:
    """Fill all weights of the prompt encoder."""
    name = "prompt_encoder"
    positions = prompts.positional_embedding_layer.positional_encoding_gaussian_matrix
    positions.assign(tensors[f"{name}.pe_layer.positional_encoding_gaussian_matrix"])
    embeddings = {
        "point_embeddings.0": prompts.background_point_embed,
        "point_embeddings.1": prompts.foreground_point_embed,
        "point_embeddings.2": prompts.top_left_corner_embed,
        "point_embeddings.3": prompts.bottom_right_corner_embed,
        "not_a_point_embed": prompts.not_a_point_embed,
        "no_mask_embed": prompts.no_mask_embed,
    }
    for key, layer in embeddings.items():
        layer.set_weights([tensors[f"{name}.{key}.weight"]])
    for i in (0, 1, 3, 4, 6):
        put(prompts.mask_downscaler.layers[i], tensors, f"{name}.mask_downscaling.{i}")


def fill_decoder(decoder: Any, tensors: Tensors) -> None:
    """Fill all weights of the mask decoder."""
    name = "mask_decoder"

    def attention(layer: Any, at: str) -> None:
        for theirs, ours in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out")):
            put(getattr(layer, f"{theirs}_proj"), tensors, f"{at}.{ours}_proj")

    def perceptron(layer: Any, at: str) -> None:
        for i, dense in enumerate(layer.mlp_block.layers[::2]):
            put(dense, tensors, f"{at}.{i}")

    decoder.iou_token.set_weights([tensors[f"{name}.iou_token.weight"]])
    decoder.mask_tokens.set_weights([tensors[f"{name}.mask_tokens.weight"]])
    for i, block in enumerate(decoder.transformer.layers):
        at = f"{name}.transformer.layers.{i}"
        attention(block.self_attention, f"{at}.self_attn")
        attention(block.cross_attention_token_to_image, f"{at}.cross_attn_token_to_image")
        attention(block.cross_attention_image_to_token, f"{at}.cross_attn_image_to_token")
        for number in range(1, 5):
            put(getattr(block, f"layer_norm{number}"), tensors, f"{at}.norm{number}")
        put(block.mlp_block.mlp_block.layers[0], tensors, f"{at}.mlp.lin1")
        put(block.mlp_block.mlp_block.layers[2], tensors, f"{at}.mlp.lin2")
    last = f"{name}.transformer"
    attention(
        decoder.transformer.final_attention_token_to_image, f"{last}.final_attn_token_to_image"
    )
    put(decoder.transformer.final_layer_norm, tensors, f"{last}.norm_final_attn")
    for i in (0, 1, 3):
        put(decoder.output_upscaling.layers[i], tensors, f"{name}.output_upscaling.{i}")
    for i, head in enumerate(decoder.output_hypernetworks_mlps):
        perceptron(head, f"{name}.output_hypernetworks_mlps.{i}.layers")
    perceptron(decoder.iou_prediction_head, f"{name}.iou_prediction_head.layers")


def compiled(*layers: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``forward(call, *inputs)`` with the layers' weights as arguments.

    ``call(i, *args, **named)`` runs layer ``i``.
    """
    variables = [
        ([v.value for v in x.trainable_variables], [v.value for v in x.non_trainable_variables])
        for x in layers
    ]

    @jax.jit
    def run(variables: Any, *inputs: Any) -> Any:
        def call(i: int, *args: Any, **named: Any) -> Any:
            return layers[i].stateless_call(*variables[i], *args, **named)[0]

        return forward(call, *inputs)

    return lambda *inputs: run(variables, *inputs)


def load(task: Task) -> Contender:
    """Load the three parts with the official weights; JAX runs at precision "highest"."""
    inputs, config = task.inputs, task.config
    tensors: Any = read_torch_file(task.weights)
    encoder, prompts, decoder = build(config, task.dtype)
    fill_encoder(encoder, tensors)
    fill_prompts(prompts, tensors)
    fill_decoder(decoder, tensors)
    jax.config.update("jax_default_matmul_precision", "highest")
    # KerasHub's own normalisation of these images gives the pixels that all competitors get.
    images = jax.device_put(inputs.pixels.transpose(0, 2, 3, 1) * STD + MEAN)
    encode = compiled(encoder, forward=lambda call, x: call(0, x))

    def decode_points(call: Any, embedding: Any, points: Any, labels: Any) -> Any:
        embedded = call(0, points=points, labels=labels)
        return call(1, image_embeddings=embedding, **embedded)

    decode = compiled(prompts, decoder, forward=decode_points)
    # The official padding point follows points without a box.
    points = np.stack([inputs.network_points, np.zeros_like(inputs.network_points)], 1)
    labels = np.tile(np.array([1, -1], np.float32), (len(points), 1))
    embedding: list[jax.Array] = []

    def encode_image() -> None:
        embedding[:] = [jax.block_until_ready(encode(images))]

    def masks(count: int) -> tuple[Float32[np.ndarray, "p 3 m m"], np.ndarray, np.ndarray]:
        found = jax.device_get(decode(embedding[0], points[:count], labels[:count]))
        low_res, scores = found["masks"][:, 1:], found["iou_pred"][:, 1:]
        sizes = config.image_size, inputs.input_size, inputs.original_size
        return low_res, scores, upscale(low_res, *sizes)

    def outputs() -> Outputs:
        low_res, scores, full = masks(len(points))
        return official_outputs(
            np.asarray(embedding[0], np.float32).transpose(0, 3, 1, 2), low_res, scores, full
        )

    return Contender(
        "precision highest; masks made by samjax",
        {
            "encoder": encode_image,
            "click": lambda: masks(1),
            "points": lambda: masks(len(points)),
        },
        outputs,
    )
