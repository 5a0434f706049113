"""Start a run that stops in the middle and waits to be killed, in a process of its own.

python -m tests.support.benchmarks.killed PROTOCOL DATA OUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.miou import cli
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.methods import METHODS
from benchmarks.miou.protocol import Options
from benchmarks.miou.samples import Dataset
from tests.support.benchmarks.drawn import Knowing, knowing, options, without_columns

ANSWER = without_columns(0.25)
MEASURED = 2  # images, before it stops


def run(name: str, dataset: Dataset, predictor: Knowing, given: Options, out: Path) -> None:
    """Run a protocol from data to files."""
    method = METHODS[name]
    asked = {"protocol": name, "data": dataset.name, "model": "drawn"}
    cli.run(method, dataset, [predictor], method.filters, given, asked, out, pictures=1)


def main(name: str, data: str, out: str) -> None:
    """Measure MEASURED images, then wait."""
    dataset = open_dataset(data)
    predictor = knowing(name, dataset, ANSWER)
    set_image = predictor.set_image

    def stop(image) -> None:
        if predictor.images == MEASURED:
            time.sleep(600)
        set_image(image)

    predictor.set_image = stop
    run(name, dataset, predictor, options(name, dataset, ANSWER), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
