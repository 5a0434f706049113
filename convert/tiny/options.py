"""The options of ``python -m convert.tiny.train``, refused before anything is read or written."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import torch


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number of at least 1")
    return int(text)


def heads(text: str) -> int:
    """Read a width that divides into attention heads of 64."""
    if count(text) % 64:
        raise argparse.ArgumentTypeError(f"{text}: give a multiple of 64, the width of a head")
    return int(text)


def above_zero(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return number


def folder(text: str) -> Path:
    """Read the path of a folder that exists."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return Path(text)


def device(text: str) -> str:
    """Read a device that PyTorch has."""
    if text != "cpu" and not (text.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        raise argparse.ArgumentTypeError(f"{text}: PyTorch has none here; leave --device out")
    return text


def parse_arguments(description: str | None = None) -> argparse.Namespace:
    """Parse the command line; what cannot be trained with is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m convert.tiny.train", description=description)
    add = parser.add_argument
    add("--data", type=folder, required=True, help="bsds500/, coco_tiny/, nuclei/")
    add("--cut-outs", type=folder, nargs="*", default=[], help="folders of PNGs with alpha")
    add("--backgrounds", type=folder, nargs="*", default=[], help="folders of photographs")
    add("--packs", type=folder, nargs="*", default=[], help="folders of SOURCE/images, /labels")
    add("--taught", type=folder, help="what convert.tiny.teacher wrote")
    add("--out", type=Path, required=True)
    add("--minutes", type=above_zero, default=60, help="of training")
    add("--constant", action="store_true", help="learning rate; else it falls to 0 at --minutes")
    add("--average", type=float, default=0.999, help="of the averaged weights, a step")
    add("--init", type=Path, help="weights to start from: --size and a greater --depth fit")
    add("--seed", type=int, default=0)
    add("--paste", type=float, default=0.5, help="share of images that objects are pasted into")
    add("--augment", type=float, default=1.0, help="strength of crops, colours, blur and noise")
    add("--match", type=float, default=1.0, help="weight of the teacher's features")
    add("--device", default="cpu", type=device, help="cpu or cuda")
    add("--processes", type=count, default=os.cpu_count(), help="on the CPU")
    add("--size", type=count, default=256, help="input side in pixels, a multiple of 128 or 112")
    add("--width", type=heads, default=192)
    add("--depth", type=count, default=8)
    add("--decoder-mlp", type=count, default=1024)
    add("--batch", type=count, default=4, help="images a process")
    add("--prompts", type=count, default=8, help="an image")
    add("--lr", type=above_zero, default=1e-3)
    add("--warmup", type=count, default=250, help="steps")
    add("--weight-decay", type=float, default=0.03)
    add("--drop", type=float, default=0.05, help="stochastic depth of the last block")
    add("--corrections", type=float, default=0.6, help="share of steps with correcting clicks")
    add("--balance", type=float, default=None, help="early weight of positive pixels")
    add("--save-every", type=above_zero, default=5, help="minutes")
    return parser.parse_args()
