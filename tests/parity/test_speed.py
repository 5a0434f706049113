"""Compare the speed suite's competitors with the official outputs on the same weights."""

import json

import matplotlib.cbook
import pytest

from benchmarks.speed import cli
from benchmarks.speed.check import LIMITS
from tests.support.models import PLAIN

pytestmark = pytest.mark.parity

MANDATORY = [
    "official-float32",
    "official-bfloat16",
    "huggingface-float32",
    "huggingface-bfloat16",
    "onnxruntime-float32",
    "openvino-float32",
    "openvino-bfloat16",
]


def test_all_competitors_of_a_cpu_are_right(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.model.source", lambda _: PLAIN)
    image = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    few = ["--rounds", "1", "--starts", "1", "--device", "cpu", "--image", str(image)]
    cli.main(["--only", "samjax", *MANDATORY, *few, "--out", str(tmp_path)])
    model = json.loads((tmp_path / "results.json").read_text())["models"]["embedded"]
    assert model["reference"] == "official-float32"
    entries = model["competitors"]
    assert set(MANDATORY) | {"samjax-float32", "samjax-bfloat16"} < entries.keys()
    for name, entry in entries.items():
        assert entry["state"] == "measured", f"{name}: {entry['reason']}"
        if not name.startswith("product"):
            limit = LIMITS[entry["dtype"]]
            assert max(entry["check"][f"{x} rms"] for x in ("embedding", "logits")) <= limit
            assert all(len(s) == 1 and s[0] > 0 for s in entry["seconds"].values())
            assert set(entry["seconds"]) == {"encoder", "click", "points"}
    # Float32 is far inside the limits, and the reference has no error
    exact = [e for e in entries.values() if e["check"] and e["dtype"] == "float32"]
    errors = sorted(e["check"]["embedding"] for e in exact)
    assert len(errors) == 5
    assert errors[0] == 0
    assert errors[-1] < 1e-5
