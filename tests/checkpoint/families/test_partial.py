"""Test files with a part of a SAM, and other image sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.bilinear import bilinear_matrix
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.errors import CheckpointError
from tests.support import layouts
from tests.support.models import PLAIN, sized

BASE = to_official(random_parameters(PLAIN), PLAIN)
TRAINED = to_official(random_parameters(PLAIN, seed=1), PLAIN)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.pth"
    write_torch_file(path, BASE)
    return path


def official(sam: samjax.Segmenter) -> dict[str, np.ndarray]:
    return to_official(sam.parameters(), sam.config)


@pytest.mark.parametrize(
    "starts",
    [
        (layouts.ENCODER,),
        (layouts.DECODER,),
        (layouts.PROMPTS,),
        (layouts.PROMPTS, layouts.DECODER),
        (layouts.ENCODER, layouts.PROMPTS),
    ],
)
@pytest.mark.parametrize("kind", ["path", "loaded"])
def test_a_part_and_its_base(tmp_path: Path, base: Path, starts: tuple[str, ...], kind: str):
    path = tmp_path / "part.pth"
    write_torch_file(path, layouts.parts(TRAINED, *starts))
    with pytest.raises(CheckpointError, match=r"a partial file, .* alone: pass base="):
        samjax.load(path)
    found = official(samjax.load(path, base=base if kind == "path" else samjax.load(base)))
    for key, array in (BASE | layouts.parts(TRAINED, *starts)).items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize("start", [layouts.ENCODER, layouts.DECODER])
def test_a_part_without_its_name(tmp_path: Path, base: Path, start: str):
    part = layouts.parts(TRAINED, start)
    path = tmp_path / "part.pth"
    write_torch_file(path, {key.removeprefix(start): array for key, array in part.items()})
    sam = samjax.load(path, base=base)
    assert any(f"the keys lack '{start}'" in note for note in sam.notes)
    for key, array in (BASE | part).items():
        np.testing.assert_array_equal(official(sam)[key], array, err_msg=key)


def test_a_part_is_never_filled_up(tmp_path: Path, base: Path):
    part = layouts.parts(TRAINED, layouts.DECODER)
    part.pop("mask_decoder.iou_token.weight")
    part["mask_decoder.transformer.layers.0.norm1.bias"] = np.zeros(3, np.float32)
    write_torch_file(tmp_path / "part.pth", part)
    with pytest.raises(CheckpointError, match=r"'mask_decoder.iou_token.weight' is missing"):
        samjax.load(tmp_path / "part.pth", base=base)


def test_options_that_do_not_fit(tmp_path: Path, base: Path):
    with pytest.raises(CheckpointError, match=r"base= is for partial files .* leave base out"):
        samjax.load(base, base=base)
    with pytest.raises(CheckpointError, match=r"lora_layers= is for partial files"):
        samjax.load(base, lora_layers=(0,))
    part = tmp_path / "part.pth"
    write_torch_file(part, layouts.parts(TRAINED, layouts.DECODER))
    with pytest.raises(CheckpointError, match=r"lora_layers= is for files of numbered LoRA pairs"):
        samjax.load(part, base=base, lora_layers=(0,))
    with pytest.raises(CheckpointError, match=r"absent.pth: no such file or folder"):
        samjax.load(part, base=tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"part.pth: a partial file"):
        samjax.load(part, base=part)
    for wrong in (81, 0, -80, 10**6):
        with pytest.raises(CheckpointError, match=r"does not fit: give a multiple of 8"):
            samjax.load(base, image_size=wrong)


# Other image sizes


@pytest.mark.parametrize("grid", [3, 10, 17])
def test_positions_for_another_size(base: Path, grid: int):
    sam = samjax.load(base, image_size=8 * grid)
    assert sam.config.grid == grid
    assert sam.config.image_encoder.global_blocks == PLAIN.image_encoder.global_blocks
    assert sam.config.image_encoder.window_size == PLAIN.image_encoder.window_size
    found = official(sam)
    for key in ("image_encoder.blocks.0.attn.rel_pos_h", "image_encoder.neck.0.weight"):
        np.testing.assert_array_equal(found[key], BASE[key])  # of a window; not a position
    # A linear function of the position stays the same function between the outermost centres.
    old, new = (
        bilinear_matrix(10, grid) @ np.arange(10.0),
        (np.arange(grid) + 0.5) * 10 / grid - 0.5,
    )
    np.testing.assert_allclose(old, np.clip(new, 0, 9), atol=1e-5)
    rows = bilinear_matrix(10, grid)
    expected = np.einsum("ai,bj,ijd->abd", rows, rows, BASE["image_encoder.pos_embed"][0])
    np.testing.assert_allclose(found["image_encoder.pos_embed"][0], expected, atol=1e-5)


def test_the_own_size_changes_nothing(base: Path):
    assert samjax.load(base, image_size=80).notes == samjax.load(base).notes


def test_where_no_shape_tells_global_blocks_apart(tmp_path: Path):
    """A window of the whole grid: the published depths have their published global blocks."""
    config = sized(grid=4, window=4, depth=12, width=8, embed=16, global_blocks=tuple(range(12)))
    path = tmp_path / "sam.pth"
    write_torch_file(path, to_official(random_parameters(config), config))
    sam = samjax.load(path, image_size=64)
    assert sam.config.image_encoder.global_blocks == (2, 5, 8, 11)
    assert sam.config.image_encoder.window_size == 4


def test_stores_take_an_image_size_but_no_base(tmp_path: Path, base: Path):
    from samjax.checkpoint.convert import convert_checkpoint

    convert_checkpoint(base, tmp_path / "store", preprocess="sammed2d")
    sam = samjax.load(tmp_path / "store", image_size=48)
    assert (sam.config.image_size, sam.preset.name) == (48, "sammed2d")
    with pytest.raises(CheckpointError, match="leave base and lora_layers out"):
        samjax.load(tmp_path / "store", base=base)
    # As a base it brings its preprocessing along.
    part = tmp_path / "part.pth"
    write_torch_file(part, layouts.parts(TRAINED, layouts.DECODER))
    assert samjax.load(part, base=tmp_path / "store").preset.name == "sammed2d"
