"""Steps of the recipe's parameters: who takes which, and what a step is."""

import math

import pytest
import torch

from convert.official import build_official
from convert.tiny.optimise import Optimiser, decays, layout_of, matrices
from convert.tiny.start import tiny_config

pytestmark = pytest.mark.parity
SHAPES = {
    "image_encoder.pos_embed": (1, 4, 4, 64),
    "blocks.0.attn.qkv.weight": (192, 64),
    "blocks.0.attn.qkv.bias": (192,),
    "blocks.0.mlp.lin1.weight": (256, 64),
    "neck.2.weight": (32, 32, 3, 3),
    "mask_tokens.weight": (40, 64),
}


def shared_vectors(processes: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    count = sum(math.prod(shape) for shape in SHAPES.values())
    shared = {k: torch.zeros(count) for k in ("first", "second", "average")}
    shared["layout"] = layout_of(SHAPES)
    shared["master"] = torch.randn(count, generator=generator)
    shared["weights"] = torch.zeros(count, dtype=torch.bfloat16)
    shared["gradient"] = torch.randn(processes, count, generator=generator).bfloat16()
    return shared


def steps(shared: dict, processes: int, count: int = 2) -> dict:
    shares = [Optimiser(shared, rank, processes, 0.03) for rank in range(processes)]
    for number in range(1, count + 1):
        norm = float(sum(share.average() for share in shares)) ** 0.5
        for share in shares:
            share.step(number, 0.01, norm, 0.5)
    return shared


def named(shared: dict, key: str) -> dict[str, torch.Tensor]:
    sizes = [math.prod(shape) for shape in shared["layout"].values()]
    parts = shared[key].split(sizes)
    return {k: v.view(s) for (k, s), v in zip(shared["layout"].items(), parts, strict=True)}


def test_the_network_s_products_are_muon_s_and_the_rest_is_adamw_s():
    network = build_official(tiny_config(384, 192, 8, 1024))
    rest = {k: tuple(p.shape) for k, p in network.named_parameters() if p.ndim > 1}
    rest = {k: shape for k, shape in rest.items() if not matrices(k, shape)}
    kinds = ("embed", "rel_pos", "mask_downscaling", "iou_token", "mask_tokens", "layers.2.weight")
    assert not [k for k in rest if not any(kind in k for kind in kinds)]
    cross = "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"
    assert matrices(cross, (128, 256)) == [(128, 256)]
    assert matrices("blocks.0.attn.qkv.weight", (576, 192)) == [(192, 192)] * 3
    decaying = {k for k, shape in rest.items() if decays(k, shape)}
    assert decaying == {
        "image_encoder.patch_embed.proj.weight",
        "mask_decoder.iou_prediction_head.layers.2.weight",
        *(f"prompt_encoder.mask_downscaling.{i}.weight" for i in (0, 3, 6)),
    }


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_every_parameter_once(processes):
    shared = shared_vectors(processes)
    taken = torch.zeros(len(shared["master"]))
    for rank in range(processes):
        share = Optimiser(shared, rank, processes, 0.0)
        for part in (share.rest, *(part for part, _ in share.matrices)):
            taken[part] += 1
    assert taken.eq(1).all()


def test_two_processes_take_the_step_that_one_takes_with_their_mean():
    two = shared_vectors(2)
    one = shared_vectors(2) | {"gradient": two["gradient"].float().mean(0, keepdim=True)}
    found, expected = steps(two, 2), steps(one, 1)
    for key in ("master", "average", "weights", "first", "second"):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6)


def test_a_step_of_a_matrix_is_orthogonal_and_of_the_size_of_adamw_s():
    shared = shared_vectors(1)
    before = {k: v.clone() for k, v in named(shared, "master").items()}
    after = named(steps(shared, 1, 1), "master")
    for name in ("blocks.0.attn.qkv.weight", "blocks.0.mlp.lin1.weight", "neck.2.weight"):
        step = (after[name] - before[name] * (1 - 0.01 * 0.03)).flatten(1)
        for part in step.chunk(3) if "qkv" in name else [step]:
            values = torch.linalg.svdvals(part) / (0.2 * 0.01 * math.sqrt(max(part.shape)))
            # a square's smallest direction is lost in five rounds of Newton and Schulz
            assert 0.6 < values[-2] < values[0] < 1.3, name
    table = after["mask_tokens.weight"] - before["mask_tokens.weight"]
    # AdamW's first step is the sign of the gradient, and a table does not decay.
    torch.testing.assert_close(table.abs(), torch.full_like(table, 0.01), rtol=0.02, atol=0)
    torch.testing.assert_close(shared["weights"], shared["master"].bfloat16())


def test_an_optimiser_goes_on_from_the_shared_vectors():
    straight = steps(shared_vectors(1), 1, 2)
    stopped = steps(shared_vectors(1), 1, 1)
    share = Optimiser(stopped, 0, 1, 0.03)  # as a run does that starts again
    share.step(2, 0.01, float(share.average()) ** 0.5, 0.5)
    torch.testing.assert_close(stopped["master"], straight["master"], rtol=0, atol=0)
