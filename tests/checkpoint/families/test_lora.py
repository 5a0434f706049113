"""Test every form of LoRA: detected, merged as the layers would add it, refused if unfit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.checkpoint.families.official import OfficialWeights, ReadOptions, read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.errors import CheckpointError, CheckpointWarning
from tests.support import layouts
from tests.support.checkpoint_files import write_safetensors
from tests.support.models import PLAIN, sized

BASE = to_official(random_parameters(PLAIN), PLAIN)
OPTIONS = ReadOptions(OfficialWeights("official", "base.pth", BASE, (), None, 1e-5))
BLOCKS = layouts.depth_of(BASE)


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for key, array in expected.items():
        np.testing.assert_allclose(found[key], array, rtol=0, atol=1e-6, err_msg=key)


def refused(path: Path, options: ReadOptions = OPTIONS) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_official_weights(path, options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def written(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    write_torch_file(path, tensors)
    return path


@pytest.mark.parametrize("rank", [1, 4])
def test_pairs_alone(tmp_path: Path, rank: int) -> None:
    saved, merged = layouts.pairs(BASE, rank)
    path = write_safetensors(tmp_path / "lora.safetensors", saved)
    weights = read_official_weights(path, OPTIONS)
    same(weights.tensors, merged)
    assert weights.family == "sam-lora"
    assert f"LoRA-only file ({2 * BLOCKS} pairs, rank {rank}); base: base.pth" in weights.notes
    assert not weights.doubt


def test_pairs_with_a_decoder_are_sameds(tmp_path: Path) -> None:
    base = sized(grid=10, window=4, masks=5)  # another number of classes than the base
    other = to_official(random_parameters(base, seed=1), base)
    trained = BASE | layouts.parts(other, layouts.PROMPTS, layouts.DECODER)
    saved, merged = layouts.pairs(trained, decoder=True)
    weights = read_official_weights(written(tmp_path / "epoch_159.pth", saved), OPTIONS)
    same(weights.tensors, merged)
    assert weights.family == "samed"
    assert "preprocess='samed'" in weights.doubt
    assert "80" in weights.doubt  # px: the size is not in the file
    with pytest.warns(CheckpointWarning, match="may be wrong.*SAMed takes values of 0 to 1"):
        sam = samjax.load(tmp_path / "epoch_159.pth", base=written(tmp_path / "base.pth", BASE))
    assert sam.config.mask_decoder.num_masks == 5
    assert sam.preset.name == "sam"
    quiet = samjax.load(
        tmp_path / "epoch_159.pth", base=tmp_path / "base.pth", preprocess="samed", image_size=160
    )
    assert (quiet.preset.name, quiet.config.image_size) == ("samed", 160)


def test_pairs_of_some_blocks(tmp_path: Path) -> None:
    saved, merged = layouts.pairs(BASE, layers=[1])
    path = written(tmp_path / "lora.pth", saved)
    text = refused(path)
    assert f"enough for 1 of the {BLOCKS} blocks of the base: pass lora_layers=" in text
    same(read_official_weights(path, ReadOptions(OPTIONS.base, (1,))).tensors, merged)
    for wrong in ((0, 1), (BLOCKS,), (-1,), ()):
        assert "does not fit: give 1 different blocks" in refused(
            path, ReadOptions(OPTIONS.base, wrong)
        )


@pytest.mark.parametrize("layout", [layouts.inline_samed, layouts.inline_microsam])
@pytest.mark.parametrize("prefix", ["", "sam.", "module.sam."])
def test_inline(tmp_path: Path, layout, prefix: str) -> None:
    saved, merged = layout(BASE)
    path = written(tmp_path / "a.pth", {prefix + key: array for key, array in saved.items()})
    weights = read_official_weights(path)
    same(weights.tensors, merged)
    assert weights.family == "inline lora"
    assert any("LoRA pairs merged into the weights, in float32" in note for note in weights.notes)


def write_peft(folder: Path, saved: dict[str, np.ndarray], **config: object) -> Path:
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors", saved)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"lora_alpha": 1}, 0.25),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"attn.qkv": 12}}, 3.0),
        ({"alpha_pattern": {"kv": 12}}, 2.0),  # not the module's name from a dot on
        ({"r": 8, "rank_pattern": {"qkv": 4}}, 2.0),
    ],
)
def test_peft_is_scaled_as_its_configuration_says(tmp_path: Path, config: dict, scale: float):
    saved, merged = layouts.peft(BASE, scale=scale)
    folder = write_peft(tmp_path / "adapter", saved, **config)
    weights = read_official_weights(folder, OPTIONS)
    same(weights.tensors, merged)
    assert weights.family == "peft"
    alone = read_official_weights(folder / "adapter_model.safetensors", OPTIONS)
    same(alone.tensors, merged)


def test_peft_with_a_part_saved_whole(tmp_path: Path) -> None:
    saved, merged = layouts.peft(BASE, whole=layouts.DECODER)
    same(read_official_weights(write_peft(tmp_path / "a", saved), OPTIONS).tensors, merged)
    saved.pop("base_model.model.mask_decoder.iou_token.weight")
    folder = write_peft(tmp_path / "b", saved)
    # The base does not fill up what a part lacks.
    assert "mask_decoder.iou_token.weight" not in read_official_weights(folder, OPTIONS).tensors


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"peft_type": "LOHA"}, "a PEFT adapter of type 'LOHA': only 'LORA'"),
        ({"use_dora": True}, "use_dora is set (DoRA), not supported"),
        ({"fan_in_fan_out": True}, "transposed weights"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern has regular expressions"),
        ({"r": 3}, "has rank 4, adapter_config.json says 3: files of two adapters, download"),
        ({"r": 0}, "r is 0 and lora_alpha 8"),
        ({"lora_alpha": "8"}, "lora_alpha '8'"),
        ({"lora_alpha": 1e300}, "lora_alpha 1e+300"),
    ],
)
def test_peft_that_is_refused(tmp_path: Path, config: dict, why: str) -> None:
    saved, _ = layouts.peft(BASE)
    folder = write_peft(tmp_path / "adapter", saved, **config)
    assert why in refused(folder).replace(f"{folder}/adapter_model.safetensors", str(folder))


def test_peft_keys_that_are_refused(tmp_path: Path) -> None:
    saved, _ = layouts.peft(BASE)
    first = next(iter(saved)).removesuffix(".lora_A.weight")
    vector = saved | {f"{first}.lora_magnitude_vector.weight": np.ones(3, np.float32)}
    assert "not DoRA or embeddings" in refused(write_peft(tmp_path / "a", vector))
    half = {k: v for k, v in saved.items() if k != f"{first}.lora_B.weight"}
    assert "has only its A matrix" in refused(write_peft(tmp_path / "b", half))
    conv = saved | {
        f"{first}.lora_A.weight": np.ones((4, 3, 8, 8), np.float32),
        f"{first}.lora_B.weight": np.ones((5, 4, 1, 1), np.float32),
    }
    assert "belongs to a convolution" in refused(write_peft(tmp_path / "c", conv))
    whole = {f"base_model.model.{k}": v for k, v in BASE.items()}
    assert "keys of PEFT without a LoRA pair" in refused(write_peft(tmp_path / "d", whole))
    # A model with its adapters not merged: alpha is in no tensor.
    write_torch_file(tmp_path / "e.pth", saved)
    assert "without its adapter_config.json, which holds alpha" in refused(tmp_path / "e.pth")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "adapter_config.json").write_text("{}")
    assert "a PEFT adapter without its weights" in refused(tmp_path / "f")


def test_the_base_that_peft_names_is_in_the_error(tmp_path: Path) -> None:
    saved, _ = layouts.peft(BASE)
    folder = write_peft(tmp_path / "a", saved, base_model_name_or_path="facebook/sam-vit-base")
    text = refused(folder, ReadOptions())
    assert f"LoRA-only file ({BLOCKS} pairs, rank 4): pass base=" in text
    assert "(facebook/sam-vit-base by its adapter_config.json)" in text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.pop("w_b_001"), "its pairs are not w_a_000, w_b_000 and so on"),
        (lambda s: (s.pop("w_b_001"), s.pop("w_a_001")), "its pairs are not w_a_000"),
        (
            lambda s: s.update(w_a_000=np.ones((4, 7), np.float32)),
            "'w_a_000, w_b_000' of shapes (4, 7) and (32, 4) does not fit",
        ),
        (lambda s: s.update(w_b_000=np.ones((32, 5), np.float32)), "does not fit"),
        (lambda s: s.update(w_b_000=np.ones(32, np.float32)), "does not fit"),
        (lambda s: s.update(w_a_000=np.ones((), np.float32)), "does not fit"),
    ],
)
def test_pairs_that_do_not_fit(tmp_path: Path, change, why: str) -> None:
    saved, _ = layouts.pairs(BASE)
    change(saved)
    assert why in refused(written(tmp_path / "lora.pth", saved))


def test_inline_layers_that_do_not_fit(tmp_path: Path) -> None:
    saved, _ = layouts.inline_samed(BASE)
    at = "image_encoder.blocks.0.attn.qkv"
    half = {key: array for key, array in saved.items() if key != f"{at}.linear_b_v.weight"}
    assert "has only its A matrix" in refused(written(tmp_path / "a.pth", half), ReadOptions())
    both = saved | {f"{at}.weight": BASE[f"{at}.weight"]}
    assert "a weight with and without LoRA" in refused(
        written(tmp_path / "b.pth", both), ReadOptions()
    )
    biased = saved | {f"{at}.linear_a_q.bias": np.ones(4, np.float32)}
    assert "looks like a LoRA with biases" in refused(
        written(tmp_path / "c.pth", biased), ReadOptions()
    )
    fact = saved | {f"{at}.FacTu.weight": np.ones((4, 4), np.float32)}
    assert "FacT" in refused(written(tmp_path / "d.pth", fact), ReadOptions())
    # Layers without the weights they belong to: these are the base's
    layers = {key: array for key, array in saved.items() if ".linear_" in key}
    assert "LoRA-only file" in refused(written(tmp_path / "e.pth", layers), ReadOptions())
    assert read_official_weights(tmp_path / "e.pth", OPTIONS).family == "inline lora"


def test_half_precision_is_merged_in_float32(tmp_path: Path) -> None:
    saved, _ = layouts.pairs({k: v.astype(np.float16) for k, v in BASE.items()})
    half = {key: array.astype(np.float16) for key, array in saved.items()}
    weights = read_official_weights(written(tmp_path / "lora.pth", half), OPTIONS)
    key = "image_encoder.blocks.0.attn.qkv.weight"
    product = half["w_b_000"].astype(np.float64) @ half["w_a_000"].astype(np.float64)
    expected = BASE[key][:32] + product
    assert weights.tensors[key].dtype == np.float32
    np.testing.assert_allclose(weights.tensors[key][:32], expected, atol=1e-6)
