"""Load each family's file as its own code saves it, and compare with its own forward pass."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import save_file

import samjax
from samjax.errors import CheckpointWarning
from samjax.model.config import SamConfig
from tests.support.models import PLAIN, drawn_image, sized
from tests.support.parity import family_models as families
from tests.support.parity.measure import Ledger
from tests.support.parity.official import (
    OfficialPredictor,
    build_official,
    calibrate,
    random_official,
)

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
IMAGE = drawn_image(48, 70)
CALIBRATION = drawn_image(48, 70, seed=1)
# An MLP of four times the width, as in the published models
UNPRUNED = dataclasses.replace(
    PLAIN, image_encoder=dataclasses.replace(PLAIN.image_encoder, mlp_dim=128)
)


def model(config: SamConfig = PLAIN, seed: int = 0) -> torch.nn.Module:
    """Build a random official model that tests may change."""
    return copy.deepcopy(random_official(config, seed))


def same_masks(sam: samjax.Segmenter, reference: torch.nn.Module, ledger: Ledger, stage: str):
    """Compare embedding, logits, scores and masks of clicks and boxes, one and several masks."""
    ours, theirs = samjax.SamPredictor(sam), OfficialPredictor(reference)
    ours.set_image(IMAGE)
    theirs.set_image(IMAGE)
    embedding = theirs.get_image_embedding().detach().numpy()
    ledger.embedding(f"{stage}, embedding", ours.get_image_embedding(), embedding)
    point = {"point_coords": np.array([[28.0, 20.0]]), "point_labels": np.array([1])}
    for arguments in (point, {"box": np.array([7.0, 5, 63, 40])}):
        for multimask in (True, False):
            a = ours.predict(**arguments, multimask_output=multimask)
            b = theirs.predict(**arguments, multimask_output=multimask)
            ledger.logits(f"{stage}, logits", a[2], b[2])
            ledger.scores(f"{stage}, scores", a[1], b[1])
            ledger.pixels(f"{stage}, masks", a[0], b[0])


def again(sam: torch.nn.Module) -> None:
    """Calibrate again after layers were added, so that masks are neither empty nor full."""
    calibrate(sam, CALIBRATION)


def optimizer_of(sam: torch.nn.Module) -> torch.optim.Optimizer:
    """Make an optimizer with the state of one step."""
    parameters = [p for p in sam.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters[:3], lr=1e-4)
    sum(p.square().sum() for p in parameters[:3]).backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


# Whole models in other containers


def medsam_release(sam: torch.nn.Module) -> object:
    return sam.state_dict()


def medsam_training(sam: torch.nn.Module) -> object:
    parallel = torch.nn.DataParallel(sam)
    return {"model": parallel.state_dict(), "optimizer": optimizer_of(sam).state_dict(), "epoch": 7}


def torch_em(sam: torch.nn.Module) -> object:
    wrapped = torch.nn.Module()
    wrapped.sam = sam
    optimizer = optimizer_of(sam)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    init = {
        "trainer_class": "micro_sam.training.sam_trainer.SamTrainer",
        "model_class": torch.nn.Module,
        "optimizer_class": type(optimizer),
        "loss": torch.nn.BCELoss(),
        "convert_inputs": functools.partial(np.clip, 0, 1),
        "device": torch.device("cpu"),
        "logger_kwargs": {"log_image_interval": 100},
        "save_root": Path("checkpoints"),
    }
    return {
        "iteration": 100,
        "epoch": 1,
        "best_epoch": 0,
        "best_metric": np.float64(0.5),
        "current_metric": 0.6,
        "model_state": wrapped.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "scheduler_state": schedule.state_dict(),
        "scaler_state": None,
        "decoder_state": torch.nn.Conv2d(3, 2, 1).state_dict(),
        "init": init,
        "train_time": 12.5,
        "timestamp": "2024-01-01",
    }


def lightning(sam: torch.nn.Module) -> object:
    wrapped = torch.nn.Module()
    wrapped.model = sam
    optimizer = optimizer_of(sam)
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": wrapped.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_path": "x.ckpt"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
    }


def compiled_ddp(sam: torch.nn.Module) -> object:
    return torch.nn.DataParallel(torch.compile(sam)).state_dict()


def sammed2d_training(sam: torch.nn.Module) -> object:
    return {"model": sam.state_dict(), "optimizer": optimizer_of(sam)}  # the object itself


CONTAINERS = {
    "medsam release": (medsam_release, "official", None),
    "medsam training": (medsam_training, "training checkpoint", None),
    "micro-sam training": (torch_em, "micro-sam", "microsam"),
    "lightning": (lightning, "lightning", None),
    "compiled, parallel": (compiled_ddp, "official", None),
    "sam-med2d training": (sammed2d_training, "training checkpoint", None),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("legacy", [False, True])
def test_containers(tmp_path: Path, name: str, legacy: bool, ledger):
    make, family, preset = CONTAINERS[name]
    sam, path = model(UNPRUNED), tmp_path / "checkpoint.pth"
    content = make(sam)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    loaded = samjax.load(path)
    assert (loaded.family, loaded.preset.name) == (family, preset or "sam")
    same_masks(samjax.load(path, preprocess="sam"), sam.eval(), ledger, "containers")


def test_pruned_sizes(tmp_path: Path, ledger):
    """SlimSAM-uniform: a width that is no multiple of 64, an MLP that is not four times it."""
    config = dataclasses.replace(
        PLAIN,
        image_encoder=dataclasses.replace(PLAIN.image_encoder, width=42, num_heads=3, mlp_dim=58),
    )
    sam = model(config)
    torch.save(sam.state_dict(), tmp_path / "slim.pth")
    loaded = samjax.load(tmp_path / "slim.pth")
    assert (loaded.family, loaded.config) == ("slimsam", config)
    same_masks(loaded, sam, ledger, "slimsam")


@pytest.mark.parametrize("masks", [1, 2, 8])
def test_other_numbers_of_masks(tmp_path: Path, masks: int, ledger):
    """finetune-SAM: classes + 1 tokens; multimask gives the classes, else token 0."""
    sam = model(sized(grid=10, window=4, masks=masks))
    torch.save(sam.state_dict(), tmp_path / "classes.pth")
    same_masks(samjax.load(tmp_path / "classes.pth"), sam, ledger, f"{masks} classes")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path: Path, dtype: torch.dtype, ledger):
    sam = model()
    half = {key: value.to(dtype) for key, value in sam.state_dict().items()}
    torch.save(half, tmp_path / "half.pth")
    sam.load_state_dict(half)  # rounded, and back in float32
    same_masks(samjax.load(tmp_path / "half.pth"), sam, ledger, "half precision")


# LoRA, against the forward pass that is not merged


@pytest.mark.parametrize("layers", [None, [1]])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_sam_lora(tmp_path: Path, layers: list[int] | None, suffix: str, ledger):
    base = model()
    torch.save(base.state_dict(), tmp_path / "base.pth")
    tuned = families.with_samed(base, 4, layers)
    saved = families.samed_file(tuned, decoder=False)
    path = tmp_path / f"lora{suffix}"
    if suffix == ".pth":
        torch.save(saved, path)
    else:
        save_file({k: v.detach().clone() for k, v in saved.items()}, path)
    loaded = samjax.load(path, base=tmp_path / "base.pth", lora_layers=layers)
    assert loaded.family == "sam-lora"
    same_masks(loaded, tuned, ledger, "sam-lora")


@pytest.mark.parametrize("decoder", [False, True])
def test_samed(tmp_path: Path, decoder: bool, ledger):
    """Another image size and more classes than the base; LoRA in the decoder, too."""
    config = sized(grid=14, window=4)
    base = model(config)
    torch.save(base.state_dict(), tmp_path / "base.pth")
    small = sized(grid=8, window=4, masks=5)
    donor = model(small, seed=1)
    tuned = families.at_size(base, lambda _: build_official(sized(grid=8, window=4)), 64)
    tuned.prompt_encoder, tuned.mask_decoder = donor.prompt_encoder, donor.mask_decoder
    tuned = families.with_samed(tuned, 4, decoder=decoder)
    again(tuned)
    path = tmp_path / "epoch_159.pth"
    torch.save(families.samed_file(tuned, decoder=True), path)
    with pytest.warns(CheckpointWarning, match="SAMed"):
        loaded = samjax.load(path, base=tmp_path / "base.pth", image_size=64)
    assert loaded.config.mask_decoder.num_masks == 5
    same_masks(loaded, tuned, ledger, "samed")


@pytest.mark.parametrize("family", ["samed", "samed with decoder", "micro-sam"])
def test_inline_lora(tmp_path: Path, family: str, ledger):
    if family == "micro-sam":
        tuned = families.with_microsam(model(), 4)
        again(tuned)
        content = torch_em(tuned)
    else:
        tuned = families.with_samed(model(), 4, decoder="decoder" in family)
        again(tuned)
        content = tuned.state_dict()
    torch.save(content, tmp_path / "inline.pth")
    loaded = samjax.load(tmp_path / "inline.pth", preprocess="sam")
    assert loaded.family == "inline lora"
    same_masks(loaded, tuned, ledger, f"inline LoRA, {family}")


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 6},
        {"r": 4, "lora_alpha": 6, "use_rslora": True},
        {"r": 4, "lora_alpha": 6, "rank_pattern": {"lin1": 3}, "alpha_pattern": {"qkv": 2}},
        {"r": 4, "lora_alpha": 6, "bias": "all"},
        {"r": 4, "lora_alpha": 6, "modules_to_save": ["mask_decoder"]},
    ],
    ids=lambda s: ", ".join(list(s)[2:]) or "plain",
)
def test_peft(tmp_path: Path, settings: dict, ledger):
    """Adapters of the official classes, made and saved by PEFT itself."""
    base = model()
    torch.save(base.state_dict(), tmp_path / "base.pth")
    config = peft.LoraConfig(target_modules=["qkv", "lin1"], **settings)
    tuned = peft.get_peft_model(base, config)
    shake(tuned)
    tuned.save_pretrained(tmp_path / "adapter")
    loaded = samjax.load(tmp_path / "adapter", base=tmp_path / "base.pth")
    assert loaded.family == "peft"
    same_masks(loaded, tuned.base_model.model.eval(), ledger, "PEFT")


@torch.no_grad()
def shake(tuned: torch.nn.Module) -> None:
    """Move adapters from zero, and biases and saved parts from the base's, a little."""
    torch.manual_seed(0)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize("part", ["image_encoder", "mask_decoder"])
@pytest.mark.parametrize("named", [True, False])
def test_parts(tmp_path: Path, part: str, named: bool, ledger):
    base, trained = model(), model(seed=1)
    torch.save(base.state_dict(), tmp_path / "base.pth")
    setattr(base, part, getattr(trained, part))
    again(base)
    state = getattr(base, part).state_dict()
    if part == "image_encoder":
        # Calibration changes the decoder, which then is the base's.
        torch.save(base.state_dict(), tmp_path / "base.pth")
    prefix = f"{part}." if named else ""
    torch.save({prefix + k: v for k, v in state.items()}, tmp_path / "part.pth")
    loaded = samjax.load(tmp_path / "part.pth", base=tmp_path / "base.pth")
    same_masks(loaded, base, ledger, f"{part} alone")


@pytest.mark.parametrize("grid", [4, 7, 16])
def test_other_image_sizes(tmp_path: Path, grid: int, ledger):
    config = sized(grid=10, window=4)
    sam = model(config)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    resized = families.at_size(sam, lambda _: build_official(sized(grid=grid, window=4)), 8 * grid)
    loaded = samjax.load(tmp_path / "sam.pth", image_size=8 * grid)
    same_masks(loaded, resized, ledger, "resized positions")
