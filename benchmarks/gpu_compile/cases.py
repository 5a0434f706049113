"""The functions that samjax compiles, lowered for a card from shapes alone: no weights, no card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import jax
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.gpu_compile.cards import Card
from samjax.checkpoint.parameters import abstract_model, dotted, parameter_dtype
from samjax.engine.functions import decode, encode, encode_rows, flat
from samjax.image.preset import get_preset
from samjax.masks.measure import canvas, measure
from samjax.model.attention import ACCELERATOR_CHUNKS, Chunks, fused_size
from samjax.model.config import ImageEncoderConfig, SamConfig
from samjax.model.pallas_attention import suits
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import Sam

Shape = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Case:
    """A compiled function: the encoder of ``images``, or the decoder of ``prompts`` with ``tokens``
    each; with neither the measurements of automatic masks.

    ``limit`` is the most CPU seconds that compilation may take.
    """

    title: str
    images: int = 0
    prompts: int = 0
    tokens: int = 0
    limit: float = 60

    @property
    def of_encoder(self) -> bool:
        """Whether the image encoder is compiled, which differs between the models."""
        return self.images > 0

    @property
    def of_network(self) -> bool:
        """Whether the network is compiled, whose products have the model's dtype."""
        return self.images > 0 or self.prompts > 0


CASES = {
    "encode": Case("encode 1 image", images=1),
    "encode8": Case("encode 8 images", images=8),
    "click": Case("click, 4 tokens", prompts=1, tokens=4),
    "click20": Case("click, 20 tokens", prompts=1, tokens=20),
    "points64": Case("64 prompts", prompts=64, tokens=2),
    "measure": Case("measure masks"),
}


def chunks_of(card: Card, dtype: str, attention: str = "auto") -> Chunks:
    """How samjax cuts the network's work there (``samjax.devices.chunks_for`` asks the card)."""
    half = dtype != "float32"
    kernel = "pallas" if attention == "pallas" and half and card.capability >= (8, 0) else "none"
    return replace(ACCELERATOR_CHUNKS, fused_width=card.fused_width if half else 0, kernel=kernel)


def expected_fused(card: Card, config: SamConfig, dtype: str, attention: str = "auto") -> int:
    """Blocks of the image encoder whose attention must be fused there."""
    encoder = config.image_encoder
    assert isinstance(encoder, ImageEncoderConfig)
    width, chunks = encoder.width // encoder.num_heads, chunks_of(card, dtype, attention)

    def fuses(side: int) -> bool:
        written = chunks.kernel == "pallas" and side == encoder.grid and suits(width, side)
        return written or fused_size(width, side) <= chunks.fused_width

    sides = (
        encoder.grid if i in encoder.global_blocks else encoder.window_size
        for i in range(encoder.depth)
    )
    return sum(map(fuses, sides))


def lowered(card: Card, case: Case, model: str, dtype: str, attention: str = "auto") -> Any:
    """The lowered function, as samjax's engine makes it."""
    config = getattr(SamConfig, model)()
    topology = {"target_config": card.description} if card.is_gpu else {}
    name = "card" if card.is_gpu else card.topology
    topology |= {"topology": card.topology} if card.is_gpu else {}
    device = topologies.get_topology_desc(name, platform=card.platform, **topology).devices[0]
    chunks = chunks_of(card, dtype, attention)
    with pretending(card):
        function, arguments = traceable(case, config, dtype, device, chunks)
        return function.trace(*arguments).lower(lowering_platforms=(card.platform,))


@contextmanager
def pretending(card: Card) -> Iterator[None]:
    """While it traces, JAX asks the GPU that is there for what its kernels may use."""
    from jax._src.cudnn import fused_attention_stablehlo as fused
    from jax._src.pallas.triton import gpu_info

    major, minor = card.capability
    kernels = gpu_info.GpuInfo(
        gpu_version=None, arch_name=f"{major}.{minor}", compute_capability=10 * major + minor
    )

    def parsed(text: str) -> tuple[int, ...]:
        return tuple(int(x) for x in text.split("."))

    answers = {
        "check_cudnn_version": lambda: 92401,
        "check_compute_capability": lambda least: card.capability >= parsed(least),
        "is_cuda_compute_capability_equal": lambda exact: card.capability == parsed(exact),
    }
    with (
        mock.patch.multiple(fused, **answers),
        mock.patch.object(gpu_info, "get_gpu_info", return_value=kernels),
    ):
        yield


def traceable(
    case: Case, config: SamConfig, dtype: str, device: Any, chunks: Chunks
) -> tuple[Any, list[Any]]:
    """The function to compile, and the shapes of its arguments."""
    one, size, grid = SingleDeviceSharding(device), config.image_size, config.grid
    low = config.low_res_size
    jit = partial(jax.jit, in_shardings=one, out_shardings=one)
    if case.of_encoder:
        structure, leaves = flat(_weightless(config, dtype).image_encoder)
        encoder = partial(encode, structure, get_preset("sam"), "highest", chunks)
        if case.images == 1:
            pixels = [Shape((size, size, 3), np.uint8), Shape((2,), np.int32)]
            return jit(encoder), [leaves, *pixels]
        mesh = Mesh(np.array([device]), ("images",))
        rows, same = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["images"], []))
        batch = jax.jit(partial(encode_rows, encoder, mesh), in_shardings=(same, rows, rows))
        n = case.images
        return batch, [leaves, Shape((n, size, size, 3), np.uint8), Shape((n, 2), np.int32)]
    if not case.prompts:
        level = Shape((), np.float32)
        area = jax.tree.map(
            lambda x: Shape(x.shape, x.dtype), canvas(low, size, (size, size), (size, size))
        )
        masks = [Shape((64, 3, low, low), np.float32), Shape((64, 3), np.float32)]
        measuring = jit(partial(measure, one_by_one=False))
        return measuring, [*masks, Shape((), np.int32), area, level, level, level]
    structure, leaves = flat(_weightless(config, dtype).decoder)
    p, t = case.prompts, case.tokens
    single = p == 1  # a click takes a mask prompt, too, and makes all masks
    masks = (Shape((p, low, low), np.float32), Shape((p,), bool)) if single else (None, None)
    coords, kinds = Shape((p, t, 2), np.float32), Shape((p, t), np.int32)
    multimask = None if single else True
    decoder = jit(partial(decode, structure, "highest", chunks, multimask=multimask))
    width = config.prompt_encoder.embed_dim
    image = [Shape((grid * grid, width), np.float32), Shape((grid, grid, width), np.float32)]
    return decoder, [leaves, *image, Prompts(coords, kinds, *masks, None)]


def _weightless(config: SamConfig, dtype: str) -> Sam:
    """The network with shapes instead of weights."""
    graph, state = nnx.split(abstract_model(config))
    kind = np.dtype(dtype)

    def shape(path: tuple, weight: nnx.Variable) -> Shape:
        return Shape(weight.get_value().shape, parameter_dtype(dotted(path), kind))

    shapes = [(path, v.replace(shape(path, v))) for path, v in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(shapes))
