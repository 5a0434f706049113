"""SAM's keys are found under any prefix and beside other weights, which are named; strict then."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import samjax
from samjax.checkpoint.families.official import ReadOptions, read_official_weights
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import random_parameters, to_official
from samjax.checkpoint.read import read_checkpoint
from samjax.errors import CheckpointError, CheckpointWarning
from tests.support import checkpoint_files as make
from tests.support import layouts
from tests.support.models import GOLDEN

SAM = to_official(random_parameters(GOLDEN), GOLDEN)
NO_OPTIONS = ReadOptions()
ONE = np.ones(1, np.float32)


def written(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    write_torch_file(path, tensors)
    return path


def prefixed(prefix: str, tensors: dict[str, np.ndarray] = SAM) -> dict[str, np.ndarray]:
    return {prefix + key: array for key, array in tensors.items()}


def same(path: Path, options: ReadOptions = NO_OPTIONS) -> tuple[str, tuple[str, ...]]:
    """The sentence on ignored weights and the notes of a file that must hold SAM's tensors."""
    found = read_official_weights(path, options)
    assert found.tensors.keys() == SAM.keys()
    for key, value in SAM.items():
        np.testing.assert_array_equal(found.tensors[key], value, err_msg=key)
    read_checkpoint(path, options=options)
    return found.ignored, found.notes


def refused(path: Path, options: ReadOptions = NO_OPTIONS) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, options=options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "prefix", ["net.", "model.net.", "a.b.c.", "sam.net.", "network._orig_mod."]
)
def test_any_prefix(tmp_path, prefix):
    ignored, notes = same(written(tmp_path / "sam.pth", prefixed(prefix)))
    assert ignored == ""
    assert any("the prefix" in note for note in notes)


def test_a_lightning_file_with_its_loss(tmp_path):
    tensors = prefixed("model.") | {"loss.weight": ONE, "val_dice.total": ONE}
    pickled = make.dict_of(
        {"state_dict": make.state_dict(tensors), "pytorch-lightning_version": make.text("2.5")}
    )
    path = make.write_zip(tmp_path / "last.ckpt", pickled, make.storages_of(tensors))
    ignored, notes = same(path)
    assert ignored == "ignored 2 weights that are not SAM's: 'loss.weight', 'val_dice.total'"
    assert ignored in notes
    with pytest.warns(CheckpointWarning, match=r"'loss.weight', 'val_dice.total'; name them in"):
        samjax.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samjax.load(path, ignore=["loss.weight", "val_*"])


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_head_beside_the_parts(tmp_path, prefix):
    head = {f"{prefix}head.weight": ONE, f"{prefix}head.bias": ONE}
    ignored, _ = same(written(tmp_path / "sam.pth", prefixed(prefix) | head))
    assert f"'{prefix}head.weight', '{prefix}head.bias'" in ignored


def test_many_ignored_keys_are_counted(tmp_path):
    more = {f"discriminator.{i}": ONE for i in range(30)}
    ignored, _ = same(written(tmp_path / "sam.pth", SAM | more))
    assert ignored.startswith("ignored 30 weights")
    assert ignored.endswith("and 22 more")


def test_a_head_inside_a_part_needs_ignore(tmp_path):
    path = written(tmp_path / "sam.pth", prefixed("net.") | {"net.mask_decoder.mine.weight": ONE})
    text = refused(path)
    assert "1 unexpected: mask_decoder.mine.weight" in text
    assert "ignore=" in text
    ignored, notes = same(path, ReadOptions(ignore=("net.mask_decoder.mine.*",)))
    assert ignored == ""
    assert "ignored as asked: 'net.mask_decoder.mine.weight'" in notes


def test_ignore_stays_strict(tmp_path):
    path = written(tmp_path / "sam.pth", SAM)
    assert "ignore='mine.*' matches none of its" in refused(path, ReadOptions(ignore=("mine.*",)))
    text = refused(path, ReadOptions(ignore=("mask_decoder.iou_token.*",)))
    assert "mask_decoder.iou_token.weight" in text
    with pytest.raises(CheckpointError, match="pass a list of texts"):
        samjax.load(path, ignore="head.*")


def test_two_models_are_chosen_between(tmp_path):
    other = {key: array + 1 for key, array in SAM.items()}
    tensors = prefixed("student.") | prefixed("teacher.", other) | {"step": ONE}
    path = written(tmp_path / "sam.pth", tensors)
    text = refused(path)
    assert "several SAMs under the prefixes 'student.', 'teacher.'" in text
    assert "prefix=" in text
    ignored, notes = same(path, ReadOptions(prefix="student."))
    assert ignored == ""
    assert any("'teacher." in note and "ignored" in note for note in notes)
    found = read_official_weights(path, ReadOptions(prefix="teacher."))
    np.testing.assert_array_equal(
        found.tensors["image_encoder.neck.1.bias"], other["image_encoder.neck.1.bias"]
    )
    text = refused(path, ReadOptions(prefix="ema."))
    assert "no key begins with prefix='ema.'; SAM's keys lie under 'student.', 'teacher.'" in text


def test_a_copy_of_some_parts_beside_the_whole(tmp_path):
    tensors = prefixed("model.") | prefixed("ema.", layouts.parts(SAM, layouts.DECODER))
    ignored, _ = same(written(tmp_path / "sam.pth", tensors))
    assert "'ema." in ignored


def test_parts_under_different_prefixes(tmp_path):
    tensors = prefixed("a.", layouts.parts(SAM, layouts.ENCODER))
    tensors |= prefixed("b.", layouts.parts(SAM, layouts.DECODER))
    assert "parts of a SAM under the prefixes 'a.', 'b.'" in refused(
        written(tmp_path / "sam.pth", tensors)
    )


def test_other_families_are_refused_under_a_prefix_too(tmp_path):
    tensors = {"net.image_encoder.trunk.blocks.0.norm1.weight": ONE, "net.x": ONE}
    assert "looks like SAM 2" in refused(written(tmp_path / "sam.pth", tensors))


def test_nothing_of_a_sam(tmp_path):
    path = written(tmp_path / "x.pth", {"backbone.weight": ONE})
    assert "not a SAM checkpoint" in refused(path)
    assert "no key looks like SAM's" in refused(path, ReadOptions(prefix="net."))


def test_samjaxs_own_folder_takes_neither(tmp_path):
    from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder

    parameters = random_parameters(GOLDEN)
    save_orbax_folder(tmp_path / "own", Checkpoint(parameters, GOLDEN, "official", None))
    assert "leave prefix and ignore out" in refused(tmp_path / "own", ReadOptions(prefix="net."))
    assert "leave prefix and ignore out" in refused(tmp_path / "own", ReadOptions(ignore=("x",)))


def test_on_the_command_line(tmp_path, capsys):
    from samjax.cli import main

    tensors = prefixed("net.") | {"net.mask_decoder.mine.weight": ONE, "loss.weight": ONE}
    path = written(tmp_path / "sam.pth", tensors)
    assert main(["inspect", str(path)]) == 2
    assert "--ignore" in capsys.readouterr().err
    assert main(["inspect", str(path), "--ignore", "*.mine.*", "--prefix", "net."]) == 0
    assert "ignored as asked: 'net.mask_decoder.mine.weight'" in capsys.readouterr().out
    out = tmp_path / "own"
    assert main(["convert", str(path), str(out), "--ignore", "*.mine.*"]) == 0
    assert "'loss.weight'; name" in capsys.readouterr().err
    read_checkpoint(out)
