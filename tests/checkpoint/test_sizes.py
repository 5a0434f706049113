"""Sizes that a file claims: bounded by what it holds, whatever its keys and shapes say."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samjax.checkpoint.families.official import ReadOptions, read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.errors import CheckpointError
from tests.support import checkpoint_files as make
from tests.support.models import PLAIN, TINY_MOBILE

LAYERS = "mask_decoder.transformer.layers"


def refused(path: Path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < 2500
    return text


def saved(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".pth":
        write_torch_file(path, tensors)
        return path
    return make.write_safetensors(path, tensors)


@pytest.mark.parametrize("number", ["99999999", "1001", "9" * 5000])
@pytest.mark.parametrize(
    ("config", "key"),
    [
        (PLAIN, "image_encoder.blocks.{}.norm1.bias"),
        (PLAIN, f"{LAYERS}.{{}}.norm1.bias"),
        (PLAIN, "mask_decoder.iou_prediction_head.layers.{}.bias"),
        (TINY_MOBILE, "image_encoder.layers.{}.blocks.0.mlp.norm.bias"),
        (TINY_MOBILE, "image_encoder.layers.1.blocks.{}.mlp.norm.bias"),
    ],
)
def test_a_number_in_a_key_builds_no_table(tmp_path: Path, number: str, config, key: str) -> None:
    tensors = to_official(random_parameters(config), config)
    tensors[key.format(number)] = np.zeros(1, np.float32)
    for name in ("sam.safetensors", "sam.pth"):
        text = refused(saved(tmp_path / name, tensors))
        assert "numbers" in text
        assert number[:20] in text


def test_numbers_are_bounded_by_the_tensors_too(tmp_path: Path) -> None:
    tensors = to_official(random_parameters(PLAIN), PLAIN)
    tensors["image_encoder.blocks.900.norm1.bias"] = np.zeros(32, np.float32)
    assert f"more than its {len(tensors)} tensors" in refused(saved(tmp_path / "sam.pth", tensors))


@pytest.mark.parametrize("number", ["7777777", "9" * 5000])
def test_numbers_in_the_keys_of_parts_and_bases(tmp_path: Path, number: str) -> None:
    tensors = to_official(random_parameters(PLAIN), PLAIN)
    tensors[f"image_encoder.blocks.{number}.attn.rel_pos_h"] = np.zeros((7, 16), np.float32)
    path = saved(tmp_path / "sam.pth", tensors)
    refused(path, options=ReadOptions(image_size=96))
    pairs = {}
    for i in range(4):
        pairs |= {f"w_a_00{i}": np.zeros((4, 32), np.float32)}
        pairs |= {f"w_b_00{i}": np.zeros((32, 4), np.float32)}
    lora, base = saved(tmp_path / "lora.pth", pairs), read_official_weights(path)
    with pytest.raises(CheckpointError, match="numbers"):
        read_official_weights(lora, ReadOptions(base))


EMPTY = {
    "mask_decoder.mask_tokens.weight": (2**40, 0),
    "image_encoder.pos_embed": (1, 0, 0, 32),
    "mask_decoder.iou_token.weight": (0,),
    "image_encoder.neck.1.weight": (0,),
}


@pytest.mark.parametrize("key", EMPTY)
def test_weights_of_no_size(tmp_path: Path, key: str) -> None:
    tensors = to_official(random_parameters(PLAIN), PLAIN)
    del tensors[key]
    header, data, end = {}, b"", 0
    for name, array in tensors.items():
        offsets = [end, end := end + array.nbytes]
        shape = list(array.shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += np.ascontiguousarray(array).tobytes()
    header[key] = {"dtype": "F32", "shape": list(EMPTY[key]), "data_offsets": [end, end]}
    path = tmp_path / "sam.safetensors"
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    text = refused(path)
    assert key in text
    assert "holds no values" in text
    pickled = make.dict_of(
        {name: make.tensor(str(i), array.shape) for i, (name, array) in enumerate(tensors.items())}
        | {key: make.tensor("0", EMPTY[key], count=next(iter(tensors.values())).size)}
    )
    path = make.write_zip(tmp_path / "sam.pth", pickled, make.storages_of(tensors))
    assert "holds no values" in refused(path)


@pytest.mark.parametrize("shape", [(2**47, 2**47, 0), (2**24, 2**24, 2**24, 0)])
def test_shapes_that_overflow(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = {"x": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}}
    encoded = json.dumps(header).encode()
    path = tmp_path / "sam.safetensors"
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    assert "too large" in refused(path)
    pickled = make.dict_of({"x": make.tensor("0", shape, (1,) * len(shape), count=1)})
    path = make.write_zip(tmp_path / "sam.pth", pickled, {"0": bytes(4)})
    assert "too large" in refused(path)


@pytest.mark.parametrize("digits", [30, 5000])
def test_sizes_of_many_digits(tmp_path: Path, digits: int) -> None:
    number = "9" * digits
    text = f'{{"x": {{"dtype": "F32", "shape": [{number}], "data_offsets": [0, 0]}}}}'
    path = tmp_path / "sam.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    refused(path)
    folder = tmp_path / "hf"
    folder.mkdir()
    saved(folder / "model.safetensors", make.few_weights())
    (folder / "config.json").write_text(
        f'{{"mask_decoder_config": {{"layer_norm_eps": {number}}}, "x": {number}}}'
    )
    refused(folder)


_LITTLE_MEMORY = """
import resource, sys
import jax
from samjax.checkpoint.describe import describe
import samjax.cli
jax.devices()
samjax.cli.main(["models", "--help"])  # the libraries that a first command imports
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(samjax.cli.main(["inspect", sys.argv[1]]))
"""


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    tensors = to_official(random_parameters(PLAIN), PLAIN)
    tensors["image_encoder.blocks.99999999.norm1.bias"] = np.zeros(1, np.float32)
    path = saved(tmp_path / "sam.safetensors", tensors)
    run = subprocess.run(
        [sys.executable, "-c", _LITTLE_MEMORY, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert run.returncode == 2, run.stderr
    assert "numbers" in run.stderr
    assert "bfloat16" not in run.stderr
