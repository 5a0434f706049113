"""Test the command that converts and verifies: its report, verdict and exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import samjax
from convert.parity import compare, main, predictor_for
from convert.reading import Second, build_second, read_again
from samjax.checkpoint.describe import describe
from samjax.engine.load import read_options
from tests.support.models import drawn_image, sized
from tests.support.parity import family_models as families
from tests.support.parity.official import random_official

pytestmark = pytest.mark.parity
CONFIG = sized(grid=8, window=4)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Write a base and SAMed's file for it, with a decoder."""
    sam = random_official(CONFIG)
    torch.save(sam.state_dict(), tmp_path / "base.pth")
    saved = families.samed_file(families.with_samed(sam, 2), decoder=True)
    torch.save(saved, tmp_path / "lora.pth")
    return tmp_path / "base.pth", tmp_path / "lora.pth"


def test_a_lora_is_converted_and_verified(files, tmp_path: Path, capsys):
    base, lora = files
    out = tmp_path / "merged.safetensors"
    command = [str(lora), "--base", str(base), "--image-size", "96"]
    assert main([*command, "--save", str(out), "--preprocess", "samed"]) == 0
    report = capsys.readouterr().out
    assert "read again by torch.load" in report
    assert "4 LoRA pairs as layers" in report
    assert report.count("equal pixels") == 14
    assert "verdict: equal within the limits" in report
    written = describe(out)
    assert (written.preprocess, written.config.image_size) == ("samed", 96)
    with pytest.raises(samjax.SamjaxError, match="pass --overwrite"):
        main([*command, "--save", str(out)])


def test_the_verdict_can_be_no(files):
    base, lora = files
    options = read_options(base)
    second = read_again(lora, options)
    sam = samjax.load(lora, base=base, preprocess="sam")
    image = drawn_image(40, 60)

    def passed(second: Second) -> bool:
        official = build_second(second, sam.config)
        _, results = compare(samjax.SamPredictor(sam), predictor_for(sam, official), image)
        return all(result.passed for result in results)

    assert passed(second)
    assert not passed(Second(second.tensors, second.updates[1:], second.how))


def test_pickled_objects_that_torch_refuses(tmp_path: Path, capsys):
    sam = random_official(CONFIG)
    optimizer = torch.optim.AdamW(sam.parameters())
    torch.save({"model": sam.state_dict(), "optimizer": optimizer}, tmp_path / "sam.pth")
    assert main([str(tmp_path / "sam.pth")]) == 0
    assert "torch.load refuses its pickled objects" in capsys.readouterr().out
