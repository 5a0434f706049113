"""Arguments of wrong types are samjax's own errors, in one line: what, why, what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.cli import main
from tests.support.models import drawn_image
from tests.support.wrong_types import problem_of


def test_wrong_types_are_told(tmp_path):
    """More than 2000 calls, and some with NumPy's numbers, in a process of its own."""
    command = [sys.executable, "-m", "tests.support.wrong_types", str(tmp_path)]
    top = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(top)}
    done = subprocess.run(command, cwd=top, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tried"] > 2000
    assert found["problems"] == []
    assert (found["left"], found["objects"]) == ([], 1)


_EMPTY, _ALONE = np.zeros((0, 2)), np.array("a")


@pytest.mark.parametrize(
    "call",
    [
        lambda sam, _: samjax.SamAutomaticMaskGenerator(sam, points_per_side=10**400),
        lambda sam, _: samjax.SamAutomaticMaskGenerator(sam, points_per_side=2**63),
        lambda _, image: samjax.overlay(image, _EMPTY),
        lambda _, image: samjax.show(image, np.ones((1, 48, 70), bool), scores=_ALONE),
    ],
)
def test_numbers_and_arrays_of_impossible_sizes(call, embedded):
    with pytest.raises(samjax.SamjaxError, match=r"^[^\n]+$"):
        call(embedded, drawn_image(48, 70))


def test_no_masks_are_drawn_as_none():
    image = drawn_image(48, 70)
    assert samjax.overlay(image, np.zeros((0, 48, 70), bool)).shape == image.shape


def test_the_check_sees_what_is_no_error_of_samjax():
    assert problem_of(int, "4") == "accepted"
    assert str(problem_of(int, "x")).startswith("ValueError")


def test_a_file_whose_name_begins_with_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(drawn_image(48, 70)).save("~x.png")
    assert samjax.read_image("~x.png").shape == (48, 70, 3)
    command = ["--point", "20,20", "--device", "cpu:0"]
    assert main(["segment", "~x.png", *command, "--out", "out"]) == 0
    assert Path("out/~x.json").exists()
    capsys.readouterr()
    nobody = "~nobody-of-this-name/x"
    for arguments in (
        ["segment", nobody, *command],
        ["segment", "~x.png", *command, "--model", nobody],
        ["inspect", nobody],
        ["convert", nobody, "y"],
        ["convert", "embedded", nobody],
        ["automask", nobody, "--out", "y"],
        ["automask", "~x.png", "--out", nobody],
        ["check", nobody],
    ):
        assert main(arguments) == 2, arguments
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["out", "~x.png"]
