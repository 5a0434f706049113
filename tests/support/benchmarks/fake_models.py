"""Write modules of fake competitors with known speed, errors and crashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.speed.competitors import Competitor

SOURCE = """
import sys
import time

import numpy as np

from benchmarks.speed.task import Contender, Outputs

calls = []


def load(task):
    if {dies} == 0:
        sys.exit("no such weights\\nthe library gives up")

    def job(name):
        calls.append(name)
        if len(calls) == {dies}:
            sys.exit("out of luck")
        time.sleep({seconds} * (2 if name == "click" else 1))

    def outputs():
        rng = np.random.default_rng(0)
        low_res = rng.standard_normal((len(task.inputs.points), 3, 8, 8), np.float32)
        shape = (3, *task.inputs.original_size)
        return Outputs(
            np.tile(np.float32([[[1, -1]]]), (4, 2, 1)) + np.float32({error}),
            low_res,
            np.zeros((len(low_res), 3), np.float32),
            np.zeros(shape, bool),
        )

    print("libraries print things")
    jobs = {jobs}
    return Contender(
        "known products",
        {{name: (lambda name=name: job(name)) for name in jobs}},
        None if jobs == ["product"] else outputs,
    )
"""


class Fakes:
    """Writes modules that workers can import."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(
        self,
        name: str,
        *,
        dtype: str = "float32",
        seconds: float = 0.0,
        error: float = 0.0,
        dies: int | None = None,
        jobs: tuple[str, ...] = ("encoder", "click", "points"),
        **more: object,
    ) -> Competitor:
        """Write a module whose competitor dies at call number ``dies``; 0 means while loading."""
        module = "fake_" + name.replace("-", "_")
        text = SOURCE.format(seconds=seconds, error=error, dies=dies, jobs=list(jobs))
        (self._folder / f"{module}.py").write_text(text)
        return Competitor(name, name.partition("-")[0], module, dtype, **more)  # type: ignore[arg-type]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return Fakes(folder)
