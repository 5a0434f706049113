"""Profile samjax's image encoder and a click, part by part.

    python -m benchmarks.speed.blocks --model vit_b-random --dtype float32 bfloat16

Every part is compiled on its own and timed in the same rounds as the whole encoder, the whole
decoder and a large matrix product of the same dtype. The parts need not add up to the whole,
because XLA also fuses across parts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import samjax
from benchmarks.commands import exit_code
from benchmarks.flops import encoder_flops
from benchmarks.models import source
from benchmarks.speed.competitors.product import matrix_product
from benchmarks.speed.competitors.sizes import PRODUCT_FLOPS
from benchmarks.speed.machine import commit, machine
from benchmarks.speed.report import busy, milliseconds, table
from samjax.checkpoint.parameters import fill_model
from samjax.engine.devices import choose_device, choose_dtype, chunks_for
from samjax.engine.functions import flat, restore
from samjax.engine.prompts import pack
from samjax.errors import SamjaxError
from samjax.files import made_folder, replacing
from samjax.image.preset import PreparedImage
from samjax.model.config import ImageEncoderConfig
from samjax.model.prompt_encoder import Prompts
from samjax.model.sam import Sam


@dataclass(frozen=True)
class Part:
    """Holds a compiled part with its inputs, how often the network runs it, and its FLOPs."""

    name: str
    run: Callable[[], Any]
    times: int = 1
    flops: float | None = None


def part(
    name: str, module: Any, call: Callable, *inputs: Any, times: int = 1, flops: float | None = None
) -> Part:
    """Compile ``call(module, *inputs)`` with the weights as arguments, at highest precision."""
    structure, leaves = flat(module)

    def traced(leaves: list, *inputs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return call(restore(structure, leaves), *inputs)

    placed = jax.device_put(inputs, leaves[0].device)
    return Part(name, partial(jax.jit(traced), leaves, *placed), times, flops)


def encoder_parts(sam: samjax.Segmenter, network: Sam) -> list[Part]:
    """Build the encoder's parts: patch embedding, three per kind of block, and the neck."""
    config = sam.config.image_encoder
    assert isinstance(config, ImageEncoderConfig)
    encoder, chunks = network.image_encoder, chunks_for(sam.device, sam.dtype)
    rng = np.random.default_rng(0)
    g, d = config.grid, config.width
    tokens = g * g
    x, y = (rng.standard_normal((tokens, d), np.float32) for _ in range(2))
    image = rng.standard_normal((config.image_size, config.image_size, 3), np.float32)
    dense = 2 * tokens * d

    parts = [
        part("patches", encoder, lambda m, v: m.patch_embed(v) + m.pos_embed[...].reshape(-1, d),
             image, flops=dense * 3 * config.patch_size**2)
    ]  # fmt: skip
    global_ = [i for i in range(config.depth) if i in config.global_blocks]
    windowed = [i for i in range(config.depth) if i not in config.global_blocks]
    for kind, blocks in (("windowed", windowed), ("global", global_)):
        if not blocks:
            continue
        block, count = encoder.blocks[blocks[0]], len(blocks)
        attn, side = block.attn, block.attn.window
        qkv = jax.jit(lambda x, attn=attn: attn.project(x, chunks))(x)
        parts += [
            part(f"{kind}: norm, qkv", block, lambda m, x: m.attn.project(m.norm1(x), chunks), x,
                 times=count, flops=dense * 3 * d),
            part(f"{kind}: attention", attn, lambda m, *qkv: m.attend(*qkv, chunks), *qkv,
                 times=count, flops=2 * dense * side**2 + 2 * dense * side),
            part(f"{kind}: projection, MLP", block, lambda m, x, y: m.rest(x, y, chunks), x,
                 jnp.asarray(y, qkv[0].dtype), times=count,
                 flops=dense * (d + 2 * config.mlp_dim)),
        ]  # fmt: skip
    neck = dense * config.out_dim + 2 * tokens * 9 * config.out_dim**2
    return [*parts, part("neck", encoder.neck, lambda m, v: m(v, g), x, flops=neck)]


def decoder_parts(sam: samjax.Segmenter, network: Sam) -> list[Part]:
    """Build the decoder's parts for a click: the two-way transformer, and upscaling with masks."""
    decoder, chunks = network.decoder, chunks_for(sam.device, sam.dtype)
    mask_decoder = decoder.mask_decoder
    g, c = sam.config.image_encoder.grid, sam.config.prompt_encoder.embed_dim
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((1, g * g, c), np.float32)
    prompts = one_click(sam)
    positions = decoder.prompt_encoder.image_positions()
    count = sam.config.mask_decoder.num_masks + 1
    tokens = rng.standard_normal((1, count + 1 + prompts.coords.shape[1], c), np.float32)
    valid = jnp.ones(tokens.shape[:2], bool)
    weights = rng.standard_normal((1, count, c // 8), np.float32)
    absorbs = chunks.absorb
    first = mask_decoder.transformer.layers[0]
    if absorbs is None:
        absorbs = first.cross_attn_token_to_image.absorbs(tokens.shape[1])

    def transformer(m: Any, tokens: Any, pixels: Any) -> Any:
        shared = None if absorbs else m.layers[0].project_image(pixels, positions)
        return m(tokens, pixels, positions, shared, valid)

    def masks(m: Any, pixels: Any, weights: Any) -> Any:
        return m._masks(weights, m.output_upscaling(pixels), g)

    return [
        part("two-way transformer", mask_decoder.transformer, transformer, tokens, pixels),
        part("upscaling, masks", mask_decoder, masks, pixels, weights),
    ]


def one_click(sam: samjax.Segmenter) -> Prompts:
    """Pack one point as ``Segmenter.click`` passes it to the network."""
    size, side = (sam.config.image_size,) * 2, sam.config.low_res_size
    point = (np.full((1, 2), 100, np.float32), np.ones(1, np.int32))
    none = np.zeros((1, side, side), np.float32)
    return pack([point], None, None, size, size)._replace(masks=none, has_mask=np.zeros(1, bool))


def wholes(sam: samjax.Segmenter) -> list[Part]:
    """Build the whole encoder, the whole decoder for a click, and the matrix product."""
    size = sam.config.image_size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size, size, 3)).astype(np.uint8)
    image = PreparedImage(pixels, (size, size), (size, size))
    embedding = sam.encode(image).features
    click = one_click(sam)
    return [
        Part("matrix product", matrix_product(sam.dtype.name, sam.device), flops=PRODUCT_FLOPS),
        Part("whole encoder", lambda: sam.encode(image).features, flops=encoder_flops(sam.config)),
        Part("whole decoder, one click", lambda: sam.decode(embedding, click, multimask=None)),
    ]


def seconds(parts: Sequence[Part], rounds: int) -> dict[str, float]:
    """Measure the median seconds of a call of each part, over rounds that run all parts."""
    taken: dict[str, list[float]] = {p.name: [] for p in parts}
    for p in parts:
        jax.block_until_ready(p.run())
    for _ in range(rounds):
        for p in parts:
            began = time.perf_counter()
            calls = 0
            while not calls or (time.perf_counter() - began < 0.1 and calls < 20):
                jax.block_until_ready(p.run())
                calls += 1
            taken[p.name].append((time.perf_counter() - began) / calls)
    return {name: median(values) for name, values in taken.items()}


def account(sam: samjax.Segmenter, rounds: int) -> str:
    """Tabulate the parts of one model in one dtype."""
    if sam.config.hq or not isinstance(sam.config.image_encoder, ImageEncoderConfig):
        raise SamjaxError(
            "only SAM's own network can be profiled, not SAM-HQ or MobileSAM: give another --model"
        )
    whole = wholes(sam)
    network = fill_model(sam.parameters(), sam.config, dtype=sam.dtype, placement=sam.device)
    parts = encoder_parts(sam, network) + decoder_parts(sam, network)
    spent = seconds([*whole, *parts], rounds)
    rate = PRODUCT_FLOPS / spent["matrix product"]
    total = spent["whole encoder"]

    def line(p: Part) -> list[str]:
        all_times = spent[p.name] * p.times
        flops = p.flops and p.flops / spent[p.name]
        share = "" if p in whole or p.flops is None else f"{100 * all_times / total:.1f}%"
        count = f"{p.times} x " if p.times > 1 else ""
        return [
            f"{count}{p.name}", milliseconds(spent[p.name]), milliseconds(all_times), share,
            f"{flops / 1e9:.0f}" if flops else "", f"{flops / rate:.2f}" if flops else "",
        ]  # fmt: skip

    encoder = sum(spent[p.name] * p.times for p in parts if p.flops)
    lines = [line(p) for p in [*whole, *parts]]
    lines.append(["sum of the encoder's parts", "", milliseconds(encoder),
                  f"{100 * encoder / total:.1f}%", "", ""])  # fmt: skip
    head = [f"{sam.source} {sam.dtype.name}", "ms", "all, ms", "of the encoder", "GFLOP/s",
            "share of peak"]  # fmt: skip
    return table(head, lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.blocks", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--model", default="embedded", help="embedded, vit_b-random, ...")
    parser.add_argument(
        "--dtype", nargs="+", default=["float32"], help="float32, bfloat16, float16"
    )
    parser.add_argument("--device", help="cpu, gpu, gpu:1, tpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="folder for blocks.md")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        raise SamjaxError(f"--rounds {given.rounds}: at least 1")
    device = choose_device(given.device)
    for dtype in given.dtype:
        choose_dtype(dtype, device)
    out = given.out and made_folder(given.out)
    started = machine(device)
    tables = []
    for dtype in given.dtype:
        sam = samjax.load(source(given.model), dtype=dtype, device=device, preprocess="sam")
        tables.append(account(sam, given.rounds))
    about = f"commit {commit() or 'unknown'}, {started['cores used']} cores of {started['cpu']}"
    text = "\n\n".join([*tables, f"(medians of {given.rounds} rounds; {about})", busy(started)])
    print(text)
    if out:
        with replacing(out / "blocks.md") as temporary:
            temporary.write_text(text.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    exit_code(main)
