"""Draw the training curve of one run, or of several that went on from each other.

python -m convert.tiny.curve RUN/log.jsonl [NEXT/log.jsonl ...] --out curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from samjax.files import replacing

FIGURES = {
    "box_oracle": "box, best of three",
    "box": "box, most confident",
    "click_oracle": "click, best of three",
    "click": "click, most confident",
}


def held_out(logs: list[Path]) -> list[dict[str, float]]:
    """The validations of all runs in order; ``images`` counts on from run to run."""
    found, before = [], 0
    for log in logs:
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        for row in rows:
            if "held_out" in row:
                found.append(row["held_out"] | {"images": before + row["images"]})
        before += rows[-1]["images"]
    return found


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """One line a figure, over the number of training images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    images = [row["images"] for row in rows]
    for key, label in FIGURES.items():
        axes.plot(images, [row[key] for row in rows], marker=".", label=label)
    axes.set(xlabel="training images", ylabel="mIoU, held-out tenth", ylim=(0.2, 0.8))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", ncols=2)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main() -> None:
    """Read, draw, and print the last validation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = held_out(given.logs)
    if not rows:
        parser.error(f"no validation in {', '.join(map(str, given.logs))} yet: let it train on")
    draw(rows, given.out)
    print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
