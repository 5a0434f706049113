"""Measure a job's engines against the plain loop: overhead of an image, workers, batches.

    python -m benchmarks.jobs photos --out results/jobs --images 40 --rounds 3
    python -m benchmarks.jobs photos --out results/jobs --ways loop process-1 process-2 ray-2

Each round runs every way once, in another order, on the same images; ratios are those of one
round, so that other load on the machine falls on all. ``loop`` is the generator in a plain loop,
without a file; ``process-N`` and ``ray-N`` are `samjax.AutomaskJob` with N workers, ``batch-N``
one worker that encodes N images together. The start of workers and compilation are in the times:
take many images. Writes ``jobs.json``.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import samjax
from benchmarks.commands import exit_code
from benchmarks.files import write_json
from samjax.errors import SamjaxError
from samjax.files import made_folder
from samjax.image.folder import find_images

WAYS = ("loop", "process-1", "process-2", "batch-2")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jobs", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("photos", help="a folder or pattern of images")
    parser.add_argument("--out", required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--images", type=int, default=40, help="the first images only")
    parser.add_argument("--points-per-side", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    return parser.parse_args(arguments)


def run_way(way: str, images: Sequence[Path], out: Path, model: str, side: int) -> float:
    """Return the seconds that one way takes for the images.

    Raises:
        SamjaxError: an unknown way, or images that fail.
    """
    kind, number = split_way(way)
    start = time.perf_counter()
    if kind == "loop":
        generator = samjax.SamAutomaticMaskGenerator(
            samjax.ModelSpec(model).load(progress=False), side, output_mode="coco_rle"
        )
        for image in images:
            generator.generate(image, on_empty=lambda _: None)
        return time.perf_counter() - start
    workers = 1 if kind == "batch" else number
    # At least two shards for each worker; the same number for all, or their files would differ.
    job = samjax.AutomaskJob(model, images, out, max(1, len(images) // 8), points_per_side=side)
    report = job.run(
        "ray" if kind == "ray" else "process",
        workers=workers,
        images_at_once=number if kind == "batch" else None,
        progress=False,
    )
    if report.failed:
        raise SamjaxError(f"{way}: {report.failed} images failed: take other images")
    return time.perf_counter() - start


def split_way(way: str) -> tuple[str, int]:
    """Return kind and number of a way such as "process-2".

    Raises:
        SamjaxError: it is none.
    """
    match = re.fullmatch(r"loop|(process|ray|batch)-([1-9]\d*)", way)
    if match is None:
        raise SamjaxError(f"way {way!r}: use loop, process-N, ray-N or batch-N")
    return match[1] or "loop", int(match[2] or 1)


def summarise(rounds: Sequence[dict[str, float]], images: int) -> dict[str, dict[str, float]]:
    """Return for each way its median rate, and overhead and ratio to the first way by round."""
    ways = list(rounds[0])
    first = ways[0]
    return {
        way: {
            "images/s": images / statistics.median(each[way] for each in rounds),
            f"ms an image beyond {first}": statistics.median(
                (each[way] - each[first]) / images * 1000 for each in rounds
            ),
            f"time relative to {first}": statistics.median(
                each[way] / each[first] for each in rounds
            ),
        }
        for way in ways
    }


def run(arguments: list[str] | None) -> None:
    """Measure, print a table and write ``jobs.json``."""
    options = parse(arguments)
    for way in options.ways:
        split_way(way)
    if options.rounds < 1:
        raise SamjaxError(f"--rounds {options.rounds}: at least 1")
    _, found = find_images([options.photos])
    images = [image.path for image in found[: options.images]]
    out = made_folder(Path(options.out), SamjaxError)
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        turned = [*options.ways[number % len(options.ways) :], *options.ways]
        times: dict[str, float] = {}
        for way in turned[: len(options.ways)]:
            with tempfile.TemporaryDirectory(dir=out) as place:
                times[way] = run_way(
                    way, images, Path(place), options.model, options.points_per_side
                )
            print(f"round {number + 1}: {way} {times[way]:.1f} s", flush=True)
        rounds.append({way: times[way] for way in options.ways})
    found_ways = summarise(rounds, len(images))
    content: dict[str, Any] = {"arguments": vars(options), "rounds": rounds, "ways": found_ways}
    write_json(out / "jobs.json", content | {"images": len(images)})
    for way, numbers in found_ways.items():
        print(way, *(f"{value:.3g} {name}" for name, value in numbers.items()), sep=", ")


if __name__ == "__main__":
    exit_code(lambda: run(None))
