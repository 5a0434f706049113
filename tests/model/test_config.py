"""Test the sizes of the published models, and sizes inferred from shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samjax.checkpoint.config_json import config_from_dict, describe_config
from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.layout import official_layout
from samjax.checkpoint.parameters import parameter_count
from samjax.errors import CheckpointError
from samjax.model.config import SamConfig
from tests.support.models import SIZES, VARIANTS, sized

PUBLISHED = {
    "vit_b": (SamConfig.vit_b(), 93_735_472),
    "vit_l": (SamConfig.vit_l(), 312_342_832),
    "vit_h": (SamConfig.vit_h(), 641_090_608),
    "mobile_sam": (SamConfig.mobile(), 10_130_092),
}
ALL = SIZES | VARIANTS | {name: config for name, (config, _) in PUBLISHED.items()}


def weightless(config: SamConfig) -> dict[str, np.ndarray]:
    """Make arrays of the official shapes that take four bytes each."""
    layout = official_layout(config)
    return {key: np.broadcast_to(np.float32(0), entry.shape) for key, entry in layout.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str):
    config, count = PUBLISHED[name]
    assert parameter_count(config) == count


@pytest.mark.parametrize("name", ALL)
def test_sizes_are_read_from_shapes(name: str):
    assert infer_config(weightless(ALL[name])) == ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_description_is_the_config(name: str):
    assert config_from_dict(describe_config(ALL[name])) == ALL[name]


def test_configs_are_hashable_and_frozen():
    assert len({*ALL.values()}) == len(ALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamConfig.vit_b().image_encoder = None  # type: ignore[misc]


def test_a_missing_size_is_named():
    tensors = weightless(SIZES["padded windows"])
    del tensors["image_encoder.pos_embed"]
    with pytest.raises(CheckpointError, match=r"'image_encoder\.pos_embed' is missing"):
        infer_config(tensors, where="file.pth")


def test_an_array_of_another_rank_is_named():
    tensors = weightless(SIZES["padded windows"])
    tensors["image_encoder.pos_embed"] = tensors["image_encoder.pos_embed"][0]
    with pytest.raises(CheckpointError, match=r"pos_embed' has shape .* expected 4 axes"):
        infer_config(tensors)


def test_relative_positions_that_do_not_fit_are_refused():
    tensors = weightless(sized(grid=10, window=4, depth=3))
    key = "image_encoder.blocks.0.attn.rel_pos_h"
    tensors[key] = np.broadcast_to(np.float32(0), (9, tensors[key].shape[1]))
    with pytest.raises(CheckpointError, match="do not fit a 10x10 position embedding"):
        infer_config(tensors)
