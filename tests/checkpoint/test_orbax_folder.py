"""Test that samjax's folders restore weights bit for bit, with metadata, onto any device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.families.official import read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.orbax_folder import Checkpoint, restore_orbax_folder, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.errors import CheckpointError
from tests.support.models import PLAIN


def checkpoint(dtype: np.dtype | type = np.float32) -> Checkpoint:
    parameters = {k: v.astype(dtype) for k, v in random_parameters(PLAIN, seed=2).items()}
    return Checkpoint(parameters, PLAIN, "official", "sam", ("a note", "another"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_restored_bit_for_bit_with_its_meaning(dtype, tmp_path):
    given = checkpoint(dtype)
    save_orbax_folder(tmp_path / "sam", given)
    found = restore_orbax_folder(tmp_path / "sam")
    assert (found.config, found.family, found.preprocess, found.notes) == (
        given.config,
        given.family,
        given.preprocess,
        given.notes,
    )
    assert found.parameters.keys() == given.parameters.keys()
    for name, value in given.parameters.items():
        got = found.parameters[name]
        assert got.dtype == value.dtype
        assert got.devices() == {jax.devices()[0]}
        assert np.asarray(got).tobytes() == np.ascontiguousarray(value).tobytes(), name


def test_an_existing_folder_is_kept(tmp_path):
    given = checkpoint()
    save_orbax_folder(tmp_path / "sam", given)
    with pytest.raises(CheckpointError, match="exists: choose another name"):
        save_orbax_folder(tmp_path / "sam", given)
    save_orbax_folder(tmp_path / "sam", given, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["sam"]


def test_a_damaged_folder_is_refused(tmp_path):
    folder = tmp_path / "sam"
    save_orbax_folder(folder, checkpoint())
    for path in (folder / "parameters").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        restore_orbax_folder(folder)


def test_a_folder_of_another_format_is_refused(tmp_path):
    folder = tmp_path / "sam"
    save_orbax_folder(folder, checkpoint())
    path = folder / "metadata" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": "samjax/0"}))
    with pytest.raises(CheckpointError, match=r"format 'samjax/0'.*convert it again"):
        restore_orbax_folder(folder)


_TWO_DEVICES = """
import sys
import jax
import numpy as np
import samjax

assert len(jax.devices()) == 2
for index in (0, 1):
    sam = samjax.load(sys.argv[1], device=f"cpu:{index}")
    device = jax.devices()[index]
    assert sam.device == device
    predictor = samjax.SamPredictor(sam)
    embedding = predictor.encode_image(np.zeros((20, 30, 3), np.uint8))
    assert embedding.features.devices() == {device}, embedding.features.devices()
    leaves = [*sam._encoder_leaves, *sam._decoder_leaves]
    assert all(leaf.devices() == {device} for leaf in leaves)
    predictor.set_embedding(embedding)
    masks = predictor.predict([[3, 4]], [1]).masks
    many = predictor.predict_many(boxes=[[1, 2, 9, 9], [2, 3, 8, 8]], multimask_output=False).masks
    assert masks.shape == (3, 20, 30) and many.shape == (2, 1, 20, 30)
print("fine")
"""


def test_onto_a_chosen_device(tmp_path):
    save_orbax_folder(tmp_path / "sam", checkpoint())
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    run = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, str(tmp_path / "sam")],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.stdout.strip() == "fine", run.stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_conversion_round_trip(dtype, tmp_path):
    tensors = to_official(checkpoint(dtype).parameters, PLAIN)
    source = tmp_path / "sam.pth"
    write_torch_file(source, tensors)
    for before, after in (
        ("sam.pth", "folder"),
        ("folder", "sam.safetensors"),
        ("sam.safetensors", "back.pth"),
    ):
        convert_checkpoint(tmp_path / before, tmp_path / after)
    for name in ("sam.safetensors", "back.pth"):
        found = read_official_weights(tmp_path / name).tensors
        assert found.keys() == tensors.keys()
        for key, value in tensors.items():
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_conversion_to_another_dtype(tmp_path):
    write_torch_file(tmp_path / "sam.pth", to_official(checkpoint().parameters, PLAIN))
    convert_checkpoint(tmp_path / "sam.pth", tmp_path / "half", dtype=np.dtype(np.float16))
    found = restore_orbax_folder(tmp_path / "half")
    assert {v.dtype.name for v in found.parameters.values()} == {"float16"}


def test_conversion_refuses_to_overwrite(tmp_path):
    write_torch_file(tmp_path / "sam.pth", to_official(checkpoint().parameters, PLAIN))
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(CheckpointError, match="exists: choose another name"):
        convert_checkpoint(tmp_path / "sam.pth", tmp_path / "there.safetensors")
    with pytest.raises(CheckpointError, match="is the source itself"):
        convert_checkpoint(tmp_path / "sam.pth", tmp_path / "sam.pth", overwrite=True)
    with pytest.raises(CheckpointError, match=r"unknown ending '\.onnx'"):
        convert_checkpoint(tmp_path / "sam.pth", tmp_path / "sam.onnx")
