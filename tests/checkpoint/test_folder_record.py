"""samjax's own folder is as strict as any other format: its record, its arrays, its files."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import samjax
from samjax.checkpoint import orbax_folder
from samjax.checkpoint.config_json import config_from_dict, describe_config
from samjax.checkpoint.describe import describe
from samjax.checkpoint.folder_record import hash_array
from samjax.checkpoint.orbax_folder import Checkpoint, restore_orbax_folder, save_orbax_folder
from samjax.checkpoint.parameters import random_parameters
from samjax.errors import CheckpointError, CheckpointWarning
from samjax.model.config import SamConfig
from tests.support.folder_record import RECORD, rewrite, sign, without_hashes
from tests.support.models import GOLDEN, TINY_MOBILE, VARIANTS


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "sam"
    save_orbax_folder(
        path, Checkpoint(random_parameters(GOLDEN), GOLDEN, "official", "sam", ("a",))
    )
    return path


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "sam"))


def refused(path: Path) -> str:
    texts = []
    for read in (restore_orbax_folder, describe):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert texts[0].startswith(f"{path}: ")
    assert "\n" not in texts[0]
    assert len(texts[0]) < 2500
    return texts[0]


# part, field, another value, what the error says
_OTHER_SIZES: list[tuple[str, str, Any, str]] = [
    ("image_encoder", "depth", 1, "global blocks [1] of 1"),
    ("image_encoder", "depth", 3, "missing: image_encoder.blocks.2"),
    ("image_encoder", "depth", 10**9, "depth of its configuration is 1000000000"),
    ("image_encoder", "global_blocks", [], "image_encoder.blocks.1.attn.rel_pos_h"),
    ("image_encoder", "global_blocks", [1, 1], "global blocks [1, 1]"),
    ("image_encoder", "global_blocks", [7], "global blocks [7]"),
    ("image_encoder", "window_size", 5, "image_encoder.blocks.0.attn.rel_pos_h"),
    ("image_encoder", "image_size", 56, "image_encoder.pos_embed"),
    ("image_encoder", "image_size", 50, "50 px are no multiple of the patch"),
    ("image_encoder", "num_heads", 3, "3 heads do not divide"),
    ("image_encoder", "num_heads", 4, "rel_pos_h"),
    ("image_encoder", "num_heads", 0, "0 heads"),
    ("image_encoder", "width", 2**40, "image_encoder.width"),
    ("image_encoder", "width", True, "image_encoder.width"),
    ("image_encoder", "width", 16.0, "image_encoder.width"),
    ("mask_decoder", "depth", 1, "transformer.layers.1"),
    ("mask_decoder", "num_masks", 2, "mask_tokens"),
    ("mask_decoder", "num_heads", 5, "5 heads do not divide"),
    ("mask_decoder", "num_heads", -8, "mask_decoder.num_heads"),
    ("mask_decoder", "layer_norm_eps", math.nan, "layer_norm_eps of its configuration is nan"),
    ("mask_decoder", "layer_norm_eps", math.inf, "layer_norm_eps"),
    ("mask_decoder", "layer_norm_eps", 0.5, "layer_norm_eps"),
    ("mask_decoder", "layer_norm_eps", "1e-5", "layer_norm_eps"),
    ("mask_decoder", "hq", True, "decoder.mask_decoder.hq"),
    ("mask_decoder", "hq", 1, "mask_decoder.hq"),
    ("prompt_encoder", "embed_dim", 16, "differ in width"),
]


@pytest.mark.parametrize(("part", "field", "value", "why"), _OTHER_SIZES)
@pytest.mark.parametrize("finish", [sign, without_hashes], ids=["signed", "without hashes"])
def test_other_sizes_than_the_arrays(folder, part, field, value, why, finish):
    def change(record: dict[str, Any]) -> None:
        record["config"][part][field] = value

    rewrite(folder, change, finish)
    assert why in refused(folder)


def test_a_change_without_its_checksum(folder):
    # Of these no shape would tell
    rewrite(folder, lambda r: r["config"]["mask_decoder"].update(num_heads=4), dict)
    assert "the checksum does not fit" in refused(folder)
    rewrite(folder, lambda r: r.update(preprocess="medsam"), dict)
    assert "the checksum does not fit" in refused(folder)


_DAMAGED: list[tuple[Any, str]] = [
    (lambda _: [1], "not a JSON object"),
    (lambda r: r.pop("config"), "'config'"),
    (lambda r: r.update(notes=5), "notes"),
    (lambda r: r.update(notes=[5]), "notes"),
    (lambda r: r.update(family=None), "family"),
    (lambda r: r.update(preprocess=7), "preset"),
    (lambda r: r.update(config=[1]), "config"),
    (lambda r: r["config"].pop("mask_decoder"), "'mask_decoder'"),
    (lambda r: r["config"].update(mask_decoder=None), "mask_decoder"),
    (lambda r: r["config"]["mask_decoder"].pop("hq"), "'hq'"),
    (lambda r: r["config"]["mask_decoder"].update(more=1), "'more'"),
    (lambda r: r.update(more=1), "'more'"),
    (lambda r: r.update(sha256=[]), "hashes"),
    (lambda r: r["sha256"].popitem(), "hashes"),
    (lambda r: r.update(format="samjax/3"), "format 'samjax/3'"),
    (lambda r: r.update(format="samjax/1"), "'checksum', 'files', 'sha256'"),
    (lambda r: r.update(files=[]), "its files are []"),
    (lambda r: r["files"].update({"parameters/more": "0"}), "'parameters/more' in it is missing"),
    (lambda r: r["files"].update({"../../../dev/zero": "0"}), "dev/zero' in it is missing"),
]


@pytest.mark.parametrize(("change", "why"), _DAMAGED)
def test_a_damaged_record(folder, change, why):
    def without_answer(record: dict[str, Any]) -> Any:
        answer = change(record)
        return answer if answer == [1] else None

    rewrite(folder, without_answer)
    assert why in refused(folder)


def test_a_record_that_is_no_json(folder):
    good = (folder / RECORD).read_bytes()
    for text in (b"", b"{", b"\xff\xfe", b'{"format": 1, "format": 2}', b"[" * 100_000, good[:-20]):
        (folder / RECORD).write_bytes(text)
        refused(folder)
    with (folder / RECORD).open("r+b") as file:
        file.truncate(2**30)
    assert "larger than 16 MiB" in refused(folder)


def test_an_unknown_preset(folder):
    rewrite(folder, lambda r: r.update(preprocess="other"))
    with pytest.raises(samjax.SamjaxError, match="other"):
        samjax.load(folder)


def test_the_command_line_answers_in_one_line(folder, capsys):
    from samjax.cli import main

    rewrite(folder, lambda r: r.update(notes=5))
    assert main(["inspect", str(folder)]) == 2
    assert main(["convert", str(folder), str(folder.parent / "x.pth")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


# Arrays


def other_arrays(path: Path, change) -> Path:
    """A folder whose arrays are not those of its record, hashes and all as they were written."""
    parameters = dict(random_parameters(GOLDEN))
    change(parameters)
    save_orbax_folder(path, Checkpoint(parameters, GOLDEN, "official", "sam"))
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.popitem(), "1 missing"),
        (lambda p: p.update(more=np.zeros(3, np.float32)), "1 unexpected: more"),
        (lambda p: p.update(_of_another_shape(p)), "1 mis-shaped"),
        (lambda p: p.update(_as_integers(p)), "is int32, no floating-point dtype"),
    ],
)
def test_arrays_of_another_network(tmp_path, change, why):
    assert why in refused(other_arrays(tmp_path / "sam", change))


def _of_another_shape(parameters: dict) -> dict:
    name = "decoder.mask_decoder.mask_tokens"
    return {name: parameters[name][:, :-1]}


def _as_integers(parameters: dict) -> dict:
    name = "decoder.mask_decoder.mask_tokens"
    return {name: parameters[name].astype(np.int32)}


def test_a_wrong_hash_names_the_array(folder):
    name = "decoder.mask_decoder.mask_tokens"
    rewrite(folder, lambda r: r["sha256"].update({name: "0" * 64}))
    with pytest.raises(CheckpointError, match=rf"1 of its \d+ arrays .*'{name}'"):
        restore_orbax_folder(folder)


def test_the_hash_is_of_values_shape_and_dtype():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert hash_array(array) == hash_array(np.asfortranarray(array))
    others = [array.T, array.reshape(-1), array.astype(np.float16), array.view(np.int32), array + 1]
    assert len({hash_array(a) for a in (array, *others)}) == 6


def test_single_flipped_bits_never_load_changed(folder):
    """Every file of the folder; the unhashed one of 40 loaded 17 times with other values."""
    wanted = restore_orbax_folder(folder)
    rng = np.random.default_rng(5)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    loaded = 0
    for path in [largest] * 12 + files:
        good = path.read_bytes()
        damaged = bytearray(good)
        damaged[int(rng.integers(len(good)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = restore_orbax_folder(folder)
        except CheckpointError:
            found = None
        finally:
            path.write_bytes(good)
        if found is not None:
            loaded += 1
            assert found.config == wanted.config
            for name, value in wanted.parameters.items():
                np.testing.assert_array_equal(found.parameters[name], value, err_msg=path.name)
    assert loaded < len(files)


def test_a_folder_without_hashes_loads_and_says_so(folder, capsys):
    from samjax.cli import main

    wanted = restore_orbax_folder(folder)
    rewrite(folder, lambda _: None, without_hashes)
    with pytest.warns(CheckpointWarning, match="written without hashes.*convert it again"):
        found = restore_orbax_folder(folder)
    assert found.notes[0] == "a"
    assert "without hashes" in found.notes[1]
    for name, value in wanted.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], value)
    assert main(["inspect", str(folder)]) == 0
    assert "written without hashes" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["convert", str(folder), str(folder.parent / "again")]) == 0
    assert json.loads((folder.parent / "again" / RECORD).read_text())["format"] == "samjax/2"
    restore_orbax_folder(folder.parent / "again")


# Files


def test_every_file_but_the_record_has_a_hash(folder):
    """Orbax and TensorStore may hang on damaged files: they see only those that were written."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / RECORD)
    assert len(files) > 5
    for path in files:
        good = path.read_bytes()
        path.write_bytes(good[:-1])
        assert repr(path.relative_to(folder).as_posix()) in refused(folder)
        path.unlink()
        assert "in it is missing" in refused(folder)
        path.write_bytes(good)
    (folder / "parameters" / ".DS_Store").write_bytes(b"x")  # a stranger's file does no harm
    restore_orbax_folder(folder)


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe"])
def test_links_and_pipes_inside(folder, kind):
    data = next((folder / "parameters" / "ocdbt.process_0" / "d").iterdir())
    if kind == "link to a folder":
        moved = folder.rename(folder.parent / "moved")
        folder.mkdir()
        shutil.copytree(moved / "metadata", folder / "metadata")
        (folder / "parameters").symlink_to(moved / "parameters")
    elif kind == "link to a file":
        data.rename(folder.parent / "data")
        data.symlink_to(folder.parent / "data")
    else:
        data.unlink()
        os.mkfifo(data)
    text = refused(folder)
    assert ("is a link" if "link" in kind else "is no regular file") in text


def test_a_link_to_the_whole_folder_is_the_users_own(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert restore_orbax_folder(link).config == GOLDEN


# Configurations


@pytest.mark.parametrize(
    "config", [GOLDEN, TINY_MOBILE, *VARIANTS.values(), SamConfig.vit_h(), SamConfig.mobile()]
)
def test_configurations_go_there_and_back(config):
    assert config_from_dict(json.loads(json.dumps(describe_config(config)))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("widths", [8, 12, 16]),
        ("widths", [8, 12, 16, -24]),
        ("depths", [1, 1, 10**6, 1]),
        ("num_heads", [0, 0, 2, 4]),
        ("num_heads", [0, 5, 2, 4]),
        ("window_sizes", [0, 0, 14, 7]),
        ("image_size", 8),
    ],
)
def test_sizes_of_tiny_vit(field, value):
    values = json.loads(json.dumps(describe_config(TINY_MOBILE)))
    values["image_encoder"][field] = value
    with pytest.raises(CheckpointError):
        config_from_dict(values)


def test_what_orbax_leaves_behind_after_an_error_is_not_printed(folder):
    """Its coroutines raise once more as they are freed, one traceback for each array."""
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(largest, 1)
    rewrite(folder, lambda _: None, without_hashes)  # else Orbax is not even asked
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        message = refused_load(folder)
        gc.collect()
    assert "damaged or incomplete Orbax folder" in message
    assert "bound method" not in message

    def problem(code_file: str, error: Exception) -> SimpleNamespace:
        owner = SimpleNamespace(cr_code=SimpleNamespace(co_filename=code_file))
        return SimpleNamespace(object=owner, exc_value=error)

    printed: list[SimpleNamespace] = []
    hook = orbax_folder.without_orbax(printed.append)
    place = os.path.join("x", "site-packages", "orbax", "checkpoint", "y.py")  # noqa: PTH118
    hook(problem(place, Exception("Encountered error while reading array index")))
    hook(problem("mine.py", RuntimeError("Event loop is closed")))
    assert printed == []
    mine = problem("mine.py", Exception("of somebody else"))
    hook(mine)
    assert printed == [mine]


def refused_load(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        restore_orbax_folder(path)
    return str(caught.value)
