"""Models in other processes: pickled as their source, copied, and refused in a forked child."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import samjax
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.parameters import fill_model, random_parameters, to_official
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.engine.segmenter import Segmenter
from samjax.errors import CheckpointError, DeviceError
from samjax.image.preset import get_preset
from tests.support.models import GOLDEN, drawn_image

IMAGE = drawn_image(40, 60)


def masks(sam: Segmenter) -> np.ndarray:
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(IMAGE)
    return predictor.predict([[20, 20]], [1], return_logits=True).masks


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "sam.pth"
    write_torch_file(path, to_official(random_parameters(GOLDEN), GOLDEN))
    return path


@pytest.fixture
def file(saved, tmp_path) -> Path:
    path = tmp_path / "sam.pth"
    path.write_bytes(saved.read_bytes())
    return path


def test_pickled_by_its_source(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    sam = samjax.load("sam.pth", preprocess="microsam", dtype="bfloat16", device=jax.devices()[0])
    sam.mask_threshold = 0.5
    sam.automatic_thresholds = AutomaticThresholds(0.25, 0.75)
    data = pickle.dumps(sam)
    assert len(data) < 2000  # no weights in it
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert repr(again).replace(str(file), "sam.pth") == repr(sam)
    assert again.mask_threshold == 0.5
    assert (
        again.automatic_thresholds
        == copy.deepcopy(sam).automatic_thresholds
        == (AutomaticThresholds(0.25, 0.75))
    )
    assert again.fingerprint == sam.fingerprint
    np.testing.assert_array_equal(masks(again), masks(sam))


def test_every_source_that_load_takes(file):
    for sam in (
        samjax.load(GOLDEN),
        samjax.load(GOLDEN, device="cpu:0"),
        samjax.load(file, device=[jax.devices()[0]]),
        samjax.load(file, device="all", image_size=64),
    ):
        assert pickle.loads(pickle.dumps(sam)).fingerprint == sam.fingerprint
    embedded = samjax.load()
    assert pickle.loads(pickle.dumps(embedded)).fingerprint == embedded.fingerprint


def test_other_weights_are_refused(file):
    data = pickle.dumps(samjax.load(file))
    write_torch_file(file, to_official(random_parameters(GOLDEN, seed=7), GOLDEN))
    with pytest.raises(CheckpointError, match="not those of the pickled model"):
        pickle.loads(data)
    file.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        pickle.loads(data)


def test_a_model_that_was_changed_is_not_pickled_as_its_file(file):
    sam = samjax.load(file)
    assert sam.fingerprint  # kept, but not relied on
    token = sam.model.decoder.mask_decoder.iou_token
    token[...] = token[...] + 1
    data = pickle.dumps(sam)
    with pytest.raises(CheckpointError, match="the model was changed after loading"):
        pickle.loads(data)


def test_without_a_source_it_is_refused_in_words():
    model = fill_model(random_parameters(GOLDEN), GOLDEN, dtype=np.float32)
    sam = Segmenter(
        model,
        preset=get_preset("sam"),
        dtype=np.dtype(np.float32),
        precision="highest",
        device=jax.devices()[0],
        family="mine",
        source="here",
    )
    with pytest.raises(CheckpointError, match="was not made by"):
        pickle.dumps(sam)
    np.testing.assert_array_equal(masks(copy.deepcopy(sam)), masks(sam))


def test_a_predictor_with_its_image(file):
    predictor = samjax.SamPredictor(samjax.load(file))
    predictor.mask_threshold = 0.25
    predictor.set_image(IMAGE)
    wanted = predictor.predict(box=[5, 5, 30, 30])
    for again in (
        pickle.loads(pickle.dumps(predictor)),
        copy.deepcopy(predictor),
        copy.copy(predictor),
    ):
        assert again.mask_threshold == 0.25
        for got, value in zip(again.predict(box=[5, 5, 30, 30]), wanted, strict=True):
            np.testing.assert_array_equal(got, value)


def test_a_generator_keeps_its_options(file):
    generator = samjax.SamAutomaticMaskGenerator(
        samjax.load(file), points_per_side=4, pred_iou_thresh=-9.0, stability_score_thresh=0.0
    )
    wanted = generator.generate(IMAGE)
    assert wanted
    for again in (pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)):
        got = again.generate(IMAGE)
        assert [record["bbox"] for record in got] == [record["bbox"] for record in wanted]


def test_copies_do_not_follow_changes_of_the_other(file):
    sam = samjax.load(file)
    before = masks(sam)
    deep = copy.deepcopy(sam)
    shallow = copy.copy(sam)
    assert shallow.model is sam.model
    deep.mask_threshold = shallow.mask_threshold = 1.0
    assert sam.mask_threshold == 0.0
    nnx.update(deep.model, jax.tree.map(lambda x: x * 0, nnx.state(deep.model)))
    deep.refresh()
    np.testing.assert_array_equal(masks(sam), before)
    np.testing.assert_array_equal(masks(shallow), before)
    assert not np.array_equal(masks(deep), before)


_SPAWNED = """
import multiprocessing, sys
import numpy as np
import samjax

def work(job):
    predictor, box = job
    return predictor.predict(box=box).masks.sum()

if __name__ == "__main__":
    predictor = samjax.SamPredictor(samjax.load(sys.argv[1]))
    predictor.set_image(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))
    jobs = [(predictor, [5, 5, 30, 30]), (predictor, [2, 3, 9, 9])]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(work, jobs) == [work(job) for job in jobs]
    print("fine")
"""

_FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import samjax

sam = samjax.load(sys.argv[1])
predictor = samjax.SamPredictor(sam)
image = np.zeros((20, 30, 3), np.uint8)
predictor.set_image(image)
generator = samjax.SamAutomaticMaskGenerator(sam, points_per_side=2)
calls = {
    "encode": lambda: predictor.set_image(image),
    "batch": lambda: list(predictor.encode_images([image])),
    "click": lambda: predictor.predict([[3, 4]], [1]),
    "many": lambda: predictor.predict_many(boxes=[[1, 2, 9, 9]] * 2),
    "automatic": lambda: generator.generate(image),
    "warmup": sam.warmup,
    "load": lambda: samjax.load(sys.argv[1]),
    "fingerprint": lambda: sam.fingerprint,
}
for name, call in calls.items():
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            call()
            print(name, "went on")
        except samjax.SamjaxError as error:
            print(name, type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
predictor.predict([[3, 4]], [1])
print("the parent goes on")
"""


def run(code: str, *arguments: str, folder: Path) -> str:
    (folder / "again_script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(folder / "again_script.py"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_in_a_spawned_process(file, tmp_path):
    assert run(_SPAWNED, str(file), folder=tmp_path) == "fine\n"


def test_a_forked_child_is_told_so_at_its_first_call(file, tmp_path):
    lines = run(_FORKED, str(file), folder=tmp_path).splitlines()
    assert lines.pop() == "the parent goes on"
    assert len(lines) == 8
    for line in lines:
        name, kind, *text = line.split()
        assert kind == DeviceError.__name__, line
        assert "forked after JAX had started" in " ".join(text), name
        assert 'get_context("spawn")' in line
