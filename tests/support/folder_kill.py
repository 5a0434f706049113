"""Kill the processing of a folder of images repeatedly, and compare its final output.

``python -m tests.support.folder_kill --images 200 --kills 5`` compares every byte of an
uninterrupted run with those of a run that was killed (SIGKILL) at random moments and restarted.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from tests.support.models import drawn_image

OPTIONS = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0")
EVERYTHING = ("--format", "coco,yolo,png,npz", "--overlay")


def make_images(folder: Path, count: int, size: tuple[int, int] = (64, 96)) -> None:
    """Draw images into a folder and a subfolder, with equal names in both."""
    (folder / "more").mkdir(parents=True)
    for i in range(count):
        path = folder / ("more" if i % 2 else "") / f"drawn_{i // 2:03}.png"
        Image.fromarray(drawn_image(*size, seed=i)).save(path)


def start(images: Path, out: Path, *options: str, env: Mapping[str, str] = {}) -> subprocess.Popen:
    """Start ``samjax automask`` in a process of its own."""
    command = [sys.executable, "-m", "samjax", "automask", images, "--out", out, *options]
    return subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **env},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a process that must succeed, and return its stdout."""
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    return out


def records(out: Path) -> int:
    """Count the images that are done."""
    return sum(name.endswith(".json") for _, _, names in os.walk(out / "records") for name in names)


def run_killed(
    images: Path,
    out: Path,
    moments: Sequence[tuple[int, float]],
    *options: str,
    env: Mapping[str, str] = {},
) -> list[int]:
    """Run with a SIGKILL at each moment, (images done, seconds after that), then to the end.

    Returns:
        The number of images that were done after each kill.
    """
    done = []
    for target, delay in moments:
        process = start(images, out, *options, env=env)
        while records(out) < target and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        alive = process.poll() is None
        process.kill()
        _, err = process.communicate()
        assert alive, f"ended before the kill at {target} images: {err}"
        done.append(records(out))
    finish(start(images, out, *options, env=env))
    return done


def tree(folder: Path) -> dict[str, bytes | None]:
    """Read all files with their content, and folders, including hidden ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("H", "W"))
    parser.add_argument("--points-per-side", default="8")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    targets = sorted(rng.sample(range(1, given.images * 9 // 10), given.kills))
    moments = [(target, rng.uniform(0, 0.1)) for target in targets]
    options = (*OPTIONS, *EVERYTHING, "--points-per-side", given.points_per_side)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", given.images, tuple(given.size))
        begin = time.monotonic()
        print(finish(start(folder / "images", folder / "whole", *options)).rstrip())
        middle = time.monotonic()
        done = run_killed(folder / "images", folder / "killed", moments, *options)
        end = time.monotonic()
        whole, killed = tree(folder / "whole"), tree(folder / "killed")
        different = sorted(
            k for k in {*whole, *killed} if whole.get(k, b"-") != killed.get(k, b"-")
        )
        size = sum(len(content or b"") for content in whole.values())
    print(f"killed after {', '.join(map(str, done))} of {given.images} images")
    print(
        f"{len(whole)} files and folders, {size / 1e6:.1f} MB: {len(different)} different "
        f"{different[:5] if different else ''}"
    )
    print(f"{middle - begin:.0f} s uninterrupted, {end - middle:.0f} s with {given.kills} kills")
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
