"""Test Hugging Face SamModel files: keys, decoder epsilon, image processor."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samjax.checkpoint.families.huggingface import official_key
from samjax.checkpoint.families.official import read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make

STANDARD_PROCESSOR = {
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "SamImageProcessor",
    "pad_size": {"height": 32, "width": 32},
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 32},
}


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


HF_KEYS = {
    "shared_image_embedding.positional_embedding": (2, 4),
    "vision_encoder.pos_embed": (1, 2, 2, 4),
    "vision_encoder.patch_embed.projection.weight": (4, 3, 16, 16),
    "vision_encoder.layers.0.layer_norm1.weight": (4,),
    "vision_encoder.neck.conv2.weight": (4, 4, 3, 3),
    "prompt_encoder.mask_embed.layer_norm2.bias": (4,),
    "mask_decoder.transformer.layers.1.layer_norm4.weight": (8,),
    "mask_decoder.output_hypernetworks_mlps.3.proj_out.weight": (4, 8),
}


@pytest.mark.parametrize(
    ("key", "official"),
    [
        ("vision_encoder.neck.layer_norm1.weight", "image_encoder.neck.1.weight"),
        ("vision_encoder.layers.11.mlp.lin2.bias", "image_encoder.blocks.11.mlp.lin2.bias"),
        ("prompt_encoder.point_embed.3.weight", "prompt_encoder.point_embeddings.3.weight"),
        ("prompt_encoder.mask_embed.conv3.bias", "prompt_encoder.mask_downscaling.6.bias"),
        (
            "mask_decoder.transformer.layer_norm_final_attn.bias",
            "mask_decoder.transformer.norm_final_attn.bias",
        ),
        (
            "mask_decoder.transformer.layers.0.layer_norm3.bias",
            "mask_decoder.transformer.layers.0.norm3.bias",
        ),
        ("mask_decoder.upscale_conv2.weight", "mask_decoder.output_upscaling.3.weight"),
        (
            "mask_decoder.iou_prediction_head.proj_in.weight",
            "mask_decoder.iou_prediction_head.layers.0.weight",
        ),
        (
            "mask_decoder.iou_prediction_head.layers.0.weight",
            "mask_decoder.iou_prediction_head.layers.1.weight",
        ),
        (
            "mask_decoder.output_hypernetworks_mlps.2.proj_out.bias",
            "mask_decoder.output_hypernetworks_mlps.2.layers.2.bias",
        ),
        ("mask_decoder.unknown.weight", "mask_decoder.unknown.weight"),
    ],
)
def test_official_keys(key: str, official: str) -> None:
    assert official_key(key) == official


def hf_folder(folder: Path, config: dict[str, object] | None = None) -> Path:
    random = np.random.default_rng(1)
    arrays = {key: random.standard_normal(size, np.float32) for key, size in HF_KEYS.items()}
    make.write_safetensors(folder / "model.safetensors", arrays)
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": "sam", **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "beside", "eps", "why"),
    [
        (None, None, 1e-5, "no config.json"),
        ({"transformers_version": "4.29.0.dev0"}, None, 1e-5, "converted official weights"),
        ({}, None, 1e-5, "converted official weights"),
        ({"transformers_version": "4.30.0"}, None, 1e-6, "saved by transformers 4.30"),
        ({"transformers_version": "4.29.0"}, "trainer_state.json", 1e-6, "trainer_state.json lies"),
        (
            {"transformers_version": "5.1.0", "mask_decoder_config": {"layer_norm_eps": 1e-4}},
            None,
            1e-4,
            "eps 0.0001 from config.json",
        ),
    ],
)
def test_decoder_eps(
    tmp_path: Path,
    config: dict[str, object] | None,
    beside: str | None,
    eps: float,
    why: str,
) -> None:
    hf_folder(tmp_path, config)
    if beside:
        (tmp_path / beside).touch()
    weights = read_official_weights(tmp_path)
    assert weights.family == "huggingface"
    assert weights.container == "Hugging Face folder, one file"
    assert weights.layer_norm_eps == eps
    assert any(why in note for note in weights.notes)
    assert weights.preprocess is None
    assert "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" in weights.tensors
    assert not [key for key in weights.tensors if re.search("vision|layer_norm|embedding$", key)]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "sam2"}, "says model_type 'sam2': only 'sam' and 'sam_hq' are supported"),
        ({"vision_config": {"hidden_act": "gelu_new"}}, "vision_config.hidden_act is 'gelu_new'"),
        ({"mask_decoder_config": {"layer_norm_eps": "x"}}, "layer_norm_eps is 'x'"),
    ],
)
def test_configs_that_are_refused(tmp_path: Path, config: dict[str, object], why: str) -> None:
    assert why in refused(hf_folder(tmp_path, config))


@pytest.mark.parametrize(
    ("change", "preprocess"),
    [
        ({}, "sam"),
        ({"resample": 3}, None),
        ({"do_pad": False}, None),
        ({"image_mean": [0.5, 0.5, 0.5]}, None),
        ({"image_mean": "x"}, None),
        ({"size": {"longest_edge": 1024}}, None),
        ({"size": [32]}, None),
    ],
)
def test_preprocessor(tmp_path: Path, change: dict[str, object], preprocess: str | None) -> None:
    hf_folder(tmp_path, {})
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(STANDARD_PROCESSOR | change))
    weights = read_official_weights(tmp_path)
    assert weights.preprocess == preprocess
    assert any("image processor is" in note for note in weights.notes)


def test_bare_file_with_hugging_face_keys(path: Path) -> None:
    arrays = {key: np.ones(size, np.float32) for key, size in HF_KEYS.items()}
    twin = "prompt_encoder.shared_embedding.positional_embedding"
    write_torch_file(path, arrays | {twin: np.ones((2, 4), np.float32)})
    weights = read_official_weights(path)
    assert weights.family == "huggingface"
    assert weights.layer_norm_eps == 1e-5
    assert len(weights.tensors) == len(HF_KEYS)
    write_torch_file(path, arrays | {twin: np.zeros((2, 4), np.float32)})
    assert "are both 'prompt_encoder.pe_layer" in refused(path)
    write_torch_file(path, arrays | {"image_encoder.pos_embed": np.ones(1, np.float32)})
    assert "are both 'image_encoder.pos_embed'" in refused(path)


# Against transformers and the official package


def small_hf_model() -> object:
    import torch
    import transformers as hf

    torch.manual_seed(0)
    vision = hf.SamVisionConfig(
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        mlp_dim=128,
        global_attn_indexes=[1],
        num_pos_feats=16,
        window_size=2,
    )
    prompt = hf.SamPromptEncoderConfig(hidden_size=32, image_size=64)
    decoder = hf.SamMaskDecoderConfig(hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32)
    return hf.SamModel(
        hf.SamConfig(
            vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
        )
    )


def small_official_shapes(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """List keys and shapes of the official class at the sizes of ``small_hf_model``."""
    # The official package imports torchvision for its mask generator only.
    names = ("ops", "ops.boxes", "transforms", "transforms.functional")
    for name in ("torchvision", *(f"torchvision.{name}" for name in names)):
        module = types.ModuleType(name)
        for attribute in ("batched_nms", "box_area", "resize", "to_pil_image"):
            setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    sam = Sam(
        ImageEncoderViT(
            img_size=64,
            embed_dim=32,
            depth=2,
            num_heads=2,
            out_chans=32,
            use_rel_pos=True,
            window_size=2,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(32, (4, 4), (64, 64), 16),
        MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(2, 32, 8, 64),
            iou_head_hidden_dim=32,
        ),
    )
    return {key: tuple(tensor.shape) for key, tensor in sam.state_dict().items()}


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", ["folder", "shards", "bin", "bare .pth", "half"])
def test_hugging_face_models_become_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    import torch

    model: Any = small_hf_model()
    place = tmp_path
    if form == "bare .pth":
        place = tmp_path / "model.pth"
        torch.save(model.state_dict(), place)
    elif form == "bin":
        model.config.save_pretrained(tmp_path)
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    else:
        model = model.half() if form == "half" else model
        model.save_pretrained(tmp_path, max_shard_size="60KB" if form == "shards" else "1GB")
    weights = read_official_weights(place)
    assert ("shards" in weights.container) == (form == "shards")
    assert weights.family == "huggingface"
    assert weights.layer_norm_eps == (1e-5 if form == "bare .pth" else 1e-6)
    found = {key: array.shape for key, array in weights.tensors.items()}
    assert found == small_official_shapes(monkeypatch)
    dtypes = {array.dtype.name for array in weights.tensors.values()}
    assert dtypes == {"float16" if form == "half" else "float32"}
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(weights.tensors[official_key(key)], tensor.numpy())
