"""Test unwrapping, key prefixes, and refusals by the name of the family."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from samjax.checkpoint.families.official import read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sam.pth"


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_official_weights(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.count(str(path)) == 1
    assert "\n" not in text
    return text


def test_official_file(path: Path) -> None:
    weights = read_official_weights(make.write_few(path))
    assert (weights.family, weights.container) == ("official", "zip .pth")
    assert weights.layer_norm_eps == 1e-5
    assert weights.preprocess is None
    assert weights.notes == ()
    for key, array in make.few_weights().items():
        np.testing.assert_array_equal(weights.tensors[key], array, strict=True)


# Unwrapping and prefixes


@pytest.mark.parametrize(
    ("wrapper", "prefix", "others", "family"),
    [
        ("model", "", {}, "official"),
        ("model", "module.", {"optimizer": b"}", "epoch": b"K\x01"}, "training checkpoint"),
        ("model", "", {"optimizer": make.call("torch.optim", "Adam")}, "training checkpoint"),
        ("state_dict", "model.", {"pytorch-lightning_version": make.text("2")}, "lightning"),
        ("state_dict", "", {"model": make.text("sam")}, "official"),
        ("model_state", "sam.", {"decoder_state": b"}", "init": b"}"}, "micro-sam"),
        ("model_state_dict", "module._orig_mod.sam_model.", {}, "official"),
    ],
)
def test_wrapped_state_dicts(
    path: Path, wrapper: str, prefix: str, others: dict[str, bytes], family: str
) -> None:
    weights = make.few_weights(prefix)
    content = make.dict_of(others | {wrapper: make.state_dict(weights)})
    make.write_zip(path, content, make.storages_of(weights))
    found = read_official_weights(path)
    assert found.family == family
    assert set(found.tensors) == set(make.FEW_SHAPES)
    text = "; ".join(found.notes)
    assert f"weights taken from '{wrapper}'" in text
    assert all(name in text for name in others)
    assert (f"stripped the prefix '{prefix}'" in text) == bool(prefix)
    assert ("instance segmentation decoder" in text) == (family == "micro-sam")


def test_legacy_stream(path: Path) -> None:
    weights = make.few_weights()
    arrays = {str(i): array for i, array in enumerate(weights.values())}
    path.write_bytes(make.legacy_bytes(make.state_dict(weights), arrays))
    assert set(read_official_weights(path).tensors) == set(weights)


def test_compiled_parts(path: Path) -> None:
    weights = {
        key.replace("image_encoder.", "image_encoder._orig_mod."): array
        for key, array in make.few_weights().items()
    }
    write_torch_file(path, weights)
    assert set(read_official_weights(path).tensors) == set(make.FEW_SHAPES)
    write_torch_file(path, weights | make.few_weights())
    assert "the same but for '_orig_mod.'" in refused(path)


def test_constants_are_dropped(path: Path) -> None:
    make.write_few(path, "sam.pixel_mean", "sam.pixel_std", prefix="sam.")
    weights = read_official_weights(path)
    assert set(weights.tensors) == set(make.FEW_SHAPES)
    assert any("dropped pixel_mean and pixel_std" in note for note in weights.notes)


def test_sizes_that_tell_a_family(path: Path) -> None:
    tensors = make.few_weights()
    tensors["image_encoder.blocks.0.mlp.lin1.weight"] = np.zeros((7, 4), np.float32)
    write_torch_file(path, tensors)
    weights = read_official_weights(path)
    assert weights.family == "slimsam"
    assert any("MLP of 7" in note for note in weights.notes)

    tensors = make.few_weights()
    tensors["image_encoder.pos_embed"] = np.zeros((1, 16, 16, 768), np.float32)
    content = make.dict_of({"model": make.state_dict(tensors), "optimizer": b"}"})
    make.write_zip(path, content, make.storages_of(tensors))
    weights = read_official_weights(path)
    assert weights.family == "ft-sam"
    assert any("SAM-Med2D" in note for note in weights.notes)


# Refusals


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("image_encoder.features.0.conv.weight", "EdgeSAM"),
        ("image_encoder.fuse_stage2.weight", "EdgeSAM"),
        ("prompt_encoder.bbox_top_left_embeddings.weight", "EfficientSAM"),
        ("image_encoder.backbone.stem.weight", "EfficientViT-SAM"),
        ("image_encoder.prompt_generator.shared_mlp.weight", "SAM-Adapter"),
        ("image_encoder.blocks.0.Space_Adapter.D_fc1.weight", "Medical-SAM-Adapter"),
        ("image_encoder.blocks.0.MLP_Adapter.D_fc1.weight", "Medical-SAM-Adapter"),
        ("mask_decoder.custom_robust_token.weight", "RobustSAM"),
        ("cellfinder.decode_head.weight", "CellSAM"),
        ("image_encoder.trunk.blocks.0.norm1.weight", "SAM 2"),
        ("image_encoder.blocks.0.Adapter.channel.0.weight", "SAM-Med2D with adapters"),
        ("image_encoder.blocks.0.attn.qkv.FacTu.weight", "micro-sam's or MA-SAM's FacT"),
        ("image_encoder.blocks.0.attn.qkv.linear_a_q.bias", "a LoRA with biases"),
    ],
)
def test_families_that_are_refused_by_name(path: Path, key: str, family: str) -> None:
    text = refused(make.write_few(path, key))
    assert f"looks like {family}" in text
    assert key in text
    assert "not supported" in text


def test_efficient_sam_by_its_position_embedding(path: Path) -> None:
    tensors = make.few_weights() | {"image_encoder.pos_embed": np.zeros((1, 5, 4), np.float32)}
    write_torch_file(path, tensors)
    assert "looks like EfficientSAM" in refused(path)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["mask_decoder.iou_token.weight"], "a partial file, mask decoder alone: pass base="),
        (["image_encoder.pos_embed"], "a partial file, image encoder alone: pass base="),
        (["patch_embed.proj.weight", "blocks.0.norm1.weight"], "image encoder alone: pass"),
        (
            ["iou_token.weight", "mask_tokens.weight", "transformer.x"],
            "a partial file, mask decoder alone: pass base=",
        ),
        (["layer1.0.conv1.weight", "fc.bias"], "its 2 keys are like 'layer1.0', 'fc.bias'"),
    ],
)
def test_partial_and_foreign_files(path: Path, keys: list[str], why: str) -> None:
    write_torch_file(path, {key: np.zeros(1, np.float32) for key in keys})
    assert why in refused(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            make.named("torch.nn.parallel", "DataParallel") + b")\x81" + b"}b",
            "whole pickled module (torch.nn.parallel.DataParallel), no code was run",
        ),
        (
            make.dict_of({"model": make.named("ultralytics.nn", "Model") + b")\x81"}),
            "whole pickled module (ultralytics.nn.Model) under 'model'",
        ),
        (b"](K\x01e", "holds list, not a dictionary of weights"),
        (make.tensor("0", (1,)), "holds ndarray, not a dictionary of weights"),
        (b"}", "an empty dictionary"),
        (make.dict_of({"epoch": b"K\x01"}), "a dictionary without tensors (its keys: 'epoch')"),
        (
            make.dict_of({"network": make.dict_of({"x": make.tensor("0", (1,))})}),
            "its tensors lie under 'network'",
        ),
        (
            make.dict_of({"x": make.tensor("0", (1,)), "y": make.call("numpy", "array")}),
            "'y' is a pickled object (numpy.array), not a tensor",
        ),
        (make.dict_of({"x": make.tensor("0", (1,)), "y": b"K\x01"}), "'y' is int, not a tensor"),
        (b"}(K\x01" + make.tensor("0", (1,)) + b"u", "a weight is called 1"),
    ],
)
def test_files_without_a_state_dict(path: Path, content: bytes, why: str) -> None:
    make.write_zip(path, content, {"0": bytes(4)})
    assert why in refused(path)


# Against torch


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_lightning_checkpoint(path: Path) -> None:
    import torch

    weights = {f"model.{key}": torch.tensor(value) for key, value in make.few_weights().items()}
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": weights,
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": Path("x"), "score": np.ones(2)}},
        "hyper_parameters": argparse.Namespace(rate=1e-4, device=torch.device("cpu")),
        "optimizer": optimizer,
    }
    torch.save(checkpoint, path)
    found = read_official_weights(path)
    assert found.family == "lightning"
    assert "callbacks" in found.notes[0]
    for key, array in make.few_weights().items():
        np.testing.assert_array_equal(found.tensors[key], array, strict=True)
    torch.save(torch.nn.DataParallel(torch.nn.Linear(2, 2)), path)
    assert "whole pickled module (torch.nn.parallel.data_parallel.DataParallel)" in refused(path)
