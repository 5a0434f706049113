"""What the teacher of the embedded checkpoint says: masks in maps, features where they belong."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from convert.tiny import samples, teacher
from convert.tiny.objective import match_loss
from convert.tiny.samples import Sampler, Standardise
from convert.tiny.sources import Picture, Sources, read_sources

pytestmark = pytest.mark.parity


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def disc(x: int, y: int, radius: int) -> np.ndarray:
    """Logits [64, 64] of a disc with a sharp outline."""
    ys, xs = np.mgrid[:64, :64]
    return np.where((xs - x) ** 2 + (ys - y) ** 2 < radius**2, 9.0, -9.0).astype(np.float32)


def test_overlapping_masks_come_into_different_maps():
    whole, part, other, twin, vague = (
        disc(20, 20, 15),
        disc(20, 20, 7),
        disc(50, 50, 9),
        disc(20, 21, 15),
        0.05 * disc(50, 12, 9),
    )
    logits = np.stack([part, whole, twin, vague, other])
    scores = np.array([0.8, 0.95, 0.9, 0.9, 0.7], np.float32)
    assert teacher.choose(logits, scores) == [[1, 4], [0]]
    assert teacher.choose(logits, np.full(5, 0.2, np.float32)) == []
    assert teacher.choose(-9 + 0 * logits, scores) == []


def test_smaller_masks_lie_on_top():
    labels = teacher.label_map(np.stack([disc(32, 32, 20), disc(40, 32, 5)]), 128, 192)
    assert labels.shape == (128, 192)
    assert [labels[64, 120], labels[64, 60], labels[5, 5]] == [2, 1, 0]


def test_clicks_are_spread_over_the_square():
    for shape in ((100, 300), (300, 100)):
        xy = teacher.clicks(*shape, np.random.default_rng(0))
        assert xy.shape == (30, 2)
        assert xy.min() > 0
        assert xy.max() < teacher.SIDE
        columns = np.unique((xy[:, 0] / teacher.SIDE * (6 if shape[1] > 200 else 5)).astype(int))
        assert len(columns) == (6 if shape[1] > 200 else 5)


class Drawn:
    """Answers every click with a disc around it, for want of the real teacher."""

    def encode(self, _):
        embedding = np.zeros((1, 256, 64, 64), np.float32)
        embedding[0, 0], embedding[0, 1] = np.meshgrid(np.arange(64), np.arange(64))
        return [np.zeros(1), np.zeros(1), embedding]

    def decode(self, _, xy):
        discs = np.stack([disc(*(xy[i // 3] / 16).astype(int), 1 + i % 3) for i in range(90)])
        return discs, np.linspace(0.6, 0.9, 90).astype(np.float32)


def test_what_was_taught_comes_back_with_its_picture(tmp_path: Path):
    image = np.zeros((90, 120, 3), np.uint8)
    for i in range(12):
        for folder in ("bsds500/train/images", "bsds500/train/segments", "out"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"bsds500/train/images/{i:02}.jpg"), image)
        cv2.imwrite(str(tmp_path / f"bsds500/train/segments/{i:02}_0.png"), image[..., 0])
    (tmp_path / "coco_tiny/annotations").mkdir(parents=True)
    (tmp_path / "coco_tiny/annotations/instances_train2017.json").write_text(
        '{"images": [], "annotations": []}'
    )
    (tmp_path / "nuclei/images").mkdir(parents=True)
    kept = read_sources(tmp_path, [], [], False).images["bsds"]
    count = teacher.teach(Drawn(), kept[3], tmp_path / "out/bsds__03", 0)
    taught = read_sources(tmp_path, [], [], False, taught=tmp_path / "out").images["bsds"]
    assert [x.name for x in taught if x.features] == ["03"]
    assert len(taught) == len(kept) == 11  # the tenth is held out
    maps = [taught[3].pseudo_labels(i) for i in range(len(taught[3].pseudo))]
    assert sum(len(np.unique(x)) - 1 for x in maps) == count >= 30
    assert np.load(taught[3].features).shape == (64, 64, 256)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("text", ["2", "3/2", "0/2", "a/b", "1/2/3", "-1/2"])
def test_a_wrong_part_is_refused(text: str):
    assert teacher.part_of("2/2") == (2, 2)
    with pytest.raises(SystemExit, match="I/N is expected"):
        teacher.part_of(text)


def test_a_missing_teacher_is_named(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"encoder.*\.ort is missing"):
        teacher.Teacher(tmp_path)
    assert not list(tmp_path.iterdir())


def test_sources_take_turns():
    names = {"a": ["1", "2", "3"], "b": ["4"], "c": []}
    pictures = {k: [Picture(b"", (), name=n) for n in v] for k, v in names.items()}
    assert [x.name for _, x in teacher.in_turn(pictures)] == ["1", "4", "2", "3"]


def test_features_lie_where_the_cropped_and_mirrored_image_shows_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The image's red and green tell x and y, and so do the features."""
    height, width = 300, 480
    ys, xs = np.mgrid[:height, :width]
    image = np.stack([(xs + 0.5) / width, (ys + 0.5) / height, 0 * xs], -1) * 255
    table = np.zeros((64, 64, 256), np.float16)
    table[..., 0], table[..., 1] = np.meshgrid(*[(np.arange(64) + 0.5) / 64 * 255] * 2)
    np.save(tmp_path / "x.npy", table)
    labels = png(np.ones((height, width), np.uint8))
    picture = Picture(png(image[..., ::-1].round().astype(np.uint8)), (labels,))
    picture = replace(picture, pseudo=(labels,), features=tmp_path / "x.npy")
    sampler = Sampler(Sources({"bsds": [picture]}), 384, 0, paste=0)
    monkeypatch.setattr(sampler, "_colour", lambda x: x.astype(np.float32))
    for _ in range(20):
        sample = sampler.sample(2)
        shown = sample.image.transpose(1, 2, 0) * samples.STD + samples.MEAN
        cells = shown.reshape(24, 16, 24, 16, 3).mean((1, 3)).reshape(-1, 3)[:, :2]
        whole = sample.valid.reshape(24, 4, 24, 4).all((1, 3)).ravel()
        known = (sample.known > 0) & whole
        assert known.sum() > 100
        assert np.abs(sample.features[known, :2] - cells[known]).mean() < 1.5
        assert not sample.known[~sample.valid.reshape(24, 4, 24, 4).any((1, 3)).ravel()].any()


def test_features_count_where_they_are_known(tmp_path: Path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(3, 2, (64, 64, 256)).astype(np.float16))
    picture = Picture(b"", (), features=tmp_path / "x.npy")
    standardise = Standardise(Sources({"bsds": [picture]}))
    wanted = standardise(np.load(tmp_path / "x.npy")[None, :2, :2].reshape(1, 4, 256))
    assert abs(wanted.mean()) < 0.1
    assert abs(wanted.std() - 1) < 0.1
    assert standardise(np.full(256, 1e4)).max() == 5
    wanted, known = torch.tensor(wanted), torch.tensor([[1.0, 1, 0, 0]])
    mapped = wanted.clone()
    mapped[:, 2:] = 99
    assert match_loss(mapped, wanted, known) == 0
    assert match_loss(mapped + 2, wanted, known) == pytest.approx(4, rel=1e-5)


def test_a_graph_of_onnxruntimes_format_is_written_as_onnx(tmp_path: Path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "a.ort")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    written = teacher.as_onnx(tmp_path / "a.ort")
    assert [n.op_type for n in onnx.load(str(written)).graph.node] == ["Neg"]
    before = written.stat().st_mtime_ns
    assert teacher.as_onnx(tmp_path / "a.ort").stat().st_mtime_ns == before
