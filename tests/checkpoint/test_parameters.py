"""Test that loading uses every tensor once, and names every misfit in one error."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import samjax
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.layout import official_layout
from samjax.checkpoint.parameters import (
    abstract_model,
    dotted,
    fill_model,
    model_parameters,
    random_parameters,
    to_official,
    to_parameters,
)
from samjax.errors import CheckpointError, DeviceError
from tests.model.test_config import ALL, weightless
from tests.support.models import PLAIN, SIZES


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return to_official(random_parameters(PLAIN), PLAIN)


@pytest.mark.parametrize("name", ALL)
def test_layout_is_a_bijection_with_the_network(name: str):
    paths = [entry.path for entry in official_layout(ALL[name]).values()]
    assert len(paths) == len(set(paths))
    state = nnx.to_flat_state(nnx.state(abstract_model(ALL[name])))
    shapes = {dotted(path): variable.shape for path, variable in state}
    assert set(paths) == set(shapes)
    mapped = to_parameters(weightless(ALL[name]), ALL[name])
    assert {path: value.shape for path, value in mapped.items()} == shapes


@pytest.mark.parametrize("name", SIZES)
def test_there_and_back_is_the_same(name: str):
    config = SIZES[name]
    parameters = random_parameters(config)
    back = to_parameters(to_official(parameters, config), config)
    assert list(back) == list(parameters)
    for path, value in parameters.items():
        np.testing.assert_array_equal(back[path], value, err_msg=path)


def test_every_misfit_is_in_one_error(tensors):
    wrong = dict(tensors)
    wrong.pop("mask_decoder.iou_token.weight")
    wrong.pop("prompt_encoder.no_mask_embed.weight")
    wrong["mask_decoder.extra.weight"] = np.zeros(3, np.float32)
    wrong["image_encoder.neck.1.weight"] = np.zeros((5, 5), np.float32)
    with pytest.raises(CheckpointError) as caught:
        to_parameters(wrong, PLAIN, where="file.pth")
    text = str(caught.value)
    assert text.startswith("file.pth: ")
    assert "2 missing: " in text
    for key in ("mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"):
        assert key in text
    assert "1 unexpected: mask_decoder.extra.weight" in text
    assert "1 mis-shaped: image_encoder.neck.1.weight (5, 5) instead of (64,)" in text
    assert "\n" not in text


def test_a_long_list_is_cut():
    with pytest.raises(CheckpointError, match=r"and \d+ more$"):
        to_parameters({}, PLAIN)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_kernels_carry_the_dtype_and_the_rest_is_float32(dtype: str, tensors):
    model = fill_model(to_parameters(tensors, PLAIN), PLAIN, dtype=np.dtype(dtype))
    for path, value in model_parameters(model).items():
        expected = dtype if path.endswith(".kernel") else "float32"
        assert value.dtype == expected, path


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_any_stored_dtype_loads(stored, tensors, tmp_path):
    path = tmp_path / "sam.pth"
    write_torch_file(path, {key: value.astype(stored) for key, value in tensors.items()})
    sam = samjax.load(path)
    rounded = to_parameters({k: v.astype(stored) for k, v in tensors.items()}, PLAIN)
    for key, value in sam.parameters().items():
        np.testing.assert_array_equal(value, rounded[key].astype(np.float32), err_msg=key)


def test_unknown_names_devices_and_dtypes_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file or folder.*vit_b, vit_l, vit_h"):
        samjax.load(tmp_path / "absent.pth")
    with pytest.raises(DeviceError, match="float32, bfloat16, float16"):
        samjax.load(PLAIN, dtype="int8")
    with pytest.raises(DeviceError, match="no device 'tpu:7' here"):
        samjax.load(PLAIN, device="tpu:7")
    with pytest.raises(DeviceError, match="highest, high, default"):
        samjax.load(PLAIN, precision="exact")
    with pytest.raises(samjax.SamjaxError, match="unknown preset 'no'"):
        samjax.load(PLAIN, preprocess="no")
