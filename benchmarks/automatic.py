"""Automatic masks of samjax beside the official generator: time, where it goes, peak memory.

    python -m benchmarks.automatic                        # the embedded checkpoint, 32 x 32 points
    python -m benchmarks.automatic --model vit_b --points-per-side 16

Each competitor runs in a fresh process, in turn, ``--rounds`` times; a process warms up on the
same image, so that compiling is not counted, and reports its own peak memory. Where torch or
segment-anything is not installed, the official code is reported as missing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax
import matplotlib.cbook
import numpy as np

import samjax
from benchmarks.speed import missing_official, source

# Low thresholds give both sides masks to work on, whatever the checkpoint.
SETTINGS: dict[str, Any] = {
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.4,
    "output_mode": "uncompressed_rle",
}


class Timed:
    """A Segmenter that waits for each stage and adds up its seconds."""

    def __init__(self, sam: samjax.Segmenter):
        self._sam = sam
        self.seconds: dict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)

    def _run(self, stage: str, function: Any, *args: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(function(*args, **named))
        self.seconds[stage] += time.perf_counter() - start
        return result

    def encode(self, *args: Any) -> Any:
        return self._run("encode", self._sam.encode, *args)

    def decode(self, *args: Any, **named: Any) -> Any:
        return self._run("decode", self._sam.decode, *args, **named)

    def measure(self, *args: Any) -> Iterator[Any]:
        chunks = self._sam.measure(*args)
        while True:
            start = time.perf_counter()
            chunk = next(chunks, None)
            self.seconds["masks and filters"] += time.perf_counter() - start
            if chunk is None:
                return
            yield chunk


def run_samjax(sam: samjax.Segmenter, image: np.ndarray, side: int) -> dict[str, Any]:
    """Seconds of one image, and of its stages in a second, waiting run."""
    generator = samjax.SamAutomaticMaskGenerator(sam, points_per_side=side, **SETTINGS)
    generator.generate(image)
    start = time.perf_counter()
    records = generator.generate(image)
    total = time.perf_counter() - start
    timed: Any = Timed(sam)
    generator.model = generator.predictor.model = timed
    start = time.perf_counter()
    generator.generate(image)
    waiting = time.perf_counter() - start
    stages = dict(timed.seconds)
    stages["run lengths, NMS, records"] = waiting - sum(stages.values())
    return {"seconds": total, "records": len(records), "stages": stages}


def run_official(sam: samjax.Segmenter, image: np.ndarray, side: int) -> dict[str, Any]:
    """Seconds of one image through the official generator on the same weights, float32."""
    from convert.official import OfficialGenerator, load_official
    from samjax.checkpoint.loading import to_official

    model = load_official(sam.config, to_official(sam.parameters(), sam.config))
    generator = OfficialGenerator(model, points_per_side=side, **SETTINGS)
    start = time.perf_counter()
    records = generator.generate(image)
    return {"seconds": time.perf_counter() - start, "records": len(records), "stages": {}}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.automatic", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--image", help="a photograph (default: matplotlib's grace_hopper.jpg)")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["samjax", "official"], help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def one(given: argparse.Namespace) -> None:
    """A fresh process of one competitor: its result as JSON."""
    path = given.image or matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    sam, image = samjax.load(source(given.model)), samjax.read_image(path)
    run = run_samjax if given.only == "samjax" else run_official
    result = run(sam, image, given.points_per_side)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    given = parse(arguments)
    if given.only:
        one(given)
        return
    absent = missing_official()
    names = ["samjax"] if absent else ["official", "samjax"]
    results: dict[str, list[dict]] = {name: [] for name in names}
    own = sys.argv[1:] if arguments is None else arguments
    for _ in range(given.rounds):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.automatic", *own, "--only", name]
            output = subprocess.run(
                command, check=True, capture_output=True, text=True, env=os.environ
            ).stdout
            results[name].append(json.loads(output.splitlines()[-1]))
    seconds = {name: np.array([r["seconds"] for r in runs]) for name, runs in results.items()}
    print(f"{given.model}, {given.points_per_side} x {given.points_per_side} points, ", end="")
    print(f"median of {given.rounds} rounds in fresh processes\n")
    print("| | seconds | ratio | masks | peak memory, MB |\n|---|---|---|---|---|")
    for name in names:
        ratio = float(np.median(seconds[names[0]] / seconds[name]))
        peak = np.median([r["peak_mb"] for r in results[name]])
        print(
            f"| {name} | {np.median(seconds[name]):.2f} | {ratio:.2f}x "
            f"| {results[name][-1]['records']} | {peak:.0f} |"
        )
    if absent:
        print(f"| official | missing: {absent} | | | |")
    stages = {key: np.median([r["stages"][key] for r in results["samjax"]])
              for key in results["samjax"][0]["stages"]}  # fmt: skip
    print("\nsamjax, waiting after each stage:")
    print(*(f"  {name:28s} {value:6.2f} s" for name, value in stages.items()), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except samjax.SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
